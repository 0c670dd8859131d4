// MakeTensorMap: bfloat16, 128-byte swizzle, zeros outside the tensor.
#include <cuda.h>

#include "kernels/cuda/tensor_map.h"

namespace sinkforge::kernels::cuda {
namespace {

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                 const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                 const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

EncodeTiled FindEncodeTiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  constexpr const char* kName = "cuTensorMapEncodeTiled";
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;  // the version that brought the function
  CheckCuda(cudaGetDriverEntryPointByVersion(kName, &function, kSince, cudaEnableDefault, &found),
            kName);
#else
  CheckCuda(cudaGetDriverEntryPoint(kName, &function, cudaEnableDefault, &found), kName);
#endif
  if (found != cudaDriverEntryPointSuccess) {
    CheckCuda(cudaErrorInsufficientDriver, "cuTensorMapEncodeTiled; use a driver for CUDA 12");
  }
  return reinterpret_cast<EncodeTiled>(function);
}

}  // namespace

TensorMap MakeTensorMap(const HeadTensor& tensor, int box_rows) {
  static const EncodeTiled encode = FindEncodeTiled();
  static_assert(sizeof(TensorMap) == sizeof(CUtensorMap));
  const TileGeometry geometry = TileGeometryOf(tensor, box_rows);
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  cuuint64_t dims[4];
  cuuint64_t strides[3];
  for (int i = 0; i < 4; ++i) dims[i] = geometry.dims[i];
  for (int i = 0; i < 3; ++i) strides[i] = geometry.stride_bytes[i];
  alignas(64) CUtensorMap encoded;
  const CUresult result = encode(
      &encoded, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<Bf16*>(tensor.data), dims, strides,
      geometry.box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    char what[128];
    std::snprintf(what, sizeof(what), "tensor map of [%d, %d, %d, %d] at %p, CUresult %d",
                  tensor.samples, tensor.rows, tensor.heads, tensor.channels,
                  static_cast<const void*>(tensor.data), static_cast<int>(result));
    CheckCuda(cudaErrorInvalidValue, what);
  }
  TensorMap map;
  memcpy(&map, &encoded, sizeof(map));
  return map;
}

}  // namespace sinkforge::kernels::cuda
