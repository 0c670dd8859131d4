// CUDA graphs of a step on the emulated device: the same bits as without them, and what must not be
// in one. What a graph may hold is the emulation's to check (capture.h).
#include <gmock/gmock.h>

#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/failures.h"
#include "tests/cuda_emulation/include/cuda_runtime.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

using emulation::CudaCall;
using kernels::AttentionVariant;
using kernels::Backend;
using kernels::CudaAttention;
using kernels::CudaBackendOptions;
using kernels::CudaGraphs;
using kernels::CudaPrecision;
using kernels::DType;
using kernels::Tensor;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::unique_ptr<Backend> Make(CudaBackendOptions options, CudaGraphs graphs,
                              std::vector<std::string>* warnings = nullptr) {
  options.graphs = graphs;
  if (warnings != nullptr) {
    options.warn = [warnings](const std::string& message) { warnings->push_back(message); };
  }
  auto made = kernels::MakeCudaBackend(options);
  SINKFORGE_CHECK(made.ok());
  return std::move(made).value();
}

std::unique_ptr<Backend> MakeFloat32(CudaGraphs graphs,
                                     std::vector<std::string>* warnings = nullptr) {
  CudaBackendOptions options;
  options.precision = CudaPrecision::kFloat32;
  return Make(options, graphs, warnings);
}

TrainingConfig JobOf(AttentionVariant attention, Recompute recompute) {
  TrainingConfig config = SmallJob();
  config.model.attention = attention;
  config.recompute = recompute;
  config.micro_steps = 2;
  config.evaluation_tokens = 6 * config.sequence_length;  // a batch of four rows and one of two
  return config;
}

// What a run leaves behind, every bit of it.
struct Trace {
  std::vector<double> numbers;  // of every step and evaluation
  Snapshot end;
};

Trace Train(const TrainingConfig& config, int steps, std::unique_ptr<Backend> backend) {
  const MemoryDataset data(SyntheticTokens(400, 13, 3), config.sequence_length);
  RigOptions options;
  options.backend = std::move(backend);
  options.train = options.validation = &data;
  options.bucket_bytes_min = 1 << 20;  // one: each is reduced by hundreds of thousands of threads
  const Rig rig = MakeRig(config, std::move(options));
  Trace trace;
  for (int step = 1; step <= steps; ++step) {
    StepReport report;
    const kernels::Status status = rig.trainer->Step(&report, nullptr);
    EXPECT_TRUE(status.ok()) << status.message();
    trace.numbers.insert(trace.numbers.end(),
                         {report.loss, report.aux_loss, report.imbalance, report.gradient_norm});
    // In between, and with batches of other sizes.
    const auto evaluation = rig.trainer->Evaluate();
    EXPECT_TRUE(evaluation.ok());
    trace.numbers.push_back(evaluation.value().loss);
  }
  trace.end = rig.trainer->TakeSnapshot();
  return trace;
}

void ExpectSameBits(const Trace& a, const Trace& b) {
  EXPECT_EQ(a.numbers, b.numbers);
  EXPECT_TRUE(SameBytes(a.end, b.end));
}

// Graphs that `body` captured and launched.
emulation::GraphCounts GraphsIn(const std::function<void()>& body) {
  const emulation::GraphCounts before = emulation::CountGraphs();
  body();
  const emulation::GraphCounts after = emulation::CountGraphs();
  EXPECT_EQ(after.alive, before.alive) << "a backend that is gone leaves no graph";
  return {after.captured - before.captured, after.launched - before.launched, 0};
}

struct Case {
  const char* name;
  int64_t layers;
  AttentionVariant attention;
  Recompute recompute;
  OptimizerKind optimizer;
  CudaPrecision precision;
  int64_t head_dim;
  MlpKind mlp = MlpKind::kReluSquared;
};

class StepGraphsTest : public testing::TestWithParam<Case> {};

