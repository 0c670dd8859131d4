// Attention's backward for compute capability 9.0 and heads of 64 channels; a translation unit of
// its own for the sake of compile time.
#include "kernels/cuda/attention_backward_hopper.cuh"

namespace sinkforge::kernels::cuda {

template void LaunchAttentionBackwardHopper<64>(const AttentionBackwardKernelArgs<Bf16>&,
                                                cudaStream_t);

}  // namespace sinkforge::kernels::cuda
