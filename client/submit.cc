// sinkforge submit: sends a job file to the coordinator, or shows what it would send.
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/ids.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/follow.h"
#include "client/format.h"
#include "client/job_input.h"
#include "client/json_text.h"
#include "client/session.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/micro_batch.h"
#include "proto/jobspec/resolve.h"

namespace sinkforge::client {
namespace {

struct SubmitOptions {
  std::string file;
  std::vector<std::string> overrides;
  bool watch = false;
  bool dry_run = false;
};

// "4 micro-batches of 8 rows each"
std::string MicroBatchText(const v1::TrainSpec& train, int64_t micro_steps) {
  if (jobspec::IsAutoMicroBatch(train)) {
    return "in the largest micro-batches that fit where the job starts";
  }
  return absl::StrCat(micro_steps, micro_steps == 1 ? " micro-batch of " : " micro-batches of ",
                      jobspec::RowsText(train.micro_batch()), micro_steps == 1 ? "" : " each");
}

// The resolved job as a job file of its own, with what follows from it as comments.
int PrintDryRun(const Session& session, const v1::JobSpec& spec) {
  const int64_t parameters = jobspec::ParameterCount(spec.model()).value_or(0);
  const v1::TrainSpec& train = spec.train();
  const int64_t tokens = train.steps() * train.batch_tokens();
  const int64_t micro_tokens = int64_t{train.micro_batch()} * spec.data().sequence_length();
  const int64_t micro_steps = micro_tokens > 0 ? train.batch_tokens() / micro_tokens : 0;
  if (session.json()) {
    nlohmann::ordered_json json;
    json["job_file"] = jobspec::FormatJobFile(spec);
    json["parameters"] = parameters;
    json["steps"] = train.steps();
    json["tokens"] = tokens;
    json["tokens_per_step"] = train.batch_tokens();
    if (!jobspec::IsAutoMicroBatch(train)) json["micro_steps"] = micro_steps;
    session.out() << JsonText(json);
    return kExitOk;
  }
  session.out() << "# parameters: " << parameters << " (" << FormatCount(double(parameters))
                << ")\n"
                << "# steps: " << train.steps() << " of " << train.batch_tokens() << " tokens, "
                << MicroBatchText(train, micro_steps) << "\n"
                << "# tokens: " << tokens << " (" << FormatCount(double(tokens)) << ", "
                << absl::StrFormat("%.3g", parameters > 0 ? double(tokens) / double(parameters) : 0)
                << " per parameter)\n"
                << jobspec::FormatJobFile(spec);
  session.Say(
      "dry run: the job is valid; nothing was submitted. `sinkforge-trainer --job JOB.yaml "
      "--explain-memory` prints what a rank of it allocates");
  return kExitOk;
}

absl::StatusOr<int> Submit(Session& session, const SubmitOptions& options) {
  const auto input = ReadJobInput(options.file);
  if (!input.ok()) return input.status();
  const auto spec = ResolveJob(*input, options.overrides);
  if (!spec.ok()) return spec.status();
  if (options.dry_run) return PrintDryRun(session, *spec);
  // Ctrl-C between submitting and watching must leave the job alone as well.
  std::unique_ptr<StopSignal> stop;
  if (options.watch) stop = std::make_unique<StopSignal>(StopSignal::Source::kSignals);
  v1::SubmitJobRequest request;
  *request.mutable_spec() = *spec;
  request.set_request_id(base::RandomId());
  request.set_trace_id(session.trace_id());
  const auto job = session.coordinator().SubmitJob(request);
  if (!job.ok()) return ExplainViolations(*input, options.overrides, job.status());
  if (session.json() && !options.watch) {
    session.PrintJson(*job);
  } else if (!session.json()) {
    session.out() << job->job_id() << std::endl;
  }
  if (options.watch) return FollowJob(session, stop.get(), {.job_id = job->job_id()});
  session.Say(absl::StrCat("submitted; follow it with `sinkforge watch ", job->job_id(), "`"));
  return kExitOk;
}

}  // namespace

Command SubmitCommand() {
  // Shared by the parser, which fills it, and the function that runs.
  auto options = std::make_shared<SubmitOptions>();
  Command command;
  command.name = "submit";
  command.summary = "Submit a job; prints its id";
  command.examples =
      "  sinkforge submit job.yaml\n"
      "  sinkforge submit job.yaml --set train.steps=500 --set model.attention=gated --watch\n"
      "  sinkforge submit job.yaml --dry-run      # needs no coordinator";
  command.arguments = {{.name = "JOB.yaml",
                        .help = "The job file",
                        .target = &options->file,
                        .completion = Argument::Completion::kFiles}};
  command.options = {
      {"--set", "KEY=VALUE", "Set a value of the job, such as model.width=128; repeatable",
       &options->overrides},
      {"-w,--watch", "", "Show its progress until it ends; the exit code says how",
       &options->watch},
      {"--dry-run", "", "Check and print the resolved job, its parameters, steps and tokens",
       &options->dry_run}};
  command.run = [options](Session& session) { return Submit(session, *options); };
  return command;
}

}  // namespace sinkforge::client
