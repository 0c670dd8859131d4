// Prompt -> tokens -> decoder -> sampler -> bytes.
#include "worker/trainer/sample_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"
#include "worker/trainer/core/decoder.h"
#include "worker/trainer/exported_model.h"
#include "worker/trainer/model_tokenizer.h"

namespace sinkforge::trainer {
namespace {

using kernels::Status;
using kernels::StatusCode;
using tokenizer::Tokenizer;

ExitCode Fail(ExitCode code, const std::string& message) {
  std::fprintf(stderr, "error: %s\n", message.c_str());
  return code;
}

// The bytes of tokens as whole characters: one that is cut short waits for its rest.
class TextStream {
 public:
  explicit TextStream(bool terminal) : terminal_(terminal) {}

  void Write(std::string_view bytes) {
    waiting_ += bytes;
    Print(tokenizer::WholeCharacters(waiting_));
  }
  void Finish() {
    Print(waiting_.size());
    std::fputc('\n', stdout);
    std::fflush(stdout);
  }

 private:
  void Print(size_t count) {
    std::string text = waiting_.substr(0, count);
    waiting_.erase(0, count);
    // A model may write anything; a terminal must not obey it.
    const auto is_control = [](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
    };
    if (terminal_) std::replace_if(text.begin(), text.end(), is_control, '?');
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  bool terminal_;
  std::string waiting_;
};

struct Generation {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;
  std::string text;
  const char* stopped_by = "max_tokens";
};

class Sampling {
 public:
  explicit Sampling(const SampleCommand& command) : command_(command) {}

  ExitCode Run() {
    backend_ = kernels::MakeCpuBackend(static_cast<int>(command_.threads));
    if (const Status status = Load(); !status.ok())
      return Fail(ExitCodeOfModelCommand(status.code()), status.message());
    Generation generation;
    if (const Status status = EncodePrompt(&generation); !status.ok()) {
      return Fail(ExitCode::kUsage, status.message());
    }
    WarnOfLength(generation);
    const auto positions = static_cast<int64_t>(generation.prompt.size()) + command_.tokens_max;
    auto decoder = Decoder::Create(model_.config, {positions}, parameters_.get(), backend_.get());
    if (!decoder.ok())
      return Fail(ExitCodeOfModelCommand(decoder.status().code()), decoder.status().message());
    if (const Status status = Generate(*decoder.value(), &generation); !status.ok()) {
      return Fail(ExitCodeOfModelCommand(status.code()), status.message());
    }
    if (command_.format == SampleFormat::kJson) PrintJson(generation);
    return ExitCode::kCompleted;
  }

 private:
  Status Load() {
    auto model = OpenExportedModel(command_.model);
    if (!model.ok()) return model.status();
    model_ = std::move(model).value();
    auto parameters = ParameterSet::Create(model_.config, backend_.get(), Gradients::kNone);
    if (!parameters.ok()) return parameters.status();
    parameters_ = std::move(parameters).value();
    if (Status status = LoadWeights(model_, backend_.get(), parameters_.get()); !status.ok()) {
      return status;
    }
    auto loaded = LoadModelTokenizer(model_, command_.tokenizer);
    if (!loaded.ok()) return loaded.status();
    tokenizer_ = std::move(loaded.value().tokenizer);
    bos_ = loaded.value().bos;
    return Status();
  }

  Status EncodePrompt(Generation* generation) const {
    const auto encoder = tokenizer_->MakeEncoder();
    auto ids = tokenizer::EncodeDocument(*tokenizer_, command_.prompt, encoder.get());
    if (!ids.ok()) {
      return Status(StatusCode::kInvalidArgument,
                    "--prompt: " + std::string(ids.status().message()));
    }
    if (bos_.has_value()) generation->prompt.push_back(*bos_);
    generation->prompt.insert(generation->prompt.end(), ids->begin(), ids->end());
    if (generation->prompt.empty()) {
      return Status(StatusCode::kInvalidArgument,
                    "--prompt is empty, and this model has no token that begins a document; give "
                    "some text to go on from");
    }
    return Status();
  }

  void WarnOfLength(const Generation& generation) const {
    const int64_t trained = model_.spec.data().sequence_length();
    const auto asked = static_cast<int64_t>(generation.prompt.size()) + command_.tokens_max;
    if (asked <= trained) return;
    std::fprintf(stderr,
                 "note: the model was trained on rows of %lld tokens; what comes after that many "
                 "is beyond them\n",
                 static_cast<long long>(trained));
  }

  // kNonFinite: the model's logits are not finite.
  Status Generate(Decoder& decoder, Generation* generation) const {
    const bool streams = command_.format == SampleFormat::kText;
    TextStream stream(isatty(STDOUT_FILENO) == 1);
    if (streams) stream.Write(command_.prompt);
    TokenSampler sampler(command_.sampling);
    std::vector<double> logits(static_cast<size_t>(model_.config.vocab_size));
    decoder.Feed(generation->prompt);
    Status status;
    while (static_cast<int64_t>(generation->tokens.size()) < command_.tokens_max) {
      decoder.ReadLogits(logits);
      // Ids that no token has are never drawn: a vocabulary may be rounded up.
      const auto known =
          std::min<size_t>(logits.size(), static_cast<size_t>(tokenizer_->vocab_size()));
      const auto drawn = sampler.Draw({logits.data(), known});
      if (!drawn.ok()) {
        status = Status(drawn.status().code(),
                        "after " + std::to_string(decoder.positions()) +
                            " tokens, the prompt's among them, " + drawn.status().message() +
                            ": its weights are not, or they overflow; choose an earlier "
                            "checkpoint");
        break;
      }
      const int32_t token = drawn.value();
      if (bos_.has_value() && token == *bos_) {
        generation->stopped_by = "end_of_document";
        break;
      }
      generation->tokens.push_back(token);
      const std::string_view bytes =
          tokenizer_->IsSpecial(token) ? std::string_view() : tokenizer_->TokenBytes(token);
      generation->text += bytes;
      if (streams) stream.Write(bytes);
      decoder.Feed({&token, 1});
    }
    if (streams) stream.Finish();
    return status;
  }

  void PrintJson(const Generation& generation) const {
    nlohmann::ordered_json json;
    json["prompt"] = command_.prompt;
    json["text"] = generation.text;
    json["prompt_tokens"] = generation.prompt;
    json["tokens"] = generation.tokens;
    json["stopped_by"] = generation.stopped_by;
    json["seed"] = command_.sampling.seed;
    // Bytes that are no characters are replaced.
    const std::string text =
        json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    std::printf("%s\n", text.c_str());
  }

  const SampleCommand& command_;
  std::unique_ptr<kernels::Backend> backend_;
  ExportedModel model_;
  std::unique_ptr<ParameterSet> parameters_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::optional<int32_t> bos_;
};

}  // namespace

ExitCode RunSampleCommand(const SampleCommand& command) { return Sampling(command).Run(); }

}  // namespace sinkforge::trainer
