// Attempts: gangs, faults, retry budgets, time-outs, and slots that are used by one at a time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/state/retry.h"
#include "test_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::HasSubstr;

TEST(RetryPolicyTest, BacksOffExponentiallyAndInfrastructureStartsAtOnce) {
  const CoordinatorOptions options{.infrastructure_retries = 4,
                                   .crash_retries = 2,
                                   .backoff_first = seconds(1),
                                   .backoff_max = seconds(3)};
  v1::RetryCounts counts;
  std::vector<int64_t> delays;
  for (int i = 0; i < 4; ++i) {
    const auto decision = CountFailure(FaultKind::kInfrastructure, options, &counts);
    EXPECT_TRUE(decision.retry);
    delays.push_back(std::chrono::duration_cast<milliseconds>(decision.delay).count());
  }
  EXPECT_THAT(delays, testing::ElementsAre(0, 1000, 2000, 3000));
  EXPECT_FALSE(CountFailure(FaultKind::kInfrastructure, options, &counts).retry);
  EXPECT_EQ(CountFailure(FaultKind::kCrash, options, &counts).delay, seconds(1));
  EXPECT_EQ(counts.crash(), 1);
  EXPECT_FALSE(CountFailure(FaultKind::kFatal, options, &counts).retry);
}

TEST(CoordinatorAttemptTest, CrashIsRetriedAfterABackOffThenGivenUp) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  for (int crash = 1; crash <= 3; ++crash) {
    worker.RunTo(id, 5);
    worker.Crash(id);
    EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
    EXPECT_EQ(bed.Job(id).reason(), v1::REASON_TRAINER_CRASHED);
    EXPECT_EQ(bed.Job(id).retries().crash(), crash);
    EXPECT_EQ(bed.coordinator.Explain(id, bed.now).reason, v1::REASON_BACKING_OFF);
    EXPECT_THAT(bed.coordinator.Explain(id, bed.now).message, HasSubstr("boom"));
    bed.Advance(seconds(1 << (crash - 1)) - milliseconds(1));
    worker.Sync();
    bed.Tick();
    EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
    bed.Advance(milliseconds(1));
    bed.Tick();
    EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  }
  worker.RunTo(id, 5);
  worker.Crash(id);
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_FAILED);
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_RETRIES_EXHAUSTED);
  EXPECT_THAT(bed.Job(id).message(), HasSubstr("sinkforge resume job-1"));
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_ATTEMPT_ENDED).size(), 4u);

  ASSERT_TRUE(bed.Resume(id).ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed.Job(id).retries().crash(), 0);
  EXPECT_FALSE(bed.Job(id).has_end_time());
}

TEST(CoordinatorAttemptTest, ANewCheckpointResetsTheBudgets) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  for (int64_t step = 1; step <= 10; ++step) {
    worker.RunTo(id, step);
    worker.Checkpoint(id, step);
    worker.Sync();
    EXPECT_EQ(bed.Job(id).retries().crash(), 0);
    worker.Crash(id);
    bed.Advance(seconds(1));
    worker.Sync();
    bed.Tick();
    ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  }
}

TEST(CoordinatorAttemptTest, TheSameCheckpointAgainResetsNothing) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  for (int crash = 1; crash <= 3; ++crash) {
    worker.RunTo(id, 5);
    worker.Checkpoint(id, 5);
    worker.Sync();
    worker.Crash(id);
    EXPECT_EQ(bed.Job(id).retries().crash(), crash);
    bed.Advance(minutes(1));
    worker.Sync();
    bed.Tick();
  }
}

struct FatalCase {
  v1::Reason reason;
  const char* next_step;
};

class FatalFaultTest : public testing::TestWithParam<FatalCase> {};

TEST_P(FatalFaultTest, FailsAtOnceWithTheNextStep) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.RunTo(id, 10);
  worker.Checkpoint(id, 10);
  worker.Sync();
  worker.RunTo(id, 16);
  worker.Crash(id, GetParam().reason, "the cause");
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_FAILED);
  EXPECT_EQ(bed.Job(id).reason(), GetParam().reason);
  EXPECT_THAT(bed.Job(id).message(), HasSubstr("the cause"));
  EXPECT_THAT(bed.Job(id).message(), HasSubstr(GetParam().next_step));
}

INSTANTIATE_TEST_SUITE_P(
    Reasons, FatalFaultTest,
    testing::Values(FatalCase{v1::REASON_BAD_JOB, "Correct the job file"},
                    FatalCase{v1::REASON_BAD_DATA, "Correct the data"},
                    FatalCase{v1::REASON_NON_FINITE_LOSS, "the loss of step 17 is not finite"},
                    FatalCase{v1::REASON_NON_FINITE_LOSS, "the last good checkpoint is step 10"},
                    FatalCase{v1::REASON_CHECKPOINT_FAILED, "Make room"}));

