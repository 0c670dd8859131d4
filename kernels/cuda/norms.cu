// RMSNorm of rows, and RoPE with the norm of each head, with their backwards.
//
//   y = x rstd, rstd = 1 / sqrt(mean(x^2) + eps);   d_x (=|+=) rstd (d_y - y mean(d_y o y))
//
// A warp a row for RMSNorm: rows are read twice, the second time from the cache. A warp a head for
// RoPE, whose pairs (i, i + d / 2) stay in one lane. Sums in float32.
#include <algorithm>

#include "kernels/cuda/ops.h"

namespace sinkforge::kernels::cuda {
namespace {

constexpr int kWarps = 4;  // of a block
constexpr int kPairsPerLaneMax = 4;
constexpr int kHeadDimMax = 2 * kPairsPerLaneMax * kWarpThreads;
constexpr int kHeadsOfBlock = 16;

__device__ int64_t RowOfWarp() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpThreads;
}
__device__ int Lane() { return static_cast<int>(threadIdx.x % kWarpThreads); }

template <typename T>
__global__ void RmsNormKernel(const T* x, int64_t rows, int width, float epsilon, T* y,
                              float* rstd) {
  const int64_t row = RowOfWarp();
  if (row >= rows) return;
  const T* from = x + row * width;
  T* to = y + row * width;
  float square = 0.0F;
  for (int c = Lane(); c < width; c += kWarpThreads) {
    const float value = ToFloat(from[c]);
    square += value * value;
  }
  const float scale = 1.0F / sqrtf(WarpSum(square) / static_cast<float>(width) + epsilon);
  for (int c = Lane(); c < width; c += kWarpThreads) {
    to[c] = FromFloat<T>(ToFloat(from[c]) * scale);
  }
  if (Lane() == 0) rstd[row] = scale;
}

// The same in vectors of 16 bytes, for widths that are whole vectors.
template <typename T>
__global__ void RmsNormVectorKernel(const T* x, int64_t rows, int width, float epsilon, T* y,
                                    float* rstd) {
  constexpr int kWidth = Vector<T>::kWidth;
  const int64_t row = RowOfWarp();
  if (row >= rows) return;
  const auto* from = reinterpret_cast<const Vector<T>*>(x + row * width);
  auto* to = reinterpret_cast<Vector<T>*>(y + row * width);
  float square = 0.0F;
  for (int i = Lane(); i < width / kWidth; i += kWarpThreads) {
    const Vector<T> values = from[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) square += ToFloat(values.at[c]) * ToFloat(values.at[c]);
  }
  const float scale = 1.0F / sqrtf(WarpSum(square) / static_cast<float>(width) + epsilon);
  for (int i = Lane(); i < width / kWidth; i += kWarpThreads) {
    Vector<T> values = from[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) values.at[c] = FromFloat<T>(ToFloat(values.at[c]) * scale);
    to[i] = values;
  }
  if (Lane() == 0) rstd[row] = scale;
}

template <typename T>
__global__ void RmsNormBackwardKernel(const T* d_y, const T* y, const float* rstd, int64_t rows,
                                      int width, WriteMode mode, T* d_x) {
  const int64_t row = RowOfWarp();
  if (row >= rows) return;
  const T* d = d_y + row * width;
  const T* out = y + row * width;
  T* to = d_x + row * width;
  float dot = 0.0F;
  for (int c = Lane(); c < width; c += kWarpThreads) dot += ToFloat(d[c]) * ToFloat(out[c]);
  const float mean = WarpSum(dot) / static_cast<float>(width);
  for (int c = Lane(); c < width; c += kWarpThreads) {
    const float value = rstd[row] * (ToFloat(d[c]) - ToFloat(out[c]) * mean);
    to[c] = FromFloat<T>(mode == WriteMode::kAssign ? value : ToFloat(to[c]) + value);
  }
}

template <typename T>
__global__ void RmsNormBackwardVectorKernel(const T* d_y, const T* y, const float* rstd,
                                            int64_t rows, int width, WriteMode mode, T* d_x) {
  constexpr int kWidth = Vector<T>::kWidth;
  const int64_t row = RowOfWarp();
  if (row >= rows) return;
  const auto* d = reinterpret_cast<const Vector<T>*>(d_y + row * width);
  const auto* out = reinterpret_cast<const Vector<T>*>(y + row * width);
  auto* to = reinterpret_cast<Vector<T>*>(d_x + row * width);
  float dot = 0.0F;
  for (int i = Lane(); i < width / kWidth; i += kWarpThreads) {
    const Vector<T> a = d[i];
    const Vector<T> b = out[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) dot += ToFloat(a.at[c]) * ToFloat(b.at[c]);
  }
  const float mean = WarpSum(dot) / static_cast<float>(width);
  for (int i = Lane(); i < width / kWidth; i += kWarpThreads) {
    const Vector<T> a = d[i];
    const Vector<T> b = out[i];
    Vector<T> result{};
    if (mode == WriteMode::kAccumulate) result = to[i];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) {
      const float value = rstd[row] * (ToFloat(a.at[c]) - ToFloat(b.at[c]) * mean);
      const bool assign = mode == WriteMode::kAssign;
      result.at[c] = FromFloat<T>(assign ? value : ToFloat(result.at[c]) + value);
    }
    to[i] = result;
  }
}

