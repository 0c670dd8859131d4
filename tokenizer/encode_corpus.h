// EncodeCorpus: documents to one stream of token ids, on several threads. The ids do not depend on
// the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "tokenizer/corpus.h"
#include "tokenizer/tokenizer.h"

namespace sinkforge::tokenizer {

struct CorpusProgress {
  int64_t bytes_done = 0;  // of the files
  int64_t bytes_total = 0;
  int64_t documents = 0;
  int64_t tokens = 0;
};

struct EncodeCorpusOptions {
  int threads = 1;
  int32_t bos = 0;  // goes before every document
};

struct CorpusSink {
  // Receives the ids in order; its error ends the work.
  std::function<absl::Status(std::span<const int32_t> ids)> append;
  std::function<void(const CorpusProgress& progress)> show;
};

// INVALID_ARGUMENT names the file and the line that cannot be used. Memory: a .txt file whole, of a
// .jsonl file a few megabytes for each thread.
absl::StatusOr<CorpusProgress> EncodeCorpus(const Tokenizer& tokenizer,
                                            const std::vector<CorpusFile>& files,
                                            const EncodeCorpusOptions& options,
                                            const CorpusSink& sink);

}  // namespace sinkforge::tokenizer
