// Attention without tensor cores, for float32, odd head sizes and as the readable form of the fast
// kernels: a warp has one row of queries (or of keys), its lanes take 32 keys (or queries) at a
// time for the logits, then the channels for the sums. Accumulated in float32; nothing is shared
// between warps. Also what the backward needs of each row, for every path.
#include "kernels/cuda/attention.h"

namespace sinkforge::kernels::cuda {
namespace {

constexpr int kWarps = 4;               // of a block
constexpr int kChannelsPerLaneMax = 8;  // heads of up to 256 channels
constexpr int kHeadDimMax = kChannelsPerLaneMax * kWarpThreads;

struct Row {
  int b, h, t;
};

// The row of this warp; false past the end. Sample and head are the block's: nothing is divided.
__device__ bool FindRow(int sequence, Row* row) {
  row->t = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / kWarpThreads);
  row->h = static_cast<int>(blockIdx.y);
  row->b = static_cast<int>(blockIdx.z);
  return row->t < sequence;
}

__device__ int Lane() { return static_cast<int>(threadIdx.x % kWarpThreads); }

template <typename T>
__device__ float Dot(const T* a, const T* b, int n) {
  float sum = 0.0F;
  for (int i = 0; i < n; ++i) sum += ToFloat(a[i]) * ToFloat(b[i]);
  return sum;
}

__device__ float WarpMaximum(float value) {
  for (int lane = kWarpThreads / 2; lane > 0; lane /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, lane));
  }
  return value;
}

// One row of the forward, spread over a warp: channel Lane() + 32 i is u[i].
template <typename T>
struct ForwardRow {
  const AttentionForwardKernelArgs<T>& args;
  Row row;
  float u[kChannelsPerLaneMax] = {};
  float gate = 0.0F;

  __device__ int head_dim() const { return args.geometry.head_dim; }

  __device__ void Aggregate() {
    const AttentionGeometry& shape = args.geometry;
    const int kv_head = row.h / (shape.heads / shape.kv_heads);
    const T* q = args.q + shape.query(row.b, row.t, row.h);
    const bool has_sink = args.config.variant == AttentionVariant::kSink;
    float maximum = has_sink ? args.sinks[row.h] : -INFINITY;
    float rest = 0.0F;   // of this lane's keys, the first key left out
    float first = 0.0F;  // exp of the first key's logit; lane 0 has it
    for (int start = 0; start <= row.t; start += kWarpThreads) {
      const int j = start + Lane();
      float z = -INFINITY;
      if (j <= row.t) {
        z = Dot(q, args.k + shape.key(row.b, j, kv_head), head_dim()) * shape.scale;
      }
      const float next = fmaxf(maximum, WarpMaximum(z));
      const float correction = expf(maximum - next);
      maximum = next;
      const float p = expf(z - maximum);
      rest = rest * correction + (j > 0 ? p : 0.0F);
      first = first * correction + (j == 0 ? p : 0.0F);
      for (float& channel : u) channel *= correction;
      const int keys = min(kWarpThreads, row.t + 1 - start);
      for (int i = 0; i < keys; ++i) {
        const float p_i = __shfl_sync(kFullWarp, p, i);
        const T* v = args.v + shape.key(row.b, start + i, kv_head);
        AddTo(p_i, v);
      }
    }
    rest = WarpSum(rest);
    first = WarpSum(first);
    const float keys = rest + first;
    const float total = has_sink ? keys + expf(args.sinks[row.h] - maximum) : keys;
    for (float& channel : u) channel /= total;
    gate = (has_sink ? keys : rest) / total;
    if (Lane() == 0) args.lse[shape.stat(row.b, row.h, row.t)] = maximum + logf(total);
  }

  __device__ void AddTo(float p, const T* v) {
#pragma unroll
    for (int i = 0; i < kChannelsPerLaneMax; ++i) {
      const int c = Lane() + i * kWarpThreads;
      if (c < head_dim()) u[i] += p * ToFloat(v[c]);
    }
  }

  __device__ void Normalise() {
    float square = 0.0F;
    for (const float channel : u) square += channel * channel;
    const float mean = WarpSum(square) / static_cast<float>(head_dim());
    const float rstd = 1.0F / sqrtf(mean + args.config.epsilon);
    for (float& channel : u) channel *= rstd;
    const AttentionGeometry& shape = args.geometry;
    if (Lane() == 0) args.head_rstd[shape.stat(row.b, row.h, row.t)] = rstd;
    if (args.config.variant == AttentionVariant::kGated) {
      Store(args.normed + shape.query(row.b, row.t, row.h));
    }
  }

