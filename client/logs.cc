// sinkforge logs: what a job's trainers printed.
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/log_text.h"
#include "client/session.h"
#include "proto/jobspec/validate.h"

namespace sinkforge::client {
namespace {

struct LogsOptions {
  std::string job_id;
  bool follow = false;
  bool prefix = false;
  bool timestamps = false;
  bool raw = false;
  int64_t tail = 0;
  std::optional<int64_t> attempt;
  std::optional<int64_t> rank;
};

std::string TextOf(const v1::LogLine& line, const LogsOptions& options, const Style& style) {
  // A trainer's line may hold anything; a terminal must not obey it.
  const ReadableLog readable =
      options.raw ? ReadableLog{.text = OneLine(line.text())} : ReadableLogLine(line.text(), style);
  std::string text;
  if (options.timestamps && !readable.has_time) {
    absl::StrAppend(&text, FormatTime(line.time()), " ");
  }
  if (options.prefix) absl::StrAppend(&text, "[", line.attempt(), ".", line.rank(), "] ");
  return absl::StrCat(text, readable.text);
}

absl::StatusOr<int> Logs(Session& session, const LogsOptions& options) {
  if (options.tail < 0 || options.tail > 1'000'000) {
    return UsageError("--tail must be between 0 (all lines) and 1000000");
  }
  if (options.rank.has_value() && (*options.rank < 0 || *options.rank >= jobspec::kRanksMax)) {
    return UsageError(absl::StrCat("--rank must be from 0 to ", jobspec::kRanksMax - 1));
  }
  StopSignal stop(StopSignal::Source::kSignals);
  v1::ReadLogsRequest request;
  request.set_job_id(options.job_id);
  request.set_follow(options.follow);
  request.set_tail(static_cast<int32_t>(options.tail));
  if (options.attempt.has_value()) request.set_attempt(*options.attempt);
  if (options.rank.has_value()) request.set_rank(static_cast<int32_t>(*options.rank));
  const Style style = session.out_style();
  const absl::Status status =
      session.coordinator().ReadLogs(request, &stop, [&](const v1::LogLine& line) {
        if (session.json()) {
          session.PrintJsonLine(line);
        } else {
          session.out() << TextOf(line, options, style) << "\n";
          if (options.follow) session.out() << std::flush;
        }
      });
  // Ctrl-C is how one leaves `logs -f`.
  if (absl::IsCancelled(status) && stop.stopped()) return kExitInterrupted;
  if (!status.ok()) return status;
  return kExitOk;
}

}  // namespace

Command LogsCommand() {
  auto options = std::make_shared<LogsOptions>();
  Command command;
  command.name = "logs";
  command.summary = "Print what a job's trainers printed";
  command.examples =
      "  sinkforge logs d4-gated-1 --tail 20\n"
      "  sinkforge logs d4-gated-1 -f --prefix    # until the job ends; [attempt.rank] on each "
      "line\n"
      "  sinkforge logs d4-gated-1 --raw | jq .message    # structured lines as JSON";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = &options->job_id}};
  command.options = {
      {"-f,--follow", "", "Go on until the job ends", &options->follow},
      {"--tail", "N", "Only the last N lines that are there (default: all)", &options->tail},
      {"--attempt", "N", "Only this attempt", &options->attempt},
      {"--rank", "N", "Only this rank", &options->rank},
      {"--prefix", "", "Begin each line with [attempt.rank]", &options->prefix},
      {"-t,--timestamps", "",
       "Begin lines that have no time of their own with that of their arrival",
       &options->timestamps},
      {"--raw", "", "Structured lines as the JSON that the trainer wrote", &options->raw}};
  command.run = [options](Session& session) { return Logs(session, *options); };
  return command;
}

}  // namespace sinkforge::client
