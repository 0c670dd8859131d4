// Candidates in the order of their likelihood, cut by k, then by p, then one by its share.
#include "worker/trainer/core/token_sampler.h"

#include <algorithm>
#include <cmath>

namespace sinkforge::trainer {
namespace {

constexpr double kUnit = 1.0 / 9007199254740992.0;  // 2^-53: 53 bits to a number below 1

}  // namespace

TokenSampler::TokenSampler(const SamplingOptions& options)
    : options_(options), random_(options.seed, "sampling") {
  SINKFORGE_CHECK(options.temperature >= 0 && options.top_k >= 0 && options.top_p > 0 &&
                  options.top_p <= 1);
}

kernels::Result<int32_t> TokenSampler::Draw(std::span<const double> logits) {
  if (!std::ranges::all_of(logits, [](double logit) { return std::isfinite(logit); })) {
    return kernels::Status(kernels::StatusCode::kNonFinite, "the model's logits are not finite");
  }
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (options_.temperature == 0) return static_cast<int32_t>(largest - logits.begin());
  candidates_.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    const double weight = std::exp((logits[id] - *largest) / options_.temperature);
    candidates_.push_back({static_cast<int32_t>(id), weight});
  }
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  };
  const auto count = static_cast<int64_t>(candidates_.size());
  const int64_t kept = options_.top_k > 0 ? std::min(options_.top_k, count) : count;
  std::partial_sort(candidates_.begin(), candidates_.begin() + kept, candidates_.end(), likelier);
  candidates_.resize(static_cast<size_t>(kept));
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  double reached = 0;
  size_t inside = 0;
  while (inside < candidates_.size() && reached < options_.top_p * total) {
    reached += candidates_[inside++].weight;
  }
  const double mark = static_cast<double>(random_.Bits(draws_++) >> 11) * kUnit * reached;
  double passed = 0;
  for (size_t i = 0; i + 1 < inside; ++i) {
    passed += candidates_[i].weight;
    if (mark < passed) return candidates_[i].id;
  }
  return candidates_[inside - 1].id;
}

}  // namespace sinkforge::trainer
