// Muon on a GPU: momentum, then Newton-Schulz on all matrices of one shape at a time, as batched
// products, then the updates. Formulas: kernels/newton_schulz.h, MuonArgs.
#pragma once

#include <span>

#include "kernels/cuda/graphs.h"
#include "kernels/cuda/matrix_product.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/workspace.h"

namespace sinkforge::kernels::cuda {

// T is what Newton-Schulz keeps its matrices in: float, or Bf16 in mixed precision.
template <typename T>
class MuonOp {
 public:
  MuonOp(MatrixProducts* products, Graphs* graphs, Stream* stream)
      : products_(products), graphs_(graphs), stream_(stream) {}

  // All of one shape.
  void Update(std::span<const MuonArgs> all);
  // The most that its workspaces hold after updates of at most `together` elements at once, in
  // matrices of at most `elements`.
  static int64_t WorkspaceBytesMax(int64_t elements, int64_t together) {
    constexpr int64_t kWorkspaces = 4;  // none of them larger than the matrices
    return elements * static_cast<int64_t>(sizeof(float)) +
           kReductionBlocks * static_cast<int64_t>(sizeof(double)) +
           kWorkspaces * together * static_cast<int64_t>(sizeof(T));
  }

 private:
  // x to its polynomial; the result is in `next`, of the same size, and x is overwritten.
  void NewtonSchulz(const MuonShape& shape, int64_t batch, T* x, T* next);

  MatrixProducts* products_;
  Graphs* graphs_;
  Stream* stream_;
  Workspace ahead_;          // Nesterov's look ahead, float32
  Workspace partials_;       // of its sum of squares
  Workspace x_, next_;       // [batch, rows, cols]
  Workspace gram_, square_;  // [batch, small, small]
};

}  // namespace sinkforge::kernels::cuda
