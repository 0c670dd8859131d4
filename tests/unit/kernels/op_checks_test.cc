// A wrong shape is a bug of the caller and ends the program, in both backends.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/ref/ref_backend.h"

namespace sinkforge::kernels {
namespace {

class OpChecksDeathTest : public ::testing::TestWithParam<const char*> {
 protected:
  OpChecksDeathTest() : testing::TestWithParam<const char*>() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
  }
  const std::unique_ptr<Backend> backend_ =
      std::string(GetParam()) == "cpu" ? MakeCpuBackend(2) : MakeRefBackend(DType::kF32);
  std::vector<float> memory_ = std::vector<float>(1024);
  Tensor Make(std::initializer_list<int64_t> shape) {
    return Tensor(memory_.data(), DType::kF32, shape);
  }
};

TEST_P(OpChecksDeathTest, LinearWithWrongInner) {
  EXPECT_DEATH(backend_->Linear(Make({2, 3}), Make({4, 5}), Make({2, 4}), WriteMode::kAssign),
               "check failed");
}

TEST_P(OpChecksDeathTest, LinearWithWrongType) {
  Tensor x = Make({2, 3});
  x.dtype = DType::kF64;
  EXPECT_DEATH(backend_->Linear(x, Make({4, 3}), Make({2, 4}), WriteMode::kAssign), "check failed");
}

TEST_P(OpChecksDeathTest, TokenOutsideTheTable) {
  std::vector<int32_t> ids = {0, 3};
  const Tensor tokens(ids.data(), DType::kI32, {2});
  EXPECT_DEATH(backend_->Embedding(tokens, Make({3, 4}), Make({2, 4})), "check failed");
}

TEST_P(OpChecksDeathTest, TargetOutsideTheVocabulary) {
  std::vector<int32_t> ids = {5};
  CrossEntropyArgs args;
  args.x = Make({1, 4});
  args.w = Make({5, 4});
  args.losses = Make({1});
  args.targets = Tensor(ids.data(), DType::kI32, {1});
  EXPECT_DEATH(backend_->CrossEntropy(args), "check failed");
}

TEST_P(OpChecksDeathTest, HeadsThatKeyHeadsDoNotDivide) {
  AttentionForwardArgs args;
  EXPECT_DEATH(backend_->AttentionForward(
                   {}, {.batch = 1, .sequence = 2, .heads = 3, .kv_heads = 2, .head_dim = 4}, args),
               "kv_heads");
}

TEST_P(OpChecksDeathTest, SinkWithHeadNorm) {
  AttentionConfig config;
  config.variant = AttentionVariant::kSink;
  config.head_norm = HeadNorm::kRms;
  AttentionForwardArgs args;
  EXPECT_DEATH(
      backend_->AttentionForward(
          config, {.batch = 1, .sequence = 2, .heads = 2, .kv_heads = 2, .head_dim = 4}, args),
      "head_norm");
}

TEST_P(OpChecksDeathTest, SwiGluOfUnequalElements) {
  EXPECT_DEATH(backend_->SwiGlu(Make({2, 3}), Make({2, 4}), Make({2, 3})), "check failed");
  EXPECT_DEATH(backend_->SwiGlu(Make({2, 3}), Make({2, 3}), Make({7})), "check failed");
  Tensor SwiGluBackwardArgs::*const fields[] = {
      &SwiGluBackwardArgs::d_act,  &SwiGluBackwardArgs::gate, &SwiGluBackwardArgs::up,
      &SwiGluBackwardArgs::d_gate, &SwiGluBackwardArgs::d_up, &SwiGluBackwardArgs::act};
  for (Tensor SwiGluBackwardArgs::*const field : fields) {
    SwiGluBackwardArgs args;
    for (Tensor SwiGluBackwardArgs::*const each : fields) args.*each = Make({2, 3});
    args.*field = Make({2, 4});
    EXPECT_DEATH(backend_->SwiGluBackward(args), "check failed");
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, OpChecksDeathTest, ::testing::Values("ref", "cpu"),
                         [](const auto& param_info) { return std::string(param_info.param); });

}  // namespace
}  // namespace sinkforge::kernels
