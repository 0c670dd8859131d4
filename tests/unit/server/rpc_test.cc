// The coordinator's services as clients and workers see them.
#include "base/rpc.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "sinkforge/v1/job_service.grpc.pb.h"
#include "tests/unit/server/daemon_bed.h"

namespace sinkforge::server {
namespace {

using grpc::StatusCode;

std::string ReasonOf(const grpc::Status& status) { return base::ReasonOf(base::FromGrpc(status)); }

class RpcTest : public ::testing::Test {
 protected:
  grpc::Status TrySubmit(const v1::SubmitJobRequest& request, v1::Job* job) {
    grpc::ClientContext context;
    return bed_.jobs().SubmitJob(&context, request, job);
  }
  grpc::Status TryList(const v1::ListJobsRequest& request, v1::ListJobsResponse* response) {
    grpc::ClientContext context;
    return bed_.jobs().ListJobs(&context, request, response);
  }
  grpc::Status TryReport(const v1::ReportStepsRequest& request) {
    grpc::ClientContext context;
    v1::ReportStepsResponse response;
    return bed_.metrics().ReportSteps(&context, request, &response);
  }
  grpc::Status TryAppend(const v1::AppendLogsRequest& request) {
    grpc::ClientContext context;
    v1::AppendLogsResponse response;
    return bed_.logs().AppendLogs(&context, request, &response);
  }
  // A worker that trains the job's first attempt.
  void StartTraining(StreamWorker* worker, const std::string& job_id) {
    worker->Sync();
    worker->AwaitRanks(1);
    worker->Sync();
    worker->Train(job_id, 1);
    worker->Sync();
    bed_.AwaitState(job_id, v1::JOB_STATE_RUNNING);
  }
  void Finish(StreamWorker* worker, const std::string& job_id) {
    worker->Train(job_id, 3);
    worker->AddPart(job_id, 3);
    worker->End(job_id, v1::RANK_OUTCOME_COMPLETED);
    worker->Sync();
    bed_.AwaitState(job_id, v1::JOB_STATE_SUCCEEDED);
  }

