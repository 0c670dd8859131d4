// sinkforge checkpoints list and delete; export and verify are in files of their own.
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/checkpoint_table.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/final_checkpoint.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

absl::StatusOr<int> ListCheckpoints(Session& session, const std::string& job_id) {
  const auto job = session.coordinator().GetJob(job_id);
  if (!job.ok()) return job.status();
  if (session.json()) {
    v1::Job only;
    only.set_job_id(job->job_id());
    *only.mutable_checkpoints() = job->checkpoints();
    session.PrintJson(only);
    return kExitOk;
  }
  session.out() << CheckpointTable(*job).Render(0);
  if (job->checkpoints().empty()) session.Say(absl::StrCat(job_id, " has no checkpoint yet"));
  return kExitOk;
}

Command ListNode() {
  auto job_id = std::make_shared<std::string>();
  Command command;
  command.name = "list";
  command.summary = "List a job's committed checkpoints, oldest first";
  command.examples = "  sinkforge checkpoints list d4-gated-1";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = job_id.get()}};
  command.run = [job_id](Session& session) { return ListCheckpoints(session, *job_id); };
  return command;
}

struct DeleteOptions {
  std::string job_id;
  std::vector<std::string> steps;
};

absl::StatusOr<int> DeleteCheckpoints(Session& session, const DeleteOptions& options) {
  for (const std::string& text : options.steps) {
    int64_t step = 0;
    if (!absl::SimpleAtoi(text, &step) || step < 0) {
      return UsageError(absl::StrCat("step `", text, "` is not a number; the steps are those of ",
                                     "`sinkforge checkpoints list ", options.job_id, "`"));
    }
    const auto job = session.coordinator().DeleteCheckpoint(options.job_id, step);
    if (!job.ok()) return job.status();
    if (session.json()) {
      session.PrintJsonLine(*job);
    } else {
      session.out() << options.job_id << " step " << step << " deleted" << std::endl;
    }
    if (job->state() == v1::JOB_STATE_SUCCEEDED && step == job->spec().train().steps()) {
      const auto newest = NewestCheckpointStep(*job);
      session.Say(absl::StrCat("warning: step ", step, " was the last of ", options.job_id,
                               ": these were its final weights; ",
                               newest.has_value()
                                   ? absl::StrCat("the newest that are left are of step ", *newest)
                                   : std::string("no checkpoint is left")));
    }
  }
  return kExitOk;
}

Command DeleteNode() {
  auto options = std::make_shared<DeleteOptions>();
  Command command;
  command.name = "delete";
  command.summary = "Delete checkpoints of a job";
  command.examples = "  sinkforge checkpoints delete d4-gated-1 100 200";
  command.arguments = {
      {.name = "JOB", .help = "The job's id", .target = &options->job_id},
      {.name = "STEP", .help = "Steps of the checkpoints", .target = &options->steps}};
  command.run = [options](Session& session) { return DeleteCheckpoints(session, *options); };
  return command;
}

}  // namespace

Command CheckpointsCommand() {
  Command command;
  command.name = "checkpoints";
  command.summary = "List, verify, export or delete a job's checkpoints";
  command.examples =
      "  sinkforge checkpoints list d4-gated-1\n"
      "  sinkforge checkpoints export d4-gated-1 model.safetensors";
  command.commands = {ListNode(), CheckpointsVerifyCommand(), CheckpointsExportCommand(),
                      DeleteNode()};
  return command;
}

}  // namespace sinkforge::client
