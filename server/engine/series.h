// Series: the names under which a step record's numbers can be asked for. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::server {

enum class SeriesKind {
  kLoss,
  kAuxLoss,
  kImbalance,
  kLearningRateScale,
  kGradientNorm,
  kStepSeconds,
  kTokensPerSecond,
  kTokensTotal,
  kValidationLoss,
  kValidationBitsPerByte,
  kMemoryBytes,
  kImportanceMin,
  kImportanceMax,
  kLayerCv,     // of `layer`
  kImportance,  // of `layer` and `head`
};

struct SeriesId {
  std::string name;
  SeriesKind kind = SeriesKind::kLoss;
  int32_t layer = 0;
  int32_t head = 0;
};

struct ModelShape {
  int32_t layers = 0;
  int32_t heads = 0;
};

// What the names stand for: a scalar series, "layer_cv/<layer>", "importance/<layer>/<head>", or a
// prefix of these that names all below it. No names: the scalar series. Each series once, in the
// order of the names. INVALID_ARGUMENT: an unknown name (the valid ones are listed), or more than
// `series_max` series.
absl::StatusOr<std::vector<SeriesId>> ParseSeries(const std::vector<std::string>& names,
                                                  const ModelShape& shape, int64_t series_max);

// Absent where the record has no such number.
std::optional<double> ValueOf(const v1::StepRecord& record, const SeriesId& series);

}  // namespace sinkforge::server
