// The hot loops of the CPU backend, compiled once per processor level and chosen at run time.
//
// Mechanism: simd_level.inc (with the other *.inc files) is written in the compiler's vector
// extension for any register width. simd_baseline.cc, simd_avx2.cc and simd_avx512.cc include it,
// each compiled for its level and exporting one table of functions, which simd_dispatch.cc picks
// from by asking the processor. On other architectures only the baseline exists.
//
// Everything in those files has internal linkage, and they include nothing but this header, which
// has no inline function, and the compiler's intrinsics, which leave no function behind: a shared
// inline function (of the standard library, say) that was compiled with AVX-512 could be the copy
// that the linker keeps for the whole program, and end it on an older processor. Results may differ
// between levels in rounding; on one level they are always the same.
#pragma once

#include <cstdint>

namespace sinkforge::kernels {

// Row blocks of attention. Fixed, so that partial sums do not depend on the number of threads.
inline constexpr int64_t kAttentionRowTile = 64;  // 64 rows of S and of O fit the first-level cache
inline constexpr int64_t kAttentionForwardKeys = 128;  // keys of a forward tile; a multiple of 64
inline constexpr int64_t kAttentionBackwardKeys = 64;  // equal to the row tile: one diagonal tile
inline constexpr int64_t kSimdLanesMax = 16;           // float lanes of the widest level

enum class SimdVariant { kVanilla, kSink, kGatedHead, kGatedElement };

// One (sample, head, rows [row_begin, row_end)) of the forward. Pointers are to the row 0 of the
// sample and to the head's first channel; strides are in floats. row_begin is a multiple of the row
// tile.
struct AttentionForwardTask {
  SimdVariant variant = SimdVariant::kVanilla;
  bool head_norm = false;
  float epsilon = 0;
  float sink = 0;
  int64_t head_dim = 0;
  int64_t row_begin = 0;
  int64_t row_end = 0;
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* gate_logits = nullptr;
  float* out = nullptr;
  float* normed = nullptr;
  int64_t q_stride = 0;  // of q, out, normed
  int64_t kv_stride = 0;
  int64_t gate_stride = 0;
  float* lse = nullptr;            // [T]
  float* gate = nullptr;           // [T]
  float* head_rstd = nullptr;      // [T]
  double* gate_partial = nullptr;  // [row tiles of the sequence]: the sum of G over each
  float* scratch = nullptr;        // AttentionForwardScratch() floats
};

// One (sample, head) of the backward.
struct AttentionBackwardTask {
  SimdVariant variant = SimdVariant::kVanilla;
  bool head_norm = false;
  bool exact_lse = true;
  bool accumulate_kv = false;  // a later query head of the same key head adds
  float epsilon = 0;
  float sink = 0;
  float importance_gradient = 0;
  int64_t head_dim = 0;
  int64_t sequence = 0;
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* gate_logits = nullptr;
  const float* out = nullptr;
  const float* normed = nullptr;
  const float* d_out = nullptr;
  int64_t q_stride = 0;
  int64_t kv_stride = 0;
  int64_t gate_stride = 0;
  const float* lse = nullptr;        // [T]
  const float* gate = nullptr;       // [T]
  const float* head_rstd = nullptr;  // [T]
  float* d_q = nullptr;
  float* d_k = nullptr;
  float* d_v = nullptr;
  float* d_gate_logits = nullptr;
  double* d_sink_partial = nullptr;  // [row tiles]
  // Between the phases, padded (AttentionPaddedRows x AttentionPaddedDim): the scaled queries, dU,
  // and sums of dQ; and D, [AttentionPaddedRows].
  float* packed_q = nullptr;
  float* packed_du = nullptr;
  float* delta = nullptr;
  float* dq_sum = nullptr;
  float* scratch = nullptr;  // AttentionBackwardScratch() floats
};

struct AdamWCoefficients {
  float beta1, one_minus_beta1, beta2, one_minus_beta2;
  float m_correction, v_correction;  // 1 - beta^step
  float rate, decay, epsilon, gradient_scale;
};

// Index 1: as the contract says. Index 0: neither gate statistics nor importance gradient
// (attention_baseline.h).
struct AttentionKernels {
  void (*forward[2])(const AttentionForwardTask& task);
  // Phase 1, rows [row_begin, row_end), which begin at a row tile: packs queries and dU, writes D,
  // gate logits' and sink's gradients.
  void (*backward_rows[2])(const AttentionBackwardTask& task, int64_t row_begin, int64_t row_end);
  // Phase 2, keys [key_begin, key_end): writes their dK and dV, and to dq_sum
  // what they add to the rows' dQ.
  void (*backward_keys[2])(const AttentionBackwardTask& task, int64_t key_begin, int64_t key_end);
  // Phase 3: d_q from `chunks` sums of dQ that lie `chunk_stride` apart, added in order.
  void (*backward_queries)(const AttentionBackwardTask& task, int64_t chunks, int64_t chunk_stride,
                           int64_t row_begin, int64_t row_end);
};

struct SimdKernels {
  const char* name;
  int64_t lanes;

