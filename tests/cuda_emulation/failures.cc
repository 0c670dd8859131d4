// What each thread's next calls fail with.
#include "tests/cuda_emulation/failures.h"

#include <map>

namespace emulation {
namespace {

thread_local std::map<CudaCall, int> failures;

}  // namespace

void FailNext(CudaCall call, int error) { failures[call] = error; }

int FailureOf(CudaCall call) {
  const auto found = failures.find(call);
  if (found == failures.end()) return 0;
  const int error = found->second;
  failures.erase(found);
  return error;
}

}  // namespace emulation
