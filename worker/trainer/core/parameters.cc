// The parameters of the nanochat family and their initial values.
#include "worker/trainer/core/parameters.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>
#include <vector>

#include "worker/trainer/core/random.h"

namespace sinkforge::trainer {

using kernels::AttentionVariant;
using kernels::DType;
using kernels::GateGranularity;
using kernels::Result;
using kernels::Status;
using kernels::Tensor;

namespace {

Initializer Zero() { return {}; }
Initializer Normal(double deviation) { return {Initializer::Kind::kNormal, deviation, 0, 0}; }

// N(0, min(1, sqrt(out / in)) / sqrt(in)).
Initializer LinearInit(int64_t out, int64_t in) {
  const double ratio = static_cast<double>(out) / static_cast<double>(in);
  return Normal(std::min(1.0, std::sqrt(ratio)) / std::sqrt(static_cast<double>(in)));
}

std::string LayerPrefix(int64_t layer) { return "transformer.h." + std::to_string(layer) + "."; }

void DescribeLayer(const ModelConfig& config, int64_t layer, std::vector<ParameterSpec>* specs) {
  const std::string prefix = LayerPrefix(layer);
  const int64_t width = config.width;
  const int64_t mlp = config.mlp_width;
  const auto matrix = [&](const char* name, int64_t out, int64_t in, const Initializer& init) {
    specs->push_back({prefix + name, ParameterRole::kMatrix, out, in, init});
  };
  for (const char* name : {"attn.c_q.weight", "attn.c_k.weight", "attn.c_v.weight"}) {
    matrix(name, width, width, LinearInit(width, width));
  }
  if (config.attention == AttentionVariant::kSink) {
    const Initializer spread{Initializer::Kind::kSpread, 0, config.sink_init_low,
                             config.sink_init_high};
    specs->push_back({prefix + "attn.sinks", ParameterRole::kGate, config.heads, 0, spread});
  }
  if (config.attention == AttentionVariant::kGated) {
    const int64_t out = config.gate == GateGranularity::kHead ? config.heads : width;
    specs->push_back({prefix + "attn.c_gate.weight", ParameterRole::kGate, out, width,
                      Normal(config.gate_init)});
  }
  matrix("attn.c_proj.weight", width, width, Zero());
  if (config.mlp == MlpKind::kReluSquared) {
    matrix("mlp.c_fc.weight", mlp, width, LinearInit(mlp, width));
  } else {
    // Two matrices and not one of twice the rows: Muon orthogonalises each matrix by itself, and of
    // a stack it would do so to the gate's and the up projection's directions together.
    for (const char* name : {"mlp.c_gate.weight", "mlp.c_up.weight"}) {
      matrix(name, mlp, width, LinearInit(mlp, width));
    }
  }
  matrix("mlp.c_proj.weight", width, mlp, Zero());
}

double SpreadValue(const Initializer& init, int64_t index, int64_t count) {
  if (count == 1) return init.low;
  return init.low +
         (init.high - init.low) * static_cast<double>(index) / static_cast<double>(count - 1);
}

// Values of a tensor for which another thread is worth starting: 10 ms of one. Few threads, for
// other trainers of the machine may be starting as well.
constexpr size_t kValuesPerThread = size_t{1} << 18;
constexpr unsigned kInitialThreadsMax = 4;

// Every number is a function of its index, so that the bits do not depend on the threads.
void FillNormal(const RandomStream& stream, double deviation, std::vector<float>* values) {
  const size_t pairs = (values->size() + 1) / 2;
  const auto fill = [&](size_t begin, size_t end) {
    for (size_t pair = begin; pair < end; ++pair) {
      const auto numbers = stream.NormalPair(pair);
      for (size_t i = 2 * pair; i < std::min(2 * pair + 2, values->size()); ++i) {
        (*values)[i] = static_cast<float>(deviation * numbers[i % 2]);
      }
    }
  };
  const size_t processors = std::clamp(std::thread::hardware_concurrency(), 1U, kInitialThreadsMax);
  const size_t parts = std::clamp<size_t>(values->size() / kValuesPerThread, 1, processors);
  std::vector<std::thread> others;
  for (size_t part = 1; part < parts; ++part) {
    others.emplace_back(fill, pairs * part / parts, pairs * (part + 1) / parts);
  }
  fill(0, pairs / parts);
  for (std::thread& other : others) other.join();
}

std::vector<float> InitialValues(const ParameterSpec& spec, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(spec.elements()), 0.0F);
  const Initializer& init = spec.initializer;
  if (init.kind == Initializer::Kind::kSpread) {
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(SpreadValue(init, static_cast<int64_t>(i), spec.elements()));
    }
  }
  if (init.kind == Initializer::Kind::kNormal && init.deviation > 0) {
    FillNormal(RandomStream(seed, spec.name), init.deviation, &values);
  }
  return values;
}

}  // namespace

