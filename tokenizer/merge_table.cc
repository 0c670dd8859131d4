// A heap of candidates; one that a later merge has overtaken is recognised when it comes up.
#include "tokenizer/merge_table.h"

#include <algorithm>
#include <bit>

namespace sinkforge::tokenizer {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

// The finalizer of SplitMix64: neighbouring ids must not fall on neighbouring slots.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// For std::push_heap, whose top is the largest.
bool ComesLater(const MergeScratch::Candidate& a, const MergeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

MergeTable::MergeTable(const std::vector<Merge>& merges, const std::array<int32_t, 256>& byte_ids)
    : byte_ids_(byte_ids), slots_(std::bit_ceil(2 * merges.size() + 2)), mask_(slots_.size() - 1) {
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const uint64_t pair = PairKey(merge.left, merge.right);
    uint64_t at = Mix(pair) & mask_;
    while (slots_[at].pair != kNoPair && slots_[at].pair != pair) at = (at + 1) & mask_;
    slots_[at] = {pair, static_cast<int32_t>(rank), merge.merged};
  }
}

const MergeTable::Slot* MergeTable::Find(int32_t left, int32_t right) const {
  const uint64_t pair = PairKey(left, right);
  for (uint64_t at = Mix(pair) & mask_;; at = (at + 1) & mask_) {
    if (slots_[at].pair == pair) return &slots_[at];
    if (slots_[at].pair == kNoPair) return nullptr;
  }
}

void MergeTable::Consider(int32_t position, MergeScratch* scratch) const {
  const MergeScratch::Symbol& symbol = scratch->symbols[static_cast<size_t>(position)];
  if (symbol.next < 0) return;
  const Slot* slot = Find(symbol.id, scratch->symbols[static_cast<size_t>(symbol.next)].id);
  if (slot == nullptr) return;
  scratch->heap.push_back({slot->rank, position, slot->merged});
  std::push_heap(scratch->heap.begin(), scratch->heap.end(), ComesLater);
}

void MergeTable::Apply(const MergeScratch::Candidate& candidate, MergeScratch* scratch) const {
  auto& symbols = scratch->symbols;
  MergeScratch::Symbol& symbol = symbols[static_cast<size_t>(candidate.position)];
  if (symbol.id < 0 || symbol.next < 0) return;
  MergeScratch::Symbol& next = symbols[static_cast<size_t>(symbol.next)];
  const Slot* slot = Find(symbol.id, next.id);
  if (slot == nullptr || slot->merged != candidate.merged) return;
  symbol.id = candidate.merged;
  symbol.next = next.next;
  next.id = -1;
  if (symbol.next >= 0) symbols[static_cast<size_t>(symbol.next)].previous = candidate.position;
  if (symbol.previous >= 0) Consider(symbol.previous, scratch);
  Consider(candidate.position, scratch);
}

void MergeTable::Encode(std::string_view piece, MergeScratch* scratch,
                        std::vector<int32_t>* ids) const {
  const auto size = static_cast<int32_t>(piece.size());
  scratch->symbols.clear();
  scratch->heap.clear();
  for (int32_t i = 0; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(piece[static_cast<size_t>(i)]);
    scratch->symbols.push_back({byte_ids_[byte], i - 1, i + 1 < size ? i + 1 : -1});
  }
  for (int32_t i = 0; i < size; ++i) Consider(i, scratch);
  while (!scratch->heap.empty()) {
    const MergeScratch::Candidate candidate = scratch->heap.front();
    std::pop_heap(scratch->heap.begin(), scratch->heap.end(), ComesLater);
    scratch->heap.pop_back();
    Apply(candidate, scratch);
  }
  for (const MergeScratch::Symbol& symbol : scratch->symbols) {
    if (symbol.id >= 0) ids->push_back(symbol.id);
  }
}

}  // namespace sinkforge::tokenizer
