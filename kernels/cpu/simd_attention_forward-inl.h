// Attention forward of one (sample, head, row range), in the way of FlashAttention: key tiles
// outside, row tiles inside, online softmax. Included by simd_level-inl.h only.
//
//   S = (q / sqrt(d)) K^T;  m, l, acc per row;  U = acc / l;  L = m + log l
//   vanilla  the first key is left out of l_rest: G = l_rest / (l_rest + p_0), nothing cancels
//   sink     e^(s - m) joins the denominator, m starts at s:  G = l / (l + e)
//   gated    G = sigmoid(gate logit), out = G o U, in the epilogue
//
// Accumulation in float32; the sum of G over a row tile in float64. Memory: a task reads each of
// its keys and values once, and its own rows of q; it writes out, L and G.

struct ForwardState {
  int64_t rows;      // of the task
  int64_t dim;       // padded head_dim
  float* keys;       // [dim, kAttentionForwardKeys], transposed
  float* values;     // [kAttentionForwardKeys, dim]
  float* queries;    // [padded rows, dim], scaled
  float* sums;       // [padded rows, dim]: acc
  float* tile;       // [kAttentionRowTile, kAttentionForwardKeys]: S, then P
  float* max;        // [padded rows]: m
  float* first;      // [padded rows]: p_0 of vanilla
  float* lane_sums;  // [padded rows, kLanes]: l, still spread over lanes
};

SINKFORGE_INLINE ForwardState SplitForwardScratch(const AttentionForwardTask& task) {
  ForwardState s;
  s.rows = task.row_end - task.row_begin;
  s.dim = RoundUp(task.head_dim, kPad);
  const int64_t padded = RoundUp(s.rows, kPad);
  float* p = task.scratch;
  const auto take = [&p](int64_t n) {
    float* start = p;
    p += n;
    return start;
  };
  s.keys = take(s.dim * kAttentionForwardKeys);
  s.values = take(s.dim * kAttentionForwardKeys);
  s.queries = take(padded * s.dim);
  s.sums = take(padded * s.dim);
  s.tile = take(kAttentionRowTile * kAttentionForwardKeys);
  s.max = take(padded);
  s.first = take(padded);
  s.lane_sums = take(padded * kLanes);
  return s;
}

// A tile of S: its rows are query positions row0.. of the task, its columns keys key0...
struct ForwardTile {
  int64_t row0;  // within the task
  int64_t rows;  // padded
  int64_t key0;
  int64_t columns;      // padded
  int64_t first_valid;  // columns that row 0 of the tile may see; row r sees r more
};

// Row maxima of the tile (masked by causality), the new m and the factors by which l and acc of the
// rows so far shrink. Returns false if all factors are 1.
SINKFORGE_INLINE bool UpdateMaxima(const ForwardState& s, const ForwardTile& tile, float* shrink) {
  float maxima[kAttentionRowTile];
  for (int64_t r = 0; r < tile.rows; ++r) {
    const int64_t valid = Smaller(tile.first_valid + r, tile.columns);
    const float* row = s.tile + r * kAttentionForwardKeys;
    VF max = Broadcast(-kInfinity);
    int64_t j = 0;
    for (; j + kLanes <= valid; j += kLanes) max = Max(Load(row + j), max);
    if (j < valid) {
      const VI visible = kLaneIndex < static_cast<int32_t>(valid - j);
      max = Max(visible ? Load(row + j) : max, max);
    }
    maxima[r] = HorizontalMax(max);
  }
  float* old = s.max + tile.row0;
  VI moved = {};
  for (int64_t r = 0; r < tile.rows; r += kLanes) {
    const VF before = Load(old + r);
    const VF now = Max(Load(maxima + r), before);
    moved |= (now != before);
    Save(shrink + r, Exp(before - now));
    Save(old + r, now);
  }
  int32_t any = 0;
  for (int64_t i = 0; i < kLanes; ++i) any |= moved[i];
  return any != 0;
}

// S -> P in place, zero where masked; l takes the sums. With kApart the first key's lane is left
// out of l where `summed` says so.
template <bool kApart>
SINKFORGE_INLINE void Exponentiate(const ForwardState& s, const ForwardTile& tile, VI summed) {
  for (int64_t r = 0; r < tile.rows; ++r) {
    const int64_t valid = Smaller(tile.first_valid + r, tile.columns);
    float* row = s.tile + r * kAttentionForwardKeys;
    float* lane_sums = s.lane_sums + (tile.row0 + r) * kLanes;
    const VF max = Broadcast(s.max[tile.row0 + r]);
    VF sum = Load(lane_sums);
    int64_t j = 0;
    for (; j + kLanes <= valid; j += kLanes) {
      const VF p = Exp(Load(row + j) - max);
      Save(row + j, p);
      if (kApart && j == 0) {
        sum += reinterpret_cast<VF>(reinterpret_cast<VI>(p) & summed);
      } else {
        sum += p;
      }
    }
    if (j < valid) {
      const VI visible = kLaneIndex < static_cast<int32_t>(valid - j);
      const VF p = visible ? Exp(Load(row + j) - max) : VF{};
      Save(row + j, p);
      sum += kApart && j == 0 ? reinterpret_cast<VF>(reinterpret_cast<VI>(p) & summed) : p;
      j += kLanes;
    }
    for (; j < tile.columns; j += kLanes) Save(row + j, VF{});
    Save(lane_sums, sum);
  }
}

