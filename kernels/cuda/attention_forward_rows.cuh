// What both tensor-core forward kernels do with the rows of a warp's D fragments: the online
// softmax of a tile, and after the last tile its end, head norm, gate, statistics and the stores.
//
//   vanilla  G = l_rest / l, where l_rest leaves the first key out: no cancellation, 0 in row 0
//   sink     e = exp(s_h - m) joins the denominator alone; m starts at s_h, so nothing overflows
//   gated    O = G o (head norm of) U, on the accumulator
#pragma once

#include "kernels/cuda/attention_tiles.h"

namespace sinkforge::kernels::cuda {

// The two rows of a D fragment that a thread holds parts of.
struct ForwardRowState {
  float maximum[2];  // in units of log2
  float rest[2];     // this lane's part of the sum, the first key left out where it is the sink
  float first[2];    // exp2 of the first key's logit, vanilla only
};

struct SoftmaxTileArgs {
  float scale_log2 = 0;    // of the logits, times log2(e)
  int key0 = 0, row0 = 0;  // of the tile and of the warp
  bool diagonal = false;   // keys after a row's own are masked
  bool has_first = false;  // key 0 is here, and its weight is kept apart
};

// S to P in place. What was accumulated before is to be scaled by `correction`, a number a row.
template <int kN>
__device__ __forceinline__ void SoftmaxTile(float (&s)[kN][4], const SoftmaxTileArgs& tile,
                                            ForwardRowState& state, float (&correction)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  if (tile.diagonal) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = tile.key0 + n * 8 + lane % 4 * 2 + i % 2;
        if (key > tile.row0 + lane / 4 + i / 2 * 8) s[n][i] = -INFINITY;
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = -INFINITY;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      largest = fmaxf(largest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
    }
    // Finite: every tile that a row meets has a key that it sees. The scale is positive.
    const float maximum = fmaxf(state.maximum[half], QuadMaximum(largest) * tile.scale_log2);
    correction[half] = Exp2(state.maximum[half] - maximum);
    state.maximum[half] = maximum;
    float sum = 0.0F;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& z = s[n][2 * half + i];
        z = Exp2(fmaf(z, tile.scale_log2, -maximum));
        sum += z;
      }
    }
    state.first[half] *= correction[half];
    if (tile.has_first) {
      // Added anew without the first key, so that a sink with all the weight leaves no difference.
      sum = 0.0F;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const bool is_first = n == 0 && i == 0 && lane % 4 == 0;
          if (is_first) state.first[half] = s[n][2 * half + i];
          sum += is_first ? 0.0F : s[n][2 * half + i];
        }
      }
    }
    state.rest[half] = state.rest[half] * correction[half] + sum;
  }
}

// Divides by the softmax's sum and returns G of vanilla and sink; writes L.
template <int kHeadDim>
__device__ __forceinline__ float FinishSoftmax(const AttentionForwardKernelArgs<Bf16>& args,
                                               float (&acc)[kHeadDim / 8][4],
                                               const ForwardRowState& state, int half, int b, int h,
                                               int row) {
  const bool has_sink = args.config.variant == AttentionVariant::kSink;
  const float rest = QuadSum(state.rest[half]);
  const float keys = rest + QuadSum(state.first[half]);
  const float total = has_sink ? keys + Exp2(args.sinks[h] * kLog2E - state.maximum[half]) : keys;
  ScaleRow(acc, half, 1.0F / total);
  const bool writes = threadIdx.x % 4 == 0 && row < args.geometry.sequence;
  if (writes) {
    args.lse[args.geometry.stat(b, h, row)] = state.maximum[half] * kLn2 + logf(total);
  }
  return (has_sink ? keys : rest) / total;
}

