// Asks the trainer, counts, and finds the words.
#include "worker/gpu_check.h"

#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "worker/process/child_answer.h"
#include "worker/process/log_capture.h"

namespace sinkforge::worker {
namespace {

constexpr size_t kReasonBytesMax = 1024;

// What it printed to stderr, on one line.
std::string ReasonOf(const ChildAnswer& answer) {
  std::string reason = RepairUtf8(answer.err.substr(0, kReasonBytesMax));
  absl::StripAsciiWhitespace(&reason);
  return absl::StrReplaceAll(absl::StripPrefix(reason, "error: "), {{"\n", "; "}});
}

std::string EndOf(const ChildAnswer& answer) {
  const std::string reason = ReasonOf(answer);
  return absl::StrCat(answer.exit_code < 0 ? "was ended by signal " : "ended with exit code ",
                      std::abs(answer.exit_code), reason.empty() ? "" : ": ", reason);
}

// Of a list of GPUs, those among the first `first`; absent where it is no such list.
std::optional<int32_t> CountAmong(int32_t first, const std::string& list) {
  const auto json = nlohmann::json::parse(list, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) return std::nullopt;
  int32_t count = 0;
  for (const auto& gpu : json) {
    const auto index = gpu.find("index");
    if (index == gpu.end() || !index->is_number_integer()) return std::nullopt;
    if (index->get<int64_t>() < first) ++count;
  }
  return count;
}

}  // namespace

absl::Status CheckGpus(const GpuCheck& check, const base::Clock& clock) {
  const std::string command = check.trainer + " gpus";
  const auto refuse = [&check](const auto&... why) {
    return absl::UnavailableError(absl::StrCat("--gpus ", check.gpus, ": ", why...));
  };
  const auto answer = AskChild(
      {{check.trainer, "gpus", "-o", "json"}, CleanEnvironment(environ, 1)}, check.limit, clock);
  if (absl::IsDeadlineExceeded(answer.status())) {
    return refuse("`", command, "` hangs, and was killed after ",
                  std::chrono::duration_cast<std::chrono::seconds>(check.limit).count(),
                  " s; see whether `nvidia-smi` answers, or start the worker without --gpus");
  }
  if (!answer.ok()) return answer.status();
  if (answer->exit_code != 0) {
    return refuse("`", command, "` ", EndOf(*answer), "; or start the worker without --gpus");
  }
  const auto usable = CountAmong(check.gpus, answer->out);
  if (!usable) {
    return refuse("`", command, "` printed no list of GPUs; give the right program with --trainer");
  }
  if (*usable >= check.gpus) return absl::OkStatus();
  const std::string reason = ReasonOf(*answer);
  return refuse(*usable, " of the first ", check.gpus, " GPUs can be used",
                reason.empty() ? "" : absl::StrCat(" (", reason, ")"), "; `", command,
                "` lists those that can; offer fewer, or choose others with CUDA_VISIBLE_DEVICES");
}

}  // namespace sinkforge::worker
