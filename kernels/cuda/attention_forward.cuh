// Attention's forward on tensor cores (compute capability 8.0 and up), one block a (sample, head,
// 64 query rows): four warps of 16 rows, keys and values in tiles of 64 that are copied one ahead.
//
//   z = q k^T / sqrt(d), online softmax in base 2, O~ = P v / l, all accumulated in float32; P is
//   rounded to bfloat16 before it meets v
//   vanilla  G = l_rest / l, where l_rest leaves the first key out: no cancellation, 0 in row 0
//   sink     e = exp(s_h - m) joins the denominator alone; m starts at s_h, so nothing overflows
//   gated    O = G o (head norm of) U, on the accumulator
//
// Bytes: q, k, v and out once (k and v again for every row block, from the cache), and two float32
// numbers a row. The sums of G leave as one number a block. Blocks with the longest rows start
// first.
#pragma once

#include "kernels/cuda/attention_tiles.h"

namespace sinkforge::kernels::cuda {

inline constexpr int kForwardKeys = 64;  // of a tile

template <int kHeadDim>
struct ForwardShared {
  Bf16 q[kRowBlock * kHeadDim];
  Bf16 k[2][kForwardKeys * kHeadDim];
  Bf16 v[2][kForwardKeys * kHeadDim];
  float gate_sums[kAttentionThreads / kWarpThreads];
};

// The two rows of a D fragment that a thread holds parts of.
struct ForwardRowState {
  float maximum[2];  // in units of log2
  float rest[2];     // this lane's part of the sum, the first key left out where it is the sink
  float first[2];    // exp2 of the first key's logit, vanilla only
};

// S to P in place; rescales what has been accumulated. `diagonal`: keys after the row are masked.
template <int kHeadDim>
__device__ __forceinline__ void SoftmaxTile(float (&s)[kForwardKeys / 8][4],
                                            float (&acc)[kHeadDim / 8][4], ForwardRowState& state,
                                            float scale_log2, int key0, int row0, bool diagonal,
                                            bool has_first) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = row0 + lane / 4 + 8 * half;
    float tile_maximum = -INFINITY;
#pragma unroll
    for (int n = 0; n < kForwardKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& z = s[n][2 * half + i];
        z *= scale_log2;
        if (diagonal && key0 + n * 8 + lane % 4 * 2 + i > row) z = -INFINITY;
        tile_maximum = fmaxf(tile_maximum, z);
      }
    }
    // Finite: every tile that a row meets has a key that it sees.
    const float maximum = fmaxf(state.maximum[half], QuadMaximum(tile_maximum));
    const float correction = exp2f(state.maximum[half] - maximum);
    state.maximum[half] = maximum;
    float sum = 0.0F;
#pragma unroll
    for (int n = 0; n < kForwardKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& z = s[n][2 * half + i];
        z = exp2f(z - maximum);
        sum += z;
      }
    }
    state.first[half] *= correction;
    if (has_first) {
      // Added anew without the first key, so that a sink with all the weight leaves no difference.
      sum = 0.0F;
#pragma unroll
      for (int n = 0; n < kForwardKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const bool is_first = n == 0 && i == 0 && lane % 4 == 0;
          if (is_first) state.first[half] = s[n][2 * half + i];
          sum += is_first ? 0.0F : s[n][2 * half + i];
        }
      }
    }
    state.rest[half] = state.rest[half] * correction + sum;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      acc[n][2 * half] *= correction;
      acc[n][2 * half + 1] *= correction;
    }
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
  const float total = has_sink ? keys + exp2f(args.sinks[h] * kLog2E - state.maximum[half]) : keys;
  const float inverse = 1.0F / total;
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
    acc[n][2 * half] *= inverse;
    acc[n][2 * half + 1] *= inverse;
  }
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
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
    acc[n][2 * half] *= rstd;
    acc[n][2 * half + 1] *= rstd;
  }
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
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      acc[n][2 * half] *= gate;
      acc[n][2 * half + 1] *= gate;
    }
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

