// A metric query of every step, however many: window by window of what one answer may hold.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "client/coordinator.h"

namespace sinkforge::client {

// Answers `request`, whatever its max_points, with every point as it was measured: `on_window` gets
// all series over one window of steps after the other, in their order, and at least one window,
// which is empty where nothing was measured. The coordinator's errors.
absl::Status QueryEveryStep(
    Coordinator& coordinator, v1::QueryMetricsRequest request,
    const std::function<void(const v1::QueryMetricsResponse& window)>& on_window);

}  // namespace sinkforge::client
