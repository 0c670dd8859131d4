// Row and element loops: norms, rotation, activation, cross-entropy, AdamW, sums. Included by
// simd_level-inl.h only. Float32 sums run in kLanes partial sums that are added in a fixed tree.

void ExpArray(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    SaveFirst(y + i, Exp(LoadFirst(x + i, n - i)), n - i);
  }
}

void LogArray(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    SaveFirst(y + i, Log(LoadFirst(x + i, n - i)), n - i);
  }
}

void TanhArray(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    SaveFirst(y + i, Tanh(LoadFirst(x + i, n - i)), n - i);
  }
}

SINKFORGE_INLINE float DotRow(const float* a, const float* b, int64_t n) {
  VF sum0 = {};
  VF sum1 = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sum0 += Load(a + i) * Load(b + i);
    sum1 += Load(a + i + kLanes) * Load(b + i + kLanes);
  }
  for (; i < n; i += kLanes) sum0 += LoadFirst(a + i, n - i) * LoadFirst(b + i, n - i);
  return HorizontalSum(sum0 + sum1);
}

float NormaliseRow(const float* x, int64_t n, float epsilon, float* y) {
  const float mean = DotRow(x, x, n) / static_cast<float>(n);
  const float rstd = 1.0F / __builtin_sqrtf(mean + epsilon);
  for (int64_t i = 0; i < n; i += kLanes) {
    SaveFirst(y + i, LoadFirst(x + i, n - i) * rstd, n - i);
  }
  return rstd;
}

void NormaliseRowBackward(const float* d_y, const float* y, float rstd, int64_t n, bool accumulate,
                          float* d_x) {
  const float mean = DotRow(d_y, y, n) / static_cast<float>(n);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    VF d = (LoadFirst(d_y + i, left) - LoadFirst(y + i, left) * mean) * rstd;
    if (accumulate) d += LoadFirst(d_x + i, left);
    SaveFirst(d_x + i, d, left);
  }
}

void Rotate(float* head, const float* cosine, const float* sine, int64_t half, float sign) {
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t left = half - i;
    const VF c = LoadFirst(cosine + i, left);
    const VF s = LoadFirst(sine + i, left) * sign;
    const VF x1 = LoadFirst(head + i, left);
    const VF x2 = LoadFirst(head + half + i, left);
    SaveFirst(head + i, x1 * c + x2 * s, left);
    SaveFirst(head + half + i, x2 * c - x1 * s, left);
  }
}

void ReluSquaredRange(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const VF v = LoadFirst(x + i, n - i);
    const VF positive = Max(VF{}, v);
    SaveFirst(y + i, positive * positive, n - i);
  }
}

void ReluSquaredBackwardRange(const float* d_y, const float* x, int64_t n, float* d_x) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const VF positive = Max(VF{}, LoadFirst(x + i, n - i));
    SaveFirst(d_x + i, LoadFirst(d_y + i, n - i) * 2.0F * positive, n - i);
  }
}

void AddRange(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    SaveFirst(y + i, LoadFirst(y + i, n - i) + LoadFirst(x + i, n - i), n - i);
  }
}

SINKFORGE_INLINE double HorizontalSumOfDoubles(const VD& v) {
  double sum = 0;
  for (int64_t i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}

double SumRange(const float* x, int64_t n) {
  VD sum = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    sum += __builtin_convertvector(LoadFirst(x + i, n - i), VD);
  }
  return HorizontalSumOfDoubles(sum);
}

double SumOfSquaresRange(const float* x, int64_t n) {
  VD sum = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    const VD v = __builtin_convertvector(LoadFirst(x + i, n - i), VD);
    sum += v * v;
  }
  return HorizontalSumOfDoubles(sum);
}

void AdamWRange(const AdamWCoefficients& c, const float* gradient, int64_t n, float* parameter,
                float* m, float* v) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradient[i] * c.gradient_scale;
    m[i] = c.beta1 * m[i] + c.one_minus_beta1 * g;
    v[i] = c.beta2 * v[i] + c.one_minus_beta2 * g * g;
    const float denominator = __builtin_sqrtf(v[i] / c.v_correction) + c.epsilon;
    parameter[i] -= c.decay * parameter[i] + c.rate * (m[i] / c.m_correction) / denominator;
  }
}

// Softcaps the row in place and returns its largest logit.
SINKFORGE_INLINE float SoftcapRow(float* logits, int64_t n, float softcap) {
  VF max = Broadcast(-kInfinity);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    VF x = LoadFirst(logits + i, left);
    if (softcap > 0) {
      x = Tanh(x / softcap) * softcap;
      SaveFirst(logits + i, x, left);
    }
    if (left < kLanes) {
      const VI inside = kLaneIndex < static_cast<int32_t>(left);
      x = inside ? x : Broadcast(-kInfinity);
    }
    max = Max(x, max);
  }
  return HorizontalMax(max);
}

float CrossEntropyRow(float* logits, int64_t n, int64_t target, float softcap, float loss_scale,
                      bool gradient) {
  const float max = SoftcapRow(logits, n, softcap);
  const float target_logit = logits[target];
  VF sum = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum += Exp(Load(logits + i) - max);
  if (i < n) {
    const VI inside = kLaneIndex < static_cast<int32_t>(n - i);
    sum += inside ? Exp(LoadFirst(logits + i, n - i) - max) : VF{};
  }
  const float total = HorizontalSum(sum);
  const float loss = (max - target_logit) + Log(Broadcast(total))[0];
  if (!gradient) return loss;
  const float inverse_cap = softcap > 0 ? 1.0F / softcap : 0.0F;
  const float factor = loss_scale / total;
  for (i = 0; i < n; i += kLanes) {
    const VF x = LoadFirst(logits + i, n - i);
    const VF u = x * inverse_cap;
    SaveFirst(logits + i, Exp(x - max) * factor * (1.0F - u * u), n - i);
  }
  const float u = target_logit * inverse_cap;
  logits[target] -= loss_scale * (1.0F - u * u);
  return loss;
}
