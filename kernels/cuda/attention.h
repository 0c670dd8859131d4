// Attention on a GPU: what its kernels are given, and who launches them.
//
//   forward   tensor cores (bf16, heads of 32, 64 or 128 channels): one pass; gate, head norm and
//             importance are done on the accumulator before it is written
//             the same with the instructions of compute capability 9.0 (heads of 64 or 128)
//             rows (any type, any head): a warp a row
//   backward  one pass over the rows for what the main loop needs of them (ComputeRowTerms: the
//             whole head-balance gradient is in it), then dK and dV by key block, then dQ by query
//             block: two passes in place of float atomics, so that the bits are always the same;
//             with the instructions of 9.0 as well
#pragma once

#include "kernels/cuda/device.h"

namespace sinkforge::kernels::cuda {

inline constexpr int kPartialRows = 16;  // of one sum of G: the rows of a warp

// One (sample, head) has `sequence` rows; shapes as in backend.h. Statistics are float32.
struct AttentionGeometry {
  int batch = 0, sequence = 0, heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;  // of the logits
  __host__ __device__ int64_t query(int b, int t, int h) const {
    return ((static_cast<int64_t>(b) * sequence + t) * heads + h) * head_dim;
  }
  __host__ __device__ int64_t key(int b, int j, int kv_head) const {
    return ((static_cast<int64_t>(b) * sequence + j) * kv_heads + kv_head) * head_dim;
  }
  __host__ __device__ int64_t head_gate(int b, int t, int h) const {
    return (static_cast<int64_t>(b) * sequence + t) * heads + h;
  }
  __host__ __device__ int64_t stat(int b, int h, int t) const {
    return (static_cast<int64_t>(b) * heads + h) * sequence + t;
  }
  // The sums of G over kPartialRows rows each.
  __host__ __device__ int partials() const { return (sequence + kPartialRows - 1) / kPartialRows; }
  __host__ __device__ int64_t partial(int b, int h, int t) const {
    return (static_cast<int64_t>(b) * heads + h) * partials() + t / kPartialRows;
  }
  __host__ __device__ int64_t query_stride() const {
    return static_cast<int64_t>(heads) * head_dim;
  }
  __host__ __device__ int64_t key_stride() const {
    return static_cast<int64_t>(kv_heads) * head_dim;
  }
};

template <typename T>
struct AttentionForwardKernelArgs {
  AttentionGeometry geometry;
  AttentionConfig config;
  const T* q = nullptr;
  const T* k = nullptr;
  const T* v = nullptr;
  const float* sinks = nullptr;
  const T* gate_logits = nullptr;
  T* out = nullptr;
  T* normed = nullptr;
  float* lse = nullptr;
  float* gate = nullptr;
  float* head_rstd = nullptr;
  float* gate_partials = nullptr;  // [B, H, partials()]: sums of G; tensor cores only
};

template <typename T>
struct AttentionRowsArgs {
  AttentionGeometry geometry;
  AttentionConfig config;
  const T* out = nullptr;
  const T* normed = nullptr;
  const T* d_out = nullptr;
  const T* gate_logits = nullptr;
  const float* lse = nullptr;
  const float* gate = nullptr;
  const float* head_rstd = nullptr;
  const float* sinks = nullptr;
  const double* importance_gradient = nullptr;
  T* d_u = nullptr;  // null where dU is dO, or dO scaled by row_scale
  T* d_gate_logits = nullptr;
  float* delta = nullptr;   // [B, H, T]
  float* d_sink = nullptr;  // [B, H, T], kSink only
};

template <typename T>
struct AttentionBackwardKernelArgs {
  AttentionGeometry geometry;
  AttentionConfig config;
  const T* q = nullptr;
  const T* k = nullptr;
  const T* v = nullptr;
  const T* d_u = nullptr;
  const float* lse = nullptr;
  const float* delta = nullptr;
  const float* row_scale = nullptr;  // [B, H, T]: dU = row_scale * d_u; null: 1
  const double* importance_gradient = nullptr;
  T* d_q = nullptr;
  T* d_k = nullptr;
  T* d_v = nullptr;
  // Where the queries' gradients are added up in any order, like d_q; null: a fixed order. Tensor
  // cores only.
  float* d_q_sum = nullptr;
};

inline constexpr int kRowBlock = 64;  // query rows of a block of the tensor-core kernels
inline bool HasTensorCoreKernels(int64_t head_dim) {
  return head_dim == 32 || head_dim == 64 || head_dim == 128;
}

// The column that the importance takes from dP of the first key (ComputeRowTerms).
__device__ __forceinline__ float ImportanceColumn(const AttentionConfig& config,
                                                  const double* importance_gradient, int h, int t) {
  if (config.variant != AttentionVariant::kVanilla) return 0.0F;
  AttentionRowInput row;
  row.lse_gradient = config.lse_gradient;
  row.position = t;
  row.importance_gradient = static_cast<float>(importance_gradient[h]);
  return ComputeRowTerms(row).column;
}

// attention_rows.cu; T is float or Bf16.
template <typename T>
void LaunchAttentionForwardRows(const AttentionForwardKernelArgs<T>& args, cudaStream_t stream);
template <typename T>
void LaunchAttentionRowTerms(const AttentionRowsArgs<T>& args, cudaStream_t stream);
template <typename T>
void LaunchAttentionBackwardRows(const AttentionBackwardKernelArgs<T>& args, cudaStream_t stream);
// sums[h] += the sum over b and i of values[b, h, i] for i < n, always in the same order.
void LaunchHeadSums(const float* values, int batch, int heads, int64_t n, double* sums,
                    cudaStream_t stream);
void LaunchHeadSums(const float* values, int batch, int heads, int64_t n, float* sums,
                    cudaStream_t stream);

// What the kernels for compute capability 9.0 need beside their arguments.
struct HopperResources {
  int multiprocessors = 0;
  int cache_bytes = 0;       // of the second level
  int* next_work = nullptr;  // a counter; set to zero before each launch
};
inline bool IsHopperHead(int64_t head_dim) { return head_dim == 64 || head_dim == 128; }

// A translation unit a head size.
template <int kHeadDim>
void LaunchAttentionForward(const AttentionForwardKernelArgs<Bf16>& args, cudaStream_t stream);
template <int kHeadDim>
void LaunchAttentionForwardHopper(const AttentionForwardKernelArgs<Bf16>& args,
                                  const HopperResources& resources, cudaStream_t stream);
template <int kHeadDim>
void LaunchAttentionBackwardHopper(const AttentionBackwardKernelArgs<Bf16>& args,
                                   cudaStream_t stream);
template <int kHeadDim>
void LaunchAttentionBackward(const AttentionBackwardKernelArgs<Bf16>& args, cudaStream_t stream);

}  // namespace sinkforge::kernels::cuda
