// EvaluationText: a text to evaluate a model on, as tokens.
#pragma once

#include <memory>
#include <string>

#include "kernels/status.h"
#include "worker/trainer/core/token_stream.h"
#include "worker/trainer/exported_model.h"
#include "worker/trainer/model_tokenizer.h"

namespace sinkforge::trainer {

struct TextReader {
  const ExportedModel* model = nullptr;
  const ModelTokenizer* tokenizer = nullptr;
  int threads = 1;  // that tokenize
};

// `path`: a `.bin` token shard; a folder, whose shards are one text, in the order of their names;
// a `.txt` or `.jsonl` file as `sinkforge tokenize` reads it. With the tokenizer `bytes`, a text
// file's bytes as a job reads them, without a token that begins it. kNotFound; kInvalidData: not
// such a file, not UTF-8 (with the line), made with another tokenizer, or fewer than two tokens.
kernels::Result<std::unique_ptr<TokenStream>> OpenEvaluationText(const std::string& path,
                                                                 const TextReader& reader);

}  // namespace sinkforge::trainer
