// Attention's forward for compute capability 9.0 and heads of 128 channels; a translation unit of
// its own for the sake of compile time.
#include "kernels/cuda/attention_forward_hopper.cuh"

namespace sinkforge::kernels::cuda {

template void LaunchAttentionForwardHopper<128>(const AttentionForwardKernelArgs<Bf16>&,
                                                const HopperResources&, cudaStream_t);

}  // namespace sinkforge::kernels::cuda
