// AddedTokens: tokens that are found in the text as a whole, before it is split ("<|endoftext|>").
// Of those that match at one place the longest counts; matches are taken from left to right.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace sinkforge::tokenizer {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // only between characters that belong to no word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // is looked for in the normalised text
};

// Immutable; threads share one.
class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens);

  // Appends the text's tokens and what is between them, in order.
  void Split(std::string_view text, std::vector<Segment>* segments) const;

 private:
  struct Match {
    size_t bytes = 0;  // 0: none
    const AddedToken* token = nullptr;
  };
  Match LongestAt(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  // A trie: (node << 8 | byte) to the next node; the root is 0.
  std::unordered_map<uint64_t, uint32_t> next_;
  std::unordered_map<uint32_t, size_t> ends_;  // node to the index of its token
  bool begins_[256] = {};
};

}  // namespace sinkforge::tokenizer
