// Decoder: the model of model.h one position after another, with a cache of every layer's keys and
// values, so that a new token costs one position's work. Its logits equal the full forward's to
// rounding.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "worker/trainer/core/arena.h"
#include "worker/trainer/core/config.h"
#include "worker/trainer/core/parameters.h"

namespace sinkforge::trainer {

struct DecoderPlan {
  int64_t positions_max = 0;  // that the cache holds
  int64_t rows_max = 64;      // positions computed at once: bounds the memory of a long prompt
};

// The parameters and the backend, whose memory must be the machine's own, outlive it. Used by one
// thread.
class Decoder {
 public:
  // The config must be valid (ValidateModel). kResourceExhausted: the cache does not fit.
  static kernels::Result<std::unique_ptr<Decoder>> Create(const ModelConfig& config,
                                                          const DecoderPlan& plan,
                                                          const ParameterSet* parameters,
                                                          kernels::Backend* backend);

  // Takes further tokens, each of which sees all before it. positions() must stay within the plan.
  void Feed(std::span<const int32_t> tokens);
  // Softcapped logits of what follows the last token that was fed; [vocab_size].
  void ReadLogits(std::span<double> logits);
  int64_t positions() const { return positions_; }

 private:
  struct Cache {
    kernels::Tensor keys, values;  // [positions_max, width]
  };
  struct Scratch {
    kernels::Tensor tokens, x, norm, rstd, q, gate_logits, attn_out, fc, up, last, logits, scores;
  };

  Decoder(const ModelConfig& config, const DecoderPlan& plan, const ParameterSet* parameters,
          kernels::Backend* backend);
  kernels::Status Plan();
  void FeedRows(std::span<const int32_t> tokens);
  void Attend(size_t layer, int64_t rows);
  template <typename T>
  void AttendAs(size_t layer, int64_t rows);
  void Mlp(size_t layer, int64_t rows);

  ModelConfig config_;
  DecoderPlan plan_;
  const ParameterSet* parameters_;
  kernels::Backend* backend_;
  kernels::AttentionConfig attention_;
  Arena arena_;
  std::vector<Cache> caches_;
  Scratch scratch_;
  int64_t positions_ = 0;
};

}  // namespace sinkforge::trainer