// Y = U / RMS(U) of one row.
template <int kHeadDim>
__device__ __forceinline__ void NormaliseHead(const AttentionForwardKernelArgs<Bf16>& args,
                                              float (&acc)[kHeadDim / 8][4], int half, int b, int h,
                                              int row) {
  float square = 0.0F;
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
    square += acc[n][2 * half] * acc[n][2 * half] + acc[n][2 * half + 1] * acc[n][2 * half + 1];
  }
  const float mean = QuadSum(square) / static_cast<float>(kHeadDim);
  const float rstd = 1.0F / sqrtf(mean + args.config.epsilon);
  ScaleRow(acc, half, rstd);
  if (threadIdx.x % 4 == 0 && row < args.geometry.sequence) {
    args.head_rstd[args.geometry.stat(b, h, row)] = rstd;
  }
}

// Scales one row by its gate, or each channel by its own, and returns the mean gate. Rows past the
// end read the last row's gate and are not written.
template <int kHeadDim>
__device__ __forceinline__ float ApplyGate(const AttentionForwardKernelArgs<Bf16>& args,
                                           float (&acc)[kHeadDim / 8][4], int half, int b, int h,
                                           int row) {
  const AttentionGeometry& shape = args.geometry;
  const int t = min(row, shape.sequence - 1);
  if (args.config.gate == GateGranularity::kHead) {
    const float gate = Sigmoid(ToFloat(args.gate_logits[shape.head_gate(b, t, h)]));
    ScaleRow(acc, half, gate);
    return gate;
  }
  const Bf16* logits = args.gate_logits + shape.query(b, t, h) + threadIdx.x % 4 * 2;
  float sum = 0.0F;
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float gate = Sigmoid(ToFloat(logits[n * 8 + i]));
      acc[n][2 * half + i] *= gate;
      sum += gate;
    }
  }
  return QuadSum(sum) / static_cast<float>(kHeadDim);
}

// The state before the first tile.
__device__ __forceinline__ ForwardRowState StartRows(const AttentionForwardKernelArgs<Bf16>& args,
                                                     int h) {
  const bool has_sink = args.config.variant == AttentionVariant::kSink;
  const float start = has_sink ? args.sinks[h] * kLog2E : -INFINITY;
  return {{start, start}, {0.0F, 0.0F}, {0.0F, 0.0F}};
}

// End of the softmax, head norm, gate, the stores of a warp's 16 rows, and the sum of their G.
template <int kHeadDim>
__device__ __forceinline__ void FinishRows(const AttentionForwardKernelArgs<Bf16>& args,
                                           float (&acc)[kHeadDim / 8][4],
                                           const ForwardRowState& state, Bf16* stage, int stage_row,
                                           int b, int h, int row0) {
  const AttentionGeometry& shape = args.geometry;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const bool gated = args.config.variant == AttentionVariant::kGated;
  const bool normed = args.config.head_norm == HeadNorm::kRms;
  const int valid = shape.sequence - row0;
  float gate[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = row0 + lane / 4 + 8 * half;
    gate[half] = FinishSoftmax<kHeadDim>(args, acc, state, half, b, h, row);
    if (normed) NormaliseHead<kHeadDim>(args, acc, half, b, h, row);
  }
  const int64_t at = valid > 0 ? shape.query(b, row0, h) : 0;
  if (normed && gated) {
    Tile<kHeadDim>::Store(acc, stage, stage_row, args.normed + at, shape.query_stride(), valid);
  }
  float sum = 0.0F;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = row0 + lane / 4 + 8 * half;
    if (gated) gate[half] = ApplyGate<kHeadDim>(args, acc, half, b, h, row);
    if (lane % 4 == 0 && row < shape.sequence) {
      args.gate[shape.stat(b, h, row)] = gate[half];
      sum += gate[half];
    }
  }
  Tile<kHeadDim>::Store(acc, stage, stage_row, args.out + at, shape.query_stride(), valid);
  sum = WarpSum(sum);
  if (lane == 0 && valid > 0) args.gate_partials[shape.partial(b, h, row0)] = sum;
}

}  // namespace sinkforge::kernels::cuda
