// Holds the trainer's core against PyTorch's autograd and optimizers (tests/golden/generate.py):
// gradients, importance and losses of one backward, and the parameters after ten optimizer steps.
//
// Tolerances: a tensor's norm-wise error ||a - b|| / ||b|| is at most 1e-5 in float32 after one
// backward. After ten steps it is at most twice the error that PyTorch itself makes in float32 on
// the same steps, plus a floor of two float32 roundings, which storing a result alone can cost.
// In float64 only the golden gradients' own rounding to float32 is left, 6e-8.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"
#include "tests/golden/golden_case.h"
#include "tests/golden/golden_file.h"
#include "worker/trainer/core/solo_collective.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::trainer {
namespace {

constexpr double kFloat32Epsilon = 0x1p-23;

enum class Engine { kCpu, kRefFloat32, kRefFloat64 };

std::unique_ptr<kernels::Backend> MakeBackend(Engine engine) {
  switch (engine) {
    case Engine::kCpu:
      return kernels::MakeCpuBackend(2);
    case Engine::kRefFloat32:
      return kernels::MakeRefBackend(kernels::DType::kF32);
    case Engine::kRefFloat64:
      return kernels::MakeRefBackend(kernels::DType::kF64);
  }
  return nullptr;
}

const char* EngineName(Engine engine) {
  switch (engine) {
    case Engine::kCpu:
      return "Cpu";
    case Engine::kRefFloat32:
      return "RefFloat32";
    case Engine::kRefFloat64:
      return "RefFloat64";
  }
  return "";
}

// The golden rows in their own order, whatever the seed. Without base loss every target is -1,
// which counts for nothing and leaves the auxiliary loss alone.
class GoldenRows final : public Dataset {
 public:
  explicit GoldenRows(bool with_targets)
      : batches_(ReadGoldenFile("batches.safetensors")), with_targets_(with_targets) {
    const std::vector<int64_t>& shape = batches_.at("inputs").shape;  // [steps, micro, rows, T]
    sequence_ = shape[3];
    rows_ = shape[0] * shape[1] * shape[2];
  }
  int64_t tokens() const override { return rows_ * sequence_ + 1; }
  int64_t rows() const override { return rows_; }
  void ReadRow(int64_t row, int32_t* inputs, int32_t* targets) const override {
    const size_t first = static_cast<size_t>(row * sequence_);
    for (size_t t = 0; t < static_cast<size_t>(sequence_); ++t) {
      inputs[t] = static_cast<int32_t>(batches_.at("inputs").values[first + t]);
      targets[t] =
          with_targets_ ? static_cast<int32_t>(batches_.at("targets").values[first + t]) : -1;
    }
  }
  void ReadTokens(int64_t first, int64_t count, int32_t* tokens) const override {
    for (int64_t i = 0; i < count; ++i) {
      tokens[i] =
          static_cast<int32_t>(batches_.at("inputs").values[static_cast<size_t>(first + i)]);
    }
  }
  std::optional<int64_t> TokenBytes(int32_t) const override { return 1; }
  int64_t ShuffledRow(uint64_t, int64_t index) const override { return index % rows_; }

 private:
  GoldenTensors batches_;
  bool with_targets_;
  int64_t sequence_ = 0;
  int64_t rows_ = 0;
};

// Everything that a trainer needs, from the golden parameters of its architecture.
struct GoldenRun {
  GoldenRun(const TrainingConfig& config, const GoldenCase& golden_case, Engine engine)
      : backend(MakeBackend(engine)), rows(golden_case.with_base) {
    TrainerEnvironment environment;
    environment.backend = backend.get();
    environment.collective = &collective;
    environment.train = &rows;
    kernels::Result<std::unique_ptr<Trainer>> created = Trainer::Create(config, environment);
    EXPECT_TRUE(created.ok()) << created.status().message();
    trainer = std::move(created).value();
    std::vector<SnapshotTensor> tensors;
    for (const auto& [name, golden] :
         ReadGoldenFile("parameters_" + golden_case.ParametersName() + ".safetensors")) {
      const bool wide = backend->compute_dtype() == kernels::DType::kF64;
      tensors.push_back(wide ? ToSnapshot<double>(name, golden) : ToSnapshot<float>(name, golden));
    }
    const kernels::Status loaded = trainer->LoadParameters(tensors);
    EXPECT_TRUE(loaded.ok()) << loaded.message();
  }

