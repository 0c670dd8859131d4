// Divisors of a step's rows.
#include "proto/jobspec/micro_batch.h"

#include <algorithm>

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

}  // namespace sinkforge::jobspec
