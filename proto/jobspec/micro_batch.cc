// Divisors of a step's rows.
#include "proto/jobspec/micro_batch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/jobspec/validate.h"

namespace sinkforge::jobspec {

bool IsAutoMicroBatch(const v1::TrainSpec& train) {
  return train.has_micro_batch() && train.micro_batch() == 0;
}

std::vector<int64_t> MicroBatchChoices(const v1::JobSpec& spec) {
  const int64_t sequence = spec.data().sequence_length();
  const int64_t tokens = spec.train().batch_tokens();
  const bool in_limits = sequence >= 1 && sequence <= kSequenceMax && tokens >= 1 &&
                         tokens <= kBatchTokensMax && tokens % sequence == 0;
  if (!in_limits) return {};
  const int64_t rows = tokens / sequence;
  const int64_t least = spec.resources().ranks();
  const int64_t most = std::min<int64_t>(kMicroBatchMax, kMicroTokensMax / sequence);
  std::vector<int64_t> choices;
  for (int64_t divisor = 1; divisor * divisor <= rows; ++divisor) {
    if (rows % divisor != 0) continue;
    choices.push_back(divisor);
    if (divisor != rows / divisor) choices.push_back(rows / divisor);
  }
  std::erase_if(choices, [&](int64_t choice) { return choice < least || choice > most; });
  std::sort(choices.begin(), choices.end());
  return choices;
}

std::string RowsText(int64_t rows) { return absl::StrCat(rows, rows == 1 ? " row" : " rows"); }

std::string NoMoreRowsText(const v1::JobSpec& spec, int64_t rows) {
  const std::vector<int64_t> choices = MicroBatchChoices(spec);
  if (choices.empty() || rows != choices.back()) return "";
  const int64_t sequence = spec.data().sequence_length();
  if (rows == spec.train().batch_tokens() / sequence) return ", a whole step";
  const bool by_tokens = kMicroTokensMax / sequence <= kMicroBatchMax;
  return absl::StrCat(
      ", the most into which a step can be divided within the ",
      by_tokens ? absl::StrCat(kMicroTokensMax, " tokens") : absl::StrCat(kMicroBatchMax, " rows"),
      " that a micro-batch may have");
}

}  // namespace sinkforge::jobspec
