// The hot loops at the level "baseline"; see simd_kernels.h. kernels/CMakeLists.txt sets its
// compile flags.
#define SINKFORGE_VECTOR_BYTES 16
#define SINKFORGE_LEVEL_NAME "baseline"
#define SINKFORGE_LEVEL_TABLE kSimdKernelsBaseline
#include "kernels/cpu/simd_level.inc"
