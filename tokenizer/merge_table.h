// MergeTable: the merges of a byte-pair encoding, and the encoding of one piece by them: of all
// neighbouring pairs that have a merge, the one of the lowest rank (the leftmost of equals) becomes
// one symbol, until no pair has one.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sinkforge::tokenizer {

struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t merged = 0;
};

// Memory of one encoding, kept from piece to piece.
struct MergeScratch {
  struct Symbol {
    int32_t id = 0;  // -1: merged into the one before
    int32_t previous = 0;
    int32_t next = 0;
  };
  struct Candidate {
    int32_t rank = 0;
    int32_t position = 0;
    int32_t merged = 0;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

// Immutable; threads share one.
class MergeTable {
 public:
  // `merges` in the order of their rank; of two for one pair the last counts. `byte_ids`: the
  // symbol of every byte.
  MergeTable(const std::vector<Merge>& merges, const std::array<int32_t, 256>& byte_ids);

  // Appends the ids of a piece of at most 2^31 - 1 bytes.
  void Encode(std::string_view piece, MergeScratch* scratch, std::vector<int32_t>* ids) const;

 private:
  struct Slot {
    uint64_t pair = kNoPair;
    int32_t rank = 0;
    int32_t merged = 0;
  };
  static constexpr uint64_t kNoPair = UINT64_MAX;

  const Slot* Find(int32_t left, int32_t right) const;
  void Consider(int32_t position, MergeScratch* scratch) const;
  void Apply(const MergeScratch::Candidate& candidate, MergeScratch* scratch) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
  uint64_t mask_ = 0;
};

}  // namespace sinkforge::tokenizer
