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
    folder_.Write("proc/self/status", "VmPeak:\t  300 kB\nVmSize:\t  200 kB\nVmData:\t  50 kB\n");
    Limits("unlimited", "unlimited");
  }

  void Group(const std::string& path, const std::string& file, const std::string& content) {
    folder_.Write("sys/fs/cgroup/" + path + "/" + file, content);
  }

  // The soft ones, which bind; the hard ones may be more.
  void Limits(const std::string& data, const std::string& address_space) {
    folder_.Write("proc/self/limits",
                  "Limit                     Soft Limit           Hard Limit           Units     \n"
                  "Max data size             " +
                      data +
                      "            unlimited            bytes\n"
                      "Max resident set          1                    1                    bytes\n"
                      "Max address space         " +
                      address_space + "         999999999    bytes\n");
  }

  FreeMemory Memory(int64_t slots) {
    const auto memory = ReadHostMemory(slots, folder_.path().string());
    EXPECT_TRUE(memory.ok()) << memory.status().message();
    EXPECT_EQ(memory.value().kind, FreeMemory::Kind::kHost);
    return memory.value();
  }
  int64_t Bytes() { return Memory(1).bytes; }

  // As where version 1 has the memory and version 2 names only.
  void UseVersion1() {
    folder_.Write("proc/self/cgroup",
                  "9:name=systemd:/else\n4:cpu,memory:/docker/worker\n0::/system.slice/worker\n");
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

TEST_F(FreeMemoryTest, SoDoGroupsOfVersion1) {
  UseVersion1();
  const std::string unlimited = "9223372036854771712\n";
  Group("memory/docker/worker", "memory.limit_in_bytes", unlimited);
  EXPECT_EQ(Bytes(), 1000 * 1024);
  Group("memory/docker/worker", "memory.limit_in_bytes", "500000\n");
  Group("memory/docker/worker", "memory.usage_in_bytes", "300000\n");
  EXPECT_EQ(Bytes(), 200'000);
  Group("memory/docker/worker", "memory.stat",
        "cache 1\ninactive_file 1\ntotal_inactive_file 100000\n");
  EXPECT_EQ(Bytes(), 300'000);
  Group("memory/docker", "memory.limit_in_bytes", "250000\n");
  EXPECT_EQ(Bytes(), 250'000);
  Group("memory", "memory.limit_in_bytes", "240000\n");
  EXPECT_EQ(Bytes(), 240'000);
  Group("system.slice", "memory.max", "230000\n");
  EXPECT_EQ(Bytes(), 230'000) << "the least of both versions";
}

TEST_F(FreeMemoryTest, AContainersOwnGroupIsWhereVersion1IsMounted) {
  UseVersion1();
  Group("memory", "memory.limit_in_bytes", "400000\n");
  Group("memory/else", "memory.limit_in_bytes", "1000\n");
  EXPECT_EQ(Bytes(), 400'000);
}

TEST_F(FreeMemoryTest, ASlotsShareIsOfAllThatThereIsWhateverIsFree) {
  EXPECT_EQ(Memory(1).slot_bytes, 2000 * 1024);
  EXPECT_EQ(Memory(4).slot_bytes, 500 * 1024);
  EXPECT_EQ(Memory(4).bytes, 1000 * 1024);
  Group("system.slice", "memory.max", "600000\n");
  Group("system.slice", "memory.current", "500000\n");
  EXPECT_EQ(Memory(2).slot_bytes, 300'000);
  EXPECT_EQ(Memory(2).bytes, 100'000);
  UseVersion1();
  Group("memory/docker", "memory.limit_in_bytes", "400000\n");
  EXPECT_EQ(Memory(2).slot_bytes, 200'000);
}

TEST_F(FreeMemoryTest, TheProcessHasWhatItsLimitsLeave) {
  EXPECT_EQ(Memory(1).process_bytes, FreeMemory::kUnlimited);
  Limits("unlimited", "500000");
  EXPECT_EQ(Memory(4).process_bytes, 500'000 - 200 * 1024);
  Limits("100000", "500000");
  EXPECT_EQ(Memory(4).process_bytes, 100'000 - 50 * 1024);
  Limits("100000", "200000");
  EXPECT_EQ(Memory(4).process_bytes, 0) << "it has more by now";
  EXPECT_EQ(Bytes(), 1000 * 1024) << "other ranks have processes of their own";
}

TEST_F(FreeMemoryTest, MachinesAreToldApart) {
  const uint32_t first = Memory(1).machine;
  EXPECT_EQ(Memory(1).machine, first);
  folder_.Write("proc/sys/kernel/random/boot_id", "748a43c5\n");
  EXPECT_NE(Memory(1).machine, first);
}

TEST_F(FreeMemoryTest, ASystemThatDoesNotSayIsAskedForANumber) {
  folder_.Write("proc/meminfo", "MemTotal: 2000 kB\n");
  const auto memory = ReadHostMemory(1, folder_.path().string());
  EXPECT_EQ(memory.status().code(), kernels::StatusCode::kFailedPrecondition);
  EXPECT_THAT(memory.status().message(), HasSubstr("give a number of rows"));
}

TEST(ReadFreeMemoryTest, OfABackendOnTheHostIsTheHosts) {
  const auto backend = kernels::MakeCpuBackend(1);
  const auto memory = ReadFreeMemory(*backend, 2);
  ASSERT_TRUE(memory.ok()) << memory.status().message();
  EXPECT_EQ(memory.value().kind, FreeMemory::Kind::kHost);
  EXPECT_GT(memory.value().bytes, 0);
  EXPECT_GT(memory.value().slot_bytes, 0);
  EXPECT_NEAR(static_cast<double>(ReadFreeMemory(*backend, 1).value().slot_bytes),
              2.0 * static_cast<double>(memory.value().slot_bytes), 2);
}

}  // namespace
}  // namespace sinkforge::trainer
