// StepAverages: sums in the order of the micro-steps, divided at the end.
#include "worker/trainer/core/step_averages.h"

#include <algorithm>

namespace sinkforge::trainer {
namespace {

void AddTo(std::vector<double>* sums, const std::vector<double>& values) {
  SINKFORGE_CHECK(sums->size() == values.size());
  for (size_t i = 0; i < values.size(); ++i) (*sums)[i] += values[i];
}

void Divide(const std::vector<double>& sums, double count, std::vector<double>* means) {
  means->resize(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) (*means)[i] = sums[i] / count;
}

}  // namespace

StepAverages::StepAverages(int64_t layers, int64_t heads)
    : heads_(heads),
      layer_cv_(static_cast<size_t>(layers)),
      importance_(static_cast<size_t>(layers * heads)) {}

void StepAverages::Reset() {
  micro_steps_ = 0;
  targets_ = 0;
  loss_sum_ = 0;
  aux_loss_ = 0;
  imbalance_ = 0;
  std::fill(layer_cv_.begin(), layer_cv_.end(), 0.0);
  std::fill(importance_.begin(), importance_.end(), 0.0);
}

void StepAverages::Add(double loss_sum, int64_t targets, const kernels::HeadBalance& balance) {
  ++micro_steps_;
  targets_ += targets;
  loss_sum_ += loss_sum;
  aux_loss_ += balance.aux_loss;
  imbalance_ += balance.imbalance;
  AddTo(&layer_cv_, balance.layer_cv);
  AddTo(&importance_, balance.importance);
}

void StepAverages::Fill(StepReport* report) const {
  SINKFORGE_CHECK(micro_steps_ > 0);
  const auto count = static_cast<double>(micro_steps_);
  report->loss = loss_sum_ / static_cast<double>(targets_);
  report->aux_loss = aux_loss_ / count;
  report->imbalance = imbalance_ / count;
  report->heads = heads_;
  Divide(layer_cv_, count, &report->layer_cv);
  Divide(importance_, count, &report->importance);
}

}  // namespace sinkforge::trainer