TEST_P(StepGraphsTest, TrainsToTheSameBits) {
  TrainingConfig config = JobOf(GetParam().attention, GetParam().recompute);
  config.model.layers = GetParam().layers;
  config.model.mlp = GetParam().mlp;
  config.optimizer.kind = GetParam().optimizer;
  config.model.heads = 2;
  config.model.width = 2 * GetParam().head_dim;
  CudaBackendOptions options;
  options.precision = GetParam().precision;
  options.attention = CudaAttention::kHopper;  // where it has kernels for the head
  std::vector<std::string> warnings;
  Trace direct;
  Trace replayed;
  const emulation::GraphCounts without =
      GraphsIn([&] { direct = Train(config, 3, Make(options, CudaGraphs::kOff)); });
  const emulation::GraphCounts with =
      GraphsIn([&] { replayed = Train(config, 3, Make(options, CudaGraphs::kOn, &warnings)); });
  ExpectSameBits(direct, replayed);
  EXPECT_THAT(warnings, IsEmpty());
  EXPECT_EQ(without.captured, 0);
  // Forward with four and with two rows, the backward of every layer and of the embedding.
  EXPECT_GE(with.captured, 3 + GetParam().layers);
  // In both micro-steps of the last step, and for both batches of its evaluation.
  EXPECT_GE(with.launched, 2 * (2 + GetParam().layers) + 2);
}

INSTANTIATE_TEST_SUITE_P(
    Jobs, StepGraphsTest,
    testing::Values(Case{"GatedMuonTensorCores", 1, AttentionVariant::kGated, Recompute::kNone,
                         OptimizerKind::kMuon, CudaPrecision::kMixed, 32},
                    Case{"SinkAdamWFloat32", 2, AttentionVariant::kSink, Recompute::kAttention,
                         OptimizerKind::kAdamW, CudaPrecision::kFloat32, 8},
                    Case{"VanillaSwiGluAdamWHopper", 2, AttentionVariant::kVanilla,
                         Recompute::kBlock, OptimizerKind::kAdamW, CudaPrecision::kMixed, 64,
                         MlpKind::kSwiGlu}),
    [](const auto& tested) { return tested.param.name; });

// A driver or library that refuses at any point costs one warning, and no bit.
TEST(RefusedGraphsTest, TrainingGoesOnDirectly) {
  TrainingConfig config = JobOf(AttentionVariant::kSink, Recompute::kNone);
  config.optimizer.kind = OptimizerKind::kAdamW;
  const Trace direct = Train(config, 1, MakeFloat32(CudaGraphs::kOff));
  for (const CudaCall call : {CudaCall::kBeginCapture, CudaCall::kLaunchInCapture,
                              CudaCall::kEndCapture, CudaCall::kInstantiate}) {
    std::vector<std::string> warnings;
    emulation::FailNext(call, cudaErrorStreamCaptureUnsupported);
    Trace refused;
    const emulation::GraphCounts graphs =
        GraphsIn([&] { refused = Train(config, 1, MakeFloat32(CudaGraphs::kOn, &warnings)); });
    ExpectSameBits(direct, refused);
    EXPECT_THAT(warnings, ElementsAre(HasSubstr("CUDA graphs are not used: ")));
    EXPECT_EQ(graphs.launched, 0);
  }
}

// A backend with a piece of work of its own: the backward of an embedding, whose workspaces are as
// long as its tokens, and which adds one to the row of each.
class Piece {
 public:
  Piece(Backend* backend, int64_t tokens)
      : backend_(backend),
        tokens_(nullptr, DType::kI32, {tokens}),
        ones_(nullptr, DType::kF32, {tokens, 1}),
        table_(nullptr, DType::kF32, {8, 1}) {
    for (Tensor* tensor : {&tokens_, &ones_, &table_}) {
      tensor->data = backend->Allocate(tensor->bytes());
    }
    const std::vector<float> ones(static_cast<size_t>(tokens), 1.0F);
    backend->CopyFromHost(ones_, ones.data());
  }
  ~Piece() {
    for (const Tensor& tensor : {tokens_, ones_, table_}) backend_->Free(tensor.data);
  }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  // Without Replay.
  void Do() { backend_->EmbeddingBackward(tokens_, ones_, table_); }
  // Whether the backend did it itself, and not by what it has kept.
  bool Replay() {
    bool called = false;
    backend_->Replay({this, {tokens_.elements()}}, [this, &called] {
      called = true;
      Do();
    });
    return called;
  }
  // How often it was done so far; all tokens are 0.
  double Times() const {
    std::vector<float> rows(8);
    backend_->CopyToHost(rows.data(), table_);
    return rows[0] / static_cast<double>(tokens_.elements());
  }

