// AttentionOp: forward, then the sums of G; backward: row terms, then the main kernels.
#include <type_traits>

#include "kernels/cuda/attention_op.h"

namespace sinkforge::kernels::cuda {
namespace {

AttentionGeometry GeometryOf(const AttentionShape& shape) {
  AttentionGeometry geometry;
  geometry.batch = static_cast<int>(shape.batch);
  geometry.sequence = static_cast<int>(shape.sequence);
  geometry.heads = static_cast<int>(shape.heads);
  geometry.kv_heads = static_cast<int>(shape.kv_heads);
  geometry.head_dim = static_cast<int>(shape.head_dim);
  geometry.scale = 1.0F / sqrtf(static_cast<float>(shape.head_dim));
  return geometry;
}

void ForwardOnTensorCores(const AttentionForwardKernelArgs<Bf16>& args, cudaStream_t stream) {
  switch (args.geometry.head_dim) {
    case 32:
      return LaunchAttentionForward<32>(args, stream);
    case 64:
      return LaunchAttentionForward<64>(args, stream);
    default:
      SINKFORGE_CHECK(args.geometry.head_dim == 128);
      return LaunchAttentionForward<128>(args, stream);
  }
}

void ForwardOnHopper(const AttentionForwardKernelArgs<Bf16>& args, const HopperResources& resources,
                     cudaStream_t stream) {
  if (args.geometry.head_dim == 64) {
    return LaunchAttentionForwardHopper<64>(args, resources, stream);
  }
  SINKFORGE_CHECK(args.geometry.head_dim == 128);
  LaunchAttentionForwardHopper<128>(args, resources, stream);
}

void BackwardOnHopper(const AttentionBackwardKernelArgs<Bf16>& args, cudaStream_t stream) {
  if (args.geometry.head_dim == 64) return LaunchAttentionBackwardHopper<64>(args, stream);
  SINKFORGE_CHECK(args.geometry.head_dim == 128);
  LaunchAttentionBackwardHopper<128>(args, stream);
}

void BackwardOnTensorCores(const AttentionBackwardKernelArgs<Bf16>& args, cudaStream_t stream) {
  switch (args.geometry.head_dim) {
    case 32:
      return LaunchAttentionBackward<32>(args, stream);
    case 64:
      return LaunchAttentionBackward<64>(args, stream);
    default:
      SINKFORGE_CHECK(args.geometry.head_dim == 128);
      return LaunchAttentionBackward<128>(args, stream);
  }
}

// dU is dO times one number a row, so that the main loop scales and nothing is written.
bool IsScaledOutput(const AttentionConfig& config) {
  const bool by_element =
      config.variant == AttentionVariant::kGated && config.gate == GateGranularity::kElement;
  return config.head_norm == HeadNorm::kNone && !by_element;
}

}  // namespace

template <typename T>
AttentionOp<T>::AttentionOp(const CudaBackendOptions& options, Stream* stream)
    : kernels_(options.attention), gradient_order_(options.gradient_order), stream_(stream) {
  SINKFORGE_CHECK(kernels_ != CudaAttention::kDefault);
  CheckCuda(cudaDeviceGetAttribute(&hopper_.multiprocessors, cudaDevAttrMultiProcessorCount,
                                   options.device),
            "number of multiprocessors");
  CheckCuda(cudaDeviceGetAttribute(&hopper_.cache_bytes, cudaDevAttrL2CacheSize, options.device),
            "size of the cache");
}

template <typename T>
CudaAttention AttentionOp<T>::KernelsFor(int64_t head_dim) const {
  const bool tensor_cores = std::is_same_v<T, Bf16> && HasTensorCoreKernels(head_dim);
  if (!tensor_cores || kernels_ == CudaAttention::kRows) return CudaAttention::kRows;
  return IsHopperHead(head_dim) ? kernels_ : CudaAttention::kTensorCores;
}

template <typename T>
void AttentionOp<T>::Forward(const AttentionConfig& config, const AttentionShape& shape,
                             const AttentionForwardArgs& args) {
  AttentionForwardKernelArgs<T> kernel;
  kernel.geometry = GeometryOf(shape);
  kernel.config = config;
  kernel.q = args.q.as<T>();
  kernel.k = args.k.as<T>();
  kernel.v = args.v.as<T>();
  kernel.sinks = args.sinks.as<float>();
  kernel.gate_logits = args.gate_logits.as<T>();
  kernel.out = args.out.as<T>();
  kernel.normed = args.normed.as<T>();
  kernel.lse = args.lse.as<float>();
  kernel.gate = args.gate.as<float>();
  kernel.head_rstd = args.head_rstd.as<float>();
  const int batch = kernel.geometry.batch;
  const int heads = kernel.geometry.heads;
  double* sums = args.importance_sum.as<double>();
  if constexpr (std::is_same_v<T, Bf16>) {
    const CudaAttention kernels = KernelsFor(shape.head_dim);
    if (kernels != CudaAttention::kRows) {
      const int partials = kernel.geometry.partials();
      kernel.gate_partials =
          gate_partials_.Reserve<float>(shape.batch * shape.heads * partials, stream_);
      if (kernels == CudaAttention::kHopper) {
        hopper_.next_work = next_work_.Reserve<int>(1, stream_);
        ForwardOnHopper(kernel, hopper_, stream_->get());
      } else {
        ForwardOnTensorCores(kernel, stream_->get());
      }
      LaunchHeadSums(kernel.gate_partials, batch, heads, partials, sums, stream_->get());
      return;
    }
  }
  LaunchAttentionForwardRows(kernel, stream_->get());
  LaunchHeadSums(kernel.gate, batch, heads, shape.sequence, sums, stream_->get());
}

template <typename T>
AttentionRowsArgs<T> AttentionOp<T>::RowsArgs(const AttentionConfig& config,
                                              const AttentionGeometry& geometry,
                                              const AttentionBackwardArgs& args) {
  const int64_t stats = args.lse.elements();
  AttentionRowsArgs<T> rows;
  rows.geometry = geometry;
  rows.config = config;
  rows.out = args.out.as<T>();
  rows.normed = args.normed.as<T>();
  rows.d_out = args.d_out.as<T>();
  rows.gate_logits = args.gate_logits.as<T>();
  rows.lse = args.lse.as<float>();
  rows.gate = args.gate.as<float>();
  rows.head_rstd = args.head_rstd.as<float>();
  rows.sinks = args.sinks.as<float>();
  rows.importance_gradient = args.importance_gradient.as<double>();
  rows.d_gate_logits = args.d_gate_logits.as<T>();
  rows.delta = delta_.Reserve<float>(stats, stream_);
  if (!IsScaledOutput(config)) rows.d_u = d_u_.Reserve<T>(args.q.elements(), stream_);
  if (config.variant == AttentionVariant::kSink) {
    rows.d_sink = d_sink_.Reserve<float>(stats, stream_);
  }
  return rows;
}

template <typename T>
void AttentionOp<T>::Backward(const AttentionConfig& config, const AttentionShape& shape,
                              const AttentionBackwardArgs& args) {
  const AttentionGeometry geometry = GeometryOf(shape);
  const AttentionRowsArgs<T> rows = RowsArgs(config, geometry, args);
  LaunchAttentionRowTerms(rows, stream_->get());
  if (config.variant == AttentionVariant::kSink) {
    LaunchHeadSums(rows.d_sink, geometry.batch, geometry.heads, shape.sequence,
                   args.d_sinks.as<float>(), stream_->get());
  }
  AttentionBackwardKernelArgs<T> kernel;
  kernel.geometry = geometry;
  kernel.config = config;
  kernel.q = args.q.as<T>();
  kernel.k = args.k.as<T>();
  kernel.v = args.v.as<T>();
  kernel.d_u = rows.d_u != nullptr ? rows.d_u : rows.d_out;
  kernel.lse = rows.lse;
  kernel.delta = rows.delta;
  const bool gated = config.variant == AttentionVariant::kGated;
  if (gated && IsScaledOutput(config)) kernel.row_scale = rows.gate;
  kernel.importance_gradient = rows.importance_gradient;
  kernel.d_q = args.d_q.as<T>();
  kernel.d_k = args.d_k.as<T>();
  kernel.d_v = args.d_v.as<T>();
  if constexpr (std::is_same_v<T, Bf16>) {
    const CudaAttention kernels = KernelsFor(shape.head_dim);
    if (kernels == CudaAttention::kHopper) return BackwardOnHopper(kernel, stream_->get());
    if (kernels == CudaAttention::kTensorCores) {
      if (gradient_order_ == CudaGradientOrder::kAny) {
        kernel.d_q_sum = d_q_sum_.Reserve<float>(args.q.elements(), stream_);
      }
      return BackwardOnTensorCores(kernel, stream_->get());
    }
  }
  LaunchAttentionBackwardRows(kernel, stream_->get());
}

template <typename T>
int64_t AttentionOp<T>::WorkspaceBytes(const AttentionConfig& config,
                                       const AttentionShape& shape) const {
  const auto number = static_cast<int64_t>(sizeof(float));
  const int64_t heads = shape.batch * shape.heads;
  const int64_t stats = heads * shape.sequence * number;
  int64_t bytes = stats;  // delta_
  if (!IsScaledOutput(config)) {
    bytes += heads * shape.sequence * shape.head_dim * static_cast<int64_t>(sizeof(T));
  }
  if (config.variant == AttentionVariant::kSink) bytes += stats;
  const CudaAttention kernels = KernelsFor(shape.head_dim);
  if (kernels != CudaAttention::kRows) bytes += heads * GeometryOf(shape).partials() * number;
  if (kernels == CudaAttention::kHopper) bytes += static_cast<int64_t>(sizeof(int));
  if (kernels == CudaAttention::kTensorCores && gradient_order_ == CudaGradientOrder::kAny) {
    bytes += stats * shape.head_dim;  // d_q_sum_
  }
  return bytes;
}

template class AttentionOp<float>;
template class AttentionOp<Bf16>;

}  // namespace sinkforge::kernels::cuda
