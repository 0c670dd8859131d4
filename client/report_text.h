// A report as text: a self-contained HTML page, CSV, or JSON.
#pragma once

#include <string>
#include <vector>

#include "client/report_data.h"

namespace sinkforge::client {

struct ReportStamp {
  std::string generated;  // when: "2026-11-22 06:16:28Z"
  std::string version;    // of this program
};

// {"generated", "version", "jobs": [{..., "series": {name: [[step, value], ...]}, "heads":
// [...]}]}; what is not a number is null.
std::string RenderReportJson(const std::vector<JobReport>& jobs, const ReportStamp& stamp);
// job,series,step,value: one row a point; importance of the snapshots as importance/LAYER/HEAD.
std::string RenderReportCsv(const std::vector<JobReport>& jobs);
// Opens from disk and loads nothing.
std::string RenderReportHtml(const std::vector<JobReport>& jobs, const ReportStamp& stamp);

}  // namespace sinkforge::client
