// Attention's forward on tensor cores (compute capability 8.0 and up), one block a (sample, head,
// 64 query rows): four warps of 16 rows, keys and values in tiles of 64 that are copied one ahead.
//
//   z = q k^T / sqrt(d), online softmax in base 2, O~ = P v / l, all accumulated in float32; P is
//   rounded to bfloat16 before it meets v
//
// Bytes: q, k, v and out once (k and v again for every row block, from the cache), and two float32
// numbers a row. The sums of G leave as one number a warp. Blocks with the longest rows start
// first.
#pragma once

#include "kernels/cuda/attention_forward_rows.cuh"

namespace sinkforge::kernels::cuda {

inline constexpr int kForwardKeys = 64;  // of a tile

template <int kHeadDim>
struct ForwardShared {
  Bf16 q[kRowBlock * kHeadDim];
  Bf16 k[2][kForwardKeys * kHeadDim];
  Bf16 v[2][kForwardKeys * kHeadDim];
};

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
  ForwardRowState state = StartRows(args, h);
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
    SoftmaxTileArgs softmax;
    softmax.scale_log2 = scale_log2;
    softmax.key0 = tile * kForwardKeys;
    softmax.row0 = row0;
    softmax.diagonal = softmax.key0 + kForwardKeys > row0;
    softmax.has_first = vanilla && tile == 0;
    float correction[2];
    SoftmaxTile(s, softmax, state, correction);
    ScaleRow(acc, 0, correction[0]);
    ScaleRow(acc, 1, correction[1]);
    Tiles::MultiplyChannels(acc, s, shared.v[tile % 2]);
    __syncthreads();  // The next iteration's copies go where this one has read.
  }

  FinishRows<kHeadDim>(args, acc, state, shared.q, warp * kWarpRows, b, h, row0);
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