// Head norm, gate and the stores of a warp's 16 rows. Returns this lane's part of the sum of G.
template <int kHeadDim>
__device__ __forceinline__ float FinishRows(const AttentionForwardKernelArgs<Bf16>& args,
                                            float (&acc)[kHeadDim / 8][4],
                                            const ForwardRowState& state, Bf16* stage,
                                            int stage_row, int b, int h, int row0) {
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
  return sum;
}

template <int kHeadDim>
__global__ void __launch_bounds__(kAttentionThreads)
    AttentionForwardKernel(AttentionForwardKernelArgs<Bf16> args) {
  using Tiles = Tile<kHeadDim>;
  ForwardShared<kHeadDim>& shared = *reinterpret_cast<ForwardShared<kHeadDim>*>(SharedMemory());
  const AttentionGeometry& shape = args.geometry;
  const int row_block = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int h = static_cast<int>(blockIdx.y);
  const int b = static_cast<int>(blockIdx.z);
  const int kv_head = h / (shape.heads / shape.kv_heads);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int block_row0 = row_block * kRowBlock;
  const int row0 = block_row0 + warp * kWarpRows;
  const int tiles = (min(block_row0 + kRowBlock, shape.sequence) + kForwardKeys - 1) / kForwardKeys;
  const bool vanilla = args.config.variant == AttentionVariant::kVanilla;

  const auto load_keys = [&](int tile) {
    const int key0 = tile * kForwardKeys;
    const int64_t at = shape.key(b, key0, kv_head);
    const int valid = shape.sequence - key0;
    Tiles::template Load<kForwardKeys>(shared.k[tile % 2], args.k + at, shape.key_stride(), valid);
    Tiles::template Load<kForwardKeys>(shared.v[tile % 2], args.v + at, shape.key_stride(), valid);
    CommitCopies();
  };
  Tiles::template Load<kRowBlock>(shared.q, args.q + shape.query(b, block_row0, h),
                                  shape.query_stride(), shape.sequence - block_row0);
  load_keys(0);

  float acc[kHeadDim / 8][4] = {};
  const float start =
      args.config.variant == AttentionVariant::kSink ? args.sinks[h] * kLog2E : -INFINITY;
  ForwardRowState state = {{start, start}, {0.0F, 0.0F}, {0.0F, 0.0F}};
  const float scale_log2 = shape.scale * kLog2E;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      load_keys(tile + 1);
      WaitCopies<1>();
    } else {
      WaitCopies<0>();
    }
    __syncthreads();
    float s[kForwardKeys / 8][4];
    Tiles::MultiplyRows(s, shared.q, warp * kWarpRows, shared.k[tile % 2]);
    const int key0 = tile * kForwardKeys;
    SoftmaxTile<kHeadDim>(s, acc, state, scale_log2, key0, row0, key0 + kForwardKeys > row0,
                          vanilla && tile == 0);
    Tiles::MultiplyChannels(acc, s, shared.v[tile % 2]);
    __syncthreads();  // The next iteration's copies go where this one has read.
  }

  float sum = FinishRows<kHeadDim>(args, acc, state, shared.q, warp * kWarpRows, b, h, row0);
  sum = WarpSum(sum);
  if (threadIdx.x % kWarpThreads == 0) shared.gate_sums[warp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.0F;
    for (const float part : shared.gate_sums) total += part;
    const int64_t at = (static_cast<int64_t>(b) * shape.heads + h) * gridDim.x + row_block;
    args.gate_partials[at] = total;
  }
}

template <int kHeadDim>
void LaunchAttentionForward(const AttentionForwardKernelArgs<Bf16>& args, cudaStream_t stream) {
  const AttentionGeometry& shape = args.geometry;
  const LaunchShape launch{
      dim3(BlocksFor(shape.sequence, kRowBlock), static_cast<unsigned>(shape.heads),
           static_cast<unsigned>(shape.batch)),
      kAttentionThreads, sizeof(ForwardShared<kHeadDim>)};
  Launch(AttentionForwardKernel<kHeadDim>, launch, stream, args);
}

}  // namespace sinkforge::kernels::cuda