 private:
  Backend* backend_;
  Tensor tokens_, ones_, table_;
};

TEST(GraphsTest, WorkIsDoneDirectlyThenCapturedThenLaunched) {
  const auto backend = MakeFloat32(CudaGraphs::kOn);
  Piece piece(backend.get(), 8);
  const std::vector<bool> called = {piece.Replay(), piece.Replay(), piece.Replay(), piece.Replay()};
  EXPECT_THAT(called, ElementsAre(true, true, false, false));
  EXPECT_EQ(piece.Times(), 4);
}

TEST(GraphsTest, WithoutThemWorkIsAlwaysDoneDirectly) {
  const auto backend = MakeFloat32(CudaGraphs::kOff);
  Piece piece(backend.get(), 8);
  const std::vector<bool> called = {piece.Replay(), piece.Replay(), piece.Replay()};
  EXPECT_THAT(called, ElementsAre(true, true, true));
  EXPECT_EQ(piece.Times(), 3);
}

TEST(GraphsTest, GrownWorkspaceBeginsAnew) {
  const auto backend = MakeFloat32(CudaGraphs::kOn);
  Piece piece(backend.get(), 8);
  Piece larger(backend.get(), 500);
  for (int i = 0; i < 3; ++i) piece.Replay();
  larger.Do();  // its graphs hold the address of the workspace that this replaces
  const std::vector<bool> called = {piece.Replay(), piece.Replay(), piece.Replay()};
  EXPECT_THAT(called, ElementsAre(true, true, false));
  EXPECT_EQ(piece.Times(), 6);
}

TEST(GraphsTest, FreedMemoryBeginsAnew) {
  const auto backend = MakeFloat32(CudaGraphs::kOn);
  Piece piece(backend.get(), 8);
  {
    Piece other(backend.get(), 8);
    for (int i = 0; i < 3; ++i) {
      piece.Replay();
      other.Replay();
    }
    EXPECT_EQ(other.Times(), 3);
  }
  const std::vector<bool> called = {piece.Replay(), piece.Replay(), piece.Replay()};
  EXPECT_THAT(called, ElementsAre(true, true, false));
  EXPECT_EQ(piece.Times(), 6);
}

// Work that is not the same every time is refused where a workspace shows it, and is done.
TEST(GraphsTest, WorkspaceThatGrowsInACaptureRefusesIt) {
  std::vector<std::string> warnings;
  const auto backend = MakeFloat32(CudaGraphs::kOn, &warnings);
  Piece piece(backend.get(), 8);
  Piece larger(backend.get(), 500);
  const kernels::WorkKey key = {&piece, {}};
  backend->Replay(key, [&] { piece.Do(); });
  backend->Replay(key, [&] { larger.Do(); });
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("a workspace: it would have to grow")));
  EXPECT_EQ(larger.Times(), 1);
  EXPECT_TRUE(piece.Replay());
  EXPECT_TRUE(piece.Replay());
  EXPECT_EQ(piece.Times(), 3);
}

TEST(GraphsDeathTest, WorkMustNotWaitForTheDevice) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const CudaGraphs graphs : {CudaGraphs::kOff, CudaGraphs::kOn}) {
    EXPECT_DEATH(
        {
          const auto backend = MakeFloat32(graphs);
          Piece piece(backend.get(), 8);
          backend->Replay({&piece, {}}, [&] { (void)piece.Times(); });
        },
        "check failed: !graphs_.running");
  }
}

