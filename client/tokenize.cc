// sinkforge tokenize: text files to token shards that jobs read.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/files.h"
#include "client/commands.h"
#include "client/corpus_files.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/json_text.h"
#include "client/rate_display.h"
#include "client/session.h"
#include "client/stop_signal.h"
#include "tokenizer/byte_tokenizer.h"
#include "tokenizer/encode_corpus.h"
#include "tokenizer/load.h"
#include "tokenizer/output_folder.h"
#include "tokenizer/shard_writer.h"

namespace sinkforge::client {
namespace {

constexpr int64_t kThreadsMax = 1024;
constexpr char kTokenizerFile[] = "tokenizer.json";

struct TokenizeOptions {
  std::vector<std::string> files;
  std::string tokenizer = tokenizer::kBytesName;
  std::string folder;
  std::string bos;
  int64_t shard_tokens = 100'000'000;
  int64_t threads = std::max(1U, std::thread::hardware_concurrency());
  bool force = false;
};

absl::Status CheckOptions(const TokenizeOptions& options) {
  if (options.folder.empty()) {
    return UsageError("--to is missing; give the folder to write, such as --to data/train");
  }
  if (options.threads < 1 || options.threads > kThreadsMax) {
    return UsageError(absl::StrCat("--threads must be from 1 to ", kThreadsMax));
  }
  if (options.shard_tokens < 1 || options.shard_tokens > INT32_MAX) {
    return UsageError(absl::StrCat("--shard-tokens must be from 1 to ", INT32_MAX));
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> ChooseBos(const tokenizer::Tokenizer& tokenizer,
                                  const TokenizeOptions& options) {
  if (options.bos.empty()) {
    if (tokenizer.bos_id().has_value()) return *tokenizer.bos_id();
    return UsageError(absl::StrCat(options.tokenizer,
                                   " names no token that begins a document; choose one of its "
                                   "special tokens with --bos"));
  }
  const std::optional<int32_t> id = tokenizer.FindToken(options.bos);
  if (id.has_value()) return *id;
  return UsageError(absl::StrCat("--bos: ", options.tokenizer, " has no token `", options.bos,
                                 "`; give one of its special tokens"));
}

void PrintResult(Session& session, const TokenizeOptions& options,
                 const tokenizer::Tokenizer& tokenizer, int32_t bos, int64_t shards,
                 const tokenizer::CorpusProgress& done) {
  if (!session.json()) {
    session.out() << options.folder << std::endl;
    return;
  }
  nlohmann::ordered_json json;
  json["folder"] = options.folder;
  json["shards"] = shards;
  json["documents"] = done.documents;
  json["tokens"] = done.tokens;
  json["text_bytes"] = done.bytes_done;
  json["vocab_size"] = tokenizer.vocab_size();
  json["bos_id"] = bos;
  json["tokenizer"] = tokenizer.fingerprint();
  session.out() << JsonText(json);
}

absl::Status NoText(const std::vector<std::string>& files) {
  return absl::InvalidArgumentError(absl::StrCat(
      files.front(), files.size() == 1 ? "" : absl::StrCat(" and ", files.size() - 1, " more"),
      ": there is no text to tokenize; nothing was written"));
}

// The tokenizer goes with its shards, so that jobs and `sample` find it there.
absl::Status CopyTokenizer(const TokenizeOptions& options, const std::string& folder) {
  if (options.tokenizer == tokenizer::kBytesName) return absl::OkStatus();
  const auto content = base::ReadFile(tokenizer::TokenizerPath(options.tokenizer), INT32_MAX);
  if (!content.ok()) return content.status();
  return base::WriteFileDurably(absl::StrCat(folder, "/", kTokenizerFile), *content);
}

// Shards, their sidecars, the tokenizer, and its temporary file.
bool IsOutputName(const std::string& name) {
  return absl::StartsWith(name, "shard-") || absl::StartsWith(name, kTokenizerFile);
}

// Shard by shard, since small ones take their time. CANCELLED: the user wants no more of them.
absl::Status Append(std::span<const int32_t> ids, const TokenizeOptions& options,
                    const StopSignal& stop, tokenizer::ShardWriter* writer) {
  while (!ids.empty()) {
    if (stop.stopped()) {
      return absl::CancelledError(absl::StrCat(options.folder, ": interrupted; nothing was kept"));
    }
    const auto count = std::min(ids.size(), static_cast<size_t>(options.shard_tokens));
    const absl::Status status = writer->Append(ids.first(count));
    if (!status.ok()) return status;
    ids = ids.subspan(count);
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Tokenize(Session& session, const TokenizeOptions& options) {
  absl::Status status = CheckOptions(options);
  if (!status.ok()) return status;
  const auto files = OpenCorpusFiles(session, options.files);
  if (!files.ok()) return files.status();
  const auto loaded = tokenizer::LoadTokenizer(options.tokenizer);
  if (!loaded.ok()) return loaded.status();
  const tokenizer::Tokenizer& tokenizer = **loaded;
  const auto bos = ChooseBos(tokenizer, options);
  if (!bos.ok()) return bos.status();
  const StopSignal stop(StopSignal::Source::kSignals);  // to the end of the folder below
  const auto folder = tokenizer::OutputFolder::Create(
      options.folder,
      options.force ? tokenizer::ExistingFolder::kReplace : tokenizer::ExistingFolder::kRefuse,
      IsOutputName);
  if (!folder.ok()) return folder.status();

  tokenizer::ShardWriter writer(tokenizer, {(*folder)->partial_path(), options.shard_tokens, *bos});
  const base::RealClock clock;
  RateDisplay display(session.environment(), [&] { return clock.Read().monotonic; });
  tokenizer::CorpusSink sink;
  sink.append = [&](std::span<const int32_t> ids) { return Append(ids, options, stop, &writer); };
  sink.show = [&](const tokenizer::CorpusProgress& progress) {
    display.Show(progress.bytes_done, progress.bytes_total,
                 absl::StrCat(FormatBytes(progress.bytes_done), ", ",
                              FormatCount(static_cast<double>(progress.tokens)), " tokens"));
  };
  const auto done =
      tokenizer::EncodeCorpus(tokenizer, *files, {static_cast<int>(options.threads), *bos}, sink);
  if (!done.ok()) return done.status();
  // Only what begins documents: a job would train on nothing.
  if (done->tokens == done->documents) return NoText(options.files);
  status = writer.Finish();
  if (status.ok()) status = CopyTokenizer(options, (*folder)->partial_path());
  if (status.ok()) status = (*folder)->Commit();
  if (!status.ok()) return status;
  const std::chrono::nanoseconds elapsed = display.elapsed();
  display.Finish();
  PrintResult(session, options, tokenizer, *bos, writer.shards(), *done);
  session.Say(absl::StrCat(done->documents, " documents, ", FormatBytes(done->bytes_done), ", ",
                           done->tokens, " tokens in ", writer.shards(), " shards, in ",
                           FormatDuration(elapsed), "; vocab_size ", tokenizer.vocab_size()));
  return kExitOk;
}

}  // namespace

Command TokenizeCommand() {
  auto options = std::make_shared<TokenizeOptions>();
  Command command;
  command.name = "tokenize";
  command.summary = "Turn .txt and .jsonl files into token shards for a job";
  command.examples =
      "  sinkforge tokenize corpus/*.jsonl --tokenizer tokenizer.json --to data/train\n"
      "  sinkforge tokenize book.txt --to data/book\n"
      "A .txt file is one document; a .jsonl file has one on each line, under the key `text`.\n"
      "The folder appears when it is complete, with a copy of the tokenizer; those above it are "
      "made.\n"
      "In the job file:\n"
      "  data: {train: [train/*.bin], tokenizer: train/tokenizer.json}";
  command.arguments = {{.name = "FILE",
                        .help = "Text files, .txt or .jsonl",
                        .target = &options->files,
                        .completion = Argument::Completion::kFiles}};
  command.options = {
      {"--to", "FOLDER", "The folder to write", &options->folder},
      {"--tokenizer", "FILE", "A tokenizer.json, or bytes (default; a vocab_size of 257)",
       &options->tokenizer},
      {"--bos", "TOKEN", "Begins each document (default: what the tokenizer names)", &options->bos},
      {"--shard-tokens", "N", "Tokens of one shard (default: 100000000)", &options->shard_tokens},
      {"--threads", "N", "Threads that encode (default: one a core)", &options->threads},
      {"--force", "", "Replace the folder where it exists", &options->force}};
  command.run = [options](Session& session) { return Tokenize(session, *options); };
  return command;
}

}  // namespace sinkforge::client
