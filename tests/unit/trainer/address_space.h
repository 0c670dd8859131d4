// AddressSpaceLimit: what `ulimit -v` sets, for this process and those that it starts meanwhile.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>

// Sanitizers map more than any limit would allow.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SINKFORGE_ADDRESS_SPACE_CAN_BE_LIMITED 0
#else
#define SINKFORGE_ADDRESS_SPACE_CAN_BE_LIMITED 1
#endif

namespace sinkforge::trainer {

// Of this process, in bytes.
inline int64_t AddressSpace() {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  EXPECT_GT(pages, 0);
  return pages * sysconf(_SC_PAGESIZE);
}

// The limit before is back at the end of its life.
class AddressSpaceLimit {
 public:
  explicit AddressSpaceLimit(int64_t bytes) {
    EXPECT_EQ(getrlimit(RLIMIT_AS, &before_), 0);
    rlimit limit = before_;
    limit.rlim_cur = static_cast<rlim_t>(bytes);
    EXPECT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  }
  ~AddressSpaceLimit() { EXPECT_EQ(setrlimit(RLIMIT_AS, &before_), 0); }
  AddressSpaceLimit(const AddressSpaceLimit&) = delete;
  AddressSpaceLimit& operator=(const AddressSpaceLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace sinkforge::trainer