SINKFORGE_INLINE void ShrinkRows(const ForwardState& s, const ForwardTile& tile,
                                 const float* shrink) {
  for (int64_t r = 0; r < tile.rows; ++r) {
    const int64_t at = tile.row0 + r;
    const VF factor = Broadcast(shrink[r]);
    Save(s.lane_sums + at * kLanes, Load(s.lane_sums + at * kLanes) * factor);
    s.first[at] *= shrink[r];
    for (int64_t c = 0; c < s.dim; c += kLanes) {
      Save(s.sums + at * s.dim + c, Load(s.sums + at * s.dim + c) * factor);
    }
  }
}

template <bool kApart>
SINKFORGE_INLINE void AddTile(const ForwardState& s, const ForwardTile& tile) {
  const float* queries = s.queries + tile.row0 * s.dim;
  Multiply<Operand::kPlain, Result::kAssign>({tile.rows, tile.columns, s.dim, queries, s.dim,
                                              s.keys, kAttentionForwardKeys, s.tile,
                                              kAttentionForwardKeys});
  float shrink[kAttentionRowTile];
  if (UpdateMaxima(s, tile, shrink)) ShrinkRows(s, tile, shrink);
  if constexpr (kApart) {
    Exponentiate<true>(s, tile, tile.key0 == 0 ? (kLaneIndex != 0) : (kLaneIndex == kLaneIndex));
    if (tile.key0 == 0) {
      for (int64_t r = 0; r < tile.rows; ++r) {
        s.first[tile.row0 + r] = s.tile[r * kAttentionForwardKeys];
      }
    }
  } else {
    Exponentiate<false>(s, tile, VI{});
  }
  Multiply<Operand::kPlain, Result::kAdd>({tile.rows, s.dim, tile.columns, s.tile,
                                           kAttentionForwardKeys, s.values, s.dim,
                                           s.sums + tile.row0 * s.dim, s.dim});
}

// From m and l to 1 / l, L and, for vanilla and sink, G; all [kAttentionRowTile].
template <bool kStatistics, bool kApart>
SINKFORGE_INLINE void FinishSoftmax(const AttentionForwardTask& task, const ForwardState& s,
                                    int64_t row0, int64_t rows, float* inverse, float* gate) {
  float keys[kAttentionRowTile] = {};
  for (int64_t r = 0; r < rows; ++r) {
    keys[r] = HorizontalSum(Load(s.lane_sums + (row0 + r) * kLanes));
  }
  for (int64_t r = 0; r < rows; r += kLanes) {
    const int64_t left = rows - r;
    const VF max = Load(s.max + row0 + r);
    const VF counted = Load(keys + r);
    VF total = counted;
    if constexpr (kApart) total += Load(s.first + row0 + r);
    if (task.variant == SimdVariant::kSink) total += Exp(task.sink - max);
    SaveFirst(inverse + r, 1.0F / total, left);
    SaveFirst(task.lse + task.row_begin + row0 + r, max + Log(total), left);
    if constexpr (kStatistics) SaveFirst(gate + r, counted / total, left);
  }
}

// One row: U, head norm, gate, output. Returns G where it comes from the gate's logits.
SINKFORGE_INLINE float FinishRow(const AttentionForwardTask& task, const ForwardState& s,
                                 int64_t row, float inverse) {
  const int64_t t = task.row_begin + row;
  float* u = s.sums + row * s.dim;
  for (int64_t c = 0; c < s.dim; c += kLanes) Save(u + c, Load(u + c) * inverse);
  if (task.head_norm) {
    // The padding is zero, so that only the mean needs the true dimension.
    const float mean = DotRow(u, u, s.dim) / static_cast<float>(task.head_dim);
    const float rstd = 1.0F / __builtin_sqrtf(mean + task.epsilon);
    for (int64_t c = 0; c < s.dim; c += kLanes) Save(u + c, Load(u + c) * rstd);
    task.head_rstd[t] = rstd;
    if (task.normed != nullptr) {
      for (int64_t c = 0; c < task.head_dim; c += kLanes) {
        SaveFirst(task.normed + t * task.q_stride + c, Load(u + c), task.head_dim - c);
      }
    }
  }
  VF gates = Broadcast(1.0F);
  VF gate_sum = {};
  float gate = 0;
  if (task.variant == SimdVariant::kGatedHead) {
    gates = Sigmoid(Broadcast(task.gate_logits[t * task.gate_stride]));
    gate = gates[0];
  }
  for (int64_t c = 0; c < task.head_dim; c += kLanes) {
    const int64_t left = task.head_dim - c;
    if (task.variant == SimdVariant::kGatedElement) {
      gates = Sigmoid(LoadFirst(task.gate_logits + t * task.gate_stride + c, left));
      const VI inside = kLaneIndex < static_cast<int32_t>(Smaller(left, kLanes));
      gate_sum += inside ? gates : VF{};
    }
    SaveFirst(task.out + t * task.q_stride + c, Load(u + c) * gates, left);
  }
  if (task.variant == SimdVariant::kGatedElement) {
    gate = HorizontalSum(gate_sum) / static_cast<float>(task.head_dim);
  }
  return gate;
}