// The position is the block's, the head the warp's: a division of 64-bit numbers would take more
// instructions than all the rest. False past the last head.
__device__ __forceinline__ bool FindHead(const RopeShape& shape, int64_t* row) {
  const int head =
      static_cast<int>(blockIdx.y * (blockDim.x / kWarpThreads) + threadIdx.x / kWarpThreads);
  *row = static_cast<int64_t>(blockIdx.x) * shape.heads + head;
  return head < shape.heads;
}
__device__ __forceinline__ const float2* AnglesOf(const RopeShape& shape, const float2* table) {
  const unsigned t = blockIdx.x % static_cast<unsigned>(shape.sequence);
  return table + static_cast<int64_t>(t) * (shape.head_dim / 2);
}

// A warp a (position, head).
template <typename T>
__global__ void RopeNormKernel(T* x, RopeShape shape, const float2* table, float epsilon,
                               float* rstd) {
  int64_t row = 0;
  if (!FindHead(shape, &row)) return;
  const int half = shape.head_dim / 2;
  T* head = x + row * shape.head_dim;
  const float2* angles = AnglesOf(shape, table);
  float first[kPairsPerLaneMax];
  float second[kPairsPerLaneMax];
  float square = 0.0F;
#pragma unroll
  for (int n = 0; n < kPairsPerLaneMax; ++n) {
    const int i = Lane() + n * kWarpThreads;
    if (i >= half) continue;
    const float x1 = ToFloat(head[i]);
    const float x2 = ToFloat(head[i + half]);
    first[n] = x1 * angles[i].x + x2 * angles[i].y;
    second[n] = -x1 * angles[i].y + x2 * angles[i].x;
    square += first[n] * first[n] + second[n] * second[n];
  }
  const float mean = WarpSum(square) / static_cast<float>(shape.head_dim);
  const float scale = 1.0F / sqrtf(mean + epsilon);
#pragma unroll
  for (int n = 0; n < kPairsPerLaneMax; ++n) {
    const int i = Lane() + n * kWarpThreads;
    if (i >= half) continue;
    head[i] = FromFloat<T>(first[n] * scale);
    head[i + half] = FromFloat<T>(second[n] * scale);
  }
  if (Lane() == 0) rstd[row] = scale;
}

