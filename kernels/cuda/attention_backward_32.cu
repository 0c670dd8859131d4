// Attention's backward on tensor cores for heads of 32 channels; a translation unit of its own for
// the sake of compile time.
#include "kernels/cuda/attention_backward.cuh"

namespace sinkforge::kernels::cuda {

template void LaunchAttentionBackward<32>(const AttentionBackwardKernelArgs<Bf16>&, cudaStream_t);

}  // namespace sinkforge::kernels::cuda
