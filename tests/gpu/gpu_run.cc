// The real device of the conformance table: its own scheduling is variation enough.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "tests/gpu/device_run.h"

namespace sinkforge::kernels::conformance {
namespace {

constexpr unsigned kCaseSecondsMax = 60;
char case_line[256];  // what is said when the time is up

void EndHangingCase(int) {
  // Nothing that is not safe in a handler.
  [[maybe_unused]] const auto written = write(STDOUT_FILENO, case_line, std::strlen(case_line));
  _exit(1);
}

}  // namespace

void BeginCase(const std::string& name) {
  std::snprintf(case_line, sizeof(case_line), "FAILED %s: does not end\n", name.c_str());
  std::signal(SIGALRM, EndHangingCase);
  std::signal(SIGTERM, EndHangingCase);  // of `timeout`
  alarm(kCaseSecondsMax);
}

void VaryExecution(int) {}

// More than two pieces of 128 query rows for each of 132 multiprocessors; up to 33 tiles of keys.
std::vector<AttentionShape> LongAttentionShapes() {
  return {{.batch = 2, .sequence = 1100, .heads = 20, .kv_heads = 5, .head_dim = 64},
          {.batch = 1, .sequence = 4111, .heads = 10, .kv_heads = 5, .head_dim = 128}};
}

// The library's own kernels are loaded when they are first run.
int64_t UnplannedBytesMax() { return int64_t{512} << 20; }

// The driver hands small allocations out of blocks of 2 MiB, of a few sizes each.
int64_t UncountedBytesMax() { return int64_t{8} << 20; }

bool LeaveOut(const std::string&, CudaAttention, CudaGradientOrder) { return false; }

}  // namespace sinkforge::kernels::conformance
