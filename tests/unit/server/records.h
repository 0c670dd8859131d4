// Small records for tests, and a folder that goes away with its test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/ids.h"
#include "server/state/coordinator.h"
#include "sinkforge/v1/job_service.pb.h"
#include "sinkforge/v1/log_service.pb.h"
#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::server {

class TempFolder {
 public:
  TempFolder()
      : path_((std::filesystem::temp_directory_path() / ("server-" + base::RandomId())).string()) {
    std::filesystem::create_directories(path_);
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

inline v1::Job MakeJob(const std::string& job_id, v1::JobState state) {
  v1::Job job;
  job.set_job_id(job_id);
  job.set_state(state);
  job.mutable_spec()->set_name("tiny");
  return job;
}

inline v1::Event MakeEvent(const std::string& job_id, int64_t sequence) {
  v1::Event event;
  event.set_job_id(job_id);
  event.set_sequence(sequence);
  event.set_message("event " + std::to_string(sequence));
  return event;
}

// Loss is step + attempt / 10, so that a value tells where it comes from.
inline v1::StepRecord MakeStep(int64_t step, int64_t attempt) {
  v1::StepRecord record;
  record.set_step(step);
  record.set_attempt(attempt);
  record.set_loss(static_cast<double>(step) + static_cast<double>(attempt) / 10);
  record.set_heads(2);
  for (int i = 0; i < 2; ++i) record.add_layer_cv(static_cast<double>(step) + 100 * i);
  for (int i = 0; i < 4; ++i) record.add_importance(static_cast<float>(i));
  return record;
}

inline v1::ReportStepsRequest MakeReport(const std::string& job_id, int64_t attempt, int64_t first,
                                         int64_t last) {
  v1::ReportStepsRequest report;
  report.set_worker("w1");
  report.set_job_id(job_id);
  for (int64_t step = first; step <= last; ++step) *report.add_steps() = MakeStep(step, attempt);
  return report;
}

inline v1::ReportStepsRequest WithStart(v1::ReportStepsRequest report, int64_t attempt,
                                        int64_t restored_step) {
  v1::AttemptStart* start = report.add_starts();
  start->set_attempt(attempt);
  start->set_restored_step(restored_step);
  return report;
}

inline v1::LogLine MakeLine(int64_t attempt, int32_t rank, int64_t sequence) {
  v1::LogLine line;
  line.set_attempt(attempt);
  line.set_rank(rank);
  line.set_sequence(sequence);
  line.set_text("line " + std::to_string(attempt) + "/" + std::to_string(rank) + "/" +
                std::to_string(sequence));
  return line;
}

inline v1::AppendLogsRequest MakeLogs(const std::string& job_id, int64_t attempt, int32_t rank,
                                      int64_t first, int64_t last) {
  v1::AppendLogsRequest request;
  request.set_worker("w1");
  request.set_job_id(job_id);
  for (int64_t i = first; i <= last; ++i) *request.add_lines() = MakeLine(attempt, rank, i);
  return request;
}

// A submission that resolves and validates: 2 layers of 2 heads, on one CPU slot.
inline v1::SubmitJobRequest MakeSubmission(const std::string& request_id) {
  v1::SubmitJobRequest request;
  request.set_request_id(request_id);
  v1::JobSpec* spec = request.mutable_spec();
  spec->set_name("tiny");
  spec->mutable_model()->set_layers(2);
  spec->mutable_model()->set_width(32);
  spec->mutable_model()->set_heads(2);
  spec->mutable_data()->add_train("a.txt");
  spec->mutable_data()->set_sequence_length(32);
  spec->mutable_train()->set_steps(3);
  return request;
}

}  // namespace sinkforge::server