TEST(CoordinatorAttemptTest, AHolderThatCannotBeReachedIsNotTheTrainersFault) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.RunTo(id, 5);
  worker.Crash(id, v1::REASON_WORKER_LOST, "checkpoint of step 5: from worker w2: unreachable");
  EXPECT_EQ(bed.Job(id).retries().infrastructure(), 1);
  EXPECT_EQ(bed.Job(id).retries().crash(), 0);
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);  // the first time at once
}

TEST(CoordinatorAttemptTest, GoesBackToTheCheckpointAndOnWithoutTheBadBatch) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit({.bad_batches = v1::BAD_BATCHES_SKIP});
  worker.RunTo(id, 10);
  worker.Checkpoint(id, 10);
  worker.Sync();
  worker.RunTo(id, 16);
  worker.Crash(id, v1::REASON_NON_FINITE_LOSS, "the cause");
  // At once, from the checkpoint.
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  ASSERT_EQ(worker.Desired().ranks_size(), 1);
  EXPECT_EQ(worker.Desired().ranks(0).restore().step(), 10);
  EXPECT_THAT(worker.Desired().ranks(0).skip_batches(), testing::ElementsAre(16));
  const auto events = bed.Events(id, v1::EVENT_KIND_ROLLED_BACK);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].reason(), v1::REASON_NON_FINITE_LOSS);
  EXPECT_THAT(events[0].message(), HasSubstr("step 17 is not finite"));
  EXPECT_THAT(events[0].message(),
              HasSubstr("back to the checkpoint of step 10, and on without batch 16"));
  // From then on its events are of the step that it goes on from.
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_ATTEMPT_ENDED)[0].step(), 16);
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_STATE_CHANGED).back().step(), 10);
  EXPECT_EQ(bed.Job(id).progress().step(), 10);
  // The same step reads the next batch now, and that one is bad as well.
  worker.RunTo(id, 16);
  worker.Crash(id, v1::REASON_LOSS_SPIKE, "a spike");
  EXPECT_THAT(bed.Job(id).skipped_batches(), testing::ElementsAre(16, 17));
  // An earlier one is counted from the beginning.
  worker.RunTo(id, 12);
  worker.Crash(id, v1::REASON_LOSS_SPIKE, "a spike");
  EXPECT_THAT(bed.Job(id).skipped_batches(), testing::ElementsAre(12, 16, 17));
  bed.Restart();
  EXPECT_THAT(bed.Job(id).skipped_batches(), testing::ElementsAre(12, 16, 17));
}

TEST(CoordinatorAttemptTest, GivesUpOnAJobWhoseBatchesAreAllBad) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit({.bad_batches = v1::BAD_BATCHES_SKIP});
  for (int failures = 1; bed.StateOf(id) != v1::JOB_STATE_FAILED; ++failures) {
    ASSERT_LE(failures, bed.options.bad_batch_retries + 1);
    worker.RunTo(id, 3);
    worker.Crash(id, v1::REASON_NON_FINITE_LOSS, "the cause");
  }
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_RETRIES_EXHAUSTED);
  EXPECT_EQ(bed.Job(id).retries().bad_batch(), bed.options.bad_batch_retries + 1);
}

TEST(CoordinatorAttemptTest, GangStartsWholeOrNotAtAll) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string small = bed.Submit();
  const std::string gang = bed.Submit({.name = "gang", .ranks = 2});
  EXPECT_EQ(bed.StateOf(gang), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Job(gang).reason(), v1::REASON_WAITING_FOR_SLOTS);
  ASSERT_TRUE(bed.Cancel(small).ok());
  w1.Sync();
  w1.Sync();
  EXPECT_EQ(bed.StateOf(gang), v1::JOB_STATE_STARTING);
  EXPECT_EQ(w1.Desired().ranks_size() + w2.Desired().ranks_size(), 2);
}

TEST(CoordinatorAttemptTest, LosingARankEndsTheAttemptEverywhere) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string id = bed.Submit({.ranks = 2});
  w1.RunTo(id, 5);
  w2.RunTo(id, 5);
  w2.End(id, v1::RANK_OUTCOME_FAILED, v1::REASON_TRAINER_CRASHED, "signal 9");
  ASSERT_TRUE(w2.Report().ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  const v1::Event ended = bed.Events(id, v1::EVENT_KIND_ATTEMPT_ENDED)[0];
  const EventPlace& place = bed.last.event_places.at({id, ended.sequence()});
  EXPECT_EQ(place.worker, "w2");
  EXPECT_EQ(place.rank, 1);
  EXPECT_EQ(bed.Job(id).placement_size(), 0);
  EXPECT_EQ(w1.Desired().ranks_size(), 0);
  EXPECT_THAT(bed.last.changed_workers, testing::ElementsAre("w1", "w2"));
  EXPECT_FALSE(bed.coordinator.IsCurrentAttempt(id, 1));
  // The gang waits for the slot of the rank that still runs, then starts whole.
  bed.Advance(seconds(2));
  ASSERT_TRUE(w1.Report().ok());
  w2.Sync();
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  w1.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_TRUE(bed.coordinator.IsCurrentAttempt(id, 2));
}