  __device__ void ApplyGate() {
    const AttentionGeometry& shape = args.geometry;
    if (args.config.gate == GateGranularity::kHead) {
      gate = Sigmoid(ToFloat(args.gate_logits[shape.head_gate(row.b, row.t, row.h)]));
      for (float& channel : u) channel *= gate;
      return;
    }
    const T* logits = args.gate_logits + shape.query(row.b, row.t, row.h);
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kChannelsPerLaneMax; ++i) {
      const int c = Lane() + i * kWarpThreads;
      if (c >= head_dim()) continue;
      const float channel_gate = Sigmoid(ToFloat(logits[c]));
      u[i] *= channel_gate;
      sum += channel_gate;
    }
    gate = WarpSum(sum) / static_cast<float>(head_dim());
  }

  __device__ void Store(T* to) const {
#pragma unroll
    for (int i = 0; i < kChannelsPerLaneMax; ++i) {
      const int c = Lane() + i * kWarpThreads;
      if (c < head_dim()) to[c] = FromFloat<T>(u[i]);
    }
  }
};

template <typename T>
__global__ void ForwardKernel(AttentionForwardKernelArgs<T> args) {
  const AttentionGeometry& shape = args.geometry;
  Row row;
  if (!FindRow(shape.sequence, &row)) return;
  ForwardRow<T> forward{args, row};
  forward.Aggregate();
  if (args.config.head_norm == HeadNorm::kRms) forward.Normalise();
  if (args.config.variant == AttentionVariant::kGated) forward.ApplyGate();
  forward.Store(args.out + shape.query(row.b, row.t, row.h));
  if (Lane() == 0) args.gate[shape.stat(row.b, row.h, row.t)] = forward.gate;
}

// From dO to dU, delta and the gradients of gate and sink: a warp a row.
template <typename T>
__global__ void RowTermsKernel(AttentionRowsArgs<T> args) {
  const AttentionGeometry& shape = args.geometry;
  Row row;
  if (!FindRow(shape.sequence, &row)) return;
  const int d = shape.head_dim;
  const int64_t at = shape.query(row.b, row.t, row.h);
  const int64_t stat = shape.stat(row.b, row.h, row.t);
  const float g = static_cast<float>(args.importance_gradient[row.h]);
  const bool gated = args.config.variant == AttentionVariant::kGated;
  const bool by_head = gated && args.config.gate == GateGranularity::kHead;
  const bool by_element = gated && !by_head;
  const bool normed = args.config.head_norm == HeadNorm::kRms;

  float dot_out = 0.0F;  // dO . O
  for (int c = Lane(); c < d; c += kWarpThreads) {
    dot_out += ToFloat(args.d_out[at + c]) * ToFloat(args.out[at + c]);
  }
  dot_out = WarpSum(dot_out);
  float head_gate = 1.0F;
  if (by_head) {
    const int64_t gate_at = shape.head_gate(row.b, row.t, row.h);
    const float logit = ToFloat(args.gate_logits[gate_at]);
    head_gate = Sigmoid(logit);
    if (Lane() == 0) {
      args.d_gate_logits[gate_at] = FromFloat<T>(GateLogitGradient(dot_out, g, logit));
    }
  }
  const T* y = gated ? args.normed : args.out;  // the norm's output
  float dot_norm = 0.0F;                        // dY . Y of the norm
  for (int c = Lane(); c < d; c += kWarpThreads) {
    const float d_out = ToFloat(args.d_out[at + c]);
    float d_y = d_out * head_gate;
    if (by_element) {
      const float logit = ToFloat(args.gate_logits[at + c]);
      const float dot = d_out * ToFloat(args.out[at + c]);
      args.d_gate_logits[at + c] =
          FromFloat<T>(GateLogitGradient(dot, g / static_cast<float>(d), logit));
      d_y = d_out * Sigmoid(logit);
    }
    if (normed) {
      dot_norm += d_y * ToFloat(y[at + c]);
    } else if (args.d_u != nullptr) {
      args.d_u[at + c] = FromFloat<T>(d_y);
    }
  }
  float delta = dot_out;
  if (normed) {
    dot_norm = WarpSum(dot_norm);
    const float rstd = args.head_rstd[stat];
    for (int c = Lane(); c < d; c += kWarpThreads) {
      float d_y = ToFloat(args.d_out[at + c]) * head_gate;
      if (by_element) d_y *= Sigmoid(ToFloat(args.gate_logits[at + c]));
      const float mean = dot_norm / static_cast<float>(d);
      args.d_u[at + c] = FromFloat<T>(rstd * (d_y - ToFloat(y[at + c]) * mean));
    }
    // dU . U = (dY . Y)(1 - mean Y^2), and mean Y^2 = 1 - epsilon rstd^2 leaves no cancellation.
    delta = dot_norm * args.config.epsilon * rstd * rstd;
  }
  AttentionRowInput input;
  input.variant = args.config.variant;
  input.lse_gradient = args.config.lse_gradient;
  input.position = row.t;
  input.delta = delta;
  input.importance_gradient = g;
  input.gate = args.gate[stat];
  const bool has_sink = args.config.variant == AttentionVariant::kSink;
  // exp(s - L'), not 1 - G: that would cancel.
  if (has_sink) input.sink_probability = expf(args.sinks[row.h] - args.lse[stat]);
  const AttentionRowTerms terms = ComputeRowTerms(input);
  if (Lane() != 0) return;
  args.delta[stat] = terms.delta;
  if (has_sink) args.d_sink[stat] = terms.d_sink;
}

