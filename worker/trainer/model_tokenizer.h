// ModelTokenizer: the tokenizer that an exported model reads text with.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "kernels/status.h"
#include "tokenizer/tokenizer.h"
#include "worker/trainer/exported_model.h"

namespace sinkforge::trainer {

struct ModelTokenizer {
  std::string name;  // a file, or "bytes"
  std::unique_ptr<const tokenizer::Tokenizer> tokenizer;
  // Begins a document; absent where the model was trained without such a token.
  std::optional<int32_t> bos;
};

// `chosen` by the user; empty: the tokenizer.json beside the model, else what its job names.
// kInvalidData: there is none, it has more tokens than the model, or it is not the one of the
// training; a user's choice of another one is a warning on stderr.
kernels::Result<ModelTokenizer> LoadModelTokenizer(const ExportedModel& model,
                                                   const std::string& chosen);

}  // namespace sinkforge::trainer
