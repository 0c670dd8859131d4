// The hot loops at the level "avx512"; see simd_kernels.h. kernels/CMakeLists.txt sets its compile
// flags.
#define SINKFORGE_VECTOR_BYTES 64
#define SINKFORGE_LEVEL_NAME "avx512"
#define SINKFORGE_LEVEL_TABLE kSimdKernelsAvx512
#include "kernels/cpu/simd_level.inc"
