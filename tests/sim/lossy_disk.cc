// Interposed fsync and fdatasync; see lossy_disk.h.
#include "lossy_disk.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace sinkforge::sim {
namespace {

// Files are known by inode: a rename changes nothing about their bytes.
using FileId = std::pair<uint64_t, uint64_t>;

struct Disk {
  std::mutex mutex;
  std::map<FileId, int64_t> synced_bytes;
  int sync_count = 0;
};

// Never destroyed: RocksDB's threads sync until the very end.
Disk& TheDisk() {
  static Disk* const disk = new Disk;
  return *disk;
}

FileId IdOf(const struct stat& status) { return {status.st_dev, status.st_ino}; }

int Sync(int file, int64_t system_call) {
  struct stat status {};
  // Before the call: what is written meanwhile need not be durable after it.
  if (fstat(file, &status) != 0) return -1;
  if (syscall(system_call, file) != 0) return -1;
  Disk& disk = TheDisk();
  const std::lock_guard<std::mutex> lock(disk.mutex);
  ++disk.sync_count;
  int64_t& synced = disk.synced_bytes[IdOf(status)];
  synced = std::max<int64_t>(synced, status.st_size);
  return 0;
}

}  // namespace

void CopyAfterPowerLoss(const std::string& from, const std::string& to) {
  Disk& disk = TheDisk();
  const std::lock_guard<std::mutex> lock(disk.mutex);
  std::filesystem::create_directories(to);
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    struct stat status {};
    // One that a compaction has just deleted is as good as gone.
    if (stat(entry.path().c_str(), &status) != 0) continue;
    const auto synced = disk.synced_bytes.find(IdOf(status));
    std::vector<char> bytes(
        static_cast<size_t>(synced == disk.synced_bytes.end() ? 0 : synced->second));
    std::ifstream in(entry.path(), std::ios::binary);
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    std::ofstream out(std::filesystem::path(to) / entry.path().filename(), std::ios::binary);
    out.write(bytes.data(), in.gcount());
  }
}

int SyncCount() {
  Disk& disk = TheDisk();
  const std::lock_guard<std::mutex> lock(disk.mutex);
  return disk.sync_count;
}

}  // namespace sinkforge::sim

// In the program itself, so that they come before the C library's also for shared libraries.
extern "C" int fsync(int file) { return sinkforge::sim::Sync(file, SYS_fsync); }
extern "C" int fdatasync(int file) { return sinkforge::sim::Sync(file, SYS_fdatasync); }