struct PairGradient {
  float p = 0.0F;   // P_tj times the row's scale: what multiplies d_u in dV
  float dz = 0.0F;  // dL/dz_tj times the logits' scale
};

template <typename T>
__device__ PairGradient ComputePair(const AttentionBackwardKernelArgs<T>& args, const Row& row,
                                    int j, const T* k, const T* v) {
  const AttentionGeometry& shape = args.geometry;
  const int64_t at = shape.query(row.b, row.t, row.h);
  const int64_t stat = shape.stat(row.b, row.h, row.t);
  const float scale = args.row_scale == nullptr ? 1.0F : args.row_scale[stat];
  const float z = Dot(args.q + at, k, shape.head_dim) * shape.scale;
  const float p = expf(z - args.lse[stat]);
  float dp = Dot(args.d_u + at, v, shape.head_dim) * scale;
  if (j == 0) dp -= ImportanceColumn(args.config, args.importance_gradient, row.h, row.t);
  return {p * scale, p * (dp - args.delta[stat]) * shape.scale};
}

template <typename T>
__global__ void BackwardQueriesKernel(AttentionBackwardKernelArgs<T> args) {
  const AttentionGeometry& shape = args.geometry;
  Row row;
  if (!FindRow(shape.sequence, &row)) return;
  const int kv_head = row.h / (shape.heads / shape.kv_heads);
  float d_q[kChannelsPerLaneMax] = {};
  for (int start = 0; start <= row.t; start += kWarpThreads) {
    const int j = start + Lane();
    PairGradient pair;
    if (j <= row.t) {
      const int64_t key = shape.key(row.b, j, kv_head);
      pair = ComputePair(args, row, j, args.k + key, args.v + key);
    }
    const int keys = min(kWarpThreads, row.t + 1 - start);
    for (int i = 0; i < keys; ++i) {
      const float dz = __shfl_sync(kFullWarp, pair.dz, i);
      const T* k = args.k + shape.key(row.b, start + i, kv_head);
#pragma unroll
      for (int n = 0; n < kChannelsPerLaneMax; ++n) {
        const int c = Lane() + n * kWarpThreads;
        if (c < shape.head_dim) d_q[n] += dz * ToFloat(k[c]);
      }
    }
  }
  T* to = args.d_q + shape.query(row.b, row.t, row.h);
#pragma unroll
  for (int n = 0; n < kChannelsPerLaneMax; ++n) {
    const int c = Lane() + n * kWarpThreads;
    if (c < shape.head_dim) to[c] = FromFloat<T>(d_q[n]);
  }
}

