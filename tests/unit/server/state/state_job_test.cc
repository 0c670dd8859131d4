// The life of a job: submission, every move, pause, resume, cancel, delete, idempotency.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/state/job_moves.h"
#include "test_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(JobMovesTest, OnlyListedMovesAreLegal) {
  int moves = 0;
  for (int from = 1; from < v1::JobState_ARRAYSIZE; ++from) {
    for (int to = 1; to < v1::JobState_ARRAYSIZE; ++to) {
      moves += CanMove(static_cast<v1::JobState>(from), static_cast<v1::JobState>(to)) ? 1 : 0;
    }
    EXPECT_FALSE(CanMove(static_cast<v1::JobState>(from), static_cast<v1::JobState>(from)));
  }
  EXPECT_EQ(moves, 17);
}

TEST(CoordinatorJobTest, StartsAtOnceOnAnIdleWorker) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit({.name = "d4"});
  EXPECT_EQ(id, "d4-1");
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_THAT(bed.last.changed_workers, ElementsAre("w1"));
  EXPECT_THAT(bed.last.changed_jobs, ElementsAre(id));
  ASSERT_EQ(bed.last.jobs.size(), 1u);
  EXPECT_EQ(bed.last.jobs[0].placement(0).worker(), "w1");
  EXPECT_EQ(bed.last.next_job_number, 2);
  const v1::DesiredState desired = worker.Desired();
  ASSERT_EQ(desired.ranks_size(), 1);
  EXPECT_EQ(desired.ranks(0).world_size(), 1);
  EXPECT_EQ(desired.ranks(0).run(), v1::RUN_REQUEST_TRAIN);
  EXPECT_EQ(desired.ranks(0).parameters(), 1234);
  EXPECT_FALSE(desired.ranks(0).has_restore());
}

TEST(CoordinatorJobTest, RunsToSuccess) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  worker.Train(id, 0);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  EXPECT_FALSE(bed.Job(id).has_start_time());
  worker.Train(id, 1);
  worker.Sync();
  EXPECT_TRUE(bed.Job(id).has_start_time());
  worker.Train(id, 100);
  worker.Checkpoint(id, 100);
  worker.End(id, v1::RANK_OUTCOME_COMPLETED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_COMPLETED);
  EXPECT_TRUE(bed.Job(id).has_end_time());
  EXPECT_EQ(bed.Job(id).progress().step(), 100);
  ASSERT_EQ(bed.Job(id).checkpoints_size(), 1);
  EXPECT_EQ(bed.Job(id).checkpoints(0).bytes(), 1000);
  EXPECT_EQ(bed.stored.at(id).SerializeAsString(), bed.Job(id).SerializeAsString());
  int64_t sequence = 0;
  for (const v1::Event& event : bed.events) EXPECT_EQ(event.sequence(), ++sequence);
  EXPECT_EQ(bed.Job(id).event_count(), sequence);
}

TEST(CoordinatorJobTest, AJobThatEndsInItsFirstReportStillRan) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 100);
  worker.Checkpoint(id, 100);
  worker.End(id, v1::RANK_OUTCOME_COMPLETED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_SUCCEEDED);
  std::vector<v1::Reason> reasons;
  for (const auto& event : bed.Events(id, v1::EVENT_KIND_STATE_CHANGED)) {
    reasons.push_back(event.reason());
  }
  EXPECT_THAT(reasons,
              ElementsAre(v1::REASON_SCHEDULED, v1::REASON_TRAINING, v1::REASON_COMPLETED));
}

TEST(CoordinatorJobTest, CompletionWithoutItsCheckpointIsNoSuccess) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 100);
  worker.End(id, v1::RANK_OUTCOME_COMPLETED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_TRAINER_CRASHED);
  EXPECT_THAT(bed.Job(id).message(), HasSubstr("the checkpoint of step 100 is not complete"));
}

