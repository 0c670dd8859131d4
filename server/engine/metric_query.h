// Answers MetricsService.QueryMetrics from a HistoryStore.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "server/engine/history_store.h"
#include "server/engine/series.h"
#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::server {

// Points of one answer, all series together: keeps it below half of the largest message.
inline constexpr int64_t kQueryPointsMax = 100'000;
inline constexpr int32_t kQueryPointsDefault = 1000;
inline constexpr int kQueryNamesMax = 1024;

// One pass over the records of the range; memory is that of the answer. INVALID_ARGUMENT: an
// unknown series, a negative or empty range, too many points; the message names the limit.
// DATA_LOSS. CANCELLED: `is_cancelled` said so.
absl::StatusOr<v1::QueryMetricsResponse> QueryHistory(const HistoryStore& history,
                                                      const v1::QueryMetricsRequest& request,
                                                      const ModelShape& shape,
                                                      const std::function<bool()>& is_cancelled);

}  // namespace sinkforge::server
