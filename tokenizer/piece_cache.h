// PieceCache: ids of the pieces encoded lately. Text repeats its words, so that most pieces are
// found here. Used by one thread; bounded: when it is full it starts anew.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sinkforge::tokenizer {

class PieceCache {
 public:
  PieceCache();

  // Appends the piece's ids; false where it is not known.
  bool Find(std::string_view piece, std::vector<int32_t>* ids) const;
  void Add(std::string_view piece, std::span<const int32_t> ids);

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t text = 0;  // offset
    uint32_t first_id = 0;
    uint16_t text_bytes = 0;  // 0: free
    uint16_t id_count = 0;
  };
  size_t SlotOf(std::string_view piece, uint64_t hash) const;

  std::vector<Slot> slots_;
  size_t used_ = 0;
  std::string texts_;
  std::vector<int32_t> ids_;
};

}  // namespace sinkforge::tokenizer
