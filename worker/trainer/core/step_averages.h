// StepAverages: what the micro-steps of one optimizer step measured, averaged.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/head_balance.h"
#include "worker/trainer/core/host.h"

namespace sinkforge::trainer {

class StepAverages {
 public:
  StepAverages(int64_t layers, int64_t heads);

  void Reset();
  // `loss_sum`: nats over the targets of the global micro-batch, `targets` their number.
  void Add(double loss_sum, int64_t targets, const kernels::HeadBalance& balance);
  // Means over what was added, into the fields of the same name.
  void Fill(StepReport* report) const;

 private:
  int64_t heads_;
  int64_t micro_steps_ = 0;
  int64_t targets_ = 0;
  double loss_sum_ = 0;
  double aux_loss_ = 0;
  double imbalance_ = 0;
  std::vector<double> layer_cv_;
  std::vector<double> importance_;
};

}  // namespace sinkforge::trainer
