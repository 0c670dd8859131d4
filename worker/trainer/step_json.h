// step_json: a step's measurements as one line of JSON, for the standalone mode's metrics.jsonl.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "worker/trainer/core/host.h"

namespace sinkforge::trainer {

// The keys are the names of sinkforge.v1.StepRecord's fields. Every number reads back to the same
// bits; one that is not finite is null. No newline.
std::string StepToJson(const StepReport& report);

// The step of such a line; absent for anything else (a line that a crash cut short).
std::optional<int64_t> StepOfJson(const std::string& line);

// One line for people: step of total, losses, imbalance, importance, speed and time left.
std::string ProgressLine(const StepReport& report, int64_t steps);

}  // namespace sinkforge::trainer
