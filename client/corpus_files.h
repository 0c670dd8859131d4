// The text files that a command was given.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/session.h"
#include "tokenizer/corpus.h"

namespace sinkforge::client {

// As tokenizer::OpenCorpus, without the empty files, which a message names. INVALID_ARGUMENT: all
// of them are empty.
absl::StatusOr<std::vector<tokenizer::CorpusFile>> OpenCorpusFiles(
    const Session& session, const std::vector<std::string>& paths);

}  // namespace sinkforge::client
