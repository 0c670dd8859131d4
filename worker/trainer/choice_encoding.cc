// Joins, encodes, finds the boundary, fits into the context.
#include "worker/trainer/choice_encoding.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";

bool IsWhiteSpace(char c) { return kWhiteSpace.find(c) != std::string_view::npos; }

std::string Delimiter(const ChoiceItem::Option& option, const ChoiceEncoding& encoding) {
  if (encoding.delimiter.has_value()) return *encoding.delimiter;
  const bool joined = option.context.empty() || IsWhiteSpace(option.context.back()) ||
                      IsWhiteSpace(option.continuation.front());
  return joined ? "" : " ";
}

// The last `scored` of the tokens, each predicted from a whole or half a context before it.
std::vector<ScoredSequence> Windows(const std::vector<int32_t>& tokens, int64_t scored,
                                    int64_t context) {
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t step = scored <= context ? scored : std::max<int64_t>(1, context / 2);
  std::vector<ScoredSequence> windows;
  for (int64_t first = count - scored; first < count; first += step) {
    const int64_t end = std::min(count, first + step);
    const int64_t begin = std::max<int64_t>(0, end - 1 - context);
    windows.push_back({{tokens.begin() + begin, tokens.begin() + end}, end - first});
  }
  return windows;
}

}  // namespace

ChoiceEncoder::ChoiceEncoder(const ChoiceEncoding& encoding)
    : encoding_(encoding), encoder_(encoding.tokenizer->MakeEncoder()) {}

Result<std::vector<int32_t>> ChoiceEncoder::Ids(const std::string& text) {
  auto ids = tokenizer::EncodeDocument(*encoding_.tokenizer, text, encoder_.get());
  if (!ids.ok()) return Status(StatusCode::kInvalidData, std::string(ids.status().message()));
  return *std::move(ids);
}

Result<EncodedOption> ChoiceEncoder::Encode(const ChoiceItem::Option& option) {
  std::string context = option.context + Delimiter(option, encoding_);
  auto whole = Ids(context + option.continuation);
  if (!whole.ok()) return whole.status();
  context.erase(context.find_last_not_of(kWhiteSpace) + 1);
  const auto before = Ids(context);
  if (!before.ok()) return before.status();
  std::vector<int32_t> tokens = std::move(whole).value();
  const auto split =
      std::mismatch(tokens.begin(), tokens.end(), before.value().begin(), before.value().end());
  // One at least: normalising may have made the whole text shorter than its beginning.
  const int64_t scored = std::max<int64_t>(1, tokens.end() - split.first);
  if (encoding_.bos.has_value()) tokens.insert(tokens.begin(), *encoding_.bos);
  if (scored >= static_cast<int64_t>(tokens.size())) {
    return Status(StatusCode::kInvalidData,
                  "nothing stands before the choice, and this model has no token that begins a "
                  "document");
  }
  EncodedOption encoded;
  if (scored > encoding_.context) {
    encoded.fit = Fit::kWindows;
  } else if (static_cast<int64_t>(tokens.size()) > encoding_.context + 1) {
    encoded.fit = Fit::kCut;
  }
  encoded.sequences = Windows(tokens, scored, encoding_.context);
  return encoded;
}

}  // namespace sinkforge::trainer
