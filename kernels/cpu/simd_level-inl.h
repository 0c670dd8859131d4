// One processor level's table of hot loops; simd_kernels.h explains the mechanism. The including
// file defines SINKFORGE_VECTOR_BYTES, SINKFORGE_LEVEL_NAME and SINKFORGE_LEVEL_TABLE.
#include <cstdint>

#include "kernels/cpu/simd_kernels.h"

namespace sinkforge::kernels {
namespace {

// In the order of use.
// clang-format off
#include "kernels/cpu/simd_vector-inl.h"
#include "kernels/cpu/simd_rows-inl.h"
#include "kernels/cpu/simd_products-inl.h"
#include "kernels/cpu/simd_attention_forward-inl.h"
#include "kernels/cpu/simd_attention_backward-inl.h"
// clang-format on

}  // namespace

extern const SimdKernels SINKFORGE_LEVEL_TABLE;
const SimdKernels SINKFORGE_LEVEL_TABLE = {
    .name = SINKFORGE_LEVEL_NAME,
    .lanes = kLanes,
    .exp = ExpArray,
    .log = LogArray,
    .tanh = TanhArray,
    .normalise_row = NormaliseRow,
    .normalise_row_backward = NormaliseRowBackward,
    .rotate = Rotate,
    .relu_squared = ReluSquaredRange,
    .relu_squared_backward = ReluSquaredBackwardRange,
    .add = AddRange,
    .sum = SumRange,
    .sum_of_squares = SumOfSquaresRange,
    .adamw = AdamWRange,
    .cross_entropy_row = CrossEntropyRow,
    .attention_forward = {AttentionForward<false>, AttentionForward<true>},
    .attention_backward_rows = {AttentionBackwardRows<false>, AttentionBackwardRows<true>},
    .attention_backward_keys = {AttentionBackwardKeys<false>, AttentionBackwardKeys<true>},
    .attention_backward_queries = AttentionBackwardQueries,
};

}  // namespace sinkforge::kernels