TEST(CoordinatorJobTest, RepeatedSubmissionIsTheSameJob) {
  TestBed bed;
  const std::string id = bed.Submit({.request_id = "r1"});
  const auto again = bed.TrySubmit({.name = "other", .request_id = "r1"});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->job_id(), id);
  EXPECT_FALSE(bed.last.NeedsStore());
  bed.Restart();
  EXPECT_EQ(bed.TrySubmit({.request_id = "r1"})->job_id(), id);
  EXPECT_EQ(bed.Submit(), "job-2");
}

TEST(CoordinatorJobTest, SubmissionNeedsARequestId) {
  TestBed bed;
  Effects effects;
  const auto job = bed.coordinator.Submit(v1::SubmitJobRequest(), {}, bed.now, &effects);
  EXPECT_EQ(job.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CoordinatorJobTest, FullQueueRefuses) {
  TestBed bed({.queue_max = 2});
  bed.Submit();
  bed.Submit();
  const auto job = bed.TrySubmit();
  EXPECT_EQ(job.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(job.status().message()), HasSubstr("2 jobs"));
  EXPECT_EQ(bed.coordinator.CountByState()[v1::JOB_STATE_QUEUED], 2);
}

TEST(CoordinatorJobTest, PauseCheckpointsThenResumeRestores) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 30);
  worker.Sync();
  ASSERT_TRUE(bed.Pause(id).ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  EXPECT_TRUE(bed.Job(id).pause_requested());
  EXPECT_THAT(bed.last.changed_workers, ElementsAre("w1"));
  EXPECT_EQ(worker.Desired().ranks(0).run(), v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
  worker.Train(id, 31);
  worker.Checkpoint(id, 31);
  worker.End(id, v1::RANK_OUTCOME_STOPPED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_PAUSED);
  EXPECT_FALSE(bed.Job(id).pause_requested());
  EXPECT_EQ(worker.Desired().acknowledged_ends(0), id + "/1/0");
  worker.Sync();
  EXPECT_EQ(worker.snapshot.ranks_size(), 0);

  ASSERT_TRUE(bed.Resume(id).ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  const v1::DesiredState desired = worker.Desired();
  ASSERT_EQ(desired.ranks_size(), 1);
  EXPECT_EQ(desired.ranks(0).attempt(), 2);
  EXPECT_EQ(desired.ranks(0).restore().step(), 31);
  EXPECT_EQ(desired.ranks(0).holder_addresses().at("w1"), "w1:7000");
  worker.Obey();
  worker.Rank(id).set_restored_step(31);
  worker.Train(id, 31);
  worker.Sync();
  worker.Sync();
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_RESTORED).size(), 1u);
}

TEST(CoordinatorJobTest, PauseBeforeTheFirstStepNeedsNoCheckpoint) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Sync();
  ASSERT_TRUE(bed.Pause(id).ok());
  worker.End(id, v1::RANK_OUTCOME_STOPPED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_PAUSED);
}

TEST(CoordinatorJobTest, PauseOfAWaitingJobIsImmediate) {
  TestBed bed;
  const std::string id = bed.Submit();
  EXPECT_EQ(bed.Pause(id)->state(), v1::JOB_STATE_PAUSED);
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_PAUSED);
  EXPECT_EQ(bed.Resume(id)->state(), v1::JOB_STATE_STARTING);
}

TEST(CoordinatorJobTest, PauseThatMeetsTheEndSucceeds) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 100);
  worker.Sync();
  ASSERT_TRUE(bed.Pause(id).ok());
  worker.Checkpoint(id, 100);
  worker.End(id, v1::RANK_OUTCOME_COMPLETED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_SUCCEEDED);
}

TEST(CoordinatorJobTest, LossWhilePausingStillPauses) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 10);
  worker.Checkpoint(id, 10);
  worker.Sync();
  ASSERT_TRUE(bed.Pause(id).ok());
  bed.Advance(seconds(6));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_PAUSED);
  EXPECT_THAT(bed.Job(id).message(), HasSubstr("last good checkpoint is step 10"));
}