template <bool kStatistics, bool kApart>
SINKFORGE_INLINE void FinishRowTile(const AttentionForwardTask& task, const ForwardState& s,
                                    int64_t row0, int64_t rows) {
  float inverse[kAttentionRowTile];
  float gate[kAttentionRowTile] = {};
  FinishSoftmax<kStatistics, kApart>(task, s, row0, rows, inverse, gate);
  const bool gated =
      task.variant == SimdVariant::kGatedHead || task.variant == SimdVariant::kGatedElement;
  for (int64_t r = 0; r < rows; ++r) {
    const float from_logits = FinishRow(task, s, row0 + r, inverse[r]);
    if (kStatistics && gated) gate[r] = from_logits;
  }
  if constexpr (kStatistics) {
    const int64_t t0 = task.row_begin + row0;
    for (int64_t r = 0; r < rows; r += kLanes) {
      SaveFirst(task.gate + t0 + r, Load(gate + r), rows - r);
    }
    task.gate_partial[t0 / kAttentionRowTile] = SumRange(gate, rows);
  }
}

template <bool kStatistics, bool kApart>
SINKFORGE_INLINE void ForwardRange(const AttentionForwardTask& task) {
  const ForwardState s = SplitForwardScratch(task);
  const int64_t padded_rows = RoundUp(s.rows, kPad);
  const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(task.head_dim));
  PackRows(task.q + task.row_begin * task.q_stride, task.q_stride, s.rows, task.head_dim, scale,
           padded_rows, s.dim, s.queries);
  // m is bounded below by the sink's logit, so that e^(s - m) cannot overflow.
  const float lowest = task.variant == SimdVariant::kSink ? task.sink : -kInfinity;
  for (int64_t i = 0; i < padded_rows * s.dim; i += kLanes) Save(s.sums + i, VF{});
  for (int64_t i = 0; i < padded_rows; ++i) {
    s.max[i] = lowest;
    s.first[i] = 0;
  }
  for (int64_t i = 0; i < padded_rows * kLanes; i += kLanes) Save(s.lane_sums + i, VF{});
  for (int64_t key0 = 0; key0 < task.row_end; key0 += kAttentionForwardKeys) {
    const int64_t keys = Smaller(kAttentionForwardKeys, task.row_end - key0);
    const int64_t padded_keys = RoundUp(keys, kPad);
    PackTransposed(task.k + key0 * task.kv_stride, task.kv_stride, keys, task.head_dim, padded_keys,
                   s.dim, s.keys, kAttentionForwardKeys);
    PackRows(task.v + key0 * task.kv_stride, task.kv_stride, keys, task.head_dim, 1.0F, padded_keys,
             s.dim, s.values);
    for (int64_t row0 = 0; row0 < s.rows; row0 += kAttentionRowTile) {
      const int64_t rows = Smaller(kAttentionRowTile, s.rows - row0);
      const int64_t visible = task.row_begin + row0 + rows - key0;  // by the tile's last row
      if (visible <= 0) continue;
      AddTile<kApart>(
          s, {row0, RoundUp(rows, kPad), key0, Smaller(padded_keys, RoundUp(visible, kPad)),
              task.row_begin + row0 - key0 + 1});
    }
  }
  for (int64_t row0 = 0; row0 < s.rows; row0 += kAttentionRowTile) {
    FinishRowTile<kStatistics, kApart>(task, s, row0, Smaller(kAttentionRowTile, s.rows - row0));
  }
}

template <bool kStatistics>
void AttentionForward(const AttentionForwardTask& task) {
  // Only vanilla's gate needs the first key apart.
  if (kStatistics && task.variant == SimdVariant::kVanilla) {
    ForwardRange<kStatistics, kStatistics>(task);
  } else {
    ForwardRange<kStatistics, false>(task);
  }
}
