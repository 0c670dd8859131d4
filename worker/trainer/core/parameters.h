// The model's parameters: names, shapes, optimizer groups, initial values, and the arenas that hold
// values, gradients and the working copies of mixed precision in the same layout.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#include "worker/trainer/core/arena.h"
#include "worker/trainer/core/config.h"

namespace sinkforge::trainer {

// Which optimizer group a parameter belongs to.
enum class ParameterRole { kEmbedding, kUnembedding, kMatrix, kGate };

struct Initializer {
  enum class Kind { kZero, kNormal, kSpread };
  Kind kind = Kind::kZero;
  double deviation = 0;      // kNormal
  double low = 0, high = 0;  // kSpread: evenly over [low, high], ends included
};

struct ParameterSpec {
  std::string name;
  ParameterRole role = ParameterRole::kMatrix;
  int64_t rows = 0;
  int64_t columns = 0;  // 0: a vector of `rows`
  Initializer initializer;
  int64_t elements() const { return columns == 0 ? rows : rows * columns; }
};

// Every parameter of the model in the order in which it is kept. Weights are [out, in].
std::vector<ParameterSpec> DescribeParameters(const ModelConfig& config);
int64_t CountParameters(const ModelConfig& config);

// A parameter, its gradient, and what the products read: the value itself, or in mixed precision
// its copy in the activation dtype.
struct Weight {
  kernels::Tensor value;
  kernels::Tensor gradient;
  kernels::Tensor working;
};

struct Parameter {
  ParameterSpec spec;
  Weight weight;
};

struct LayerWeights {
  Weight c_q, c_k, c_v, c_proj;  // attn
  Weight sinks;                  // kSink
  Weight c_gate;                 // kGated
  Weight mlp_fc;                 // kReluSquared
  Weight mlp_gate, mlp_up;       // kSwiGlu
  Weight mlp_proj;
  size_t first_parameter = 0;  // of the layer, in ParameterSet::all
};

// Whether there is memory for gradients: who only runs a model needs none.
enum class Gradients { kAllocated, kNone };

// Owned by the model. The tensors stay where they are for the set's life.
class ParameterSet {
 public:
  // Zeroed. kResourceExhausted.
  static kernels::Result<std::unique_ptr<ParameterSet>> Create(
      const ModelConfig& config, kernels::Backend* backend,
      Gradients gradients = Gradients::kAllocated);
  // The same plan without memory: its arenas' tables are all that may be used.
  static std::unique_ptr<ParameterSet> CreateUnallocated(const ModelConfig& config,
                                                         kernels::Backend* backend);
  // Initial values: a function of (seed, name, index), rounded to float32 whatever the compute
  // type, so that float32 and float64 start from the same numbers.
  void Initialize(uint64_t seed);
  // Makes the working copies of mixed precision again; to be called after every change of a value.
  void RefreshWorkingCopies();

  const std::vector<Parameter>& all() const { return all_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  const Weight& wte() const { return wte_; }
  const Weight& lm_head() const { return lm_head_; }
  const Arena& values() const { return values_; }
  const Arena& gradients() const { return gradients_; }
  const Arena& working_copies() const { return working_; }

 private:
  ParameterSet(const ModelConfig& config, kernels::Backend* backend);
  void PlaceWeights();
  size_t IndexOf(const std::string& name) const;
  Weight Find(const std::string& name) const { return all_[IndexOf(name)].weight; }

  kernels::Backend* backend_;
  Arena values_;
  Arena gradients_;
  Arena working_;  // of mixed precision: all values, at the same element offsets
  std::vector<Parameter> all_;
  std::vector<LayerWeights> layers_;
  Weight wte_;
  Weight lm_head_;
};

}  // namespace sinkforge::trainer
