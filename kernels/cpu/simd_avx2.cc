// The hot loops at the level "avx2"; see simd_kernels.h. kernels/CMakeLists.txt sets its compile
// flags.
#define SINKFORGE_VECTOR_BYTES 32
#define SINKFORGE_LEVEL_NAME "avx2"
#define SINKFORGE_LEVEL_TABLE kSimdKernelsAvx2
#include "kernels/cpu/simd_level.inc"
