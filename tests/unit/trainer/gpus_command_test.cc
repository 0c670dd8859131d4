// What people and programs read of a machine's GPUs.
#include "worker/trainer/gpus_command.h"

#include <gmock/gmock.h>

namespace sinkforge::trainer {
namespace {

const std::vector<kernels::CudaDevice> kGpus = {
    {0, "NVIDIA H200", 9, 0, int64_t{139} << 30, int64_t{3} << 29},
    {2, "NVIDIA A10 \xff", 8, 6, int64_t{22} << 30, int64_t{22} << 30}};

TEST(GpusCommandTest, PeopleReadALineForEach) {
  EXPECT_EQ(FormatGpus(kGpus, GpusFormat::kText),
            "0: NVIDIA H200, compute capability 9.0, 139.0 GiB of memory, 1.5 GiB free\n"
            "2: NVIDIA A10 \xff, compute capability 8.6, 22.0 GiB of memory, 22.0 GiB free\n");
}

TEST(GpusCommandTest, ProgramsReadAListOfObjects) {
  EXPECT_EQ(FormatGpus(kGpus, GpusFormat::kJson), R"([
  {
    "index": 0,
    "name": "NVIDIA H200",
    "compute_capability": "9.0",
    "memory_bytes": 149250113536,
    "free_bytes": 1610612736
  },
  {
    "index": 2,
    "name": "NVIDIA A10 �",
    "compute_capability": "8.6",
    "memory_bytes": 23622320128,
    "free_bytes": 23622320128
  }
]
)");
}

}  // namespace
}  // namespace sinkforge::trainer
