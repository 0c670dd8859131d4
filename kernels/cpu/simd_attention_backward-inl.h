// Attention backward of one (sample, head), method.md section 3. Included by simd_level-inl.h only.
//
//   rows     dU (through gate and head norm), D = dU . U - g P_c, and the gradients of gate logits
//            and sink
//   keys     for each key tile, over the row tiles that see it: S and dP by products, P = e^(S -
//   L),
//            dS = P (dP - D), minus g P_0 in column 0 for vanilla; dV += P^T dU, dK += dS^T q,
//            dQ += dS K
//   queries  dQ out of its padded sums, scaled
//
// Accumulation in float32 in the order of row tiles (dK, dV) and key tiles (dQ); the sink's
// gradient in float64. Memory: packed q, dU and dQ, three times the size of q, are the only large
// scratch.

// What the rows phase needs of one row tile.
struct RowTile {
  int64_t t0;
  int64_t rows;
  int64_t dim;  // padded
};

// du = dO (through the gate: G o dO); dot = dY . Y or dO . O, which are the same number.
SINKFORGE_INLINE void GateRowBackward(const AttentionBackwardTask& task, int64_t t, float g,
                                      float dot, float* du) {
  if (task.variant == SimdVariant::kGatedHead) {
    const VF a = Broadcast(task.gate_logits[t * task.gate_stride]);
    const VF gate = Sigmoid(a);
    task.d_gate_logits[t * task.gate_stride] = ((dot + g * gate) * Sigmoid(-a))[0];
    for (int64_t c = 0; c < task.head_dim; c += kLanes) Save(du + c, Load(du + c) * gate);
    return;
  }
  const float share = g / static_cast<float>(task.head_dim);
  for (int64_t c = 0; c < task.head_dim; c += kLanes) {
    const int64_t left = task.head_dim - c;
    const VF a = LoadFirst(task.gate_logits + t * task.gate_stride + c, left);
    const VF out = LoadFirst(task.out + t * task.q_stride + c, left);
    const VF gate = Sigmoid(a);
    const VF d = Load(du + c);
    SaveFirst(task.d_gate_logits + t * task.gate_stride + c, (d * out + share * gate) * Sigmoid(-a),
              left);
    Save(du + c, d * gate);
  }
}

// du = dY -> dU; returns dU . U = (dY . Y) epsilon rstd^2, which leaves no cancellation.
SINKFORGE_INLINE float NormRowBackward(const AttentionBackwardTask& task, int64_t t, float* du) {
  const float* y = (task.normed != nullptr ? task.normed : task.out) + t * task.q_stride;
  const float rstd = task.head_rstd[t];
  const float dot = DotRow(du, y, task.head_dim);
  const float mean = dot / static_cast<float>(task.head_dim);
  for (int64_t c = 0; c < task.head_dim; c += kLanes) {
    const int64_t left = task.head_dim - c;
    SaveFirst(du + c, (Load(du + c) - LoadFirst(y + c, left) * mean) * rstd, left);
  }
  return dot * task.epsilon * rstd * rstd;
}

// D of the tile's rows from dU . U, and the sink's gradient.
template <bool kStatistics>
SINKFORGE_INLINE void FinishDelta(const AttentionBackwardTask& task, const RowTile& tile,
                                  float* delta) {
  const float g = kStatistics ? task.importance_gradient : 0.0F;
  if (task.variant == SimdVariant::kVanilla && kStatistics && task.exact_lse) {
    // P_0 = 1 - G: an absolute error of one rounding, on a term of size g.
    for (int64_t r = 0; r < tile.rows; ++r) delta[r] -= g * (1.0F - task.gate[tile.t0 + r]);
  }
  if (task.variant != SimdVariant::kSink) return;
  float sink_probability[kAttentionRowTile];
  for (int64_t r = 0; r < tile.rows; r += kLanes) {
    const int64_t left = tile.rows - r;
    SaveFirst(sink_probability + r, Exp(task.sink - LoadFirst(task.lse + tile.t0 + r, left)), left);
  }
  double d_sink = 0;
  for (int64_t r = 0; r < tile.rows; ++r) {
    // Without statistics there is no G to read; the difference can cancel, which a measurement of
    // time does not mind.
    const float gate = kStatistics ? task.gate[tile.t0 + r] : 1.0F - sink_probability[r];
    d_sink -= sink_probability[r] * (g * gate + delta[r]);
    if (task.exact_lse) {
      delta[r] -= g * sink_probability[r];
    } else {
      // dO . O~ with O~ = O / G. A gate of zero means that every P is zero as well.
      delta[r] = gate > 0.0F ? delta[r] / gate : 0.0F;
    }
  }
  task.d_sink_partial[tile.t0 / kAttentionRowTile] = d_sink;
}

