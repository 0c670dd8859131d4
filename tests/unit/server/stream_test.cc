// The server streams: WatchJob and ReadLogs, and what every PushStream does.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rpc.h"
#include "tests/unit/server/daemon_bed.h"

namespace sinkforge::server {
namespace {

using grpc::StatusCode;

// A stream of either kind that says how it ended.
class Follower {
 public:
  virtual ~Follower() = default;
  virtual bool Read() = 0;
  virtual grpc::Status Finish() = 0;
  grpc::ClientContext& context() { return context_; }

 private:
  grpc::ClientContext context_;
};

class Watcher final : public Follower {
 public:
  Watcher(DaemonBed* bed, const std::string& job_id, int64_t after_step = 0) {
    v1::WatchJobRequest request;
    request.set_job_id(job_id);
    request.set_after_step(after_step);
    reader_ = bed->jobs().WatchJob(&context(), request);
  }
  bool Read() override { return reader_->Read(&message); }
  grpc::Status Finish() override { return reader_->Finish(); }
  // Reads until a message fits.
  bool Await(const std::function<bool(const v1::WatchJobResponse&)>& fits) {
    while (Read()) {
      for (const auto& record : message.steps()) steps.push_back(record);
      for (const auto& event : message.events()) events.push_back(event);
      if (fits(message)) return true;
    }
    return false;
  }
  void ReadToEnd() {
    Await([](const v1::WatchJobResponse&) { return false; });
  }

  v1::WatchJobResponse message;
  std::vector<v1::StepRecord> steps;
  std::vector<v1::Event> events;

 private:
  std::unique_ptr<grpc::ClientReader<v1::WatchJobResponse>> reader_;
};

class LogReader final : public Follower {
 public:
  LogReader(DaemonBed* bed, const v1::ReadLogsRequest& request) {
    reader_ = bed->logs().ReadLogs(&context(), request);
  }
  bool Read() override {
    v1::ReadLogsResponse message;
    if (!reader_->Read(&message)) return false;
    for (const auto& line : message.lines()) lines.push_back(line.text());
    return true;
  }
  grpc::Status Finish() override { return reader_->Finish(); }

  std::vector<std::string> lines;

 private:
  std::unique_ptr<grpc::ClientReader<v1::ReadLogsResponse>> reader_;
};

v1::ReadLogsRequest LogsOf(const std::string& job_id, bool follow) {
  v1::ReadLogsRequest request;
  request.set_job_id(job_id);
  request.set_follow(follow);
  return request;
}

class StreamTest : public ::testing::Test {
 protected:
  explicit StreamTest(const DaemonOptions& options = {}) : bed_(options) {}

  // A job of one rank that trains on worker_.
  std::string Start() {
    const std::string job_id = bed_.Submit("r1");
    worker_ = std::make_unique<StreamWorker>(&bed_, "w1", "i1", 1);
    worker_->Sync();
    worker_->AwaitRanks(1);
    worker_->Sync();
    worker_->Train(job_id, 1);
    worker_->Sync();
    bed_.AwaitState(job_id, v1::JOB_STATE_RUNNING);
    return job_id;
  }
  void Finish(const std::string& job_id) {
    worker_->Train(job_id, 3);
    worker_->AddPart(job_id, 3);
    worker_->End(job_id, v1::RANK_OUTCOME_COMPLETED);
    worker_->Sync();
    bed_.AwaitState(job_id, v1::JOB_STATE_SUCCEEDED);
  }