TEST(GraphsDeathTest, WorkMustNotHoldOtherWork) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const auto backend = MakeFloat32(CudaGraphs::kOn);
        Piece piece(backend.get(), 8);
        backend->Replay({&piece, {}}, [&] { piece.Replay(); });
      },
      "check failed: !running_");
}

// The emulation's own rules, without which the tests above would show little.
class EmulatedCaptureTest : public testing::Test {
 protected:
  EmulatedCaptureTest() { EXPECT_EQ(cudaStreamCreate(&stream_), cudaSuccess); }
  ~EmulatedCaptureTest() override { cudaStreamDestroy(stream_); }

  void Begin() {
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  }
  // What ends a capture that `call` was made in.
  void ExpectEndsCapture(cudaError_t expected, const std::function<cudaError_t()>& call) {
    Begin();
    EXPECT_EQ(call(), expected);
    EXPECT_EQ(cudaMemsetAsync(bytes_, 1, sizeof(bytes_), stream_),
              cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(call(), cudaSuccess);
  }

  cudaStream_t stream_ = nullptr;
  unsigned char bytes_[4] = {};
};

TEST_F(EmulatedCaptureTest, GraphDoesWhatWasCapturedWhenItIsLaunched) {
  Begin();
  EXPECT_EQ(cudaMemsetAsync(bytes_, 7, sizeof(bytes_), stream_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_THAT(bytes_, testing::Each(0));
  EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
  EXPECT_THAT(bytes_, testing::Each(7));
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST_F(EmulatedCaptureTest, WhatIsNotAllowedEndsIt) {
  const cudaError_t unsupported = cudaErrorStreamCaptureUnsupported;
  unsigned char host[4] = {};
  ExpectEndsCapture(unsupported, [&] { return cudaStreamSynchronize(stream_); });
  ExpectEndsCapture(unsupported, [&] {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, 4);
    std::free(memory);
    return error;
  });
  ExpectEndsCapture(unsupported, [&] { return cudaFree(nullptr); });
  ExpectEndsCapture(unsupported, [&] {
    return cudaMemcpyAsync(host, bytes_, sizeof(host), cudaMemcpyDeviceToHost, stream_);
  });
  ExpectEndsCapture(unsupported, [&] {
    return cudaMemcpyAsync(bytes_, host, sizeof(host), cudaMemcpyHostToDevice, stream_);
  });
  ExpectEndsCapture(cudaErrorStreamCaptureImplicit,
                    [&] { return cudaMemsetAsync(bytes_, 0, sizeof(bytes_), cudaStreamLegacy); });
}

TEST_F(EmulatedCaptureTest, DefaultStreamCannotCapture) {
  EXPECT_EQ(cudaStreamBeginCapture(cudaStreamLegacy, cudaStreamCaptureModeThreadLocal),
            cudaErrorStreamCaptureUnsupported);
}

using EmulatedCaptureDeathTest = EmulatedCaptureTest;

TEST_F(EmulatedCaptureDeathTest, FindsWorkForAnotherStream) {
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaStreamCreate(&other), cudaSuccess);
  EXPECT_DEATH(
      {
        Begin();
        (void)cudaMemsetAsync(bytes_, 0, sizeof(bytes_), other);
      },
      "work goes to another stream during a capture");
  cudaStreamDestroy(other);
}

TEST_F(EmulatedCaptureDeathTest, FindsGraphsOfFreedMemory) {
  EXPECT_DEATH(
      {
        void* memory = nullptr;
        (void)cudaMalloc(&memory, 4);
        Begin();
        (void)cudaMemsetAsync(memory, 0, 4, stream_);
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t executable = nullptr;
        (void)cudaStreamEndCapture(stream_, &graph);
        (void)cudaGraphInstantiate(&executable, graph, 0);
        (void)cudaFree(memory);
        (void)cudaGraphLaunch(executable, stream_);
      },
      "memory was freed since it was captured");
}

}  // namespace
}  // namespace sinkforge::trainer
