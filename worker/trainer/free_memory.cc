// Small files of the kernel, each of which may be absent.
#include "worker/trainer/free_memory.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The number after `key` and white space, as in "MemAvailable:   22774236 kB"; absent where no line
// begins so.
std::optional<int64_t> NumberAfter(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    int64_t number = 0;
    if (word == key && file >> number) return number;
    std::getline(file, word);
  }
  return std::nullopt;
}

// "max" and an absent file are no limit.
std::optional<int64_t> LimitIn(const std::string& path) {
  std::ifstream file(path);
  int64_t bytes = 0;
  if (file >> bytes) return bytes;
  return std::nullopt;
}

// What a control group leaves; absent where it has no limit.
std::optional<int64_t> LeftIn(const std::filesystem::path& group) {
  std::optional<int64_t> limit;
  for (const char* name : {"memory.max", "memory.high"}) {
    const std::optional<int64_t> one = LimitIn(group / name);
    if (one) limit = std::min(limit.value_or(*one), *one);
  }
  if (!limit) return std::nullopt;
  const int64_t used = LimitIn(group / "memory.current").value_or(0);
  const int64_t cache = NumberAfter(group / "memory.stat", "inactive_file").value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, used - cache));
}

// "/a/b" of the line "0::/a/b"; version 1's lines have other numbers.
std::string ControlGroup(const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::/", 0) == 0) return line.substr(4);
  }
  return "";
}

}  // namespace

Result<FreeMemory> ReadHostMemory(const std::string& root) {
  const std::optional<int64_t> kibibytes = NumberAfter(root + "/proc/meminfo", "MemAvailable:");
  if (!kibibytes) {
    return Status(StatusCode::kFailedPrecondition,
                  "train.micro_batch: auto: " + root +
                      "/proc/meminfo does not say how much memory is available; give a number of "
                      "rows");
  }
  FreeMemory memory;
  memory.bytes = *kibibytes * 1024;
  const std::filesystem::path mount = root + "/sys/fs/cgroup";
  // A limit binds all groups below it.
  std::filesystem::path group = mount / ControlGroup(root + "/proc/self/cgroup");
  while (true) {
    memory.bytes = std::min(memory.bytes, LeftIn(group).value_or(memory.bytes));
    if (group == mount || !group.has_relative_path()) break;
    group = group.parent_path();
  }
  // Of the kernel that runs: containers of one machine have it in common.
  const std::string boot = FirstLine(root + "/proc/sys/kernel/random/boot_id");
  memory.machine = XXH32(boot.data(), boot.size(), 0);
  return memory;
}

Result<FreeMemory> ReadFreeMemory(const kernels::Backend& backend) {
  const std::optional<int64_t> device = backend.FreeDeviceBytes();
  if (!device) return ReadHostMemory();
  FreeMemory memory;
  memory.kind = FreeMemory::Kind::kDevice;
  memory.bytes = *device;
  return memory;
}

}  // namespace sinkforge::trainer
