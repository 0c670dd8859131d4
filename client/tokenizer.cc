// sinkforge tokenizer train: a byte-level BPE from text.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/files.h"
#include "client/commands.h"
#include "client/corpus_files.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/json_text.h"
#include "client/output_file.h"
#include "client/rate_display.h"
#include "client/session.h"
#include "tokenizer/bpe_trainer.h"

namespace sinkforge::client {
namespace {

constexpr int64_t kVocabularyMax = 1'000'000;
constexpr int64_t kThreadsMax = 1024;

struct TrainOptions {
  std::vector<std::string> files;
  std::string file;
  std::string family = "llama3";
  std::vector<std::string> specials;
  int64_t vocab_size = 65'536;
  int64_t threads = std::max(1U, std::thread::hardware_concurrency());
  bool force = false;
};

tokenizer::PatternFamily FamilyOf(const std::string& name) {
  if (name == "gpt2") return tokenizer::PatternFamily::kGpt2;
  if (name == "qwen") return tokenizer::PatternFamily::kQwen;
  return tokenizer::PatternFamily::kLlama3;
}

absl::Status CheckOptions(const TrainOptions& options) {
  if (options.file.empty()) {
    return UsageError("--to is missing; give the file to write, such as --to tokenizer.json");
  }
  if (options.threads < 1 || options.threads > kThreadsMax) {
    return UsageError(absl::StrCat("--threads must be from 1 to ", kThreadsMax));
  }
  if (options.vocab_size < 1 || options.vocab_size > kVocabularyMax) {
    return UsageError(absl::StrCat("--vocab-size must be from 1 to ", kVocabularyMax));
  }
  return CheckOutputFile(options.file,
                         options.force ? ExistingFile::kReplace : ExistingFile::kRefuse);
}

absl::StatusOr<int> Train(Session& session, const TrainOptions& options) {
  absl::Status status = CheckOptions(options);
  if (!status.ok()) return status;
  const auto files = OpenCorpusFiles(session, options.files);
  if (!files.ok()) return files.status();
  tokenizer::TrainingOptions training;
  training.family = FamilyOf(options.family);
  training.vocab_size = options.vocab_size;
  training.threads = static_cast<int>(options.threads);
  if (!options.specials.empty()) training.special_tokens = options.specials;

  int64_t bytes_total = 0;
  for (const tokenizer::CorpusFile& file : *files) bytes_total += file.bytes;
  const base::RealClock clock;
  const auto read_time = [&] { return clock.Read().monotonic; };
  RateDisplay reading(session.environment(), read_time);
  const auto pieces = tokenizer::CountPieces(*files, training, [&](int64_t bytes) {
    reading.Show(bytes, bytes_total, absl::StrCat("reading, ", FormatBytes(bytes)));
  });
  if (!pieces.ok()) return pieces.status();
  reading.Finish();
  if (pieces->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.files.front(), ": there is no text to train on; nothing was written"));
  }
  RateDisplay merging(session.environment(), read_time);
  const auto bpe = tokenizer::TrainBpe(*pieces, training, [&](int64_t tokens) {
    merging.Show(tokens, training.vocab_size, absl::StrCat("merging, ", tokens, " tokens"));
  });
  if (!bpe.ok()) return UsageError(std::string(bpe.status().message()));
  merging.Finish();
  status = base::WriteFileDurably(options.file, tokenizer::FormatTokenizerFile(*bpe, training));
  if (!status.ok()) return status;
  if (session.json()) {
    nlohmann::ordered_json json;
    json["file"] = options.file;
    json["vocab_size"] = bpe->tokens.size();
    json["merges"] = bpe->merges.size();
    json["pieces"] = pieces->size();
    json["text_bytes"] = bytes_total;
    session.out() << JsonText(json);
  } else {
    session.out() << options.file << std::endl;
  }
  const auto size = static_cast<int64_t>(bpe->tokens.size());
  session.Say(absl::StrCat(size, " tokens from ", FormatBytes(bytes_total), " in ",
                           FormatDuration(reading.elapsed())));
  if (size < training.vocab_size) {
    session.Say(absl::StrCat("the text has no more pairs than those; for ", training.vocab_size,
                             " tokens give more text"));
  }
  return kExitOk;
}

Command TrainNode() {
  auto options = std::make_shared<TrainOptions>();
  Command command;
  command.name = "train";
  command.summary = "Train a byte-level BPE from .txt and .jsonl files";
  command.examples =
      "  sinkforge tokenizer train corpus/*.jsonl --vocab-size 65536 --to tokenizer.json\n"
      "  sinkforge tokenizer train a.txt b.txt --vocab-size 4096 --family qwen --to small.json\n"
      "The file is a Hugging Face tokenizer.json; `sinkforge tokenize` uses it.";
  command.arguments = {{.name = "FILE",
                        .help = "Text files, .txt or .jsonl",
                        .target = &options->files,
                        .completion = Argument::Completion::kFiles}};
  command.options = {
      {"--to", "FILE", "The tokenizer.json to write", &options->file},
      {"--vocab-size", "N", "Tokens, special ones included (default: 65536)", &options->vocab_size},
      {.names = "--family",
       .value = "NAME",
       .help = "How text is split: gpt2, llama3 (default) or qwen",
       .target = &options->family,
       .choices = {"gpt2", "llama3", "qwen"}},
      {"--special", "TOKEN", "A special token; repeat for more (default: <|bos|>)",
       &options->specials},
      {"--threads", "N", "Threads that read (default: one a core)", &options->threads},
      {"--force", "", "Replace the file where it exists", &options->force}};
  command.run = [options](Session& session) { return Train(session, *options); };
  return command;
}

}  // namespace

Command TokenizerCommand() {
  Command command;
  command.name = "tokenizer";
  command.summary = "Train a tokenizer";
  command.examples = "  sinkforge tokenizer train texts/*.txt --to tokenizer.json";
  command.commands = {TrainNode()};
  return command;
}

}  // namespace sinkforge::client
