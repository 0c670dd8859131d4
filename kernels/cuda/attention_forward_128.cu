// Attention's forward on tensor cores for heads of 128 channels; a translation unit of its own for
// the sake of compile time.
#include "kernels/cuda/attention_forward.cuh"

namespace sinkforge::kernels::cuda {

template void LaunchAttentionForward<128>(const AttentionForwardKernelArgs<Bf16>&, cudaStream_t);

}  // namespace sinkforge::kernels::cuda