  // In the backend's own type: loading does not convert.
  template <typename T>
  static SnapshotTensor ToSnapshot(const std::string& name, const GoldenTensor& golden) {
    SnapshotTensor tensor;
    tensor.name = name;
    tensor.dtype = sizeof(T) == sizeof(double) ? "F64" : "F32";
    tensor.shape = golden.shape;
    tensor.length = static_cast<int64_t>(golden.values.size());
    const std::vector<T> values(golden.values.begin(), golden.values.end());
    tensor.bytes.resize(values.size() * sizeof(T));
    std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
    return tensor;
  }

  std::unique_ptr<kernels::Backend> backend;
  SoloCollective collective;
  GoldenRows rows;
  std::unique_ptr<Trainer> trainer;
};

template <typename T>
std::vector<double> CopyAs(kernels::Backend* backend, const kernels::Tensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.elements()));
  backend->CopyToHost(values.data(), tensor);
  return {values.begin(), values.end()};
}

std::vector<double> ToDoubles(kernels::Backend* backend, const kernels::Tensor& tensor) {
  return tensor.dtype == kernels::DType::kF64 ? CopyAs<double>(backend, tensor)
                                              : CopyAs<float>(backend, tensor);
}

// ||a - b|| / ||b||; where b is zero, ||a||.
double RelativeError(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

struct EngineCase {
  GoldenCase golden;
  Engine engine = Engine::kCpu;
};

// What GoogleTest prints of a case beside its name.
void PrintTo(const EngineCase& engine_case, std::ostream* out) {
  *out << engine_case.golden.Name() << " on " << EngineName(engine_case.engine);
}

std::string CaseName(const testing::TestParamInfo<EngineCase>& info) {
  std::string name;  // CamelCase: an underscore means something to GoogleTest.
  bool upper = true;
  for (const char c : info.param.golden.Name()) {
    if (c != '_') name += upper ? static_cast<char>(std::toupper(c)) : c;
    upper = c == '_';
  }
  return name + EngineName(info.param.engine);
}

std::vector<EngineCase> WithEngines(const std::vector<GoldenCase>& cases,
                                    const std::vector<Engine>& engines) {
  std::vector<EngineCase> all;
  for (const GoldenCase& golden : cases) {
    for (const Engine engine : engines) all.push_back({golden, engine});
  }
  return all;
}

class GoldenGradientTest : public testing::TestWithParam<EngineCase> {};

TEST_P(GoldenGradientTest, AgreesWithAutograd) {
  const auto& [golden_case, engine] = GetParam();
  const double tolerance = engine == Engine::kRefFloat64 ? 1e-7 : 1e-5;
  const GoldenTensors golden = ReadGoldenFile("gradients_" + golden_case.Name() + ".safetensors");
  GoldenRun run(GoldenConfig(golden_case), golden_case, engine);
  StepReport report;

  const kernels::Status status = run.trainer->Step(&report, nullptr);

  ASSERT_TRUE(status.ok()) << status.message();
  for (const NamedTensor& gradient : run.trainer->gradients()) {
    const std::string key = "gradient." + gradient.name;
    ASSERT_TRUE(golden.contains(key)) << key;
    const double error =
        RelativeError(ToDoubles(run.backend.get(), gradient.tensor), golden.at(key).values);
    EXPECT_LE(error, tolerance) << gradient.name;
  }
  EXPECT_LE(RelativeError(report.importance, golden.at("importance").values), tolerance);
  EXPECT_LE(RelativeError(report.layer_cv, golden.at("layer_cv").values), tolerance);
  const std::vector<double>& losses = golden.at("losses").values;  // base, aux, imbalance
  EXPECT_LE(RelativeError({report.loss}, {losses[0]}), tolerance);
  EXPECT_LE(RelativeError({report.aux_loss}, {losses[1]}), tolerance);
  EXPECT_LE(RelativeError({report.imbalance}, {losses[2]}), tolerance);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenGradientTest,
                         testing::ValuesIn(WithEngines(GradientCases(),
                                                       {Engine::kCpu, Engine::kRefFloat32,
                                                        Engine::kRefFloat64})),
                         CaseName);

class GoldenStepsTest : public testing::TestWithParam<EngineCase> {
 protected:
  static void TrainAndCompare(const EngineCase& engine_case, OptimizerKind kind) {
    const auto& [golden_case, engine] = engine_case;
    const char* kind_name = kind == OptimizerKind::kMuon ? "_muon" : "_adamw";
    const GoldenTensors golden =
        ReadGoldenFile("steps_" + golden_case.Name() + kind_name + ".safetensors");
    TrainingConfig config = GoldenConfig(golden_case);
    config.optimizer = GoldenOptimizer(kind);
    GoldenRun run(config, golden_case, engine);

    for (int64_t step = 0; step < config.steps; ++step) {
      StepReport report;
      const kernels::Status status = run.trainer->Step(&report, nullptr);
      ASSERT_TRUE(status.ok()) << status.message();
    }

    for (const NamedTensor& parameter : run.trainer->parameters()) {
      const std::vector<double>& wanted = golden.at("parameter." + parameter.name).values;
      const double pytorch = golden.at("error." + parameter.name).values[0];
      const double error = RelativeError(ToDoubles(run.backend.get(), parameter.tensor), wanted);
      const bool exact = engine == Engine::kRefFloat64;
      EXPECT_LE(error, exact ? 1e-10 : 2 * pytorch + 2 * kFloat32Epsilon)
          << parameter.name << ", PyTorch's own float32 error is " << pytorch;
    }
  }
};

TEST_P(GoldenStepsTest, TenStepsOfMuonAgree) { TrainAndCompare(GetParam(), OptimizerKind::kMuon); }

TEST_P(GoldenStepsTest, TenStepsOfAdamWAgree) {
  TrainAndCompare(GetParam(), OptimizerKind::kAdamW);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenStepsTest,
                         testing::ValuesIn(WithEngines(StepCases(),
                                                       {Engine::kCpu, Engine::kRefFloat64})),
                         CaseName);

class GoldenSwiGluTest : public testing::TestWithParam<Engine> {};

TEST_P(GoldenSwiGluTest, AgreesWithAutograd) {
  const GoldenTensors golden = ReadGoldenFile("op_swiglu.safetensors");
  const auto count = static_cast<int64_t>(golden.at("gate").values.size());
  const std::unique_ptr<kernels::Backend> backend = MakeBackend(GetParam());
  const bool wide = backend->compute_dtype() == kernels::DType::kF64;
  std::map<std::string, std::vector<unsigned char>> memory;
  const auto make = [&](const std::string& name) {
    auto& bytes = memory[name];
    bytes.resize(static_cast<size_t>(count * kernels::SizeOf(backend->compute_dtype())));
    return kernels::Tensor(bytes.data(), backend->compute_dtype(), {count});
  };
  const auto input = [&](const std::string& name) {
    const std::vector<double>& values = golden.at(name).values;
    const kernels::Tensor tensor = make(name);
    const std::vector<float> narrow(values.begin(), values.end());
    wide ? backend->CopyFromHost(tensor, values.data())
         : backend->CopyFromHost(tensor, narrow.data());
    return tensor;
  };
  const kernels::SwiGluBackwardArgs args = {input("d_act"), input("gate"), input("up"),
                                            make("d_gate"), make("d_up"),  make("again")};
  const kernels::Tensor act = make("act");

  backend->SwiGlu(args.gate, args.up, act);
  backend->SwiGluBackward(args);

  const auto expect_near = [&](const kernels::Tensor& tensor, const std::string& name) {
    const std::vector<double> got = ToDoubles(backend.get(), tensor);
    const std::vector<double>& wanted = golden.at(name).values;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double tolerance = (wide ? 1e-15 : 1e-6) * (1 + std::abs(wanted[i]));
      EXPECT_NEAR(got[i], wanted[i], tolerance) << name << " at " << golden.at("gate").values[i];
    }
  };
  expect_near(act, "act");
  expect_near(args.act, "act");
  expect_near(args.d_gate, "d_gate");
  expect_near(args.d_up, "d_up");
}

INSTANTIATE_TEST_SUITE_P(Engines, GoldenSwiGluTest,
                         testing::Values(Engine::kCpu, Engine::kRefFloat32, Engine::kRefFloat64),
                         [](const auto& tested) { return std::string(EngineName(tested.param)); });

// A file that no case reads would check nothing.
TEST(GoldenFilesTest, EveryFileIsReadByACase) {
  std::set<std::string> read = {"batches.safetensors", "op_swiglu.safetensors"};
  for (const GoldenCase& golden_case : GradientCases()) {
    read.insert("gradients_" + golden_case.Name() + ".safetensors");
    read.insert("parameters_" + golden_case.ParametersName() + ".safetensors");
  }
  for (const GoldenCase& golden_case : StepCases()) {
    read.insert("steps_" + golden_case.Name() + "_muon.safetensors");
    read.insert("steps_" + golden_case.Name() + "_adamw.safetensors");
  }

  std::set<std::string> present;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenFolder())) {
    present.insert(entry.path().filename().string());
  }

  EXPECT_EQ(present, read);
}

}  // namespace
}  // namespace sinkforge::trainer