std::vector<ParameterSpec> DescribeParameters(const ModelConfig& config) {
  std::vector<ParameterSpec> specs;
  specs.push_back({"transformer.wte.weight", ParameterRole::kEmbedding, config.vocab_size,
                   config.width, Normal(1.0)});
  for (int64_t layer = 0; layer < config.layers; ++layer) DescribeLayer(config, layer, &specs);
  specs.push_back(
      {"lm_head.weight", ParameterRole::kUnembedding, config.vocab_size, config.width, Zero()});
  return specs;
}

int64_t CountParameters(const ModelConfig& config) {
  int64_t count = 0;
  for (const ParameterSpec& spec : DescribeParameters(config)) count += spec.elements();
  return count;
}

ParameterSet::ParameterSet(const ModelConfig& config, kernels::Backend* backend)
    : backend_(backend),
      values_("parameters", backend),
      gradients_("gradients", backend),
      working_("working copies of the parameters", backend) {
  const DType dtype = backend->compute_dtype();
  for (ParameterSpec& spec : DescribeParameters(config)) {
    for (Arena* arena : {&values_, &gradients_}) {
      if (spec.columns == 0) {
        arena->Add(spec.name, dtype, {spec.rows});
      } else {
        arena->Add(spec.name, dtype, {spec.rows, spec.columns});
      }
    }
    all_.push_back({std::move(spec), {}});
  }
  if (backend->activation_dtype() != dtype) {
    const int64_t elements = values_.bytes() / kernels::SizeOf(dtype);
    working_.Add("working copies", backend->activation_dtype(), {elements});
  }
}

std::unique_ptr<ParameterSet> ParameterSet::CreateUnallocated(const ModelConfig& config,
                                                              kernels::Backend* backend) {
  std::unique_ptr<ParameterSet> set(new ParameterSet(config, backend));
  set->PlaceWeights();
  return set;
}

Result<std::unique_ptr<ParameterSet>> ParameterSet::Create(const ModelConfig& config,
                                                           kernels::Backend* backend,
                                                           Gradients gradients) {
  std::unique_ptr<ParameterSet> set = CreateUnallocated(config, backend);
  for (Arena* arena : {&set->values_, &set->gradients_, &set->working_}) {
    if (arena == &set->gradients_ && gradients == Gradients::kNone) continue;
    if (Status status = arena->Allocate(); !status.ok()) return status;
  }
  set->PlaceWeights();
  set->wte_ = set->Find("transformer.wte.weight");
  set->lm_head_ = set->Find("lm_head.weight");
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = LayerPrefix(layer);
    LayerWeights weights;
    weights.first_parameter = set->IndexOf(prefix + "attn.c_q.weight");
    weights.c_q = set->Find(prefix + "attn.c_q.weight");
    weights.c_k = set->Find(prefix + "attn.c_k.weight");
    weights.c_v = set->Find(prefix + "attn.c_v.weight");
    weights.c_proj = set->Find(prefix + "attn.c_proj.weight");
    if (config.attention == AttentionVariant::kSink)
      weights.sinks = set->Find(prefix + "attn.sinks");
    if (config.attention == AttentionVariant::kGated) {
      weights.c_gate = set->Find(prefix + "attn.c_gate.weight");
    }
    if (config.mlp == MlpKind::kReluSquared) {
      weights.mlp_fc = set->Find(prefix + "mlp.c_fc.weight");
    } else {
      weights.mlp_gate = set->Find(prefix + "mlp.c_gate.weight");
      weights.mlp_up = set->Find(prefix + "mlp.c_up.weight");
    }
    weights.mlp_proj = set->Find(prefix + "mlp.c_proj.weight");
    set->layers_.push_back(weights);
  }
  return set;
}

void ParameterSet::PlaceWeights() {
  const DType wide = backend_->compute_dtype();
  for (size_t i = 0; i < all_.size(); ++i) {
    all_[i].weight = {values_.at(i), gradients_.at(i), values_.at(i)};
    if (working_.table().empty()) continue;
    Tensor& working = all_[i].weight.working;
    working.dtype = backend_->activation_dtype();
    if (working_.at(0).empty()) continue;  // only planned
    const int64_t first = values_.table()[i].offset_bytes / kernels::SizeOf(wide);
    working.data = working_.at(0).as<char>() + first * kernels::SizeOf(working.dtype);
  }
}

void ParameterSet::RefreshWorkingCopies() {
  if (working_.table().empty()) return;
  backend_->Copy(values_.Flat(backend_->compute_dtype()), working_.at(0));
}

void ParameterSet::Initialize(uint64_t seed) {
  for (const Parameter& parameter : all_) {
    const std::vector<float> values = InitialValues(parameter.spec, seed);
    if (backend_->compute_dtype() == DType::kF64) {
      const std::vector<double> wide(values.begin(), values.end());
      backend_->CopyFromHost(parameter.weight.value, wide.data());
    } else {
      backend_->CopyFromHost(parameter.weight.value, values.data());
    }
  }
  RefreshWorkingCopies();
}

size_t ParameterSet::IndexOf(const std::string& name) const {
  const auto found = std::find_if(all_.begin(), all_.end(), [&](const Parameter& parameter) {
    return parameter.spec.name == name;
  });
  SINKFORGE_CHECK(found != all_.end());
  return static_cast<size_t>(found - all_.begin());
}

}  // namespace sinkforge::trainer
