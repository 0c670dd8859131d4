// Job file in, files out.
#include "worker/trainer/train_command.h"

#include <cstdio>
#include <filesystem>

#include "proto/jobspec/job_file.h"
#include "proto/jobspec/micro_batch.h"
#include "worker/trainer/core/memory_plan.h"
#include "worker/trainer/core/micro_batch.h"
#include "worker/trainer/free_memory.h"
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

// With all of the job's ranks on this machine, which is as free as it is now.
kernels::Result<MicroBatchChoice> ForeseenMicroBatch(const v1::JobSpec& spec,
                                                     kernels::Backend* backend) {
  const kernels::Result<FreeMemory> free = ReadFreeMemory(*backend, 1);
  if (!free.ok()) return free.status();
  MicroBatchRequest request;
  request.choices = jobspec::MicroBatchChoices(spec);
  request.ranks_min = spec.resources().min_ranks();
  request.ranks_max = spec.resources().ranks();
  request.free = free.value();
  return ForeseeMicroBatch(ToTrainingConfig(spec), request, spec.resources().ranks(), backend);
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
  v1::JobSpec chosen = spec;
  if (jobspec::IsAutoMicroBatch(spec.train())) {
    const auto foreseen = ForeseenMicroBatch(spec, backend.value().get());
    if (!foreseen.ok()) return FailedRun(v1::REASON_BAD_JOB, foreseen.status().message());
    const int64_t rows = foreseen.value().rows;
    chosen.mutable_train()->set_micro_batch(static_cast<int32_t>(rows));
    std::printf("train.micro_batch: auto would be %s here and now%s: %s\n\n",
                jobspec::RowsText(rows).c_str(), jobspec::NoMoreRowsText(spec, rows).c_str(),
                foreseen.value().reason.c_str());
  }
  const auto plan = PlanMemory(ToTrainingConfig(chosen), ranks, backend.value().get());
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