template <typename T>
__global__ void RopeNormBackwardKernel(T* d_y, const T* y, RopeShape shape, const float2* table,
                                       const float* rstd) {
  int64_t row = 0;
  if (!FindHead(shape, &row)) return;
  const int half = shape.head_dim / 2;
  T* head = d_y + row * shape.head_dim;
  const T* out = y + row * shape.head_dim;
  const float2* angles = AnglesOf(shape, table);
  float dot = 0.0F;
  for (int c = Lane(); c < shape.head_dim; c += kWarpThreads) {
    dot += ToFloat(head[c]) * ToFloat(out[c]);
  }
  const float mean = WarpSum(dot) / static_cast<float>(shape.head_dim);
  const float scale = rstd[row];
#pragma unroll
  for (int n = 0; n < kPairsPerLaneMax; ++n) {
    const int i = Lane() + n * kWarpThreads;
    if (i >= half) continue;
    const float d1 = scale * (ToFloat(head[i]) - ToFloat(out[i]) * mean);
    const float d2 = scale * (ToFloat(head[i + half]) - ToFloat(out[i + half]) * mean);
    head[i] = FromFloat<T>(d1 * angles[i].x - d2 * angles[i].y);
    head[i + half] = FromFloat<T>(d1 * angles[i].y + d2 * angles[i].x);
  }
}

LaunchShape WarpPerRow(int64_t rows) {
  return {dim3(BlocksFor(rows, kWarps)), kWarps * kWarpThreads, 0};
}

LaunchShape WarpPerHead(const RopeShape& shape) {
  const int warps = std::min(shape.heads, kHeadsOfBlock);
  return {dim3(static_cast<unsigned>(shape.rows), BlocksFor(shape.heads, warps)),
          static_cast<unsigned>(warps * kWarpThreads), 0};
}

// Whole vectors, at addresses that are multiples of 16.
template <typename T>
bool Vectors(int width, std::initializer_list<const void*> pointers) {
  bool aligned = width % Vector<T>::kWidth == 0;
  for (const void* pointer : pointers) aligned &= reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  return aligned;
}

}  // namespace

template <typename T>
void LaunchRmsNorm(const T* x, int64_t rows, int width, float epsilon, T* y, float* rstd,
                   cudaStream_t stream) {
  const auto kernel = Vectors<T>(width, {x, y}) ? RmsNormVectorKernel<T> : RmsNormKernel<T>;
  Launch(kernel, WarpPerRow(rows), stream, x, rows, width, epsilon, y, rstd);
}

template <typename T>
void LaunchRmsNormBackward(const T* d_y, const T* y, const float* rstd, int64_t rows, int width,
                           WriteMode mode, T* d_x, cudaStream_t stream) {
  const auto kernel =
      Vectors<T>(width, {d_y, y, d_x}) ? RmsNormBackwardVectorKernel<T> : RmsNormBackwardKernel<T>;
  Launch(kernel, WarpPerRow(rows), stream, d_y, y, rstd, rows, width, mode, d_x);
}

template <typename T>
void LaunchRopeNorm(T* x, const RopeShape& shape, const float2* table, float epsilon, float* rstd,
                    cudaStream_t stream) {
  SINKFORGE_CHECK(shape.head_dim <= kHeadDimMax);
  Launch(RopeNormKernel<T>, WarpPerHead(shape), stream, x, shape, table, epsilon, rstd);
}

template <typename T>
void LaunchRopeNormBackward(T* d_y, const T* y, const RopeShape& shape, const float2* table,
                            const float* rstd, cudaStream_t stream) {
  SINKFORGE_CHECK(shape.head_dim <= kHeadDimMax);
  Launch(RopeNormBackwardKernel<T>, WarpPerHead(shape), stream, d_y, y, shape, table, rstd);
}

#define SINKFORGE_NORMS(T)                                                                 \
  template void LaunchRmsNorm<T>(const T*, int64_t, int, float, T*, float*, cudaStream_t); \
  template void LaunchRmsNormBackward<T>(const T*, const T*, const float*, int64_t, int,   \
                                         WriteMode, T*, cudaStream_t);                     \
  template void LaunchRopeNorm<T>(T*, const RopeShape&, const float2*, float, float*,      \
                                  cudaStream_t);                                           \
  template void LaunchRopeNormBackward<T>(T*, const T*, const RopeShape&, const float2*,   \
                                          const float*, cudaStream_t)
SINKFORGE_NORMS(float);
SINKFORGE_NORMS(Bf16);
#undef SINKFORGE_NORMS

}  // namespace sinkforge::kernels::cuda
