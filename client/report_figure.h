// A report as one PNG, drawn by gnuplot: for papers, and where there is no browser.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/report_data.h"

namespace sinkforge::client {

// gnuplot's commands with their data: curves on top, below a row of heatmaps for each job. `output`
// is the PNG's path. Pure.
std::string FigureScript(const std::vector<JobReport>& jobs, const std::string& output);

// Runs gnuplot on the script. FAILED_PRECONDITION: gnuplot is not installed; the message says how.
// UNKNOWN: it failed.
absl::Status DrawFigure(const std::string& script);

}  // namespace sinkforge::client
