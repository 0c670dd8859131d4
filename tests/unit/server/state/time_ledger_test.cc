// Where a job's time goes: every state's own account, and what a fault takes back.
#include <gtest/gtest.h>

#include "test_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::seconds;

double Sum(const v1::TimeLedger& time) {
  return time.queue() + time.start() + time.train() + time.replay() + time.detect() +
         time.checkpoint_stall() + time.pause() + time.stall();
}

TEST(TimeLedgerTest, AttributesEverySecondOfAJobThatIsDisturbed) {
  TestBed bed;
  const std::string id = bed.Submit();
  bed.Advance(seconds(3));  // queue
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  worker.Obey();
  bed.Advance(seconds(2));  // start
  worker.Train(id, 10);
  worker.Sync();
  bed.Advance(seconds(10));  // train
  worker.Train(id, 20);
  worker.Checkpoint(id, 20);
  worker.Sync();
  bed.Advance(seconds(4));  // steps that are lost
  worker.Train(id, 27);
  worker.Rank(id).mutable_progress()->set_checkpoint_stall_seconds(0.5);
  worker.Rank(id).mutable_progress()->set_stall_seconds(0.25);
  worker.Sync();
  bed.Advance(seconds(1));  // until the crash is seen
  worker.Crash(id);
  const v1::TimeLedger& time = bed.Job(id).time();
  EXPECT_DOUBLE_EQ(time.queue(), 3);
  EXPECT_DOUBLE_EQ(time.start(), 2);
  EXPECT_DOUBLE_EQ(time.detect(), 1);
  EXPECT_DOUBLE_EQ(time.replay(), 4);
  EXPECT_DOUBLE_EQ(time.checkpoint_stall(), 0.5);
  EXPECT_DOUBLE_EQ(time.stall(), 0.25);
  EXPECT_DOUBLE_EQ(time.train(), 9.25);
  EXPECT_DOUBLE_EQ(Sum(time), 20);
}

TEST(TimeLedgerTest, LosesNothingInAPauseThatEndsWithACheckpoint) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 1);
  worker.Sync();
  bed.Advance(seconds(4));
  ASSERT_TRUE(bed.Pause(id).ok());
  worker.Train(id, 5);
  worker.Checkpoint(id, 5);
  worker.End(id, v1::RANK_OUTCOME_STOPPED);
  worker.Sync();
  ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_PAUSED);
  bed.Advance(seconds(4));
  ASSERT_TRUE(bed.Resume(id).ok());
  EXPECT_DOUBLE_EQ(bed.Job(id).time().train(), 4);
  EXPECT_DOUBLE_EQ(bed.Job(id).time().replay(), 0);
  EXPECT_DOUBLE_EQ(bed.Job(id).time().detect(), 0);
  EXPECT_DOUBLE_EQ(bed.Job(id).time().pause(), 4);
}

// Two checkpoints of a worker alone, the second of which is lost while the job waits.
TEST(TimeLedgerTest, TheWorkOfALostCheckpointIsDoneAgain) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 1);
  worker.Sync();
  for (const int64_t step : {10, 20}) {
    bed.Advance(seconds(step));
    worker.Train(id, step);
    worker.Checkpoint(id, step);
    worker.Sync();
  }
  ASSERT_TRUE(bed.Pause(id).ok());
  worker.End(id, v1::RANK_OUTCOME_STOPPED);
  worker.Sync();
  ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_PAUSED);
  EXPECT_DOUBLE_EQ(bed.Job(id).time().train(), 30);
  worker.snapshot.mutable_checkpoint_parts()->DeleteSubrange(1, 1);
  ASSERT_TRUE(worker.Report().ok());
  EXPECT_DOUBLE_EQ(bed.Job(id).time().train(), 10);
  EXPECT_DOUBLE_EQ(bed.Job(id).time().replay(), 20);
  EXPECT_EQ(bed.Job(id).progress().step(), 10);
  ASSERT_TRUE(bed.Resume(id).ok());
  EXPECT_DOUBLE_EQ(bed.Job(id).time().train(), 10);
}

TEST(TimeLedgerTest, WhatAPauseCannotKeepIsTakenBackAtOnce) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 1);
  worker.Sync();
  bed.Advance(seconds(10));
  worker.Train(id, 10);
  worker.Checkpoint(id, 10);
  worker.Sync();
  bed.Advance(seconds(5));
  worker.Train(id, 15);
  worker.Sync();
  ASSERT_TRUE(bed.Pause(id).ok());
  worker.Crash(id);
  ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_PAUSED);
  const auto check = [&] {
    EXPECT_EQ(bed.Job(id).progress().step(), 10);
    EXPECT_DOUBLE_EQ(bed.Job(id).time().train(), 10);
    EXPECT_DOUBLE_EQ(bed.Job(id).time().replay(), 5);
  };
  check();
  ASSERT_TRUE(bed.Resume(id).ok());
  check();
}

// The restored checkpoint counts as work done until the attempt that restored it fails.
TEST(TimeLedgerTest, AJobThatStartsAnewHasDoneNothingThatCounts) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 1);
  worker.Sync();
  bed.Advance(seconds(4));
  worker.Train(id, 10);
  worker.Checkpoint(id, 10);
  worker.Sync();
  ASSERT_TRUE(bed.Pause(id).ok());
  worker.End(id, v1::RANK_OUTCOME_STOPPED);
  worker.Sync();
  ASSERT_TRUE(bed.Resume(id).ok());
  worker.Obey();
  worker.Train(id, 12);
  worker.Sync();
  worker.snapshot.clear_checkpoint_parts();
  bed.Advance(seconds(3));
  worker.Train(id, 14);
  worker.Sync();
  EXPECT_DOUBLE_EQ(bed.Job(id).time().train(), 4);
  worker.Crash(id);
  const v1::TimeLedger& time = bed.Job(id).time();
  EXPECT_DOUBLE_EQ(time.train(), 0);
  EXPECT_DOUBLE_EQ(time.replay(), 7);
  EXPECT_EQ(bed.Job(id).progress().step(), 0);
}

TEST(TimeLedgerTest, AClockThatIsSetBackTakesNothingAway) {
  TestBed bed;
  const std::string id = bed.Submit();
  bed.Advance(seconds(3));
  bed.now.wall -= seconds(60);
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_DOUBLE_EQ(bed.Job(id).time().queue(), 0);
}

}  // namespace
}  // namespace sinkforge::server