template <bool kStatistics>
void AttentionBackwardRows(const AttentionBackwardTask& task, int64_t row_begin, int64_t row_end) {
  const int64_t dim = RoundUp(task.head_dim, kPad);
  const int64_t rows = row_end - row_begin;
  const int64_t padded = RoundUp(rows, kPad);
  const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(task.head_dim));
  const float g = kStatistics ? task.importance_gradient : 0.0F;
  PackRows(task.q + row_begin * task.q_stride, task.q_stride, rows, task.head_dim, scale, padded,
           dim, task.packed_q + row_begin * dim);
  PackRows(task.d_out + row_begin * task.q_stride, task.q_stride, rows, task.head_dim, 1.0F, padded,
           dim, task.packed_du + row_begin * dim);
  const bool gated =
      task.variant == SimdVariant::kGatedHead || task.variant == SimdVariant::kGatedElement;
  for (int64_t t0 = row_begin; t0 < row_end; t0 += kAttentionRowTile) {
    const RowTile tile{t0, Smaller(kAttentionRowTile, row_end - t0), dim};
    for (int64_t r = 0; r < tile.rows; ++r) {
      const int64_t t = t0 + r;
      float* du = task.packed_du + t * dim;
      float dot = DotRow(du, task.out + t * task.q_stride, task.head_dim);
      if (gated) GateRowBackward(task, t, g, dot, du);
      if (task.head_norm) dot = NormRowBackward(task, t, du);
      task.delta[t] = dot;
    }
    FinishDelta<kStatistics>(task, tile, task.delta + t0);
  }
  for (int64_t r = rows; r < padded; ++r) task.delta[row_begin + r] = 0;
}

struct BackwardState {
  int64_t dim;      // padded
  float* keys;      // [kAttentionBackwardKeys, dim]
  float* keys_t;    // [dim, kAttentionBackwardKeys]
  float* values_t;  // [dim, kAttentionBackwardKeys]
  float* dk;        // [kAttentionBackwardKeys, dim]
  float* dv;        // [kAttentionBackwardKeys, dim]
  float* p;         // [kAttentionRowTile, kAttentionBackwardKeys]
  float* ds;        // [kAttentionRowTile, kAttentionBackwardKeys]: dP, then dS
};

SINKFORGE_INLINE BackwardState SplitBackwardScratch(const AttentionBackwardTask& task) {
  BackwardState s;
  s.dim = RoundUp(task.head_dim, kPad);
  float* p = task.scratch;
  const auto take = [&p](int64_t n) {
    float* start = p;
    p += n;
    return start;
  };
  const int64_t tile = s.dim * kAttentionBackwardKeys;
  s.keys = take(tile);
  s.keys_t = take(tile);
  s.values_t = take(tile);
  s.dk = take(tile);
  s.dv = take(tile);
  s.p = take(kAttentionRowTile * kAttentionBackwardKeys);
  s.ds = take(kAttentionRowTile * kAttentionBackwardKeys);
  return s;
}

// S and dP become P and dS. `diagonal`: row r sees the columns up to r only.
SINKFORGE_INLINE void SoftmaxBackwardTile(const BackwardState& s, const float* lse,
                                          const float* delta, int64_t rows, int64_t columns,
                                          bool diagonal) {
  for (int64_t r = 0; r < rows; ++r) {
    const VF row_lse = Broadcast(lse[r]);
    const VF row_delta = Broadcast(delta[r]);
    float* p_row = s.p + r * kAttentionBackwardKeys;
    float* ds_row = s.ds + r * kAttentionBackwardKeys;
    for (int64_t j = 0; j < columns; j += kLanes) {
      VF p = Exp(Load(p_row + j) - row_lse);
      if (diagonal) {
        const VI visible = kLaneIndex + static_cast<int32_t>(j) <= static_cast<int32_t>(r);
        p = visible ? p : VF{};
      }
      Save(p_row + j, p);
      Save(ds_row + j, p * (Load(ds_row + j) - row_delta));
    }
  }
}

