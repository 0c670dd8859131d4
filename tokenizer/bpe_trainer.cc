// A heap of pairs by their count. A pair's entry is checked when it comes up: where the count has
// changed meanwhile, it goes back with the new one.
#include "tokenizer/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tokenizer/byte_alphabet.h"

namespace sinkforge::tokenizer {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}
int32_t LeftOf(uint64_t pair) { return static_cast<int32_t>(pair >> 32); }
int32_t RightOf(uint64_t pair) { return static_cast<int32_t>(pair & UINT32_MAX); }

struct Word {
  std::vector<int32_t> ids;
  int64_t count = 0;
};

struct Candidate {
  uint64_t pair = 0;
  int64_t count = 0;
  std::vector<uint32_t> words;  // in which the pair came to be; each once

  // For a heap whose top is the most frequent pair, of equals the one of lower ids.
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

// A pair that a merge adds to a word (+1) or takes from it (-1).
struct Change {
  uint64_t pair = 0;
  int64_t difference = 0;
};

// Replaces left right by `merged` from left to right.
void MergeInWord(const Merge& merge, std::vector<int32_t>* ids, std::vector<Change>* changes) {
  size_t to = 0;
  for (size_t from = 0; from < ids->size(); ++to) {
    const bool found =
        (*ids)[from] == merge.left && from + 1 < ids->size() && (*ids)[from + 1] == merge.right;
    if (!found) {
      (*ids)[to] = (*ids)[from++];
      continue;
    }
    if (to > 0) {
      changes->push_back({PairKey((*ids)[to - 1], merge.left), -1});
      changes->push_back({PairKey((*ids)[to - 1], merge.merged), 1});
    }
    from += 2;
    if (from < ids->size()) {
      changes->push_back({PairKey(merge.right, (*ids)[from]), -1});
      changes->push_back({PairKey(merge.merged, (*ids)[from]), 1});
    }
    (*ids)[to] = merge.merged;
  }
  ids->resize(to);
}

class Trainer {
 public:
  Trainer(const TrainingOptions& options, const ShowTokens& show)
      : options_(options), show_(show) {}

  absl::StatusOr<TrainedBpe> Run(const PieceCounts& pieces) {
    absl::Status status = AddFirstTokens();
    if (!status.ok()) return status;
    AddWords(pieces);
    CountPairs();
    while (static_cast<int64_t>(result_.tokens.size()) < options_.vocab_size && !heap_.empty()) {
      Candidate top = std::move(const_cast<Candidate&>(heap_.top()));
      heap_.pop();
      const int64_t count = counts_[top.pair];
      if (count != top.count) {
        if (count > 0) {
          top.count = count;
          heap_.push(std::move(top));
        }
        continue;
      }
      AddMerge(top);
    }
    return std::move(result_);
  }

 private:
  absl::Status AddFirstTokens() {
    const size_t first = options_.special_tokens.size() + 256;
    if (options_.vocab_size < static_cast<int64_t>(first)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a vocabulary of ", options_.vocab_size, " has no room for 256 bytes and ",
                       options_.special_tokens.size(), " special tokens; give at least ", first));
    }
    for (const std::string& token : options_.special_tokens) {
      const bool is_new = known_.emplace(token, NextId()).second;
      if (token.empty() || !is_new) {
        return absl::InvalidArgumentError(
            absl::StrCat("the special token `", token, "` is empty or there twice"));
      }
      result_.tokens.push_back(token);
    }
    // Bytes in the order of the characters that stand for them in the file.
    std::vector<std::pair<char32_t, uint8_t>> alphabet;
    for (int byte = 0; byte < 256; ++byte) {
      alphabet.emplace_back(CharacterOfByte(static_cast<uint8_t>(byte)), byte);
    }
    std::sort(alphabet.begin(), alphabet.end());
    for (const auto& [character, byte] : alphabet) {
      byte_ids_[byte] = NextId();
      AddToken(std::string(1, static_cast<char>(byte)));
    }
    return absl::OkStatus();
  }

  int32_t NextId() const { return static_cast<int32_t>(result_.tokens.size()); }

  void AddToken(const std::string& bytes) {
    known_.emplace(ToAlphabet(bytes), NextId());
    result_.tokens.push_back(bytes);
  }

  void AddWords(const PieceCounts& pieces) {
    // In a defined order, so that nothing depends on that of the table.
    std::vector<const PieceCounts::value_type*> sorted;
    for (const auto& piece : pieces) sorted.push_back(&piece);
    std::sort(sorted.begin(), sorted.end(),
              [](const auto* a, const auto* b) { return a->first < b->first; });
    for (const auto* piece : sorted) {
      Word word;
      word.count = piece->second;
      for (const char c : piece->first) word.ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
      words_.push_back(std::move(word));
    }
  }

  void CountPairs() {
    std::unordered_map<uint64_t, std::vector<uint32_t>> where;
    for (uint32_t i = 0; i < words_.size(); ++i) {
      const Word& word = words_[i];
      for (size_t at = 0; at + 1 < word.ids.size(); ++at) {
        const uint64_t pair = PairKey(word.ids[at], word.ids[at + 1]);
        counts_[pair] += word.count;
        std::vector<uint32_t>& words = where[pair];
        if (words.empty() || words.back() != i) words.push_back(i);
      }
    }
    for (auto& [pair, words] : where) heap_.push({pair, counts_[pair], std::move(words)});
  }

  void AddMerge(const Candidate& top) {
    Merge merge{LeftOf(top.pair), RightOf(top.pair), 0};
    const std::string bytes = result_.tokens[static_cast<size_t>(merge.left)] +
                              result_.tokens[static_cast<size_t>(merge.right)];
    const auto known = known_.find(ToAlphabet(bytes));
    if (known != known_.end()) {
      merge.merged = known->second;
    } else {
      merge.merged = NextId();
      AddToken(bytes);
    }
    result_.merges.push_back(merge);
    std::unordered_map<uint64_t, std::vector<uint32_t>> where;
    for (const uint32_t i : top.words) {
      changes_.clear();
      MergeInWord(merge, &words_[i].ids, &changes_);
      for (const Change& change : changes_) {
        counts_[change.pair] += change.difference * words_[i].count;
        if (change.difference < 0) continue;
        std::vector<uint32_t>& words = where[change.pair];
        if (words.empty() || words.back() != i) words.push_back(i);
      }
    }
    for (auto& [pair, words] : where) {
      const int64_t count = counts_[pair];
      if (count > 0) heap_.push({pair, count, std::move(words)});
    }
    show_(static_cast<int64_t>(result_.tokens.size()));
  }

  const TrainingOptions& options_;
  const ShowTokens& show_;
  TrainedBpe result_;
  std::unordered_map<std::string, int32_t> known_;  // as the file writes tokens
  int32_t byte_ids_[256] = {};
  std::vector<Word> words_;
  std::unordered_map<uint64_t, int64_t> counts_;
  std::priority_queue<Candidate> heap_;
  std::vector<Change> changes_;
};

}  // namespace

absl::StatusOr<TrainedBpe> TrainBpe(const PieceCounts& pieces, const TrainingOptions& options,
                                    const ShowTokens& show) {
  return Trainer(options, show).Run(pieces);
}

}  // namespace sinkforge::tokenizer