TEST(CoordinatorAttemptTest, TheCauseCountsRatherThanItsConsequence) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string id = bed.Submit({.ranks = 2});
  w1.RunTo(id, 5);
  w2.RunTo(id, 5);
  w1.End(id, v1::RANK_OUTCOME_FAILED, v1::REASON_RANK_LOST, "connection reset");
  ASSERT_TRUE(w1.Report().ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  w2.End(id, v1::RANK_OUTCOME_FAILED, v1::REASON_BAD_DATA, "token id 70000");
  ASSERT_TRUE(w2.Report().ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_FAILED);
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_BAD_DATA);
}

TEST(CoordinatorAttemptTest, ALostPeerEndsTheAttemptSoonAlsoWithoutACause) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string id = bed.Submit({.ranks = 2});
  w1.RunTo(id, 5);
  w2.RunTo(id, 5);
  w1.End(id, v1::RANK_OUTCOME_FAILED, v1::REASON_RANK_LOST, "connection reset");
  ASSERT_TRUE(w1.Report().ok());
  bed.Advance(seconds(2));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Job(id).retries().infrastructure(), 1);
}

TEST(CoordinatorAttemptTest, ARankThatItsWorkerForgotHasCrashed) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.RunTo(id, 5);
  worker.snapshot.clear_ranks();
  ASSERT_TRUE(worker.Report().ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Job(id).retries().crash(), 1);
}

TEST(CoordinatorAttemptTest, ARankTakenBackUnseenBlocksItsSlotUntilTheWorkerKnows) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  const std::string next = bed.Submit();
  ASSERT_TRUE(bed.Cancel(id).ok());
  // Made before the worker saw either desired state: it may yet start the rank.
  ASSERT_TRUE(worker.Report().ok());
  EXPECT_EQ(bed.StateOf(next), v1::JOB_STATE_QUEUED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(next), v1::JOB_STATE_STARTING);
}

TEST(CoordinatorAttemptTest, StartTimeoutCountsAsNoProgress) {
  TestBed bed({.lease = std::chrono::hours(1), .start_timeout = minutes(1)});
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Sync();
  bed.Advance(minutes(1));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_START_TIMEOUT);
  EXPECT_EQ(bed.Job(id).retries().no_progress(), 1);
}

TEST(CoordinatorAttemptTest, ALargeCheckpointHasLongerToBeRestored) {
  TestBed bed({.lease = std::chrono::hours(1), .start_timeout = minutes(1)});
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.RunTo(id, 5);
  worker.Checkpoint(id, 5);
  worker.snapshot.mutable_checkpoint_parts(0)->set_bytes(1'200'000'000);  // two minutes
  worker.Sync();
  worker.Crash(id);
  worker.Sync();
  bed.Advance(minutes(10));  // whatever it backs off
  bed.Tick();
  worker.Sync();
  ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  bed.Advance(minutes(3) - seconds(1));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  bed.Advance(seconds(1));
  bed.Tick();
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_START_TIMEOUT);
}

TEST(CoordinatorAttemptTest, NoProgressEndsTheAttempt) {
  TestBed bed({.lease = std::chrono::hours(1), .no_progress_timeout = minutes(1)});
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.RunTo(id, 5);
  bed.Advance(seconds(50));
  worker.RunTo(id, 6);
  bed.Advance(seconds(50));
  worker.Sync();
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  bed.Advance(seconds(10));
  bed.Tick();
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_NO_PROGRESS);
  EXPECT_EQ(worker.Desired().ranks_size(), 0);
}

TEST(CoordinatorAttemptTest, ARankThatItsWorkerHoldsUpIsNoHang) {
  TestBed bed({.lease = std::chrono::hours(1), .no_progress_timeout = minutes(1)});
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.RunTo(id, 5);
  worker.Rank(id).set_message("training waits: disk full");
  for (int i = 0; i < 10; ++i) {
    bed.Advance(seconds(50));
    worker.Sync();
    bed.Tick();
  }
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(bed.coordinator.Explain(id, bed.now).message,
            "rank 0 on w1: training waits: disk full");
  worker.Rank(id).clear_message();
  worker.Sync();
  EXPECT_EQ(bed.coordinator.Explain(id, bed.now).message, bed.Job(id).message());
  bed.Advance(minutes(1));
  bed.Tick();
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_NO_PROGRESS);
}

TEST(CoordinatorAttemptTest, BackOffOutlivesARestart) {
  TestBed bed({.backoff_first = seconds(30)});
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.RunTo(id, 5);
  worker.Crash(id);
  bed.Advance(seconds(10));
  bed.Restart();
  worker.Sync();
  bed.Tick();
  EXPECT_EQ(bed.coordinator.Explain(id, bed.now).reason, v1::REASON_BACKING_OFF);
  bed.Advance(seconds(20));
  worker.Sync();
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
}

}  // namespace
}  // namespace sinkforge::server
