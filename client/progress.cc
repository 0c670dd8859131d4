// Lines and displays of progress; see progress.h.
#include "client/progress.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/line_block.h"

namespace sinkforge::client {
namespace {

constexpr int kBarWidth = 20;
constexpr int kStateWidth = 9;  // of "succeeded", the longest
constexpr std::chrono::seconds kPlainInterval(1);

// A part of the line, and how much it matters: the highest number is left out first.
struct Part {
  std::string text;
  int order_of_loss;
};

bool HasNumbers(const v1::Job& job) { return job.progress().step() > 0; }

bool IsWaiting(const v1::Job& job) {
  return job.state() == v1::JOB_STATE_QUEUED || job.state() == v1::JOB_STATE_STARTING;
}

std::string Eta(const v1::Job& job) {
  return job.progress().has_eta() ? FormatDuration(job.progress().eta()) : "-";
}

std::string RunTime(const v1::Job& job) {
  if (!job.has_start_time() || !job.has_end_time()) return "-";
  const auto seconds = std::chrono::seconds(job.end_time().seconds() - job.start_time().seconds());
  return FormatDuration(
      seconds + std::chrono::nanoseconds(job.end_time().nanos() - job.start_time().nanos()));
}

std::vector<Part> ProgressParts(const v1::Job& job) {
  const v1::JobProgress& progress = job.progress();
  std::vector<Part> parts;
  if (HasNumbers(job)) {
    parts.push_back({ProgressBar(progress.step(), progress.steps_total(), kBarWidth), 7});
    parts.push_back({absl::StrCat(progress.step(), "/", progress.steps_total()), 0});
    parts.push_back({absl::StrCat("loss ", FormatNumber(progress.loss())), 1});
    parts.push_back({absl::StrCat("imbalance ", FormatNumber(progress.imbalance())), 2});
    parts.push_back({absl::StrCat("importance ", FormatNumber(progress.importance_min()), "..",
                                  FormatNumber(progress.importance_max())),
                     6});
    if (progress.validation_step() > 0 && progress.validation_bits_per_byte() > 0) {
      parts.push_back(
          {absl::StrCat("bits/byte ", FormatNumber(progress.validation_bits_per_byte())), 5});
    }
    if (!IsSettled(job.state())) {
      parts.push_back({absl::StrCat(FormatCount(progress.tokens_per_second()), " tokens/s"), 4});
      parts.push_back({absl::StrCat("ETA ", Eta(job)), 3});
    } else if (IsFinal(job.state())) {
      parts.push_back({absl::StrCat("in ", RunTime(job)), 3});
    }
  }
  const bool says_why = IsWaiting(job) || job.state() == v1::JOB_STATE_FAILED ||
                        job.state() == v1::JOB_STATE_PAUSED || job.pause_requested();
  if (says_why && !job.message().empty()) parts.push_back({OneLine(job.message()), 2});
  return parts;
}

std::string JoinParts(const std::vector<Part>& parts) {
  std::vector<std::string> texts;
  for (const Part& part : parts) texts.push_back(part.text);
  return absl::StrJoin(texts, "  ");
}

std::string Pad(const std::string& text, int width) {
  return text + std::string(static_cast<size_t>(std::max(0, width - DisplayWidth(text))), ' ');
}

class TerminalDisplay final : public ProgressDisplay {
 public:
  TerminalDisplay(std::ostream* out, const ReadScreenSize& screen_size, Style style)
      : block_(out, screen_size), screen_size_(screen_size), style_(style) {}

  void Show(const std::vector<v1::Job>& jobs, std::chrono::nanoseconds) override {
    const int width = screen_size_().width;
    int name_width = 0;
    for (const v1::Job& job : jobs) name_width = std::max(name_width, DisplayWidth(job.job_id()));
    std::vector<std::string> lines;
    for (const v1::Job& job : jobs) {
      // The last column stays free: writing it wraps the cursor on some terminals.
      lines.push_back(TerminalProgressLine(job, name_width, width - 1, style_));
    }
    block_.Draw(std::move(lines));
  }

  void Say(const std::string& line) override { block_.Say(line); }
  void Finish() override { block_.Finish(); }

 private:
  LineBlock block_;
  ReadScreenSize screen_size_;
  Style style_;
};

class PlainDisplay final : public ProgressDisplay {
 public:
  explicit PlainDisplay(std::ostream* out) : out_(out) {}

