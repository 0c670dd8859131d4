// Only a byte that some token begins with is looked at twice.
#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {
namespace {

char32_t LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while (IsContinuation(text[at])) --at;
  return DecodeCharacter(text.substr(at)).code;
}

bool StandsAlone(std::string_view before, std::string_view after) {
  return (before.empty() || !IsWordCharacter(LastCharacter(before))) &&
         (after.empty() || !IsWordCharacter(DecodeCharacter(after).code));
}

size_t SpacesAtEnd(std::string_view text) {
  size_t kept = text.size();
  while (kept > 0 && IsWhiteSpace(LastCharacter(text.substr(0, kept)))) {
    do --kept;
    while (IsContinuation(text[kept]));
  }
  return text.size() - kept;
}

size_t SpacesAtStart(std::string_view text) {
  size_t bytes = 0;
  while (bytes < text.size()) {
    const DecodedCharacter character = DecodeCharacter(text.substr(bytes));
    if (!IsWhiteSpace(character.code)) break;
    bytes += character.bytes;
  }
  return bytes;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  uint32_t nodes = 1;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    uint32_t node = 0;
    for (const char c : tokens_[i].content) {
      const uint64_t key = uint64_t{node} << 8 | static_cast<unsigned char>(c);
      const auto [place, is_new] = next_.try_emplace(key, nodes);
      if (is_new) ++nodes;
      node = place->second;
    }
    ends_[node] = i;
    begins_[static_cast<unsigned char>(tokens_[i].content[0])] = true;
  }
}

AddedTokens::Match AddedTokens::LongestAt(std::string_view text) const {
  Match longest;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto next = next_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[i]));
    if (next == next_.end()) break;
    node = next->second;
    const auto end = ends_.find(node);
    if (end != ends_.end()) longest = {i + 1, &tokens_[end->second]};
  }
  return longest;
}

void AddedTokens::Split(std::string_view text, std::vector<Segment>* segments) const {
  size_t done = 0;  // everything before is in `segments`
  size_t at = 0;
  while (at < text.size()) {
    if (!begins_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const Match match = LongestAt(text.substr(at));
    if (match.bytes == 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + match.bytes;
    at = end;
    const AddedToken& token = *match.token;
    if (token.single_word && !StandsAlone(text.substr(0, begin), text.substr(end))) continue;
    if (token.lstrip) begin = std::max(done, begin - SpacesAtEnd(text.substr(0, begin)));
    if (token.rstrip) end += SpacesAtStart(text.substr(end));
    if (done < begin) segments->push_back({std::nullopt, text.substr(done, begin - done)});
    segments->push_back({token.id, {}});
    done = end;
  }
  if (done < text.size()) segments->push_back({std::nullopt, text.substr(done)});
}

}  // namespace sinkforge::tokenizer