// A warp a key: the queries of every head of its group, in order.
template <typename T>
__global__ void BackwardKeysKernel(AttentionBackwardKernelArgs<T> args) {
  const AttentionGeometry& shape = args.geometry;
  Row key;
  if (!FindRow(shape.sequence, &key)) return;
  const int group = shape.heads / shape.kv_heads;
  const int64_t key_at = shape.key(key.b, key.t, key.h);
  float d_k[kChannelsPerLaneMax] = {};
  float d_v[kChannelsPerLaneMax] = {};
  for (int h = key.h * group; h < (key.h + 1) * group; ++h) {
    for (int start = key.t; start < shape.sequence; start += kWarpThreads) {
      const Row row{key.b, h, start + Lane()};
      PairGradient pair;
      if (row.t < shape.sequence) {
        pair = ComputePair(args, row, key.t, args.k + key_at, args.v + key_at);
      }
      const int rows = min(kWarpThreads, shape.sequence - start);
      for (int i = 0; i < rows; ++i) {
        const float p = __shfl_sync(kFullWarp, pair.p, i);
        const float dz = __shfl_sync(kFullWarp, pair.dz, i);
        const int64_t query = shape.query(key.b, start + i, h);
#pragma unroll
        for (int n = 0; n < kChannelsPerLaneMax; ++n) {
          const int c = Lane() + n * kWarpThreads;
          if (c >= shape.head_dim) continue;
          d_k[n] += dz * ToFloat(args.q[query + c]);
          d_v[n] += p * ToFloat(args.d_u[query + c]);
        }
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kChannelsPerLaneMax; ++n) {
    const int c = Lane() + n * kWarpThreads;
    if (c >= shape.head_dim) continue;
    args.d_k[key_at + c] = FromFloat<T>(d_k[n]);
    args.d_v[key_at + c] = FromFloat<T>(d_v[n]);
  }
}

// A block a head.
template <typename Sum>
__global__ void HeadSumsKernel(const float* values, int batch, int64_t n, Sum* sums) {
  const int h = static_cast<int>(blockIdx.x);
  const int heads = static_cast<int>(gridDim.x);
  double sum = 0.0;
  for (int b = 0; b < batch; ++b) {
    const float* from = values + (static_cast<int64_t>(b) * heads + h) * n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += static_cast<double>(from[i]);
  }
  sum = BlockSum(sum, reinterpret_cast<double*>(SharedMemory()));
  if (threadIdx.x == 0) sums[h] += static_cast<Sum>(sum);
}

template <typename Sum>
void LaunchSums(const float* values, int batch, int heads, int64_t n, Sum* sums,
                cudaStream_t stream) {
  constexpr unsigned kThreads = 256;
  const LaunchShape shape{dim3(static_cast<unsigned>(heads)), kThreads,
                          kThreads / kWarpThreads * sizeof(double)};
  Launch(HeadSumsKernel<Sum>, shape, stream, values, batch, n, sums);
}

LaunchShape WarpPerRow(const AttentionGeometry& shape, int heads) {
  SINKFORGE_CHECK(shape.head_dim <= kHeadDimMax);
  return {dim3(BlocksFor(shape.sequence, kWarps), static_cast<unsigned>(heads),
               static_cast<unsigned>(shape.batch)),
          kWarps * kWarpThreads, 0};
}

}  // namespace

template <typename T>
void LaunchAttentionForwardRows(const AttentionForwardKernelArgs<T>& args, cudaStream_t stream) {
  Launch(ForwardKernel<T>, WarpPerRow(args.geometry, args.geometry.heads), stream, args);
}

template <typename T>
void LaunchAttentionRowTerms(const AttentionRowsArgs<T>& args, cudaStream_t stream) {
  Launch(RowTermsKernel<T>, WarpPerRow(args.geometry, args.geometry.heads), stream, args);
}

template <typename T>
void LaunchAttentionBackwardRows(const AttentionBackwardKernelArgs<T>& args, cudaStream_t stream) {
  Launch(BackwardKeysKernel<T>, WarpPerRow(args.geometry, args.geometry.kv_heads), stream, args);
  Launch(BackwardQueriesKernel<T>, WarpPerRow(args.geometry, args.geometry.heads), stream, args);
}

void LaunchHeadSums(const float* values, int batch, int heads, int64_t n, double* sums,
                    cudaStream_t stream) {
  LaunchSums(values, batch, heads, n, sums, stream);
}
void LaunchHeadSums(const float* values, int batch, int heads, int64_t n, float* sums,
                    cudaStream_t stream) {
  LaunchSums(values, batch, heads, n, sums, stream);
}

template void LaunchAttentionForwardRows<float>(const AttentionForwardKernelArgs<float>&,
                                                cudaStream_t);
template void LaunchAttentionForwardRows<Bf16>(const AttentionForwardKernelArgs<Bf16>&,
                                               cudaStream_t);
template void LaunchAttentionRowTerms<float>(const AttentionRowsArgs<float>&, cudaStream_t);
template void LaunchAttentionRowTerms<Bf16>(const AttentionRowsArgs<Bf16>&, cudaStream_t);
template void LaunchAttentionBackwardRows<float>(const AttentionBackwardKernelArgs<float>&,
                                                 cudaStream_t);
template void LaunchAttentionBackwardRows<Bf16>(const AttentionBackwardKernelArgs<Bf16>&,
                                                cudaStream_t);

}  // namespace sinkforge::kernels::cuda
