// SoloCollective: the collective of a job with one rank. Nothing to do, and never an error.
#pragma once

#include "worker/trainer/core/collective.h"

namespace sinkforge::trainer {

class SoloCollective final : public Collective {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  kernels::Status AllReduceSum(std::span<double>) override { return {}; }
  kernels::Status AllReduceMax(std::span<int64_t>) override { return {}; }
  kernels::Status Barrier() override { return {}; }
  void BeginReduceScatterSum(const kernels::Tensor&, std::span<const Segment>) override {}
  void BeginAllGather(const kernels::Tensor&, std::span<const Segment>) override {}
  kernels::Status Wait() override { return {}; }
};

}  // namespace sinkforge::trainer