// The tile (rows t0.., keys key0..): adds to dk, dv and dq_sum.
template <bool kStatistics>
SINKFORGE_INLINE void BackwardTile(const AttentionBackwardTask& task, const BackwardState& s,
                                   int64_t t0, int64_t key0, int64_t padded_keys) {
  constexpr int64_t kLd = kAttentionBackwardKeys;
  const int64_t rows = Smaller(kAttentionRowTile, task.sequence - t0);
  const int64_t padded = RoundUp(rows, kPad);
  const float* q = task.packed_q + t0 * s.dim;
  const float* du = task.packed_du + t0 * s.dim;
  Multiply<Operand::kPlain, Result::kAssign>(
      {padded, padded_keys, s.dim, q, s.dim, s.keys_t, kLd, s.p, kLd});
  Multiply<Operand::kPlain, Result::kAssign>(
      {padded, padded_keys, s.dim, du, s.dim, s.values_t, kLd, s.ds, kLd});
  SoftmaxBackwardTile(s, task.lse + t0, task.delta + t0, rows, padded_keys, t0 == key0);
  for (int64_t i = rows * kLd; i < padded * kLd; i += kLanes) {
    Save(s.p + i, VF{});
    Save(s.ds + i, VF{});
  }
  if (kStatistics && task.variant == SimdVariant::kVanilla && key0 == 0) {
    // The detached gate of row 0 is the constant 0.
    const int64_t first_row = task.exact_lse || t0 > 0 ? 0 : 1;
    for (int64_t r = first_row; r < rows; ++r) {
      s.ds[r * kLd] -= s.p[r * kLd] * task.importance_gradient;
    }
  }
  Multiply<Operand::kTransposed, Result::kAdd>(
      {padded_keys, s.dim, padded, s.p, kLd, du, s.dim, s.dv, s.dim});
  Multiply<Operand::kTransposed, Result::kAdd>(
      {padded_keys, s.dim, padded, s.ds, kLd, q, s.dim, s.dk, s.dim});
  Multiply<Operand::kPlain, Result::kAdd>(
      {padded, s.dim, padded_keys, s.ds, kLd, s.keys, s.dim, task.dq_sum + t0 * s.dim, s.dim});
}

SINKFORGE_INLINE void WriteKeyGradient(const float* from, int64_t dim, int64_t rows, int64_t cols,
                                       bool accumulate, float* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t left = cols - c;
      VF v = Load(from + r * dim + c);
      if (accumulate) v += LoadFirst(to + r * stride + c, left);
      SaveFirst(to + r * stride + c, v, left);
    }
  }
}

template <bool kStatistics>
void AttentionBackwardKeys(const AttentionBackwardTask& task, int64_t key_begin, int64_t key_end) {
  const BackwardState s = SplitBackwardScratch(task);
  for (int64_t i = 0; i < RoundUp(task.sequence, kPad) * s.dim; i += kLanes) {
    Save(task.dq_sum + i, VF{});
  }
  for (int64_t key0 = key_begin; key0 < key_end; key0 += kAttentionBackwardKeys) {
    const int64_t keys = Smaller(kAttentionBackwardKeys, key_end - key0);
    const int64_t padded = RoundUp(keys, kPad);
    const float* k = task.k + key0 * task.kv_stride;
    PackRows(k, task.kv_stride, keys, task.head_dim, 1.0F, padded, s.dim, s.keys);
    PackTransposed(k, task.kv_stride, keys, task.head_dim, padded, s.dim, s.keys_t,
                   kAttentionBackwardKeys);
    PackTransposed(task.v + key0 * task.kv_stride, task.kv_stride, keys, task.head_dim, padded,
                   s.dim, s.values_t, kAttentionBackwardKeys);
    for (int64_t i = 0; i < padded * s.dim; i += kLanes) {
      Save(s.dk + i, VF{});
      Save(s.dv + i, VF{});
    }
    for (int64_t t0 = key0; t0 < task.sequence; t0 += kAttentionRowTile) {
      BackwardTile<kStatistics>(task, s, t0, key0, padded);
    }
    WriteKeyGradient(s.dk, s.dim, keys, task.head_dim, task.accumulate_kv,
                     task.d_k + key0 * task.kv_stride, task.kv_stride);
    WriteKeyGradient(s.dv, s.dim, keys, task.head_dim, task.accumulate_kv,
                     task.d_v + key0 * task.kv_stride, task.kv_stride);
  }
}

void AttentionBackwardQueries(const AttentionBackwardTask& task, int64_t chunks,
                              int64_t chunk_stride, int64_t row_begin, int64_t row_end) {
  const int64_t dim = RoundUp(task.head_dim, kPad);
  const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(task.head_dim));
  for (int64_t t = row_begin; t < row_end; ++t) {
    for (int64_t c = 0; c < task.head_dim; c += kLanes) {
      const float* from = task.dq_sum + t * dim + c;
      VF sum = Load(from);
      for (int64_t i = 1; i < chunks; ++i) sum += Load(from + i * chunk_stride);
      SaveFirst(task.d_q + t * task.q_stride + c, sum * scale, task.head_dim - c);
    }
  }
}
