// The emulated device of the conformance table: the second run reverses the warps, and what is
// asynchronous happens as early as it may instead of as late as it must.
#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/hopper_emulation.h"
#include "tests/gpu/device_run.h"

namespace sinkforge::kernels::conformance {

void VaryExecution(int run) {
  emulation::SetWarpOrder(run == 0 ? emulation::WarpOrder::kForward
                                   : emulation::WarpOrder::kReverse);
  emulation::SetArrival(run == 0 ? emulation::Arrival::kLast : emulation::Arrival::kFirst);
}

// A thread that can not go on is found out by the emulation.
void BeginCase(const std::string&) {}

// As small as they can be with a piece of two tiles after another on each multiprocessor.
std::vector<AttentionShape> LongAttentionShapes() {
  return {{.batch = 1, .sequence = 129, .heads = 2, .kv_heads = 1, .head_dim = 64}};
}

// A block of a vector of tensors is a little larger than they are.
int64_t UnplannedBytesMax() { return 1024; }
int64_t UncountedBytesMax() { return 0; }

// Large shapes whose remainders, tiles and groups the smaller ones have as well.
bool LeaveOut(const std::string& case_name, CudaAttention path, CudaGradientOrder order) {
  const bool detached = case_name.find("_Detached") != std::string::npos;
  // Two and three tiles of 128 keys, four and five of 64: the smallest cases in which its rings of
  // two and three stages turn.
  if (path == CudaAttention::kHopper) return detached;
  // One shape of every head size; with 128 channels, warps share the queries of a tile.
  if (order == CudaGradientOrder::kAny) {
    return detached || case_name.find("T260") != std::string::npos ||
           case_name.find("T64_") != std::string::npos;
  }
  for (const char* part : {"30011", "T641", "T260", "T200", "T130", "T64_", "70003", "40001"}) {
    if (case_name.find(part) != std::string::npos) return true;
  }
  // Where the log-sum-exp is detached, the tiles are the same.
  return case_name.find("T129") != std::string::npos && detached;
}

}  // namespace sinkforge::kernels::conformance
