// The shape and dtype rules of backend.h as code, shared by every backend: a violation is a bug of
// the caller and ends the program with the rule's text.
#pragma once

#include "kernels/backend.h"

namespace sinkforge::kernels {

// The tensor's memory as T; checks the dtype and that there is memory.
template <typename T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<float>() {
  return DType::kF32;
}
template <>
constexpr DType DTypeOf<double>() {
  return DType::kF64;
}
template <>
constexpr DType DTypeOf<int32_t>() {
  return DType::kI32;
}
template <typename T>
T* DataOf(const Tensor& x) {
  SINKFORGE_CHECK(!x.empty() && x.dtype == DTypeOf<T>());
  return x.as<T>();
}

struct MatrixShape {
  int64_t rows = 0;
  int64_t cols = 0;
};
// Any tensor as a matrix: the last dimension is cols, the product of the others rows.
MatrixShape MatrixOf(const Tensor& x);

// What the statistics beside an activation are kept in: float32 beside bfloat16.
DType StatisticDType(DType activation);

struct LinearShape {
  int64_t rows = 0;     // N
  int64_t inputs = 0;   // I
  int64_t outputs = 0;  // O
};
LinearShape CheckLinear(const Tensor& x, const Tensor& w, const Tensor& y);

void CheckEmbedding(const Tensor& tokens, const Tensor& table, const Tensor& rows);
void CheckRmsNorm(const Tensor& x, const Tensor& y, const Tensor& rstd);
void CheckRopeNorm(const Tensor& x, const Tensor& rstd, int64_t sequence, int64_t heads);
void CheckAttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                           const AttentionForwardArgs& args, DType dtype);
void CheckAttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                            const AttentionBackwardArgs& args, DType dtype);
void CheckGateArgmaxCounts(const Tensor& gate, const Tensor& counts);
void CheckSameElements(const Tensor& a, const Tensor& b);
void CheckSwiGlu(const Tensor& gate, const Tensor& up, const Tensor& act);
void CheckSwiGluBackward(const SwiGluBackwardArgs& args);
void CheckCrossEntropy(const CrossEntropyArgs& args);
void CheckAdamW(const AdamWArgs& args);
void CheckMuon(const MuonArgs& args);

}  // namespace sinkforge::kernels
