// Training a byte-level BPE: from the pieces of a text and how often each comes, the pair of
// neighbours that comes most often becomes a token, again and again. Equal to the BpeTrainer of the
// `tokenizers` package: ties go to the pair of lower ids.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/corpus.h"
#include "tokenizer/merge_table.h"

namespace sinkforge::tokenizer {

// Pieces as bytes, and their numbers.
using PieceCounts = std::unordered_map<std::string, int64_t>;

enum class PatternFamily { kGpt2, kLlama3, kQwen };

struct TrainingOptions {
  PatternFamily family = PatternFamily::kLlama3;
  int64_t vocab_size = 65'536;
  std::vector<std::string> special_tokens = {"<|bos|>"};  // ids from 0; the first begins documents
  int threads = 1;
};

// Bytes of the files read so far.
using ShowBytes = std::function<void(int64_t bytes_done)>;
// Tokens of the vocabulary so far.
using ShowTokens = std::function<void(int64_t tokens)>;

// Pieces of all documents, cut at line ends first: a piece that would reach over one ends there.
// The errors of EncodeCorpus.
absl::StatusOr<PieceCounts> CountPieces(const std::vector<CorpusFile>& files,
                                        const TrainingOptions& options, const ShowBytes& show);

struct TrainedBpe {
  std::vector<std::string> tokens;  // by id, as bytes; special tokens as they are
  std::vector<Merge> merges;
};

// Fewer tokens than asked for where no pair is left. INVALID_ARGUMENT: the vocabulary has no room
// for the bytes and the special tokens.
absl::StatusOr<TrainedBpe> TrainBpe(const PieceCounts& pieces, const TrainingOptions& options,
                                    const ShowTokens& show);

// As a tokenizer.json.
std::string FormatTokenizerFile(const TrainedBpe& bpe, const TrainingOptions& options);

}  // namespace sinkforge::tokenizer
