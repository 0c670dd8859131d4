// Open addressing over two growing blocks: one of text, one of ids.
#include "tokenizer/piece_cache.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sinkforge::tokenizer {
namespace {

constexpr size_t kSlots = size_t{1} << 16;  // 1.5 MiB: what a core's second-level cache holds
constexpr size_t kUsedMax = kSlots / 2;
constexpr size_t kPieceBytesMax = 64;  // longer pieces hardly come twice

}  // namespace

PieceCache::PieceCache() : slots_(kSlots) {}

size_t PieceCache::SlotOf(std::string_view piece, uint64_t hash) const {
  size_t at = hash & (kSlots - 1);
  for (;; at = (at + 1) & (kSlots - 1)) {
    const Slot& slot = slots_[at];
    if (slot.text_bytes == 0) return at;
    if (slot.hash == hash && slot.text_bytes == piece.size() &&
        std::string_view(texts_).substr(slot.text, slot.text_bytes) == piece) {
      return at;
    }
  }
}

bool PieceCache::Find(std::string_view piece, std::vector<int32_t>* ids) const {
  if (piece.size() > kPieceBytesMax) return false;
  const Slot& slot = slots_[SlotOf(piece, XXH3_64bits(piece.data(), piece.size()))];
  if (slot.text_bytes == 0) return false;
  const auto first = ids_.begin() + slot.first_id;
  ids->insert(ids->end(), first, first + slot.id_count);
  return true;
}

void PieceCache::Add(std::string_view piece, std::span<const int32_t> ids) {
  if (piece.empty() || piece.size() > kPieceBytesMax) return;
  if (used_ >= kUsedMax) {
    slots_.assign(kSlots, Slot());
    used_ = 0;
    texts_.clear();
    ids_.clear();
  }
  const uint64_t hash = XXH3_64bits(piece.data(), piece.size());
  Slot& slot = slots_[SlotOf(piece, hash)];
  if (slot.text_bytes != 0) return;
  slot = {hash, static_cast<uint32_t>(texts_.size()), static_cast<uint32_t>(ids_.size()),
          static_cast<uint16_t>(piece.size()), static_cast<uint16_t>(ids.size())};
  texts_.append(piece);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

}  // namespace sinkforge::tokenizer
