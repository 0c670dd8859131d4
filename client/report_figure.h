// A report as one PNG, drawn by gnuplot: for papers, and where there is no browser.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/report_data.h"

namespace sinkforge::client {

// The PNG's content: curves on top, below a row of heatmaps for each job. FAILED_PRECONDITION:
// gnuplot is not installed; the message says how. RESOURCE_EXHAUSTED: no room for its temporary
// files. UNKNOWN: it failed.
absl::StatusOr<std::string> DrawFigure(const std::vector<JobReport>& jobs);

}  // namespace sinkforge::client