  DaemonBed bed_;
};

TEST_F(RpcTest, SubmitsResolvedJobsOncePerRequestId) {
  v1::Job first;
  ASSERT_TRUE(TrySubmit(MakeSubmission("r1"), &first).ok());
  EXPECT_EQ(first.job_id(), "tiny-1");
  EXPECT_EQ(first.spec().namespace_(), "default");  // resolved here too
  EXPECT_GT(first.parameters(), 0);
  v1::Job again;
  ASSERT_TRUE(TrySubmit(MakeSubmission("r1"), &again).ok());
  EXPECT_EQ(again.job_id(), "tiny-1");
  v1::Job other;
  ASSERT_TRUE(TrySubmit(MakeSubmission("r2"), &other).ok());
  EXPECT_EQ(other.job_id(), "tiny-2");
  EXPECT_EQ(bed_.Job("tiny-1").reason(), v1::REASON_NOT_ENOUGH_SLOTS_EXIST);
}

TEST_F(RpcTest, ValidatesWithoutKeeping) {
  v1::SubmitJobRequest request = MakeSubmission("r1");
  request.set_validate_only(true);
  v1::Job job;
  ASSERT_TRUE(TrySubmit(request, &job).ok());
  EXPECT_TRUE(job.job_id().empty());
  EXPECT_GT(job.parameters(), 0);
  v1::ListJobsResponse list;
  ASSERT_TRUE(TryList({}, &list).ok());
  EXPECT_EQ(list.jobs_size(), 0);
}

TEST_F(RpcTest, NamesEveryFieldOfABadJob) {
  v1::SubmitJobRequest request = MakeSubmission("r1");
  request.mutable_spec()->mutable_model()->set_heads(3);
  request.mutable_spec()->set_name("Not A Name");
  v1::Job job;
  const grpc::Status status = TrySubmit(request, &job);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(status), "INVALID_JOB");
  const auto violations = base::ViolationsOf(base::FromGrpc(status));
  std::vector<std::string> fields;
  for (const auto& violation : violations) fields.push_back(violation.field);
  EXPECT_EQ(std::count(fields.begin(), fields.end(), "name"), 1);
  EXPECT_EQ(std::count(fields.begin(), fields.end(), "model.heads") +
                std::count(fields.begin(), fields.end(), "model.width"),
            1);
}

TEST_F(RpcTest, RefusesHostileSubmissions) {
  v1::Job job;
  EXPECT_EQ(TrySubmit(MakeSubmission(""), &job).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(TrySubmit(MakeSubmission(std::string(1000, 'r')), &job).error_code(),
            StatusCode::INVALID_ARGUMENT);
  v1::SubmitJobRequest large = MakeSubmission("r1");
  for (int i = 0; i < 5000; ++i) large.mutable_spec()->mutable_data()->add_train("some/path.txt");
  EXPECT_EQ(ReasonOf(TrySubmit(large, &job)), "INVALID_REQUEST");
  v1::SubmitJobRequest larger = MakeSubmission("r1");
  larger.mutable_spec()->mutable_data()->add_train(std::string(9 << 20, 'x'));
  EXPECT_EQ(TrySubmit(larger, &job).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  // Every field wrong at once: the answer still fits into an error.
  v1::SubmitJobRequest wrong = MakeSubmission("r1");
  for (int i = 0; i < 500; ++i) wrong.mutable_spec()->mutable_data()->add_train("../../x");
  wrong.mutable_spec()->mutable_data()->add_train(std::string("nul\0byte", 8));
  wrong.mutable_spec()->set_name(std::string("nul\0byte", 8));
  const grpc::Status status = TrySubmit(wrong, &job);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(status), "INVALID_JOB");
  v1::SubmitJobRequest sweep = MakeSubmission("r1");
  sweep.set_sweep(std::string(1000, 's'));
  EXPECT_EQ(TrySubmit(sweep, &job).error_code(), StatusCode::INVALID_ARGUMENT);
  sweep.set_sweep("Bad Name");
  const grpc::Status bad_name = TrySubmit(sweep, &job);
  EXPECT_EQ(bad_name.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(absl::StrContains(bad_name.error_message(), "`Bad Name` is not a valid name"));
}

TEST_F(RpcTest, ListsPagesNewestFirst) {
  for (int i = 1; i <= 5; ++i) bed_.Submit(absl::StrCat("r", i));
  v1::ListJobsRequest request;
  request.set_page_size(2);
  std::vector<std::string> ids;
  do {
    v1::ListJobsResponse response;
    ASSERT_TRUE(TryList(request, &response).ok());
    EXPECT_LE(response.jobs_size(), 2);
    for (const v1::Job& job : response.jobs()) ids.push_back(job.job_id());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(ids, (std::vector<std::string>{"tiny-5", "tiny-4", "tiny-3", "tiny-2", "tiny-1"}));
}

TEST_F(RpcTest, ListsByStateNamespaceAndSweep) {
  bed_.Submit("r1");
  v1::SubmitJobRequest other = MakeSubmission("r2");
  other.mutable_spec()->set_namespace_("team");
  other.set_sweep("grid");
  v1::Job job;
  ASSERT_TRUE(TrySubmit(other, &job).ok());
  const auto count = [&](const v1::ListJobsRequest& request) {
    v1::ListJobsResponse response;
    EXPECT_TRUE(TryList(request, &response).ok());
    return response.jobs_size();
  };
  v1::ListJobsRequest by_state;
  by_state.add_states(v1::JOB_STATE_RUNNING);
  EXPECT_EQ(count(by_state), 0);
  by_state.add_states(v1::JOB_STATE_QUEUED);
  EXPECT_EQ(count(by_state), 2);
  v1::ListJobsRequest by_namespace;
  by_namespace.set_namespace_("team");
  EXPECT_EQ(count(by_namespace), 1);
  v1::ListJobsRequest by_sweep;
  by_sweep.set_sweep("grid");
  EXPECT_EQ(count(by_sweep), 1);
  v1::ListJobsRequest bad;
  bad.set_page_token("before-x");
  v1::ListJobsResponse response;
  EXPECT_EQ(TryList(bad, &response).error_code(), StatusCode::INVALID_ARGUMENT);
  bad.clear_page_token();
  bad.set_page_size(1001);
  EXPECT_EQ(TryList(bad, &response).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(RpcTest, CancelsPausesResumesAndDeletes) {
  const std::string job_id = bed_.Submit("r1");
  v1::Job job;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(bed_.jobs().PauseJob(&context, bed_.Action(job_id), &job).ok());
    EXPECT_EQ(job.state(), v1::JOB_STATE_PAUSED);
  }
  {
    grpc::ClientContext context;
    ASSERT_TRUE(bed_.jobs().ResumeJob(&context, bed_.Action(job_id), &job).ok());
    EXPECT_EQ(job.state(), v1::JOB_STATE_QUEUED);
  }
  {
    grpc::ClientContext context;
    const grpc::Status again = bed_.jobs().ResumeJob(&context, bed_.Action(job_id), &job);
    EXPECT_EQ(again.error_code(), StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(ReasonOf(again), "ILLEGAL_MOVE");
  }
  {
    grpc::ClientContext context;
    ASSERT_TRUE(bed_.jobs().CancelJob(&context, bed_.Action(job_id), &job).ok());
    EXPECT_EQ(job.state(), v1::JOB_STATE_CANCELLED);
  }
  v1::DeleteJobResponse deleted;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(bed_.jobs().DeleteJob(&context, bed_.Action(job_id), &deleted).ok());
  }
  grpc::ClientContext context;
  v1::GetJobRequest get;
  get.set_job_id(job_id);
  const grpc::Status gone = bed_.jobs().GetJob(&context, get, &job);
  EXPECT_EQ(gone.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(gone), "JOB_NOT_FOUND");
  EXPECT_TRUE(absl::StrContains(gone.error_message(), "tiny-1"));
}

TEST_F(RpcTest, AsksForARequestIdAndAKnownJob) {
  v1::JobActionRequest request;
  request.set_job_id("tiny-1");
  v1::Job job;
  {
    grpc::ClientContext context;
    EXPECT_EQ(bed_.jobs().CancelJob(&context, request, &job).error_code(),
              StatusCode::INVALID_ARGUMENT);
  }
  request.set_request_id("a1");
  for (const std::string& id :
       {std::string("tiny-1"), std::string(), std::string("a\0b", 3), std::string(100000, 'x')}) {
    request.set_job_id(id);
    grpc::ClientContext context;
    const grpc::Status status = bed_.jobs().CancelJob(&context, request, &job);
    EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND);
  }
  grpc::ClientContext context;
  v1::DeleteCheckpointRequest checkpoint;
  checkpoint.set_job_id(bed_.Submit("r1"));
  checkpoint.set_step(7);
  checkpoint.set_request_id("a2");
  EXPECT_EQ(ReasonOf(bed_.jobs().DeleteCheckpoint(&context, checkpoint, &job)),
            "CHECKPOINT_NOT_FOUND");
}

TEST_F(RpcTest, DrivesAJobToSuccess) {
  const std::string job_id = bed_.Submit("r1");
  StreamWorker worker(&bed_, "w1", "i1", 1);
  StartTraining(&worker, job_id);
  EXPECT_EQ(bed_.Job(job_id).attempt(), 1);
  bed_.Report(WithStart(MakeReport(job_id, 1, 1, 3), 1, 0));
  Finish(&worker, job_id);
  worker.AwaitRanks(0);
  grpc::ClientContext context;
  v1::ListEventsRequest request;
  request.set_job_id(job_id);
  v1::ListEventsResponse events;
  ASSERT_TRUE(bed_.jobs().ListEvents(&context, request, &events).ok());
  ASSERT_GE(events.events_size(), 4);
  EXPECT_EQ(events.events(0).kind(), v1::EVENT_KIND_SUBMITTED);
  for (int i = 0; i < events.events_size(); ++i) EXPECT_EQ(events.events(i).sequence(), i + 1);
  grpc::ClientContext list_context;
  v1::ListWorkersResponse workers;
  ASSERT_TRUE(bed_.workers().ListWorkers(&list_context, {}, &workers).ok());
  ASSERT_EQ(workers.workers_size(), 1);
  EXPECT_EQ(workers.workers(0).worker(), "w1");
}

TEST_F(RpcTest, ForgetsOnlyAWorkerThatIsAway) {
  StreamWorker worker(&bed_, "w1", "i1", 1);
  worker.Sync();
  worker.AwaitRanks(0);
  v1::ForgetWorkerRequest request;
  const auto forget = [&](const std::string& name) {
    grpc::ClientContext context;
    request.set_worker(name);
    v1::ForgetWorkerResponse response;
    return bed_.workers().ForgetWorker(&context, request, &response);
  };
  for (const std::string& id : {std::string(), std::string(1000, 'a')}) {
    request.set_request_id(id);
    EXPECT_EQ(forget("w1").error_code(), StatusCode::INVALID_ARGUMENT);
  }
  request.set_request_id("first");
  EXPECT_EQ(forget("w1").error_code(), StatusCode::FAILED_PRECONDITION);
  const grpc::Status unknown = forget("nobody");
  EXPECT_EQ(unknown.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(unknown), "WORKER_NOT_FOUND");
  worker.snapshot.set_draining(true);
  worker.snapshot.set_goodbye(true);
  worker.Sync();
  // Its goodbye is on another stream than the calls.
  while (forget("w1").error_code() == StatusCode::FAILED_PRECONDITION) {
  }
  EXPECT_TRUE(forget("w1").ok());  // as after an answer that was lost
  request.set_request_id("second");
  EXPECT_EQ(forget("w1").error_code(), StatusCode::NOT_FOUND);
}

TEST_F(RpcTest, RefusesASecondWorkerOfOneName) {
  StreamWorker first(&bed_, "w1", "i1", 1);
  first.Sync();
  first.AwaitRanks(0);
  StreamWorker second(&bed_, "w1", "i2", 1);
  second.Sync();
  const grpc::Status end = second.AwaitEnd();
  EXPECT_EQ(end.error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(end), "WORKER_NAME_TAKEN");
  EXPECT_TRUE(absl::StrContains(end.error_message(), "w1"));
  // The first one is not disturbed.
  bed_.Submit("r1");
  first.AwaitRanks(1);
}

TEST_F(RpcTest, RefusesHostileSnapshots) {
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("a\0b", 3), std::string(1000, 'w')}) {
    StreamWorker worker(&bed_, name, "i1", 1);
    worker.Sync();
    EXPECT_EQ(worker.AwaitEnd().error_code(), StatusCode::INVALID_ARGUMENT) << name;
  }
  StreamWorker worker(&bed_, "w1", "i1", 1);
  worker.Sync();
  worker.AwaitRanks(0);
  worker.snapshot.set_worker("w2");
  worker.Sync();
  EXPECT_EQ(worker.AwaitEnd().error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(RpcTest, LosesNothingOverARestartAndTakesTheRunningRankBack) {
  const std::string job_id = bed_.Submit("r1");
  StreamWorker worker(&bed_, "w1", "i1", 1);
  StartTraining(&worker, job_id);
  bed_.Report(WithStart(MakeReport(job_id, 1, 1, 2), 1, 0));
  bed_.Append(MakeLogs(job_id, 1, 0, 1, 2));
  const std::string waiting = bed_.Submit("r2");
  bed_.Restart();
  EXPECT_EQ(bed_.Job(waiting).state(), v1::JOB_STATE_QUEUED);
  v1::Job job = bed_.Job(job_id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(job.attempt(), 1);
  worker.Connect();
  worker.Train(job_id, 2);
  worker.Sync();
  const v1::DesiredState state = worker.AwaitRanks(1);
  EXPECT_EQ(state.ranks(0).job_id(), job_id);
  EXPECT_EQ(state.ranks(0).attempt(), 1);
  bed_.Report(MakeReport(job_id, 1, 1, 3));  // the spool sends what it has no answer for
  Finish(&worker, job_id);
  EXPECT_EQ(bed_.Job(job_id).attempt(), 1);
  grpc::ClientContext context;
  v1::QueryMetricsRequest query;
  query.set_job_id(job_id);
  query.add_series("loss");
  v1::QueryMetricsResponse series;
  ASSERT_TRUE(bed_.metrics().QueryMetrics(&context, query, &series).ok());
  EXPECT_EQ(series.series(0).points_size(), 3);
  EXPECT_EQ(bed_.Submit("r1"), job_id);  // request ids are remembered too
}

TEST_F(RpcTest, DropsReportsOfUnknownJobsAndRefusesImpossibleOnes) {
  EXPECT_TRUE(TryReport(MakeReport("gone-7", 1, 1, 5)).ok());
  EXPECT_TRUE(TryReport(MakeReport(std::string("a\0b", 3), 1, 1, 5)).ok());
  EXPECT_TRUE(TryAppend(MakeLogs(std::string("a\0b", 3), 1, 0, 1, 5)).ok());
  const std::string job_id = bed_.Submit("r1");
  EXPECT_EQ(TryReport(MakeReport(job_id, 1, 1, 1)).error_code(), StatusCode::INVALID_ARGUMENT);
  StreamWorker worker(&bed_, "w1", "i1", 1);
  StartTraining(&worker, job_id);
  EXPECT_TRUE(TryReport(MakeReport(job_id, 1, 1, 1)).ok());
  const auto code = [&](int64_t step, int64_t attempt) {
    v1::ReportStepsRequest report;
    report.set_job_id(job_id);
    *report.add_steps() = MakeStep(step, attempt);
    return TryReport(report).error_code();
  };
  EXPECT_EQ(code(0, 1), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(-5, 1), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(std::numeric_limits<int64_t>::max(), 1), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(1, 0), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(1, 2), StatusCode::INVALID_ARGUMENT);
  v1::ReportStepsRequest large = MakeReport(job_id, 1, 1, 1);
  for (int i = 0; i < 70'000; ++i) large.mutable_steps(0)->add_importance(1);
  EXPECT_EQ(TryReport(large).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(TryReport(MakeReport(job_id, 1, 1, 10'001)).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(TryReport(WithStart(MakeReport(job_id, 1, 1, 1), 1, -1)).error_code(),
            StatusCode::INVALID_ARGUMENT);
  v1::AppendLogsRequest lines = MakeLogs(job_id, 1, 0, 1, 1);
  lines.mutable_lines(0)->set_text(std::string(9000, 'x'));
  EXPECT_EQ(TryAppend(lines).error_code(), StatusCode::INVALID_ARGUMENT);
  lines.mutable_lines(0)->set_text("x");
  lines.mutable_lines(0)->set_rank(-1);
  EXPECT_EQ(TryAppend(lines).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(RpcTest, TellsWorkersOfAnotherClusterNothing) {
  const std::string job_id = bed_.Submit("r1");
  StreamWorker worker(&bed_, "w1", "i1", 1);
  StartTraining(&worker, job_id);
  const std::string ours = worker.Await([](const auto&) { return true; }).cluster_id();
  EXPECT_FALSE(ours.empty());
  worker.snapshot.set_cluster_id(ours);
  worker.Train(job_id, 1);
  worker.Sync();
  StreamWorker other(&bed_, "w2", "i1", 1);
  other.snapshot.set_cluster_id("another");
  other.AddPart("of-theirs-7", 3);  // which it would be told to delete
  other.Sync();
  const grpc::Status end = other.AwaitEnd();
  EXPECT_EQ(end.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(end), "OTHER_CLUSTER");
  // Records of jobs that are unknown here would be taken for those of deleted ones, and dropped.
  v1::ReportStepsRequest steps = MakeReport("of-theirs-7", 1, 1, 1);
  EXPECT_TRUE(TryReport(steps).ok());
  steps.set_cluster_id("another");
  EXPECT_EQ(ReasonOf(TryReport(steps)), "OTHER_CLUSTER");
  v1::AppendLogsRequest lines = MakeLogs("of-theirs-7", 1, 0, 1, 1);
  EXPECT_TRUE(TryAppend(lines).ok());
  lines.set_cluster_id("another");
  EXPECT_EQ(ReasonOf(TryAppend(lines)), "OTHER_CLUSTER");
  Finish(&worker, job_id);
}

TEST_F(RpcTest, SaysWhichAttemptsThereAre) {
  const std::string job_id = bed_.Submit("r1");
  const auto query = [&](int64_t attempt) {
    grpc::ClientContext context;
    v1::QueryMetricsRequest request;
    request.set_job_id(job_id);
    request.set_attempt(attempt);
    v1::QueryMetricsResponse response;
    return bed_.metrics().QueryMetrics(&context, request, &response);
  };
  EXPECT_EQ(query(1).error_message(), "job tiny-1: there is no attempt 1; it has had none yet");
  StreamWorker worker(&bed_, "w1", "i1", 1);
  StartTraining(&worker, job_id);
  EXPECT_TRUE(query(1).ok());
  for (const int64_t attempt : {-1, 0, 2}) {
    const grpc::Status status = query(attempt);
    EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND);
    EXPECT_TRUE(absl::StrContains(status.error_message(), "it has had attempt 1 only"));
  }
}

TEST_F(RpcTest, RefusesHostileQueries) {
  const std::string job_id = bed_.Submit("r1");
  const auto query = [&](const std::string& id, const std::string& series) {
    grpc::ClientContext context;
    v1::QueryMetricsRequest request;
    request.set_job_id(id);
    request.add_series(series);
    v1::QueryMetricsResponse response;
    return bed_.metrics().QueryMetrics(&context, request, &response);
  };
  EXPECT_EQ(query("none-1", "loss").error_code(), StatusCode::NOT_FOUND);
  const grpc::Status unknown = query(job_id, "lss");
  EXPECT_EQ(unknown.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(absl::StrContains(unknown.error_message(), "imbalance"));
  EXPECT_EQ(query(job_id, "layer_cv/2").error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(query(job_id, "layer_cv/1").ok());
  grpc::ClientContext context;
  v1::ListEventsRequest events;
  events.set_job_id(job_id);
  events.set_after_sequence(std::numeric_limits<int64_t>::max());
  v1::ListEventsResponse response;
  EXPECT_EQ(bed_.jobs().ListEvents(&context, events, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(RpcTest, MeetsAtTheRendezvousWhileTheAttemptLasts) {
  const std::string job_id = bed_.Submit("r1");
  v1::PutRendezvousRequest put;
  put.set_job_id(job_id);
  put.set_attempt(1);
  put.set_key("rank/0");
  put.set_value("10.0.0.1:5");
  const auto try_put = [&] {
    grpc::ClientContext context;
    v1::PutRendezvousResponse response;
    return bed_.rendezvous().PutRendezvous(&context, put, &response);
  };
  const auto get = [&](const std::string& key, int seconds, std::string* value) {
    grpc::ClientContext context;
    v1::GetRendezvousRequest request;
    request.set_job_id(job_id);
    request.set_attempt(1);
    request.set_key(key);
    request.mutable_timeout()->set_seconds(seconds);
    v1::GetRendezvousResponse response;
    const grpc::Status status = bed_.rendezvous().GetRendezvous(&context, request, &response);
    *value = response.value();
    return status;
  };
  EXPECT_EQ(try_put().error_code(), StatusCode::FAILED_PRECONDITION);  // it has no attempt yet
  StreamWorker worker(&bed_, "w1", "i1", 1);
  worker.Sync();
  worker.AwaitRanks(1);
  std::string value;
  const grpc::Status late = get("rank/0", 0, &value);
  EXPECT_EQ(late.error_code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(absl::StrContains(late.error_message(), "rank/0"));
  std::thread waiter([&] {
    std::string waited;
    EXPECT_TRUE(get("rank/0", 600, &waited).ok());
    EXPECT_EQ(waited, "10.0.0.1:5");
  });
  ASSERT_TRUE(try_put().ok());
  waiter.join();
  put.set_value(std::string(65537, 'x'));
  EXPECT_EQ(try_put().error_code(), StatusCode::RESOURCE_EXHAUSTED);
  std::thread left([&] {
    std::string none;
    EXPECT_EQ(get("rank/1", 600, &none).error_code(), StatusCode::FAILED_PRECONDITION);
  });
  grpc::ClientContext context;
  v1::Job job;
  ASSERT_TRUE(bed_.jobs().CancelJob(&context, bed_.Action(job_id), &job).ok());
  left.join();
}

TEST_F(RpcTest, EndsAWaitWhoseClientHasGone) {
  const std::string job_id = bed_.Submit("r1");
  StreamWorker worker(&bed_, "w1", "i1", 1);
  worker.Sync();
  worker.AwaitRanks(1);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  v1::GetRendezvousRequest request;
  request.set_job_id(job_id);
  request.set_attempt(1);
  request.set_key("k");
  request.mutable_timeout()->set_seconds(600);
  v1::GetRendezvousResponse response;
  EXPECT_EQ(bed_.rendezvous().GetRendezvous(&context, request, &response).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  bed_.Stop();  // would hang or crash if the wait were still there
}

}  // namespace
}  // namespace sinkforge::server
