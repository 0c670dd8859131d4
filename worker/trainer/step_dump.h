// step_dump: everything about one training step as files, enough for anyone to check the step with
// another framework.
#pragma once

#include <string>

#include "kernels/status.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::trainer {

// Writes batch.safetensors (`inputs`, `targets`: I32 [micro_steps, rows, T]),
// parameters.safetensors (before the step), gradients.safetensors (of the total loss, before
// clipping), importance.safetensors (`importance`: F64 [layers, heads]) and losses.json (`base`,
// `aux`, `imbalance`, `layer_cv`) into `folder`, which is made. kResourceExhausted, kUnavailable.
kernels::Status WriteStepDump(const StepDump& dump, const std::string& folder);

}  // namespace sinkforge::trainer
