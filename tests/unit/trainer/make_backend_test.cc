// Which arithmetic a job gets on a processor with bfloat16 instructions and on one without, and
// what people are told.
#include "worker/trainer/make_backend.h"

#include "gmock/gmock.h"

namespace sinkforge::trainer {
namespace {

using kernels::ProductPrecision;

v1::JobSpec JobOf(v1::Device device, v1::Precision precision) {
  v1::JobSpec spec;
  spec.mutable_resources()->set_device(device);
  spec.mutable_resources()->set_threads(2);
  spec.mutable_train()->set_precision(precision);
  return spec;
}

TEST(MakeBackendTest, MultipliesInBfloat16WhereTheJobWantsItAndTheProcessorHasIt) {
  EXPECT_EQ(ProductsOnCpu(v1::PRECISION_BF16, true), ProductPrecision::kBfloat16);
  EXPECT_EQ(ProductsOnCpu(v1::PRECISION_BF16, false), ProductPrecision::kFloat32);
  EXPECT_EQ(ProductsOnCpu(v1::PRECISION_FP32, true), ProductPrecision::kFloat32);
}

TEST(MakeBackendTest, SaysWhereBfloat16IsNotToBeHad) {
  const std::string told = ExplainPrecision(JobOf(v1::DEVICE_CPU, v1::PRECISION_BF16), false);
  EXPECT_THAT(told, ::testing::HasSubstr("train.precision"));
  EXPECT_THAT(told, ::testing::HasSubstr("training in fp32"));
  EXPECT_EQ(ExplainPrecision(JobOf(v1::DEVICE_CPU, v1::PRECISION_BF16), true), "");
  EXPECT_EQ(ExplainPrecision(JobOf(v1::DEVICE_CPU, v1::PRECISION_FP32), false), "");
  EXPECT_EQ(ExplainPrecision(JobOf(v1::DEVICE_CUDA, v1::PRECISION_BF16), false), "");
}

TEST(MakeBackendTest, MakesABackendForEitherPrecision) {
  for (const v1::Precision precision : {v1::PRECISION_FP32, v1::PRECISION_BF16}) {
    const auto backend = MakeBackend(JobOf(v1::DEVICE_CPU, precision), BackendChoice::kFast);
    ASSERT_TRUE(backend.ok());
    EXPECT_EQ(backend.value()->compute_dtype(), kernels::DType::kF32);
  }
}

}  // namespace
}  // namespace sinkforge::trainer
