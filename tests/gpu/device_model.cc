// One batch forward and backward through the trainer's own Model, with random parameters (zero
// ones, as a fresh model has, would hide most gradients).
#include "tests/gpu/device_model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/ref/ref_backend.h"
#include "kernels/ref/ref_mixed_backend.h"
#include "tests/gpu/device_run.h"
#include "worker/trainer/core/model.h"

namespace sinkforge::kernels::conformance {
namespace {

using trainer::Model;
using trainer::ModelConfig;

constexpr int64_t kRows = 2;
constexpr int64_t kSequence = 70;  // more than one tile, and a remainder

struct ModelCase {
  const char* name;
  AttentionVariant attention;
  GateGranularity gate;
  HeadNorm head_norm;
  trainer::MlpKind mlp = trainer::MlpKind::kReluSquared;
};
constexpr ModelCase kCases[] = {
    {"Model_Vanilla", AttentionVariant::kVanilla, GateGranularity::kHead, HeadNorm::kNone},
    {"Model_Sink", AttentionVariant::kSink, GateGranularity::kHead, HeadNorm::kNone},
    {"Model_GatedHead", AttentionVariant::kGated, GateGranularity::kHead, HeadNorm::kNone},
    {"Model_GatedElement_Rms", AttentionVariant::kGated, GateGranularity::kElement, HeadNorm::kRms},
    {"Model_SwiGlu", AttentionVariant::kGated, GateGranularity::kHead, HeadNorm::kNone,
     trainer::MlpKind::kSwiGlu},
};

ModelConfig ConfigOf(const ModelCase& model) {
  ModelConfig config;
  config.layers = 2;
  config.width = 128;
  config.heads = 2;
  config.vocab_size = 96;
  config.mlp = model.mlp;
  config.mlp_width = 256;
  config.attention = model.attention;
  config.gate = model.gate;
  config.head_norm = model.head_norm;
  return config;
}

// [0] the loss, then the gate sums, then the gradients of all parameters, each a vector of its own.
using Results = std::vector<std::vector<double>>;

std::vector<double> Read(Backend* backend, const Tensor& tensor) {
  const auto size = static_cast<size_t>(tensor.elements());
  if (tensor.dtype == DType::kF64) {
    std::vector<double> values(size);
    backend->CopyToHost(values.data(), tensor);
    return values;
  }
  std::vector<float> values(size);
  backend->CopyToHost(values.data(), tensor);
  return {values.begin(), values.end()};
}

void SetParameters(Model* model, Backend* backend) {
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal;
  for (const trainer::Parameter& parameter : model->parameters().all()) {
    const Tensor& value = parameter.weight.value;
    const float deviation =
        value.rank == 1 ? 1.0F : 1.5F / std::sqrt(static_cast<float>(value.dim(1)));
    std::vector<float> values(static_cast<size_t>(value.elements()));
    // Numbers of bfloat16, so that the working copies are the parameters.
    for (float& x : values) x = FromBfloat16(RoundToBfloat16(deviation * normal(random)));
    if (value.dtype == DType::kF64) {
      const std::vector<double> wide(values.begin(), values.end());
      backend->CopyFromHost(value, wide.data());
    } else {
      backend->CopyFromHost(value, values.data());
    }
  }
  model->parameters().RefreshWorkingCopies();
}

Results Compute(const ModelConfig& config, Backend* backend) {
  trainer::ModelPlan plan;
  plan.rows_max = kRows;
  plan.sequence = kSequence;
  auto made = Model::Create(config, plan, backend);
  SINKFORGE_CHECK(made.ok());
  Model& model = *made.value();
  SetParameters(&model, backend);
  std::mt19937_64 random(12);
  std::vector<int32_t> inputs(kRows * kSequence), targets(kRows * kSequence);
  for (int32_t& token : inputs) token = static_cast<int32_t>(random() % 96);
  for (int32_t& token : targets) token = static_cast<int32_t>(random() % 97) - 1;
  const auto heads = static_cast<size_t>(config.layers * config.heads);
  std::vector<double> gate_sums(heads), importance_gradient(heads);
  for (size_t i = 0; i < heads; ++i) importance_gradient[i] = 1e-3 * (static_cast<double>(i) - 1);

  model.ZeroGradients();
  model.LoadBatch(kRows, inputs.data(), targets.data());
  model.Forward();
  Results results;
  results.push_back({model.Loss(trainer::LossMode::kValueAndGradient, 1.0 / (kRows * kSequence))});
  model.ReadGateStatistics(gate_sums, {});
  results.push_back(gate_sums);
  model.Backward(importance_gradient, {});
  for (const trainer::Parameter& parameter : model.parameters().all()) {
    results.push_back(Read(backend, parameter.weight.gradient));
  }
  return results;
}

double Distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

struct ModelPath {
  const char* name;
  CudaPrecision precision;
  CudaAttention attention;
};
constexpr ModelPath kPaths[] = {
    {"float32", CudaPrecision::kFloat32, CudaAttention::kTensorCores},
    {"mixed", CudaPrecision::kMixed, CudaAttention::kTensorCores},
    {"mixed, Hopper", CudaPrecision::kMixed, CudaAttention::kHopper},
};

bool Compare(const ModelCase& model, const ModelPath& path, const Results& exact,
             Backend* naive_backend) {
  CudaBackendOptions options;
  options.precision = path.precision;
  options.attention = path.attention;
  Result<std::unique_ptr<Backend>> backend = MakeCudaBackend(options);
  if (!backend.ok()) {
    std::printf("FAILED %s: %s\n", model.name, backend.status().message().c_str());
    return false;
  }
  const Results tested = Compute(ConfigOf(model), backend.value().get());
  const Results naive = Compute(ConfigOf(model), naive_backend);
  bool good = true;
  double worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double norm = Distance(exact[i], std::vector<double>(exact[i].size(), 0.0));
    const double error = Distance(tested[i], exact[i]);
    const double naive_error = Distance(naive[i], exact[i]);
    if (naive_error > 0) worst = std::max(worst, error / naive_error);
    // The floor, one rounding of bfloat16 or a few of float32, is for results of few numbers, whose
    // naive error may happen to be small. A NaN fails.
    const double floor = (path.precision == CudaPrecision::kMixed ? 1.0 / 256 : 1e-6) * norm;
    if (error <= 2 * naive_error + floor) continue;
    std::printf("FAILED %s (%s): result %zu: error %.3g, reference's %.3g, norm %.3g\n", model.name,
                path.name, i, error, naive_error, norm);
    good = false;
  }
  std::printf("%s (%s): largest error over the reference's %.2f\n", model.name, path.name, worst);
  return good;
}

}  // namespace

Counts CheckModels(const Selection& selection) {
  Counts counts;
  const auto exact_backend = MakeRefBackend(DType::kF64);
  const auto ref32 = MakeRefBackend(DType::kF32);
  const auto mixed = MakeRefMixedBackend();
  for (const ModelCase& model : kCases) {
    if (!selection.Has(model.name)) continue;
    const Results exact = Compute(ConfigOf(model), exact_backend.get());
    for (const ModelPath& path : kPaths) {
      if (!selection.Has(path.attention)) continue;
      if (path.attention == CudaAttention::kHopper && !HasHopperKernels(0)) continue;
      BeginCase(std::string(model.name) + ", " + path.name);
      Backend* naive = path.precision == CudaPrecision::kMixed ? mixed.get() : ref32.get();
      ++counts.run;
      if (!Compare(model, path, exact, naive)) ++counts.failed;
    }
  }
  return counts;
}

}  // namespace sinkforge::kernels::conformance
