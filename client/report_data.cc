// Queries behind a report; see report_data.h.
#include "client/report_data.h"

#include <algorithm>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"

namespace sinkforge::client {
namespace {

constexpr const char* kSeries[] = {"loss",
                                   "aux_loss",
                                   "validation_loss",
                                   "imbalance",
                                   "importance_min",
                                   "importance_max",
                                   "gradient_norm",
                                   "tokens_per_second",
                                   "validation_bits_per_byte",
                                   "learning_rate_scale"};
constexpr int32_t kFigurePoints = 800;  // more than a figure has pixels for
// The coordinator's bound on one answer, over the ten series.
constexpr int32_t kEveryStepPoints = 10'000;
constexpr int64_t kLastSteps = 10;

absl::StatusOr<HeadSnapshot> QueryHeads(Coordinator& coordinator, const v1::Job& job,
                                        int64_t step) {
  v1::QueryMetricsRequest request;
  request.set_job_id(job.job_id());
  request.add_series("importance");
  request.set_first_step(step);
  request.set_last_step(step);
  request.set_max_points(1);
  const auto response = coordinator.QueryMetrics(request);
  if (!response.ok()) return response.status();
  const auto layers = static_cast<size_t>(job.spec().model().layers());
  const auto heads = static_cast<size_t>(job.spec().model().heads());
  HeadSnapshot snapshot;
  snapshot.step = step;
  snapshot.importance.assign(layers,
                             std::vector<double>(heads, std::numeric_limits<double>::quiet_NaN()));
  // In the order of layers and heads, each once.
  const size_t known = std::min(static_cast<size_t>(response->series_size()), layers * heads);
  for (size_t i = 0; i < known; ++i) {
    const v1::Series& series = response->series(static_cast<int>(i));
    if (series.points_size() > 0) {
      snapshot.importance[i / heads][i % heads] = series.points(0).value();
    }
  }
  return snapshot;
}

absl::Status CollectHistory(Coordinator& coordinator, ReportDetail detail, JobReport* report) {
  v1::QueryMetricsRequest request;
  request.set_job_id(report->job.job_id());
  for (const char* name : kSeries) request.add_series(name);
  request.set_max_points(detail == ReportDetail::kForFigures ? kFigurePoints : kEveryStepPoints);
  auto history = coordinator.QueryMetrics(request);
  if (!history.ok()) return history.status();
  report->history = *std::move(history);
  const v1::Series& imbalance = SeriesOf(report->history, "imbalance");
  if (imbalance.points().empty()) return absl::OkStatus();

  const int count = imbalance.points_size();
  std::set<int64_t> steps;
  for (const int at : {0, count / 2, count - 1}) steps.insert(imbalance.points(at).step());
  for (const int64_t step : steps) {
    auto heads = QueryHeads(coordinator, report->job, step);
    if (!heads.ok()) return heads.status();
    report->heads.push_back(*std::move(heads));
  }
  const int64_t last = imbalance.points(count - 1).step();
  request.set_first_step(std::max<int64_t>(1, last - kLastSteps + 1));
  request.set_last_step(last);
  request.set_max_points(1);
  auto last_steps = coordinator.QueryMetrics(request);
  if (!last_steps.ok()) return last_steps.status();
  report->last_steps = *std::move(last_steps);
  return absl::OkStatus();
}

std::set<std::string> WorkersOf(const v1::Job& job) {
  std::set<std::string> names;
  for (const v1::RankPlacement& rank : job.placement()) names.insert(rank.worker());
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    for (const v1::CheckpointPart& part : checkpoint.parts()) names.insert(part.worker());
  }
  return names;
}

}  // namespace

absl::StatusOr<std::vector<JobReport>> CollectReport(Coordinator& coordinator,
                                                     const std::vector<std::string>& job_ids,
                                                     ReportDetail detail) {
  const auto workers = coordinator.ListWorkers();
  if (!workers.ok()) return workers.status();
  std::vector<JobReport> reports;
  for (const std::string& job_id : job_ids) {
    auto job = coordinator.GetJob(job_id);
    if (!job.ok()) return job.status();
    JobReport report;
    report.job = *std::move(job);
    const absl::Status collected = CollectHistory(coordinator, detail, &report);
    if (!collected.ok()) return collected;
    const std::set<std::string> names = WorkersOf(report.job);
    for (const v1::Worker& worker : workers->workers()) {
      if (names.count(worker.worker()) > 0) report.workers.push_back(worker);
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

const v1::Series& SeriesOf(const v1::QueryMetricsResponse& response, const std::string& name) {
  static const v1::Series none;
  for (const v1::Series& series : response.series()) {
    if (series.name() == name) return series;
  }
  return none;
}

}  // namespace sinkforge::client
