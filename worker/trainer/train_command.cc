// Job file in, files out.
#include "worker/trainer/train_command.h"

#include <cstdio>
#include <filesystem>

#include "proto/jobspec/job_file.h"
#include "worker/trainer/core/memory_plan.h"
#include "worker/trainer/job_config.h"
#include "worker/trainer/standalone_host.h"
#include "worker/trainer/training_run.h"

namespace sinkforge::trainer {
namespace {

std::string CheckpointText(const RunEnd& end) {
  if (!end.durable_step) return "";
  if (*end.durable_step == 0) return "; there is no checkpoint";
  return "; the last good checkpoint is of step " + std::to_string(*end.durable_step);
}

ExitCode Report(const RunEnd& end) {
  if (end.outcome == v1::RANK_OUTCOME_FAILED) {
    std::fprintf(stderr, "error: %s%s\n", end.message.c_str(), CheckpointText(end).c_str());
  }
  return end.exit_code;
}

RunEnd ExplainMemory(const v1::JobSpec& spec, BackendChoice choice) {
  const auto backend = MakeBackend(spec, choice);
  if (!backend.ok()) {
    // What a GPU's backend adds to the job's tensors is known to that backend alone.
    return FailedRun(v1::REASON_BAD_JOB,
                     backend.status().message() +
                         "; or see with --set resources.device=cpu what the job allocates on a "
                         "CPU, where working copies and workspaces are other ones");
  }
  const int64_t ranks = spec.resources().ranks();
  const auto plan = PlanMemory(ToTrainingConfig(spec), ranks, backend.value().get());
  if (!plan.ok()) return FailedRun(v1::REASON_BAD_JOB, plan.status().message());
  std::fputs(FormatMemoryPlan(plan.value()).c_str(), stdout);
  return {};
}

}  // namespace

ExitCode RunTrainCommand(const TrainCommand& command) {
  absl::StatusOr<v1::JobSpec> spec = jobspec::LoadJob(command.job, command.overrides);
  if (!spec.ok()) {
    return Report(FailedRun(v1::REASON_BAD_JOB, std::string(spec.status().message())));
  }
  if (command.explain_memory) return Report(ExplainMemory(*spec, command.backend));
  if (command.dump_step > spec->train().steps()) {
    return Report(FailedRun(v1::REASON_BAD_JOB, "--dump-step " + std::to_string(command.dump_step) +
                                                    ": the job has " +
                                                    std::to_string(spec->train().steps()) +
                                                    " steps; give one from 1 to " +
                                                    std::to_string(spec->train().steps())));
  }
  RunRequest request;
  request.root_advice = "give another --data-root";
  request.spec = *spec;
  request.backend = command.backend;
  request.data_roots = command.data_roots;
  if (request.data_roots.empty()) {
    const std::string folder = std::filesystem::path(command.job).parent_path().string();
    request.data_roots.push_back(folder.empty() ? "." : folder);
  }
  StandaloneOptions options;
  options.work_dir = command.work_dir;
  options.steps = spec->train().steps();
  options.keep = spec->checkpoint().keep();
  options.dump_step = command.dump_step;
  options.start =
      command.resume ? StandaloneOptions::Start::kResume : StandaloneOptions::Start::kNew;
  auto host = StandaloneHost::Create(options);
  if (!host.ok()) return Report(FailedRun(v1::REASON_BAD_JOB, host.status().message()));
  if (spec->resources().ranks() > 1) {
    host.value()->Warn("the standalone mode runs one rank; resources.ranks is passed over");
  }
  RunEnd end = RunJob(request, *host.value());
  const kernels::Status& failure = host.value()->failure();
  if (!failure.ok() && end.outcome != v1::RANK_OUTCOME_FAILED) {
    end = FailedRun(v1::REASON_TRAINER_CRASHED, failure.message());
  }
  return Report(end);
}

}  // namespace sinkforge::trainer
