// The arithmetic of single numbers that device kernels and host code share: gate, SwiGLU, the
// terms of a row of attention's backward, optimizer updates. Functions of a host and of a
// device, so that what a GPU computes is tested where there is none. Equations: design references
// at each function.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/backend.h"

#if defined(__CUDACC__)
#define SINKFORGE_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define SINKFORGE_HOST_DEVICE inline
#endif

namespace sinkforge::kernels {

SINKFORGE_HOST_DEVICE float Sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }

// SwiGLU of one element, and its backward (SwiGluBackwardArgs). Both multiply in the same order, so
// that act has the same bits.
SINKFORGE_HOST_DEVICE float SwiGluOf(float gate, float up) { return gate * Sigmoid(gate) * up; }
struct SwiGluGradients {
  float d_gate = 0.0F, d_up = 0.0F, act = 0.0F;
};
SINKFORGE_HOST_DEVICE SwiGluGradients SwiGluGradientsOf(float d_act, float gate, float up) {
  const float s = Sigmoid(gate);
  const float silu = gate * s;
  SwiGluGradients gradients;
  gradients.d_gate = d_act * up * (s + silu * (1.0F - s));
  gradients.d_up = d_act * silu;
  gradients.act = silu * up;
  return gradients;
}

// Derivative of the loss by a gate's logit a: (dO . O + g G)(1 - G). `dot` is dO . O over the
// channels of the gate, `g` the head-balance gradient that falls on it (g_h, or g_h / d for a gate
// of one channel).
SINKFORGE_HOST_DEVICE float GateLogitGradient(float dot, float g, float logit) {
  return (dot + g * Sigmoid(logit)) * Sigmoid(-logit);
}

// What the main loop of attention's backward needs of one row beside its vectors: dz_j = P_j (dP_j
// - [j = 0] column - delta). Method section 3, with the loss inside.
struct AttentionRowTerms {
  float delta = 0.0F;
  float column = 0.0F;
  float d_sink = 0.0F;  // what the row adds to the gradient of the head's sink
};

struct AttentionRowInput {
  AttentionVariant variant = AttentionVariant::kVanilla;
  LseGradient lse_gradient = LseGradient::kExact;
  int64_t position = 0;           // t
  float delta = 0.0F;             // dU . U
  float importance_gradient = 0;  // g_h
  float gate = 0.0F;              // G_t
  float sink_probability = 0.0F;  // P_ts, kSink only
};

SINKFORGE_HOST_DEVICE AttentionRowTerms ComputeRowTerms(const AttentionRowInput& in) {
  AttentionRowTerms terms;
  terms.delta = in.delta;
  const bool exact = in.lse_gradient == LseGradient::kExact;
  const float g = in.importance_gradient;
  if (in.variant == AttentionVariant::kSink) {
    terms.d_sink = -in.sink_probability * (g * in.gate + in.delta);
    if (exact) {
      terms.delta -= g * in.sink_probability;
    } else {
      // dO . O~ with O~ = O / G. A gate of zero means that every P is zero as well.
      terms.delta = in.gate > 0.0F ? in.delta / in.gate : 0.0F;
    }
  } else if (in.variant == AttentionVariant::kVanilla) {
    terms.column = exact || in.position > 0 ? g : 0.0F;
    // P_t0 = 1 - G_t: here the difference is added to numbers of order one, so that its rounding
    // is that of any other term.
    if (exact) terms.delta -= g * (1.0F - in.gate);
  }
  return terms;
}

// AdamW's constants of one step, taken in float64 on the host: 1 - beta would lose digits.
struct AdamWScalars {
  float gradient_scale = 1, beta1 = 0, beta2 = 0, one_minus_beta1 = 1, one_minus_beta2 = 1;
  float m_correction = 1, v_correction = 1, epsilon = 0, rate = 0, decay = 0;
};

inline AdamWScalars MakeAdamWScalars(const AdamWArgs& args) {
  const auto step = static_cast<double>(args.step);
  AdamWScalars s;
  s.gradient_scale = static_cast<float>(args.gradient_scale);
  s.beta1 = static_cast<float>(args.beta1);
  s.beta2 = static_cast<float>(args.beta2);
  s.one_minus_beta1 = static_cast<float>(1.0 - args.beta1);
  s.one_minus_beta2 = static_cast<float>(1.0 - args.beta2);
  s.m_correction = static_cast<float>(1.0 - std::pow(args.beta1, step));
  s.v_correction = static_cast<float>(1.0 - std::pow(args.beta2, step));
  s.epsilon = static_cast<float>(args.epsilon);
  s.rate = static_cast<float>(args.learning_rate);
  s.decay = static_cast<float>(args.learning_rate * args.weight_decay);
  return s;
}

SINKFORGE_HOST_DEVICE void AdamWUpdate(const AdamWScalars& s, float gradient, float* parameter,
                                       float* m, float* v) {
  const float g = gradient * s.gradient_scale;
  *m = s.beta1 * *m + s.one_minus_beta1 * g;
  *v = s.beta2 * *v + s.one_minus_beta2 * g * g;
  const float denominator = sqrtf(*v / s.v_correction) + s.epsilon;
  *parameter -= s.decay * *parameter + s.rate * (*m / s.m_correction) / denominator;
}

// Muon: the momentum buffer moves towards the gradient; returns Nesterov's look ahead.
SINKFORGE_HOST_DEVICE float MuonMomentumUpdate(float gradient, float momentum,
                                               float one_minus_momentum, float* buffer) {
  *buffer += one_minus_momentum * (gradient - *buffer);
  return gradient + momentum * (*buffer - gradient);
}

}  // namespace sinkforge::kernels
