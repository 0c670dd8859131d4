// job_config: from a resolved and validated JobSpec to the plain structs of the trainer's core.
#pragma once

#include "sinkforge/v1/job.pb.h"
#include "worker/trainer/core/config.h"

namespace sinkforge::trainer {

// `spec` has passed jobspec::ResolveAndValidate. Where its micro-batch is `auto`, a step is one
// micro-batch, which AgreeOnMicroBatch (core/micro_batch.h) divides.
TrainingConfig ToTrainingConfig(const v1::JobSpec& spec);

}  // namespace sinkforge::trainer
