// Small files of the kernel, each of which may be absent.
#include "worker/trainer/free_memory.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

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

// The number after `key` at a line's beginning, as in "MemAvailable:   22774236 kB"; absent where
// no line begins so, or goes on with a word such as "unlimited" or "max".
std::optional<int64_t> NumberAfter(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    std::istringstream rest(line.substr(key.size()));
    int64_t number = 0;
    if (rest >> number) return number;
  }
  return std::nullopt;
}

std::optional<int64_t> FirstNumber(const std::string& path) { return NumberAfter(path, ""); }

// How one version of control groups says what a group may have and has.
struct GroupVersion {
  std::string controller;  // in /proc/self/cgroup
  std::string mount;
  std::vector<std::string> limits;
  std::string used;
  std::string cache;  // of `used`, what can be dropped; a key of memory.stat
};

const GroupVersion& Version1() {
  static const GroupVersion version = {"memory",
                                       "sys/fs/cgroup/memory",
                                       {"memory.limit_in_bytes"},
                                       "memory.usage_in_bytes",
                                       "total_inactive_file"};
  return version;
}

const GroupVersion& Version2() {
  static const GroupVersion version = {
      "", "sys/fs/cgroup", {"memory.max", "memory.high"}, "memory.current", "inactive_file"};
  return version;
}

struct HostBytes {
  int64_t total = 0;
  int64_t free = 0;
};

// Less where the group allows less.
void Apply(const std::filesystem::path& group, const GroupVersion& version, HostBytes* host) {
  std::optional<int64_t> limit;
  for (const std::string& name : version.limits) {
    const std::optional<int64_t> one = FirstNumber(group / name);
    if (one) limit = std::min(limit.value_or(*one), *one);
  }
  if (!limit) return;
  const int64_t used = FirstNumber(group / version.used).value_or(0);
  const int64_t cache = NumberAfter(group / "memory.stat", version.cache + " ").value_or(0);
  const int64_t left = std::max<int64_t>(0, *limit - std::max<int64_t>(0, used - cache));
  host->total = std::min(host->total, *limit);
  host->free = std::min(host->free, left);
}

// "a/b" of the line "4:cpu,memory:/a/b", or of "0::/a/b", whose controller has no name.
std::string ControlGroup(const std::string& path, const std::string& controller) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(":/", first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::istringstream names(line.substr(first + 1, second - first - 1));
    bool found = controller.empty() && second == first + 1;
    for (std::string name; std::getline(names, name, ',');) found = found || name == controller;
    if (found) return line.substr(second + 2);
  }
  return "";
}

void ApplyGroups(const std::filesystem::path& root, const GroupVersion& version, HostBytes* host) {
  const std::filesystem::path mount = root / version.mount;
  // A limit binds all groups below it. In a container the mount may be the group itself, whose
  // path outside is not there.
  std::filesystem::path group = mount / ControlGroup(root / "proc/self/cgroup", version.controller);
  while (true) {
    Apply(group, version, host);
    if (group == mount || !group.has_relative_path()) break;
    group = group.parent_path();
  }
}

// What the process may still map.
int64_t ProcessBytes(const std::filesystem::path& root) {
  struct Limit {
    const char* name;
    const char* used;
  };
  int64_t bytes = FreeMemory::kUnlimited;
  for (const Limit& limit :
       {Limit{"Max address space ", "VmSize:"}, Limit{"Max data size ", "VmData:"}}) {
    const std::optional<int64_t> most = NumberAfter(root / "proc/self/limits", limit.name);
    if (!most) continue;
    const int64_t used = NumberAfter(root / "proc/self/status", limit.used).value_or(0) * 1024;
    bytes = std::min(bytes, std::max<int64_t>(0, *most - used));
  }
  return bytes;
}

}  // namespace

Result<FreeMemory> ReadHostMemory(int64_t slots, const std::string& root) {
  const std::string meminfo = root + "/proc/meminfo";
  const std::optional<int64_t> total_kib = NumberAfter(meminfo, "MemTotal:");
  const std::optional<int64_t> free_kib = NumberAfter(meminfo, "MemAvailable:");
  if (!total_kib || !free_kib) {
    return Status(StatusCode::kFailedPrecondition,
                  "train.micro_batch: auto: " + meminfo +
                      " does not say how much memory there is and is available; give a number of "
                      "rows");
  }
  HostBytes host{*total_kib * 1024, *free_kib * 1024};
  const std::string top = root + "/";
  ApplyGroups(top, Version1(), &host);
  ApplyGroups(top, Version2(), &host);
  FreeMemory memory;
  memory.bytes = host.free;
  memory.slot_bytes = host.total / slots;
  memory.process_bytes = ProcessBytes(top);
  // Of the kernel that runs: containers of one machine have it in common.
  const std::string boot = FirstLine(root + "/proc/sys/kernel/random/boot_id");
  memory.machine = XXH32(boot.data(), boot.size(), 0);
  return memory;
}

Result<FreeMemory> ReadFreeMemory(const kernels::Backend& backend, int64_t slots) {
  const std::optional<int64_t> device = backend.FreeDeviceBytes();
  if (!device) return ReadHostMemory(slots);
  FreeMemory memory;
  memory.kind = FreeMemory::Kind::kDevice;
  memory.bytes = *device;
  return memory;
}

}  // namespace sinkforge::trainer
