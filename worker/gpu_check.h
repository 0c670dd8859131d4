// Whether this machine has the GPUs that a worker is to offer; its trainer program knows.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"

namespace sinkforge::worker {

struct GpuCheck {
  std::string trainer;
  int32_t gpus = 0;  // each of the first ones that this process sees is to be a slot
  // Of the trainer's answer: where nothing keeps the driver loaded, it starts each GPU anew.
  std::chrono::nanoseconds limit = std::chrono::minutes(2);
};

// Asks `TRAINER gpus -o json`, in a trainer's environment.
// UNAVAILABLE: one of them cannot be used, or the trainer did not say; names how many there are,
// why, and what to do. NOT_FOUND: the trainer cannot be executed.
absl::Status CheckGpus(const GpuCheck& check, const base::Clock& clock);

}  // namespace sinkforge::worker
