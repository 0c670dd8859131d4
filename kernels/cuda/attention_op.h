// The op of attention on a GPU: which kernels are run, with which workspaces.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/workspace.h"

namespace sinkforge::kernels::cuda {

// T is float or Bf16. The options' `attention` is not kDefault. Owned by the backend.
template <typename T>
class AttentionOp {
 public:
  AttentionOp(const CudaBackendOptions& options, Stream* stream);

  void Forward(const AttentionConfig& config, const AttentionShape& shape,
               const AttentionForwardArgs& args);
  void Backward(const AttentionConfig& config, const AttentionShape& shape,
                const AttentionBackwardArgs& args);
  // Of the workspaces of both.
  int64_t WorkspaceBytes(const AttentionConfig& config, const AttentionShape& shape) const;

 private:
  // The path that has kernels for this head: the one asked for, or the next.
  CudaAttention KernelsFor(int64_t head_dim) const;
  AttentionRowsArgs<T> RowsArgs(const AttentionConfig& config, const AttentionGeometry& geometry,
                                const AttentionBackwardArgs& args);

  CudaAttention kernels_;
  CudaGradientOrder gradient_order_;
  Stream* stream_;
  HopperResources hopper_;
  Workspace gate_partials_;
  Workspace next_work_;
  Workspace d_u_;
  Workspace delta_;
  Workspace d_sink_;
  Workspace d_q_sum_;
};

}  // namespace sinkforge::kernels::cuda
