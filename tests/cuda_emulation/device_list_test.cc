// Which of a machine's GPUs are said to be usable, and why the others are not, on emulated ones.
#include "kernels/cuda/device_list.h"

#include <gmock/gmock.h>

#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda_emulation/devices.h"
#include "tests/cuda_emulation/failures.h"
#include "tests/cuda_emulation/include/cuda_runtime.h"

namespace sinkforge::kernels {
namespace {

using emulation::CudaCall;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class DeviceListTest : public testing::Test {
 protected:
  ~DeviceListTest() override { emulation::Devices() = all_; }

  const std::vector<emulation::Device> all_ = emulation::Devices();
};

TEST_F(DeviceListTest, DescribesADevice) {
  const auto devices = ListCudaDevices();
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  EXPECT_THAT(devices.value().problems, ElementsAre());
  ASSERT_EQ(devices.value().usable.size(), 1U);
  const CudaDevice& device = devices.value().usable[0];
  EXPECT_EQ(device.index, 0);
  EXPECT_EQ(device.name, "Emulated GPU");
  EXPECT_EQ(device.major, 9);
  EXPECT_EQ(device.minor, 0);
  EXPECT_EQ(device.memory_bytes, int64_t{16} << 30);
  EXPECT_LE(device.free_bytes, device.memory_bytes);
}

TEST_F(DeviceListTest, LeavesOutWhatIsTooOldOrTakenAndSaysWhy) {
  emulation::Devices() = {{"Taken"}, {"Old", 7, 5}, {"Good", 8, 6}};
  emulation::FailNext(CudaCall::kSetDevice, cudaErrorDevicesUnavailable);
  const auto devices = ListCudaDevices();
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  ASSERT_EQ(devices.value().usable.size(), 1U);
  EXPECT_EQ(devices.value().usable[0].index, 2);
  EXPECT_EQ(devices.value().usable[0].name, "Good");
  EXPECT_THAT(devices.value().problems,
              ElementsAre("device 0 (Taken) cannot be used: emulated",
                          "device 1 (Old) has compute capability 7.5, below 8.0"));
}

TEST_F(DeviceListTest, LeavesOutWhatTheProgramHasNoKernelsFor) {
  emulation::Devices() = {{"New", 12, 0}, {"Good"}};
  emulation::FailNext(CudaCall::kFuncGetAttributes, cudaErrorNoKernelImageForDevice);
  const auto devices = ListCudaDevices();
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  EXPECT_EQ(devices.value().usable.size(), 1U);
  EXPECT_THAT(
      devices.value().problems,
      ElementsAre("device 0 (New) has compute capability 12.0, which this program was not built "
                  "for"));
}

TEST_F(DeviceListTest, SaysWhyThereIsNone) {
  emulation::FailNext(CudaCall::kGetDeviceCount, cudaErrorInsufficientDriver);
  const Status no_driver = ListCudaDevices().status();
  EXPECT_EQ(no_driver.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(no_driver.message(), StartsWith("no GPU can be used: emulated; see whether"));

  emulation::Devices() = {{"Old", 7, 5}, {"Older", 6, 1}};
  const Status old = ListCudaDevices().status();
  EXPECT_EQ(old.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(old.message(),
              StartsWith("no GPU can be used: device 0 (Old) has compute capability 7.5, below "
                         "8.0, device 1 (Older) has compute capability 6.1, below 8.0; see "));
}

TEST_F(DeviceListTest, BackendIsRefusedForTheSameReasons) {
  emulation::FailNext(CudaCall::kGetDeviceCount, cudaErrorInsufficientDriver);
  const Status no_driver = MakeCudaBackend({}).status();
  EXPECT_EQ(no_driver.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(no_driver.message(), HasSubstr("no GPU can be used: emulated; run the job on"));

  CudaBackendOptions second;
  second.device = 1;
  EXPECT_THAT(MakeCudaBackend(second).status().message(),
              HasSubstr("device 1 is not there, this machine has 1; run the job on"));

  emulation::Devices() = {{"Old", 7, 5}};
  EXPECT_THAT(MakeCudaBackend({}).status().message(),
              HasSubstr("device 0 (Old) has compute capability 7.5, below 8.0; run the job on"));
}

}  // namespace
}  // namespace sinkforge::kernels
