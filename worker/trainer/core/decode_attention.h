// Attention of new positions over a cache of keys and values, and the rotation that goes before it:
// what a decoder computes beside the backend's ops. In ordinary memory, on the calling thread.
//
//   S_j = q . k_j / sqrt(d) for every cached position j up to the query's own
//   U = softmax(S) v; for sink the logit s joins the softmax and has no value
//   out = head norm of U, times the gate (method.md section 1)
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace sinkforge::trainer {

struct DecodeShape {
  int64_t rows = 0;            // new positions
  int64_t first_position = 0;  // of the first of them; the cache ends with the last
  int64_t heads = 0;
  int64_t head_dim = 0;
};

template <typename T>
struct DecodeAttentionArgs {
  const T* q = nullptr;            // [rows, H*d]
  const T* keys = nullptr;         // [positions, H*d]
  const T* values = nullptr;       // [positions, H*d]
  const T* sinks = nullptr;        // [H]; kSink only
  const T* gate_logits = nullptr;  // [rows, H] or [rows, H*d]; kGated only
  T* out = nullptr;                // [rows, H*d]
  T* scores = nullptr;             // [positions], scratch
};

// T is float or double.
template <typename T>
void DecodeAttention(const kernels::AttentionConfig& config, const DecodeShape& shape,
                     const DecodeAttentionArgs<T>& args);

struct RotationOptions {
  double rope_base = 10000;
  double epsilon = 0;
};

// Backend::RopeNorm for rows that stand at shape.first_position and after it: x [rows, H*d], in
// place.
template <typename T>
void RopeNormAt(const DecodeShape& shape, const RotationOptions& options, T* x);

}  // namespace sinkforge::trainer
