// Collective: what the core needs of the other ranks. Implementations: SoloCollective (one rank),
// InProcessCollective (threads of one process, for tests), GlooCollective (outside the core). All
// pass one conformance suite. Every rank calls the same operations in the same order. Results are
// the same bits on every rank.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/status.h"

namespace sinkforge::trainer {

class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  // kUnavailable: a rank was lost; the collective is of no more use.
  virtual kernels::Status AllReduceSum(std::span<float> values) = 0;
  virtual kernels::Status AllReduceSum(std::span<double> values) = 0;
  virtual kernels::Status AllReduceMax(std::span<int64_t> values) = 0;
  virtual kernels::Status Barrier() = 0;
};

}  // namespace sinkforge::trainer