TEST(CoordinatorJobTest, APauseCanBeTakenBack) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 10);
  worker.Sync();
  ASSERT_TRUE(bed.Pause(id).ok());
  ASSERT_TRUE(bed.Resume(id).ok());
  EXPECT_EQ(worker.Desired().ranks(0).run(), v1::RUN_REQUEST_TRAIN);
  // The ranks had heard of the pause already.
  worker.Checkpoint(id, 10);
  worker.End(id, v1::RANK_OUTCOME_STOPPED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed.Job(id).attempt(), 2);
}

TEST(CoordinatorJobTest, CancelIsImmediateAndTheSlotFollows) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 10);
  worker.Sync();
  const std::string next = bed.Submit();
  EXPECT_EQ(bed.StateOf(next), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Cancel(id)->state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(worker.Desired().ranks_size(), 0);
  EXPECT_EQ(bed.StateOf(next), v1::JOB_STATE_QUEUED);
  ASSERT_TRUE(worker.Report().ok());  // It still runs there.
  EXPECT_EQ(bed.StateOf(next), v1::JOB_STATE_QUEUED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(next), v1::JOB_STATE_STARTING);
}

TEST(CoordinatorJobTest, MovesThatDoNotExistAreRefused) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 10);
  worker.Sync();
  EXPECT_EQ(bed.Resume(id).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(bed.Delete(id).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(bed.Cancel(id).ok());
  EXPECT_EQ(bed.Cancel(id).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(bed.Pause(id).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(bed.Resume(id).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(bed.last.NeedsStore());
  for (const auto& status : {bed.Cancel("x-9").status(), bed.Pause("job-7").status(),
                             bed.Resume("job").status(), bed.Delete("other-1")}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  }
}

TEST(CoordinatorJobTest, AResumeThatIsRefusedSaysWhatToDoInstead) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const auto refusal = [&](const std::string& id) {
    return std::string(bed.Resume(id).status().message());
  };
  const std::string done = bed.Submit();
  worker.RunTo(done, 50);
  EXPECT_THAT(refusal(done), HasSubstr("only paused and failed jobs can"));
  worker.Train(done, 100);
  worker.Checkpoint(done, 100);
  worker.End(done, v1::RANK_OUTCOME_COMPLETED);
  worker.Sync();
  ASSERT_EQ(bed.StateOf(done), v1::JOB_STATE_SUCCEEDED);
  EXPECT_THAT(refusal(done), HasSubstr("all its 100 steps are done; to train on, write its weights "
                                       "to a data root with `sinkforge checkpoints export job-1 "
                                       "FILE.safetensors`, and submit a job with init.from"));
  const std::string cancelled = bed.Submit();
  ASSERT_TRUE(bed.Cancel(cancelled).ok());
  EXPECT_THAT(refusal(cancelled), testing::EndsWith("while it is CANCELLED; submit it again"));
  const std::string kept = bed.Submit();
  worker.Sync();
  worker.RunTo(kept, 10);
  worker.Checkpoint(kept, 10);
  worker.Sync();
  ASSERT_TRUE(bed.Cancel(kept).ok());
  EXPECT_THAT(refusal(kept), HasSubstr("`sinkforge checkpoints export job-3 FILE.safetensors`"));
}

TEST(CoordinatorJobTest, ActionsAreDoneOncePerRequest) {
  TestBed bed;
  const std::string id = bed.Submit();
  ASSERT_TRUE(bed.Pause(id, "p").ok());
  ASSERT_TRUE(bed.Resume(id, "r").ok());
  EXPECT_EQ(bed.Pause(id, "p")->state(), v1::JOB_STATE_QUEUED);
  bed.Restart();
  EXPECT_EQ(bed.Pause(id, "p")->state(), v1::JOB_STATE_QUEUED);
  ASSERT_TRUE(bed.Cancel(id, "c").ok());
  EXPECT_TRUE(bed.Cancel(id, "c").ok());
}

TEST(CoordinatorJobTest, DeleteLeavesNothingAndIsRepeatable) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 100);
  worker.Checkpoint(id, 100);
  worker.End(id, v1::RANK_OUTCOME_COMPLETED);
  worker.Sync();
  ASSERT_TRUE(bed.Delete(id, "d").ok());
  EXPECT_THAT(bed.last.deleted_jobs, ElementsAre(id));
  EXPECT_THAT(bed.last.changed_workers, ElementsAre("w1"));
  EXPECT_TRUE(bed.stored.empty());
  EXPECT_EQ(worker.Desired().drop_checkpoints(0).job_id(), id);
  worker.Sync();
  EXPECT_EQ(worker.snapshot.checkpoint_parts_size(), 0);
  EXPECT_TRUE(bed.Delete(id, "d").ok());
  EXPECT_EQ(bed.Delete(id, "e").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bed.Submit(), "job-2");  // Numbers are never used again.
}

TEST(CoordinatorJobTest, EffectsOfSeveralCallsKeepTheLastValue) {
  TestBed bed;
  Effects effects;
  v1::SubmitJobRequest request;
  request.set_request_id("r");
  request.mutable_spec()->set_name("job");
  ASSERT_TRUE(bed.coordinator.Submit(request, {}, bed.now, &effects).ok());
  v1::JobActionRequest action;
  action.set_job_id("job-1");
  ASSERT_TRUE(bed.coordinator.Cancel(action, bed.now, &effects).ok());
  ASSERT_EQ(effects.jobs.size(), 1u);
  EXPECT_EQ(effects.jobs[0].state(), v1::JOB_STATE_CANCELLED);
  ASSERT_TRUE(bed.coordinator.Delete(action, bed.now, &effects).ok());
  EXPECT_TRUE(effects.jobs.empty());
  EXPECT_TRUE(effects.events.empty());
  EXPECT_THAT(effects.deleted_jobs, ElementsAre("job-1"));
}

TEST(CoordinatorJobTest, VisitsNewestFirstInPages) {
  TestBed bed;
  for (int i = 0; i < 5; ++i) bed.Submit();
  std::vector<std::string> ids;
  bed.coordinator.VisitJobs(INT64_MAX, [&](const v1::Job& job) {
    ids.push_back(job.job_id());
    return ids.size() < 2;
  });
  bed.coordinator.VisitJobs(Coordinator::NumberOf(ids.back()), [&](const v1::Job& job) {
    ids.push_back(job.job_id());
    return true;
  });
  EXPECT_THAT(ids, ElementsAre("job-5", "job-4", "job-3", "job-2", "job-1"));
}

TEST(CoordinatorJobTest, NumbersComeFromTheEndOfTheId) {
  EXPECT_EQ(Coordinator::NumberOf("a-1-22"), 22);
  for (const char* id : {"", "a", "a-", "a-x", "a-1x", "a-0", "a-99999999999999999999"}) {
    EXPECT_EQ(Coordinator::NumberOf(id), 0) << id;
  }
}

TEST(CoordinatorJobTest, ProgressIsShownAtOnceAndStoredNowAndThen) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 1);
  worker.Sync();
  int stores = 0;
  for (int step = 2; step < 22; ++step) {
    bed.Advance(seconds(1));
    worker.Train(id, step);
    worker.Sync();
    EXPECT_THAT(bed.last.changed_jobs, ElementsAre(id));
    stores += bed.last.NeedsStore() ? 1 : 0;
    EXPECT_EQ(bed.Job(id).progress().step(), step);
  }
  EXPECT_EQ(stores, 4);
  worker.Sync();
  EXPECT_TRUE(bed.last.changed_jobs.empty());
}

TEST(CoordinatorJobTest, WarningsBecomeOneEventEach) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Rank(id).add_warnings("slow disk");
  worker.Rank(id).add_warnings("not_bit_exact: another processor");
  worker.Sync();
  worker.Sync();
  bed.Restart();
  worker.Sync();
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_WARNING).size(), 1u);
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_NOT_BIT_EXACT).size(), 1u);
  for (int i = 0; i < 1000; ++i) worker.Rank(id).add_warnings(absl::StrCat("warning ", i));
  worker.Sync();
  EXPECT_LE(bed.Events(id, v1::EVENT_KIND_WARNING).size(), 64u);
}

}  // namespace
}  // namespace sinkforge::server
