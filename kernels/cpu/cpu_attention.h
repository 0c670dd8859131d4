// Attention on the CPU: cuts an op into the tasks of simd_kernels.h, gives each its scratch, and
// adds the partial sums in a fixed order.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/simd_kernels.h"
#include "kernels/cpu/thread_pool.h"

namespace sinkforge::kernels {

enum class AttentionStatistics { kNone, kImportance };

class CpuAttention {
 public:
  // Both must outlive this.
  CpuAttention(const AttentionKernels& kernels, AttentionStatistics statistics, ThreadPool* pool);

  void Forward(const AttentionConfig& config, const AttentionShape& shape,
               const AttentionForwardArgs& args);
  void Backward(const AttentionConfig& config, const AttentionShape& shape,
                const AttentionBackwardArgs& args);
  // What is kept after one of each.
  int64_t WorkspaceBytes(const AttentionConfig& config, const AttentionShape& shape) const;

 private:
  struct ForwardPlan;
  struct BackwardPlan;

  ForwardPlan PlanForward(const AttentionShape& shape) const;
  BackwardPlan PlanBackward(const AttentionConfig& config, const AttentionShape& shape) const;

  void BackwardByHead(const AttentionBackwardArgs& args, const BackwardPlan& plan);
  void BackwardByKeyRange(const AttentionBackwardArgs& args, const BackwardPlan& plan);
  AttentionBackwardTask BackwardTask(const AttentionBackwardArgs& args, const BackwardPlan& plan,
                                     int64_t b, int64_t h);

  const AttentionKernels& kernels_;
  const size_t statistics_;  // the index into the kernel table's pairs
  ThreadPool* const pool_;
  std::vector<float> scratch_;    // of the tasks: one part a thread
  std::vector<float> packed_;     // of the backward: queries, dU, D, dQ
  std::vector<double> partials_;  // [B, H, row tiles]
};

}  // namespace sinkforge::kernels