  void Show(const std::vector<v1::Job>& jobs, std::chrono::nanoseconds now) override {
    for (const v1::Job& job : jobs) {
      Last& last = last_[job.job_id()];
      const auto state = std::make_tuple(job.state(), job.reason(), job.attempt());
      const bool changed = !last.time.has_value() || last.state != state;
      const bool moved = job.progress().step() != last.step;
      if (!changed && (!moved || now - *last.time < kPlainInterval)) continue;
      last = {now, state, job.progress().step()};
      *out_ << PlainProgressLine(job) << std::endl;
    }
  }

  void Say(const std::string& line) override { *out_ << line << std::endl; }
  void Finish() override {}

 private:
  struct Last {
    std::optional<std::chrono::nanoseconds> time;  // absent: nothing shown yet
    std::tuple<v1::JobState, v1::Reason, int64_t> state;
    int64_t step = 0;
  };
  std::ostream* out_;
  std::map<std::string, Last> last_;
};

}  // namespace

std::string ProgressBar(int64_t step, int64_t steps_total, int width) {
  const int inner = std::max(1, width - 2);
  const double share =
      steps_total > 0 ? static_cast<double>(step) / static_cast<double>(steps_total) : 0;
  const int full = std::clamp(static_cast<int>(share * inner), 0, inner);
  std::string bar(static_cast<size_t>(full), '=');
  if (full < inner) bar += '>';
  bar.resize(static_cast<size_t>(inner), ' ');
  return absl::StrCat("[", bar, "]");
}

std::string TerminalProgressLine(const v1::Job& job, int name_width, int width,
                                 const Style& style) {
  const std::string head = Pad(job.job_id(), name_width) + "  ";
  const std::string state = Pad(StateName(job.state()), kStateWidth);
  std::vector<Part> parts = ProgressParts(job);
  const int room = width - DisplayWidth(head) - kStateWidth - 2;
  while (parts.size() > 1 && DisplayWidth(JoinParts(parts)) > room) {
    parts.erase(std::max_element(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
      return a.order_of_loss < b.order_of_loss;
    }));
  }
  const std::string tail = Shorten(JoinParts(parts), std::max(0, room));
  if (room <= 0) return Shorten(head + state, width);
  return absl::StrCat(style.Bold(head), style.State(job.state(), state), tail.empty() ? "" : "  ",
                      tail);
}

std::string PlainProgressLine(const v1::Job& job) {
  const v1::JobProgress& progress = job.progress();
  std::string line = absl::StrCat(job.job_id(), " ", StateName(job.state()));
  if (HasNumbers(job)) {
    absl::StrAppend(&line, " step=", progress.step(), "/", progress.steps_total(),
                    " loss=", FormatNumber(progress.loss()),
                    " imbalance=", FormatNumber(progress.imbalance()),
                    " importance=", FormatNumber(progress.importance_min()), "..",
                    FormatNumber(progress.importance_max()));
    if (progress.validation_step() > 0 && progress.validation_bits_per_byte() > 0) {
      absl::StrAppend(&line, " bits/byte=", FormatNumber(progress.validation_bits_per_byte()));
    }
    if (!IsSettled(job.state())) {
      absl::StrAppend(&line, " tokens/s=", FormatCount(progress.tokens_per_second()));
      if (progress.has_eta()) absl::StrAppend(&line, " eta=", progress.eta().seconds(), "s");
    }
  }
  if (IsWaiting(job) && !job.message().empty()) {
    absl::StrAppend(&line, ": ", OneLine(job.message()));
  }
  return line;
}

std::string EventLine(const v1::Event& event) {
  const std::string time = FormatTime(event.time());
  // "2026-11-22 14:03:07Z": the hour is enough beside a running job.
  std::string line = absl::StrCat(time.size() > 19 ? time.substr(11, 8) : time, " ", event.job_id(),
                                  ": ", EventKindName(event.kind()));
  if (event.attempt() > 0) absl::StrAppend(&line, ", attempt ", event.attempt());
  if (event.step() > 0) absl::StrAppend(&line, ", step ", event.step());
  if (!event.message().empty()) absl::StrAppend(&line, ": ", OneLine(event.message()));
  return line;
}

std::unique_ptr<ProgressDisplay> MakeTerminalDisplay(std::ostream* out, ReadScreenSize screen_size,
                                                     Style style) {
  return std::make_unique<TerminalDisplay>(out, screen_size, style);
}

std::unique_ptr<ProgressDisplay> MakePlainDisplay(std::ostream* out) {
  return std::make_unique<PlainDisplay>(out);
}

}  // namespace sinkforge::client