  // y = e^x; flushes to zero below -87.3, saturates at e^88.3; NaN stays NaN.
  void (*exp)(const float* x, int64_t n, float* y);
  // Natural logarithm of positive normal numbers.
  void (*log)(const float* x, int64_t n, float* y);
  void (*tanh)(const float* x, int64_t n, float* y);

  // Returns rstd. y may alias x.
  float (*normalise_row)(const float* x, int64_t n, float epsilon, float* y);
  // d_x (=|+=) rstd (d_y - y mean(d_y o y)); d_x may alias d_y.
  void (*normalise_row_backward)(const float* d_y, const float* y, float rstd, int64_t n,
                                 bool accumulate, float* d_x);
  // Rotates pairs (i, i + half) by the angles whose cosines and sines are given; sign -1 rotates
  // back.
  void (*rotate)(float* head, const float* cosine, const float* sine, int64_t half, float sign);
  void (*relu_squared)(const float* x, int64_t n, float* y);
  void (*relu_squared_backward)(const float* d_y, const float* y, int64_t n, float* d_x);
  // SwiGLU and its backward, as in backend.h: what may alias there may here.
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* act);
  void (*swiglu_backward)(const float* d_act, const float* gate, const float* up, int64_t n,
                          float* d_gate, float* d_up, float* act);
  // To nearest, ties to even; what is not a number stays one.
  void (*to_bfloat16)(const float* x, int64_t n, uint16_t* y);
  // The same number as a float.
  void (*round_to_bfloat16)(const float* x, int64_t n, float* y);
  // y += x.
  void (*add)(const float* x, int64_t n, float* y);
  double (*sum)(const float* x, int64_t n);
  double (*sum_of_squares)(const float* x, int64_t n);
  void (*adamw)(const AdamWCoefficients& c, const float* gradient, int64_t n, float* parameter,
                float* m, float* v);
  // One row of logits: softcap, loss (returned), and with `gradient` the logits become
  // loss_scale * dloss/dlogit.
  float (*cross_entropy_row)(float* logits, int64_t n, int64_t target, float softcap,
                             float loss_scale, bool gradient);

  AttentionKernels attention;
  // With the products' operands rounded to bfloat16; where the level has them, and for processors
  // with AVX512-BF16 only. nullptr elsewhere.
  const AttentionKernels* attention_bfloat16;
};

// Sizes that hold for every level.
int64_t AttentionPaddedDim(int64_t head_dim);
int64_t AttentionPaddedRows(int64_t sequence);
int64_t AttentionForwardScratch(int64_t head_dim, int64_t rows);
int64_t AttentionBackwardScratch(int64_t head_dim);

enum class SimdLevel { kBaseline, kAvx2, kAvx512 };
// nullptr where this build or this processor does not have the level.
const SimdKernels* FindSimdKernels(SimdLevel level);
const SimdKernels& BestSimdKernels();

}  // namespace sinkforge::kernels
