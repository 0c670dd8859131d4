// From the options of an item to the tokens that a model scores.
//
// Query and choice are joined by a space, unless the query ends with white space, the choice begins
// with it, or a delimiter is given. What is scored is the choice, with the white space before it:
// tokens mostly begin with their space (lm-evaluation-harness does the same). The boundary among
// tokens: the whole text is encoded, and what stands before the choice on its own; the choice's
// tokens are those after the longest common beginning. So a token that a merge makes of both
// belongs to the choice.
//
// The query loses tokens from its left where both are longer than the context. A choice that alone
// is longer is scored in windows, each of which sees half a context before it at least.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "tokenizer/tokenizer.h"
#include "worker/trainer/choice_task.h"
#include "worker/trainer/core/model_evaluator.h"

namespace sinkforge::trainer {

struct ChoiceEncoding {
  const tokenizer::Tokenizer* tokenizer = nullptr;
  std::optional<int32_t> bos;            // before every context
  std::optional<std::string> delimiter;  // between context and continuation
  int64_t context = 0;                   // of the model
};

enum class Fit { kWhole, kCut, kWindows };

struct EncodedOption {
  std::vector<ScoredSequence> sequences;  // their log-likelihoods add up to the option's
  Fit fit = Fit::kWhole;
};

class ChoiceEncoder {
 public:
  explicit ChoiceEncoder(const ChoiceEncoding& encoding);
  // kInvalidData: nothing stands before the first scored token, and there is no token that begins a
  // document.
  kernels::Result<EncodedOption> Encode(const ChoiceItem::Option& option);

 private:
  kernels::Result<std::vector<int32_t>> Ids(const std::string& text);

  ChoiceEncoding encoding_;
  std::unique_ptr<tokenizer::Encoder> encoder_;
};

}  // namespace sinkforge::trainer