  DaemonBed bed_;
  std::unique_ptr<StreamWorker> worker_;
};

// PushStream: both kinds, the same suite.
class PushStreamTest : public StreamTest, public ::testing::WithParamInterface<std::string> {
 protected:
  std::unique_ptr<Follower> Open(const std::string& job_id) {
    if (GetParam() == "WatchJob") return std::make_unique<Watcher>(&bed_, job_id);
    return std::make_unique<LogReader>(&bed_, LogsOf(job_id, true));
  }
};

TEST_P(PushStreamTest, EndsForAnUnknownJob) {
  for (const std::string& job_id : {std::string("none-1"), std::string("a\0b", 3)}) {
    const auto follower = Open(job_id);
    EXPECT_FALSE(follower->Read());
    EXPECT_EQ(follower->Finish().error_code(), StatusCode::NOT_FOUND);
  }
}

TEST_P(PushStreamTest, EndsWhenTheJobIsDeleted) {
  const std::string job_id = bed_.Submit("r1");
  v1::Job job;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(bed_.jobs().PauseJob(&context, bed_.Action(job_id), &job).ok());
  }
  const auto follower = Open(job_id);
  grpc::ClientContext context;
  v1::DeleteJobResponse response;
  ASSERT_TRUE(bed_.jobs().DeleteJob(&context, bed_.Action(job_id), &response).ok());
  while (follower->Read()) {
  }
  EXPECT_EQ(follower->Finish().error_code(), StatusCode::NOT_FOUND);
}

TEST_P(PushStreamTest, EndsWhenTheCoordinatorStops) {
  const std::string job_id = bed_.Submit("r1");
  bed_.Append(MakeLogs(job_id, 1, 0, 1, 1));
  const auto follower = Open(job_id);
  ASSERT_TRUE(follower->Read());
  std::thread stop([&] { bed_.Stop(); });
  while (follower->Read()) {
  }
  EXPECT_EQ(follower->Finish().error_code(), StatusCode::UNAVAILABLE);
  stop.join();
}

TEST_P(PushStreamTest, SurvivesClientsThatGoAwayAtAnyMoment) {
  const std::string job_id = Start();
  for (int i = 0; i < 30; ++i) {
    const auto follower = Open(job_id);
    bed_.Append(MakeLogs(job_id, 1, 0, i + 1, i + 1));
    worker_->Train(job_id, 1 + i % 2);
    worker_->Sync();
    if (i % 3 == 0) follower->Read();
    follower->context().TryCancel();
    while (follower->Read()) {
    }
    EXPECT_EQ(follower->Finish().error_code(), StatusCode::CANCELLED);
  }
  EXPECT_EQ(bed_.Job(job_id).state(), v1::JOB_STATE_RUNNING);
}

INSTANTIATE_TEST_SUITE_P(Kinds, PushStreamTest, ::testing::Values("WatchJob", "ReadLogs"),
                         [](const auto& kind) { return kind.param; });

// What comes after the final state may take its time, as it does on a busy machine. (Watching ends
// with the last record, following logs when nothing came for so long.)
DaemonOptions WaitingFor(std::chrono::seconds wait) {
  DaemonOptions options;
  options.last_words_wait = wait;
  return options;
}
class LateStepsTest : public StreamTest {
 protected:
  LateStepsTest() : StreamTest(WaitingFor(std::chrono::minutes(5))) {}
};
class LateLinesTest : public StreamTest {
 protected:
  LateLinesTest() : StreamTest(WaitingFor(std::chrono::seconds(5))) {}
};

TEST_F(LateStepsTest, WatchesAJobToItsEnd) {
  const std::string job_id = bed_.Submit("r1");
  Watcher watcher(&bed_, job_id);
  ASSERT_TRUE(watcher.Read());  // at once
  EXPECT_EQ(watcher.message.job().state(), v1::JOB_STATE_QUEUED);
  worker_ = std::make_unique<StreamWorker>(&bed_, "w1", "i1", 1);
  worker_->Sync();
  worker_->AwaitRanks(1);
  worker_->Sync();
  worker_->Train(job_id, 1);
  worker_->Sync();
  ASSERT_TRUE(watcher.Await(
      [](const auto& message) { return message.job().state() == v1::JOB_STATE_RUNNING; }));
  bed_.Report(WithStart(MakeReport(job_id, 1, 1, 1), 1, 0));
  ASSERT_TRUE(watcher.Await([](const auto& message) { return message.steps_size() == 1; }));
  Finish(job_id);
  // The last records come after the final state, and are not missed.
  bed_.Report(MakeReport(job_id, 1, 2, 3));
  watcher.ReadToEnd();
  EXPECT_TRUE(watcher.Finish().ok());
  EXPECT_EQ(watcher.message.job().state(), v1::JOB_STATE_SUCCEEDED);
  ASSERT_EQ(watcher.steps.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(watcher.steps[static_cast<size_t>(i)].step(), i + 1);
  ASSERT_FALSE(watcher.events.empty());
  for (size_t i = 1; i < watcher.events.size(); ++i) {
    EXPECT_EQ(watcher.events[i].sequence(), watcher.events[i - 1].sequence() + 1);
  }
}

TEST_F(StreamTest, WatchesFromAStepOnOrWithoutSteps) {
  const std::string job_id = Start();
  bed_.Report(WithStart(MakeReport(job_id, 1, 1, 3), 1, 0));
  Finish(job_id);
  Watcher from_two(&bed_, job_id, 2);
  from_two.ReadToEnd();
  EXPECT_TRUE(from_two.Finish().ok());
  ASSERT_EQ(from_two.steps.size(), 1u);
  EXPECT_EQ(from_two.steps[0].step(), 3);
  Watcher without(&bed_, job_id, -1);
  without.ReadToEnd();
  EXPECT_TRUE(without.Finish().ok());
  EXPECT_TRUE(without.steps.empty());
}

TEST_F(StreamTest, SendsALongHistoryInSeveralMessages) {
  const std::string job_id = Start();
  bed_.Report(WithStart(MakeReport(job_id, 1, 1, 2500), 1, 0));
  Finish(job_id);
  Watcher watcher(&bed_, job_id);
  int messages = 0;
  watcher.Await([&](const auto&) { return ++messages == 1000; });
  EXPECT_TRUE(watcher.Finish().ok());
  EXPECT_EQ(watcher.steps.size(), 2500u);
  EXPECT_GE(messages, 3);
  EXPECT_LE(messages, 10);
}

TEST_F(StreamTest, SendsStepsAgainWhenAnAttemptGoesBack) {
  const std::string job_id = Start();
  bed_.Report(WithStart(MakeReport(job_id, 1, 1, 3), 1, 0));
  Watcher watcher(&bed_, job_id);
  ASSERT_TRUE(watcher.Await([](const auto& message) { return message.steps_size() == 3; }));
  // The worker's daemon starts again: its rank is gone, and attempt 2 begins.
  worker_->Break();
  worker_->snapshot.clear_ranks();
  worker_->snapshot.set_incarnation("i2");
  worker_->snapshot.set_report_sequence(0);
  worker_->snapshot.set_applied_desired_revision(0);
  while (bed_.Job(job_id).attempt() < 2) {
    worker_->Connect();
    worker_->Sync();
    worker_->Sync();
    bed_.Job(job_id);
  }
  bed_.Report(WithStart(MakeReport(job_id, 2, 2, 3), 2, 1));
  const auto is_second = [](const auto& message) {
    return message.steps_size() > 0 && message.steps(0).attempt() == 2;
  };
  ASSERT_TRUE(watcher.Await(is_second));
  EXPECT_EQ(watcher.message.steps(0).step(), 2);
}

TEST_F(StreamTest, ReadsTheTailAndSelections) {
  const std::string job_id = Start();
  bed_.Append(MakeLogs(job_id, 1, 0, 1, 5));
  bed_.Append(MakeLogs(job_id, 1, 1, 1, 5));
  const auto read = [&](const v1::ReadLogsRequest& request) {
    LogReader reader(&bed_, request);
    while (reader.Read()) {
    }
    EXPECT_TRUE(reader.Finish().ok());
    return reader.lines;
  };
  EXPECT_EQ(read(LogsOf(job_id, false)).size(), 10u);
  v1::ReadLogsRequest tail = LogsOf(job_id, false);
  tail.set_tail(2);
  EXPECT_EQ(read(tail), (std::vector<std::string>{"line 1/1/4", "line 1/1/5"}));
  tail.set_rank(0);
  EXPECT_EQ(read(tail), (std::vector<std::string>{"line 1/0/4", "line 1/0/5"}));
  tail.set_attempt(1);
  EXPECT_EQ(read(tail), (std::vector<std::string>{"line 1/0/4", "line 1/0/5"}));
}

TEST_F(StreamTest, LogsOfAnAttemptOrRankThatIsNotThereAreAnError) {
  const std::string job_id = Start();
  const auto refusal = [&](const v1::ReadLogsRequest& request) {
    LogReader reader(&bed_, request);
    EXPECT_FALSE(reader.Read());
    const grpc::Status status = reader.Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
    return status.error_message();
  };
  for (const bool follow : {false, true}) {
    v1::ReadLogsRequest attempt = LogsOf(job_id, follow);
    attempt.set_attempt(7);
    EXPECT_EQ(refusal(attempt), "job tiny-1: there is no attempt 7; it has had attempt 1 only");
    v1::ReadLogsRequest rank = LogsOf(job_id, follow);
    rank.set_rank(1);
    EXPECT_EQ(refusal(rank), "job tiny-1: there is no rank 1; it has rank 0 only");
  }
}

TEST_F(LateLinesTest, FollowsLogsUntilTheJobIsOver) {
  const std::string job_id = Start();
  bed_.Append(MakeLogs(job_id, 1, 0, 1, 2));
  LogReader reader(&bed_, LogsOf(job_id, true));
  while (reader.lines.size() < 2) ASSERT_TRUE(reader.Read());
  bed_.Append(MakeLogs(job_id, 1, 0, 2, 3));
  while (reader.lines.size() < 3) ASSERT_TRUE(reader.Read());
  Finish(job_id);
  bed_.Append(MakeLogs(job_id, 1, 0, 4, 4));  // what the trainer said last comes late
  while (reader.Read()) {
  }
  EXPECT_TRUE(reader.Finish().ok());
  EXPECT_EQ(reader.lines,
            (std::vector<std::string>{"line 1/0/1", "line 1/0/2", "line 1/0/3", "line 1/0/4"}));
}

TEST_F(StreamTest, ReadsALongLogInSeveralMessages) {
  const std::string job_id = Start();
  v1::AppendLogsRequest lines = MakeLogs(job_id, 1, 0, 1, 200);
  for (auto& line : *lines.mutable_lines()) line.set_text(std::string(8 << 10, 'x'));
  bed_.Append(lines);
  LogReader reader(&bed_, LogsOf(job_id, false));
  int messages = 0;
  while (reader.Read()) ++messages;
  EXPECT_TRUE(reader.Finish().ok());
  EXPECT_EQ(reader.lines.size(), 200u);
  EXPECT_GE(messages, 6);
}

TEST_F(StreamTest, ManyFollowersShareTheCoordinator) {
  const std::string job_id = Start();
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (int i = 0; i < 100; ++i) {
    watchers.push_back(std::make_unique<Watcher>(&bed_, job_id));
    ASSERT_TRUE(watchers.back()->Read());
  }
  bed_.Report(WithStart(MakeReport(job_id, 1, 1, 3), 1, 0));
  Finish(job_id);
  for (const auto& watcher : watchers) {
    watcher->ReadToEnd();
    EXPECT_TRUE(watcher->Finish().ok());
    EXPECT_EQ(watcher->steps.size(), 3u);
    EXPECT_EQ(watcher->message.job().state(), v1::JOB_STATE_SUCCEEDED);
  }
}

}  // namespace
}  // namespace sinkforge::server
