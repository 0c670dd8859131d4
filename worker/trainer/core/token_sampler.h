// TokenSampler: draws the next token from logits by temperature, top-k and top-p. The n-th draw is
// a function of the seed, n and the logits alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/core/random.h"

namespace sinkforge::trainer {

struct SamplingOptions {
  double temperature = 1;  // 0: always the likeliest
  int64_t top_k = 0;       // among the k likeliest; 0: all
  double top_p = 1;        // among the fewest likeliest whose probabilities reach p
  uint64_t seed = 1;
};

// Used by one thread.
class TokenSampler {
 public:
  explicit TokenSampler(const SamplingOptions& options);

  // Of equals the lower id counts as likelier. kNonFinite: a logit is not finite.
  kernels::Result<int32_t> Draw(std::span<const double> logits);

 private:
  struct Candidate {
    int32_t id = 0;
    double weight = 0;
  };

  SamplingOptions options_;
  RandomStream random_;
  uint64_t draws_ = 0;
  std::vector<Candidate> candidates_;
};

}  // namespace sinkforge::trainer
