// What a host's memory has left, read from copies of the kernel's files.
#include "worker/trainer/free_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/trainer/temp_folder.h"

namespace sinkforge::trainer {
namespace {

using testing::HasSubstr;

class FreeMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_.Write("proc/meminfo",
                  "MemTotal:       2000 kB\nMemFree:        10 kB\nMemAvailable:   1000 kB\n"
                  "Cached:         900 kB\n");
    folder_.Write("proc/sys/kernel/random/boot_id", "c9331ad8\n");
    folder_.Write("proc/self/cgroup", "3:cpu:/other\n0::/system.slice/worker\n");
  }

  void Group(const std::string& path, const std::string& file, const std::string& content) {
    folder_.Write("sys/fs/cgroup/" + path + "/" + file, content);
  }

  int64_t Bytes() {
    const auto memory = ReadHostMemory(folder_.path().string());
    EXPECT_TRUE(memory.ok()) << memory.status().message();
    EXPECT_EQ(memory.value().kind, FreeMemory::Kind::kHost);
    return memory.value().bytes;
  }

  TempFolder folder_;
};

TEST_F(FreeMemoryTest, IsWhatTheKernelCallsAvailable) {
  EXPECT_EQ(Bytes(), 1000 * 1024);
  Group("system.slice/worker", "memory.max", "max\n");
  EXPECT_EQ(Bytes(), 1000 * 1024);
}

TEST_F(FreeMemoryTest, AControlGroupsLimitCountsWithoutTheCacheThatItCanDrop) {
  Group("system.slice/worker", "memory.max", "500000\n");
  EXPECT_EQ(Bytes(), 500'000);
  Group("system.slice/worker", "memory.current", "300000\n");
  EXPECT_EQ(Bytes(), 200'000);
  Group("system.slice/worker", "memory.stat", "anon 180000\ninactive_file 100000\nslab 5\n");
  EXPECT_EQ(Bytes(), 300'000);
  Group("system.slice/worker", "memory.high", "250000\n");
  EXPECT_EQ(Bytes(), 50'000);
  Group("system.slice/worker", "memory.current", "600000\n");
  EXPECT_EQ(Bytes(), 0);
}

TEST_F(FreeMemoryTest, SoDoesOneOfAGroupAbove) {
  Group("system.slice", "memory.max", "400000\n");
  Group("system.slice/worker", "memory.max", "450000\n");
  EXPECT_EQ(Bytes(), 400'000);
  // The namespace's own root, where a container begins.
  folder_.Write("proc/self/cgroup", "0::/\n");
  EXPECT_EQ(Bytes(), 1000 * 1024);
  Group("", "memory.max", "123456\n");
  EXPECT_EQ(Bytes(), 123'456);
}

TEST_F(FreeMemoryTest, MachinesAreToldApart) {
  const auto first = ReadHostMemory(folder_.path().string());
  const auto again = ReadHostMemory(folder_.path().string());
  folder_.Write("proc/sys/kernel/random/boot_id", "748a43c5\n");
  const auto other = ReadHostMemory(folder_.path().string());
  EXPECT_EQ(first.value().machine, again.value().machine);
  EXPECT_NE(first.value().machine, other.value().machine);
}

TEST_F(FreeMemoryTest, ASystemThatDoesNotSayIsAskedForANumber) {
  folder_.Write("proc/meminfo", "MemTotal: 2000 kB\n");
  const auto memory = ReadHostMemory(folder_.path().string());
  EXPECT_EQ(memory.status().code(), kernels::StatusCode::kFailedPrecondition);
  EXPECT_THAT(memory.status().message(), HasSubstr("give a number of rows"));
}

TEST(ReadFreeMemoryTest, OfABackendOnTheHostIsTheHosts) {
  const auto memory = ReadFreeMemory(*kernels::MakeCpuBackend(1));
  ASSERT_TRUE(memory.ok()) << memory.status().message();
  EXPECT_EQ(memory.value().kind, FreeMemory::Kind::kHost);
  EXPECT_GT(memory.value().bytes, 0);
}

}  // namespace
}  // namespace sinkforge::trainer
