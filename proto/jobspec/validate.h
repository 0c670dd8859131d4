// Validate: the rules that a resolved job must keep, whoever sent it. Their limits exist so that no
// spec can make a daemon or a trainer allocate without bound; each is far beyond what this version
// can train.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "proto/jobspec/violation.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::jobspec {

inline constexpr int32_t kLayersMax = 512;
inline constexpr int32_t kWidthMax = 65'536;
inline constexpr int32_t kMlpWidthMax = 262'144;
inline constexpr int32_t kHeadsMax = 1024;
inline constexpr int32_t kLayerHeadsMax = 65'536;  // layers * heads: numbers in one step record
inline constexpr int32_t kHeadDimMax = 256;        // the widest head that the kernels take
inline constexpr int32_t kVocabMax = 1 << 20;
inline constexpr int32_t kSequenceMax = 1 << 20;
inline constexpr int64_t kParametersMax = 200'000'000'000;
inline constexpr int64_t kStepsMax = 1'000'000'000;
inline constexpr int32_t kMicroBatchMax = 1 << 20;
inline constexpr int64_t kMicroTokensMax = int64_t{1} << 24;  // micro_batch * sequence_length
inline constexpr int64_t kBatchTokensMax = int64_t{1} << 30;
inline constexpr int64_t kEvaluationTokensMax = 1'000'000'000'000;
inline constexpr int32_t kRanksMax = 1024;
inline constexpr int32_t kThreadsMax = 1024;
inline constexpr int32_t kKeepMax = 1000;
inline constexpr int32_t kPriorityMax = 1'000'000;
inline constexpr double kDeadlineHoursMax = 24.0 * 366 * 10;  // ten years: farther is a mistake
inline constexpr int kDataFilesMax = 10'000;
inline constexpr int kPathBytesMax = 4096;
inline constexpr int kNameLengthMax = 40;
inline constexpr double kRateMax = 1000;  // of a learning rate

// What is wrong with the name of a job, a namespace or a sweep, and the rule for names; empty where
// it is valid.
std::string NameProblem(const std::string& name);

// Every violation, in the order of the proto's fields. The spec must be resolved: an absent field
// counts as its zero value.
std::vector<Violation> Validate(const v1::JobSpec& spec);

// Validate, and after it the rules for what is submitted now. A job stored before such a rule must
// go on, so that trainers do not hold it to them.
std::vector<Violation> ValidateNew(const v1::JobSpec& spec);

}  // namespace sinkforge::jobspec
