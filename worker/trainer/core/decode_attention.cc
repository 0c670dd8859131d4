// Plain loops: at one position a step the weights' products take the time.
#include "worker/trainer/core/decode_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sinkforge::trainer {

using kernels::AttentionVariant;
using kernels::GateGranularity;
using kernels::HeadNorm;

namespace {

// Separate sums, so that the compiler may use the processor's vectors.
template <typename T>
T Dot(const T* a, const T* b, int64_t count) {
  constexpr int64_t kLanes = 8;
  T sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  T sum = 0;
  for (const T lane : sums) sum += lane;
  for (; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

template <typename T>
T Sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

// One head of one row: U into `out`. `keys` and `values` point at the head's first channel.
template <typename T>
void SoftmaxMean(const DecodeShape& shape, int64_t positions, const T* q, const T* keys,
                 const T* values, const T* sink, T* scores, T* out) {
  const int64_t stride = shape.heads * shape.head_dim;
  const T scale = 1 / std::sqrt(static_cast<T>(shape.head_dim));
  T largest = sink == nullptr ? -std::numeric_limits<T>::infinity() : *sink;
  for (int64_t j = 0; j < positions; ++j) {
    scores[j] = scale * Dot(q, keys + j * stride, shape.head_dim);
    largest = std::max(largest, scores[j]);
  }
  T total = sink == nullptr ? 0 : std::exp(*sink - largest);
  std::fill_n(out, shape.head_dim, T{0});
  for (int64_t j = 0; j < positions; ++j) {
    const T p = std::exp(scores[j] - largest);
    const T* value = values + j * stride;
    total += p;
    for (int64_t c = 0; c < shape.head_dim; ++c) out[c] += p * value[c];
  }
  for (int64_t c = 0; c < shape.head_dim; ++c) out[c] /= total;
}

template <typename T>
void Normalise(int64_t count, T epsilon, T* x) {
  const T rstd = 1 / std::sqrt(Dot(x, x, count) / static_cast<T>(count) + epsilon);
  for (int64_t c = 0; c < count; ++c) x[c] *= rstd;
}

}  // namespace

template <typename T>
void DecodeAttention(const kernels::AttentionConfig& config, const DecodeShape& shape,
                     const DecodeAttentionArgs<T>& args) {
  const int64_t d = shape.head_dim;
  const int64_t stride = shape.heads * d;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t positions = shape.first_position + row + 1;
    for (int64_t h = 0; h < shape.heads; ++h) {
      T* out = args.out + row * stride + h * d;
      const T* sink = config.variant == AttentionVariant::kSink ? args.sinks + h : nullptr;
      SoftmaxMean(shape, positions, args.q + row * stride + h * d, args.keys + h * d,
                  args.values + h * d, sink, args.scores, out);
      if (config.head_norm == HeadNorm::kRms) Normalise(d, static_cast<T>(config.epsilon), out);
      if (config.variant != AttentionVariant::kGated) continue;
      const bool by_head = config.gate == GateGranularity::kHead;
      const T* logits = args.gate_logits + (by_head ? row * shape.heads + h : row * stride + h * d);
      for (int64_t c = 0; c < d; ++c) out[c] *= Sigmoid(logits[by_head ? 0 : c]);
    }
  }
}

template <typename T>
void RopeNormAt(const DecodeShape& shape, const RotationOptions& options, T* x) {
  const int64_t half = shape.head_dim / 2;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const auto position = static_cast<double>(shape.first_position + row);
    for (int64_t h = 0; h < shape.heads; ++h) {
      T* head = x + (row * shape.heads + h) * shape.head_dim;
      for (int64_t i = 0; i < half; ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(2 * half);
        const double angle = position * std::pow(options.rope_base, exponent);
        const T cosine = static_cast<T>(std::cos(angle));
        const T sine = static_cast<T>(std::sin(angle));
        const T first = head[i];
        const T second = head[i + half];
        head[i] = first * cosine + second * sine;
        head[i + half] = second * cosine - first * sine;
      }
      Normalise(shape.head_dim, static_cast<T>(options.epsilon), head);
    }
  }
}

template void DecodeAttention<float>(const kernels::AttentionConfig&, const DecodeShape&,
                                     const DecodeAttentionArgs<float>&);
template void DecodeAttention<double>(const kernels::AttentionConfig&, const DecodeShape&,
                                      const DecodeAttentionArgs<double>&);
template void RopeNormAt<float>(const DecodeShape&, const RotationOptions&, float*);
template void RopeNormAt<double>(const DecodeShape&, const RotationOptions&, double*);

}  // namespace sinkforge::trainer
