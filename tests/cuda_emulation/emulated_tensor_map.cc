// Tensor maps of the emulated device; refuses what the driver's cuTensorMapEncodeTiled documents to
// refuse.
#include "kernels/cuda/tensor_map.h"
#include "kernels/status.h"
#include "tests/cuda_emulation/hopper_emulation.h"

namespace sinkforge::kernels::cuda {

TensorMap MakeTensorMap(const HeadTensor& tensor, int box_rows) {
  const TileGeometry geometry = TileGeometryOf(tensor, box_rows);
  SINKFORGE_CHECK(reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0);
  SINKFORGE_CHECK(geometry.box[0] * sizeof(Bf16) == 128);
  emulation::EmulatedTileMap emulated;
  emulated.data = reinterpret_cast<const unsigned char*>(tensor.data);
  for (int i = 0; i < 4; ++i) {
    SINKFORGE_CHECK(geometry.dims[i] > 0 && geometry.dims[i] <= uint64_t{1} << 32);
    SINKFORGE_CHECK(geometry.box[i] > 0 && geometry.box[i] <= 256);
    emulated.dims[i] = geometry.dims[i];
    emulated.box[i] = geometry.box[i];
  }
  for (int i = 0; i < 3; ++i) {
    SINKFORGE_CHECK(geometry.stride_bytes[i] % 16 == 0);
    SINKFORGE_CHECK(geometry.stride_bytes[i] < uint64_t{1} << 40);
    emulated.stride_bytes[i] = geometry.stride_bytes[i];
  }
  TensorMap map = {};
  static_assert(sizeof(emulated) <= sizeof(map));
  memcpy(&map, &emulated, sizeof(emulated));
  return map;
}

}  // namespace sinkforge::kernels::cuda
