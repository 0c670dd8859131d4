// The kernels around attention and the matrix products, as functions that launch them. T is float
// or Bf16; statistics are float32. Shapes as in backend.h. Every sum has one fixed order.
#pragma once

#include "kernels/cuda/device.h"

namespace sinkforge::kernels::cuda {

// norms.cu
template <typename T>
void LaunchRmsNorm(const T* x, int64_t rows, int width, float epsilon, T* y, float* rstd,
                   cudaStream_t stream);
template <typename T>
void LaunchRmsNormBackward(const T* d_y, const T* y, const float* rstd, int64_t rows, int width,
                           WriteMode mode, T* d_x, cudaStream_t stream);

struct RopeShape {
  int64_t rows = 0;  // B * T
  int sequence = 0, heads = 0, head_dim = 0;
};
// `table` [T, d / 2]: cosine and sine of every angle.
template <typename T>
void LaunchRopeNorm(T* x, const RopeShape& shape, const float2* table, float epsilon, float* rstd,
                    cudaStream_t stream);
template <typename T>
void LaunchRopeNormBackward(T* d_y, const T* y, const RopeShape& shape, const float2* table,
                            const float* rstd, cudaStream_t stream);

// elementwise.cu
template <typename T>
void LaunchReluSquared(const T* x, int64_t n, T* y, cudaStream_t stream);
template <typename T>
void LaunchReluSquaredBackward(const T* d_y, const T* y, int64_t n, T* d_x, cudaStream_t stream);
template <typename T>
void LaunchSwiGlu(const T* gate, const T* up, int64_t n, T* act, cudaStream_t stream);
// SwiGluBackwardArgs of n elements each.
template <typename T>
struct SwiGluBackwardKernelArgs {
  const T* d_act = nullptr;
  const T* gate = nullptr;
  const T* up = nullptr;
  T* d_gate = nullptr;
  T* d_up = nullptr;
  T* act = nullptr;
  int64_t n = 0;
};
template <typename T>
void LaunchSwiGluBackward(const SwiGluBackwardKernelArgs<T>& args, cudaStream_t stream);
void LaunchRound(const float* from, int64_t n, Bf16* to, cudaStream_t stream);
// counts[h] += positions whose largest gate is h's.
void LaunchGateArgmaxCounts(const float* gate, int batch, int heads, int sequence, double* counts,
                            cudaStream_t stream);

enum class Reduction { kSum, kSumOfSquares };
inline constexpr int kReductionBlocks = 512;
// One number into sum[0]; `partials` holds kReductionBlocks.
template <typename T>
void LaunchReduction(Reduction reduction, const T* x, int64_t n, double* partials, double* sum,
                     cudaStream_t stream);

// embedding.cu
template <typename T>
void LaunchEmbedding(const int32_t* tokens, int64_t n, const T* table, int width, T* out,
                     cudaStream_t stream);
// `order` and `scratch` hold n each; tokens are below `vocabulary`.
template <typename T>
void LaunchEmbeddingBackward(const int32_t* tokens, int64_t n, int vocabulary, const T* d_out,
                             int width, float* d_table, int32_t* order, int32_t* scratch,
                             cudaStream_t stream);

// cross_entropy.cu: from the logits [rows, V] of some rows to their losses, and where `d_logits` is
// given to loss_scale * dLoss/dlogit. It may be the logits' own memory where T is float.
template <typename T>
struct CrossEntropyKernelArgs {
  const float* logits = nullptr;
  const int32_t* targets = nullptr;
  int64_t rows = 0;
  int vocabulary = 0;
  float softcap = 0;
  float loss_scale = 0;
  float* losses = nullptr;
  T* d_logits = nullptr;
};
template <typename T>
void LaunchCrossEntropy(const CrossEntropyKernelArgs<T>& args, cudaStream_t stream);

// optimizer.cu
struct AdamWTensor {
  float* parameter = nullptr;
  const float* gradient = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  int64_t n = 0;
  AdamWScalars scalars;
};
// All tensors in one launch for every kAdamWTensorsMax of them.
inline constexpr int kAdamWTensorsMax = 32;
void LaunchAdamW(const AdamWTensor* tensors, int count, cudaStream_t stream);

struct MuonShape {
  int64_t rows = 0, cols = 0;
};
// Momentum and Nesterov's look ahead into x [rows, cols], and its sum of squares into partials
// [kReductionBlocks].
void LaunchMuonMomentum(const float* gradient, const MuonArgs& args, int64_t n, float* buffer,
                        float* x, double* partials, cudaStream_t stream);
// y = x / (|x| + epsilon), |x| from the partials.
template <typename T>
void LaunchMuonNormalise(const float* x, const double* partials, int64_t n, T* y,
                         cudaStream_t stream);
template <typename T>
void LaunchMuonUpdate(const T* x, int64_t n, float rate, float* parameter, cudaStream_t stream);

}  // namespace sinkforge::kernels::cuda
