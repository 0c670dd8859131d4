// Tensor maps: what the copy engine of compute capability 9.0 is told about a tensor of heads, so
// that one instruction copies a tile of rows of one head. Encoding one asks the driver, through the
// runtime, so that a program without a driver still starts.
#pragma once

#include "kernels/cuda/device.h"

namespace sinkforge::kernels::cuda {

// Opaque; given to a kernel as a __grid_constant__ parameter.
struct alignas(64) TensorMap {
  unsigned char bytes[128];
};

// Where a box starts.
struct TileAt {
  int channel = 0, head = 0, row = 0, sample = 0;
};

inline constexpr int kPanelChannels = 64;  // of a box: 128 bytes, the width of the swizzle

// Of a bfloat16 tensor [samples, rows, heads, channels], innermost dimension first.
struct TileGeometry {
  uint64_t dims[4];
  uint64_t stride_bytes[3];  // of dimensions 1 to 3
  uint32_t box[4];
};

struct HeadTensor {
  const Bf16* data = nullptr;  // aligned to 16 bytes
  int samples = 0, rows = 0, heads = 0, channels = 0;
};

// Boxes of `box_rows` rows and kPanelChannels channels of one head.
inline TileGeometry TileGeometryOf(const HeadTensor& tensor, int box_rows) {
  TileGeometry geometry;
  const int sizes[4] = {tensor.channels, tensor.heads, tensor.rows, tensor.samples};
  const int box[4] = {kPanelChannels, 1, box_rows, 1};
  uint64_t stride = sizeof(Bf16);
  for (int i = 0; i < 4; ++i) {
    geometry.dims[i] = static_cast<uint64_t>(sizes[i]);
    geometry.box[i] = static_cast<uint32_t>(box[i]);
    stride *= geometry.dims[i];
    if (i < 3) geometry.stride_bytes[i] = stride;
  }
  return geometry;
}

// Ends the process where the driver refuses (CheckCuda).
TensorMap MakeTensorMap(const HeadTensor& tensor, int box_rows);

}  // namespace sinkforge::kernels::cuda
