// What the tests of the trainer's core share: small jobs, an in-memory data set, a host that
// remembers what it was told.
#pragma once

#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/ref/ref_backend.h"
#include "worker/trainer/core/config.h"
#include "worker/trainer/core/dataset.h"
#include "worker/trainer/core/host.h"
#include "worker/trainer/core/in_process_collective.h"
#include "worker/trainer/core/random.h"
#include "worker/trainer/core/solo_collective.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::trainer {

// A data set that lies in memory. Its shuffled order is a simple rotation by the seed, so that a
// test can say which rows a step reads.
class MemoryDataset final : public Dataset {
 public:
  MemoryDataset(std::vector<int32_t> tokens, int64_t sequence)
      : tokens_(std::move(tokens)), sequence_(sequence) {}

  int64_t tokens() const override { return static_cast<int64_t>(tokens_.size()); }
  int64_t rows() const override { return (tokens() - 1) / sequence_; }
  void ReadRow(int64_t row, int32_t* inputs, int32_t* targets) const override {
    ReadTokens(row * sequence_, sequence_, inputs);
    ReadTokens(row * sequence_ + 1, sequence_, targets);
  }
  void ReadTokens(int64_t first, int64_t count, int32_t* tokens) const override {
    SINKFORGE_CHECK(first >= 0 && first + count <= this->tokens());
    std::copy_n(tokens_.begin() + first, count, tokens);
  }
  std::optional<int64_t> TokenBytes(int32_t) const override { return token_bytes; }
  int64_t ShuffledRow(uint64_t seed, int64_t index) const override {
    return (index + static_cast<int64_t>(seed)) % rows();
  }

  std::optional<int64_t> token_bytes = 1;

 private:
  std::vector<int32_t> tokens_;
  int64_t sequence_;
};

// A text with something to learn: each token follows from the one before it, but for one in eight.
inline std::vector<int32_t> SyntheticTokens(int64_t count, int32_t vocabulary, uint64_t seed) {
  const RandomStream stream(seed, "synthetic tokens");
  std::vector<int32_t> tokens = {0};
  for (int64_t i = 1; i < count; ++i) {
    const uint64_t bits = stream.Bits(static_cast<uint64_t>(i));
    const auto at = static_cast<size_t>(i);
    const bool noise = bits % 8 == 0;
    tokens.push_back(noise ? static_cast<int32_t>((bits >> 8) % static_cast<uint64_t>(vocabulary))
                           : (3 * tokens[at - 1] + 1) % vocabulary);
  }
  return tokens;
}

// Small enough for the reference backend, and not square anywhere.
inline TrainingConfig SmallJob() {
  TrainingConfig config;
  config.model.layers = 2;
  config.model.width = 16;
  config.model.heads = 4;
  config.model.vocab_size = 13;
  config.model.mlp_width = 24;
  config.model.attention = kernels::AttentionVariant::kGated;
  config.model.gate_init = 0.2;
  config.head_balance = {kernels::BalanceLoss::kCv, 1e-2, 0};
  config.optimizer.matrix_lr = 0.02;
  config.steps = 60;
  config.sequence_length = 8;
  config.micro_batch_rows = 4;
  config.micro_steps = 1;
  config.seed = 7;
  return config;
}

// A trainer with all that it stands on.
struct Rig {
  std::unique_ptr<kernels::Backend> backend;
  std::unique_ptr<Collective> collective;
  std::unique_ptr<Trainer> trainer;
};

struct RigOptions {
  std::unique_ptr<kernels::Backend> backend;  // null: the float32 reference
  std::unique_ptr<Collective> collective;     // null: solo
  const Dataset* train = nullptr;
  const Dataset* validation = nullptr;
  int64_t bucket_bytes_min = 1;  // every parameter is a bucket of its own
};

inline Rig MakeRig(const TrainingConfig& config, RigOptions options) {
  Rig rig;
  rig.backend =
      options.backend ? std::move(options.backend) : kernels::MakeRefBackend(kernels::DType::kF32);
  rig.collective =
      options.collective ? std::move(options.collective) : std::make_unique<SoloCollective>();
  TrainerEnvironment environment;
  environment.backend = rig.backend.get();
  environment.collective = rig.collective.get();
  environment.train = options.train;
  environment.validation = options.validation;
  environment.bucket_bytes_min = options.bucket_bytes_min;
  auto trainer = Trainer::Create(config, environment);
  SINKFORGE_CHECK(trainer.ok());
  rig.trainer = std::move(trainer).value();
  return rig;
}

// Elements of a tensor as float64.
inline std::vector<double> ToDoubles(kernels::Backend* backend, const kernels::Tensor& tensor) {
  const auto count = static_cast<size_t>(tensor.elements());
  std::vector<double> values(count);
  if (tensor.dtype == kernels::DType::kF64) {
    backend->CopyToHost(values.data(), tensor);
  } else {
    std::vector<float> narrow(count);
    backend->CopyToHost(narrow.data(), tensor);
    std::copy(narrow.begin(), narrow.end(), values.begin());
  }
  return values;
}

inline void FromDoubles(kernels::Backend* backend, const std::vector<double>& values,
                        const kernels::Tensor& tensor) {
  if (tensor.dtype == kernels::DType::kF64) {
    backend->CopyFromHost(tensor, values.data());
  } else {
    const std::vector<float> narrow(values.begin(), values.end());
    backend->CopyFromHost(tensor, narrow.data());
  }
}

// ||a - b|| / ||b||, or ||a - b|| where b is zero.
inline double RelativeDistance(const std::vector<double>& a, const std::vector<double>& b) {
  SINKFORGE_CHECK(a.size() == b.size());
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

inline bool SameBytes(const Snapshot& a, const Snapshot& b) {
  if (a.tensors.size() != b.tensors.size()) return false;
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const SnapshotTensor& x = a.tensors[i];
    const SnapshotTensor& y = b.tensors[i];
    if (x.name != y.name || x.shape != y.shape || x.offset != y.offset || x.bytes != y.bytes) {
      return false;
    }
  }
  return a.state.step == b.state.step && a.state.rows_consumed == b.state.rows_consumed &&
         a.state.tokens_total == b.state.tokens_total && a.state.seed == b.state.seed;
}

// Runs `body(rank, collective)` on one thread per rank.
inline void RunRanks(int world_size,
                     const std::function<void(int, std::unique_ptr<Collective>)>& body) {
  auto collectives = MakeInProcessCollectives(world_size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back(body, rank, std::move(collectives[static_cast<size_t>(rank)]));
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace sinkforge::trainer
