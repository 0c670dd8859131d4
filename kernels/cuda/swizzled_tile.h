// Tiles of bfloat16 rows in shared memory as the copy engine leaves them and as a warp group's
// products read them: panels of 64 channels, [panel][row][64], a row of a panel 128 bytes. The
// 128-byte swizzle XORs bits 4 to 6 of an address with its bits 7 to 9, so that eight rows lie in
// eight different bank groups; a tile therefore starts at a multiple of 1,024 bytes.
//
// A matrix descriptor holds, in units of 16 bytes, the start (bits 0-13), the leading (16-29) and
// the stride offset (32-45), and 1 in bits 62-63 for this swizzle. Eight rows of a panel, 1,024
// bytes, are the pattern that repeats: the stride offset leads from one to the next. The leading
// offset leads to the next panel where the operand's rows are the sum's index, and means nothing
// where they are not.
#pragma once

#include "kernels/cuda/hopper_ptx.h"

namespace sinkforge::kernels::cuda {

inline constexpr int kProductDepth = 16;  // of one wgmma: the length of its sums

template <int kRows, int kHeadDim>
struct SwizzledTile {
  static constexpr int kRowsOfTile = kRows;
  static constexpr int kElements = kRows * kHeadDim;
  static constexpr int kBytes = kElements * static_cast<int>(sizeof(Bf16));
  static constexpr int kRowBytes = kPanelChannels * static_cast<int>(sizeof(Bf16));
  static constexpr int kPanelBytes = kRows * kRowBytes;
  static constexpr int kPanels = kHeadDim / kPanelChannels;
  static_assert(kPanels * kPanelChannels == kHeadDim && kRows % 8 == 0);

  // Starts the copies of rows from `at.row`, by one thread; kBytes count at the barrier.
  __device__ static __forceinline__ void CopyAsync(Bf16* tile, const TensorMap* map, TileAt at,
                                                   MemoryBarrier* barrier) {
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) {
      at.channel = panel * kPanelChannels;
      CopyTileAsync(tile + panel * kRows * kPanelChannels, map, at, barrier);
    }
  }

  // The operand whose sums run over channels: rows from `row`, a multiple of 8; step s is
  // RowsStep(s) further.
  __device__ static __forceinline__ uint64_t RowsOperand(const Bf16* tile, int row) {
    return Descriptor(tile, 0) + static_cast<uint64_t>(row * kRowBytes / kUnit);
  }
  __device__ static constexpr uint64_t RowsStep(int step) {
    const int channel = step * kProductDepth;
    const int bytes = channel / kPanelChannels * kPanelBytes +
                      channel % kPanelChannels * static_cast<int>(sizeof(Bf16));
    return static_cast<uint64_t>(bytes / kUnit);
  }

  // The operand whose sums run over rows: all channels; step s is ChannelsStep(s) further.
  __device__ static __forceinline__ uint64_t ChannelsOperand(const Bf16* tile) {
    return Descriptor(tile, kPanelBytes);
  }
  __device__ static constexpr uint64_t ChannelsStep(int step) {
    return static_cast<uint64_t>(step * kProductDepth * kRowBytes / kUnit);
  }

 private:
  static constexpr int kUnit = 16;
  static constexpr uint64_t kSwizzle128 = 1;
  static constexpr unsigned kStartBits = 0x3FFFF;  // of an address: 14 bits of units

  __device__ static __forceinline__ uint64_t Descriptor(const Bf16* tile, int leading_bytes) {
    return static_cast<uint64_t>((SharedAddress(tile) & kStartBits) / kUnit) |
           static_cast<uint64_t>(leading_bytes / kUnit) << 16 |
           static_cast<uint64_t>(8 * kRowBytes / kUnit) << 32 | kSwizzle128 << 62;
  }
};

}  // namespace sinkforge::kernels::cuda
