// A coordinator whose store was restored from a backup: what workers have of later attempts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "commit_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

struct Backup {
  std::map<std::string, v1::Job> jobs;
  int64_t next_job_number = 1;
};

class AdoptionTest : public CommitTest {
 protected:
  Backup Save() const { return {bed_.stored, bed_.next_job_number}; }
  void Restore(const Backup& backup) {
    bed_.stored = backup.jobs;
    bed_.next_job_number = backup.next_job_number;
    bed_.Restart();
  }

  // Who runs the job: not where it failed.
  HandWorker& Runner() { return w2_.Desired().ranks_size() > 0 ? w2_ : w1_; }
  HandWorker& Other() { return &Runner() == &w1_ ? w2_ : w1_; }
  void CheckpointOnce(int64_t step) {
    HandWorker& runner = Runner();
    runner.Sync();
    runner.Train(id_, step);
    runner.Checkpoint(id_, step);
    runner.Sync();
  }
  // The checkpoint is durable on both workers.
  void CheckpointTwice(int64_t step) {
    CheckpointOnce(step);
    Other().Fetch();
    v1::WorkerSnapshot& copier = Other().snapshot;
    copier.mutable_checkpoint_parts()->rbegin()->set_worker(copier.worker());
    Runner().Sync();
  }
  // The trainer dies, and the next attempt is under way.
  void CrashAndGoOn() {
    Runner().Crash(id_);
    Advance(seconds(30), {&w1_, &w2_});
    ASSERT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
  }
  // Both workers report, without having heard of the coordinator.
  void ReportBoth() {
    for (HandWorker* worker : {&w1_, &w2_}) ASSERT_TRUE(worker->Report().ok());
  }
  int64_t Drops() const {
    return w1_.Desired().drop_checkpoints_size() + w2_.Desired().drop_checkpoints_size();
  }
  void PassTheLease() {
    Advance(std::chrono::ceil<seconds>(bed_.options.lease) + seconds(1), {&w1_, &w2_});
  }
  int64_t RestoredStep() const {
    for (const HandWorker* worker : {&w1_, &w2_}) {
      const v1::DesiredState desired = worker->Desired();
      if (desired.ranks_size() > 0) return desired.ranks(0).restore().step();
    }
    return -1;
  }
};

TEST_F(AdoptionTest, CheckpointsOfALaterAttemptAreWhatTheJobGoesOnFrom) {
  CheckpointTwice(10);
  CheckpointTwice(20);
  const Backup backup = Save();
  ASSERT_EQ(bed_.Job(id_).attempt(), 1);
  CrashAndGoOn();
  for (const int64_t step : {30, 40, 50}) CheckpointTwice(step);  // 10 to 30 are gone by then
  Restore(backup);
  ReportBoth();
  EXPECT_EQ(Drops(), 0);
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_QUEUED);
  EXPECT_THAT(LastMessage(v1::EVENT_KIND_ATTEMPT_ENDED),
              HasSubstr("worker w1 has checkpoints of attempt 2"));
  PassTheLease();
  EXPECT_THAT(Checkpoints(), ElementsAre("40:w1|w2", "50:w1|w2"));
  EXPECT_EQ(bed_.Job(id_).attempt(), 3);
  EXPECT_EQ(RestoredStep(), 50);
  EXPECT_EQ(bed_.Job(id_).progress().step(), 50);
  EXPECT_THAT(LastMessage(v1::EVENT_KIND_WARNING), HasSubstr("adopted: steps 40, 50"));
  EXPECT_TRUE(w1_.Holds(id_, 3) || w2_.Holds(id_, 3));
  EXPECT_FALSE(w1_.Holds(id_, 2));
}

TEST_F(AdoptionTest, ARestartInTheMiddleLosesNothing) {
  CheckpointTwice(10);
  const Backup backup = Save();
  CrashAndGoOn();
  CheckpointTwice(30);
  Restore(backup);
  ReportBoth();
  bed_.Restart();
  ReportBoth();
  PassTheLease();
  EXPECT_EQ(RestoredStep(), 30);
  bed_.Restart();
  ReportBoth();
  PassTheLease();
  EXPECT_EQ(bed_.Job(id_).attempt(), 3);
  EXPECT_EQ(RestoredStep(), 30);
}

TEST_F(AdoptionTest, EveryRankMayReportItsPartWithinALease) {
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  w1_.Sync();
  w1_.Sync();
  id_ = bed_.Submit({.ranks = 2});
  const Backup backup = Save();  // before its first attempt
  std::vector<HandWorker*> gang{&w1_, &w2_};
  const auto checkpoint = [&](int64_t step) {
    for (HandWorker* worker : gang) {
      worker->Sync();
      worker->Train(id_, step);
      worker->Checkpoint(id_, step, 2);
      worker->Sync();
    }
    Advance(seconds(9), gang);
  };
  checkpoint(10);
  w1_.Crash(id_);
  Advance(seconds(30), gang);
  checkpoint(20);
  w1_.Crash(id_);
  Advance(seconds(30), gang);
  ASSERT_EQ(bed_.Job(id_).attempt(), 3);
  // Of this one, one rank alone has its part.
  w1_.Train(id_, 30);
  w1_.Checkpoint(id_, 30, 2);
  w1_.Sync();
  Restore(backup);
  ASSERT_TRUE(w1_.Report().ok());
  Advance(seconds(3), {&w1_});
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(w1_.Desired().drop_checkpoints_size(), 0);
  ASSERT_TRUE(w2_.Report().ok());
  PassTheLease();
  EXPECT_EQ(bed_.Job(id_).attempt(), 4);
  EXPECT_EQ(bed_.Job(id_).checkpoints().rbegin()->step(), 20);
  EXPECT_EQ(bed_.Job(id_).checkpoints().rbegin()->attempt(), 2);
  EXPECT_EQ(RestoredStep(), 20);
  // What is not whole is of no use.
  for (const v1::CheckpointPart& part : w1_.snapshot.checkpoint_parts()) EXPECT_LE(part.step(), 20);
}

TEST_F(AdoptionTest, AJobThatWasPausedStaysSoUntilItIsResumed) {
  CheckpointTwice(10);
  ASSERT_TRUE(bed_.Pause(id_).ok());
  w1_.End(id_, v1::RANK_OUTCOME_STOPPED);
  w1_.Sync();
  ASSERT_EQ(bed_.StateOf(id_), v1::JOB_STATE_PAUSED);
  const Backup backup = Save();
  ASSERT_TRUE(bed_.Resume(id_).ok());
  w1_.Sync();
  CheckpointTwice(30);
  Restore(backup);
  ReportBoth();
  ASSERT_TRUE(bed_.Resume(id_).ok());  // too early: it waits for the workers all the same
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_QUEUED);
  ASSERT_TRUE(bed_.Pause(id_).ok());
  PassTheLease();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_PAUSED);
  EXPECT_EQ(bed_.Job(id_).checkpoints().rbegin()->step(), 30);
  ASSERT_TRUE(bed_.Resume(id_).ok());
  EXPECT_EQ(bed_.Job(id_).attempt(), 3);
  EXPECT_EQ(RestoredStep(), 30);
}

TEST_F(AdoptionTest, APauseUnderWayIsKept) {
  CheckpointTwice(10);
  ASSERT_TRUE(bed_.Pause(id_).ok());
  const Backup backup = Save();
  ASSERT_TRUE(bed_.Resume(id_).ok());
  CrashAndGoOn();
  CheckpointTwice(30);
  Restore(backup);
  ReportBoth();
  PassTheLease();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_PAUSED);
  EXPECT_EQ(bed_.Job(id_).checkpoints().rbegin()->step(), 30);
}

TEST_F(AdoptionTest, CancelledAndDeletedJobsTakeNothing) {
  const Backup backup = Save();
  CrashAndGoOn();
  CheckpointTwice(30);
  Restore(backup);
  ReportBoth();
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  ReportBoth();
  EXPECT_GT(Drops(), 0);
  PassTheLease();
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 0);

  Restore(backup);
  ReportBoth();
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  ASSERT_TRUE(bed_.Delete(id_).ok());
  PassTheLease();
  EXPECT_TRUE(w1_.snapshot.checkpoint_parts().empty());
}

TEST_F(AdoptionTest, NumbersThatWorkersKnowAreNotGivenAgain) {
  w1_.Train(id_, 5);
  w1_.Sync();
  const Backup backup = Save();
  CrashAndGoOn();  // of the second attempt there is no checkpoint
  HandWorker& other = Other();
  const std::string later = bed_.Submit();
  other.Sync();
  other.Train(later, 10);
  other.Checkpoint(later, 10);
  other.Sync();
  Restore(backup);
  ReportBoth();
  EXPECT_EQ(other.Desired().drop_checkpoints_size(), 1);
  const std::string next = bed_.Submit();
  EXPECT_NE(next, later);
  Advance(seconds(60), {&w1_, &w2_});
  EXPECT_EQ(bed_.Job(id_).attempt(), 3);
  EXPECT_EQ(bed_.Job(next).checkpoints_size(), 0);
}

TEST_F(AdoptionTest, WhatALateWorkerBringsCountsOnlyWhereItIsNewer) {
  const Backup backup = Save();
  CrashAndGoOn();
  CrashAndGoOn();
  ASSERT_EQ(bed_.Job(id_).attempt(), 3);
  HandWorker& late = Runner();
  HandWorker& there = Other();
  CheckpointOnce(20);
  const v1::WorkerSnapshot brought = late.snapshot;
  for (const int64_t reached : {30, 15}) {
    Restore(backup);
    late.snapshot = brought;
    late.RestartDaemon(absl::StrCat("late/", reached));
    there.RestartDaemon(absl::StrCat("there/", reached));
    there.snapshot.clear_checkpoint_parts();
    ASSERT_TRUE(there.Report().ok());
    Advance(seconds(60), {&there});
    ASSERT_TRUE(there.Holds(id_, 2));
    there.Train(id_, reached);
    there.Checkpoint(id_, reached);
    there.Sync();
    ASSERT_EQ(bed_.Job(id_).checkpoints().rbegin()->step(), reached);
    ASSERT_TRUE(late.Report().ok());
    Advance(seconds(30), {&late, &there});
    EXPECT_EQ(bed_.Job(id_).checkpoints().rbegin()->step(), std::max<int64_t>(reached, 20));
    EXPECT_EQ(bed_.Job(id_).attempt(), reached > 20 ? 2 : 4);
  }
}

// A job that was submitted after the backup, and another one that gets its name and number while
// the worker that has its checkpoints is away.
class ReusedNumberTest : public AdoptionTest {
 protected:
  ReusedNumberTest() {
    EXPECT_TRUE(bed_.Cancel(id_).ok());
    for (HandWorker* worker : {&w1_, &w2_, &w1_}) worker->Sync();
    backup_ = Save();
    id_ = bed_.Submit();
    forgotten_uid_ = bed_.Job(id_).uid();
  }
  // The worker that has had the job until now is not there.
  void RestoreAndReuse() {
    away_ = &Runner();
    there_ = &Other();
    Restore(backup_);
    there_->RestartDaemon("there/2");
    there_->snapshot.clear_checkpoint_parts();
    ASSERT_EQ(bed_.Submit(), id_);
    ASSERT_NE(bed_.Job(id_).uid(), forgotten_uid_);
    away_->RestartDaemon("away/2");
  }
  int64_t PartsOfTheForgotten() const {
    const auto& parts = away_->snapshot.checkpoint_parts();
    return std::count_if(parts.begin(), parts.end(),
                         [&](const auto& part) { return part.job_uid() == forgotten_uid_; });
  }

  Backup backup_;
  std::string forgotten_uid_;
  HandWorker* away_ = nullptr;
  HandWorker* there_ = nullptr;
};

TEST_F(ReusedNumberTest, LaterAttemptsOfTheForgottenJobAreNotAdopted) {
  CheckpointOnce(10);
  CrashAndGoOn();
  CheckpointOnce(20);
  RestoreAndReuse();
  ASSERT_GT(PartsOfTheForgotten(), 0);
  ASSERT_TRUE(away_->Report().ok());
  // It starts at once, with a number that none of the forgotten job's had: a worker that has a part
  // writes no other one in its place.
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed_.Job(id_).attempt(), 3);
  EXPECT_EQ(RestoredStep(), 0);
  const v1::DesiredState desired = away_->Desired();
  ASSERT_EQ(desired.drop_checkpoints_size(), 1);
  for (const v1::DropCheckpoint& drop : desired.drop_checkpoints()) {
    EXPECT_EQ(drop.job_uid(), forgotten_uid_);
  }
  away_->Sync();
  EXPECT_EQ(PartsOfTheForgotten(), 0);
  EXPECT_EQ(away_->Desired().drop_checkpoints_size(), 0);
  PassTheLease();
  EXPECT_EQ(bed_.Job(id_).attempt(), 3);
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 0);
}

TEST_F(ReusedNumberTest, PartsOfTheAttemptUnderWayAreNotCommitted) {
  CheckpointOnce(10);
  CheckpointOnce(20);
  RestoreAndReuse();
  there_->Sync();
  there_->Sync();
  ASSERT_TRUE(there_->Holds(id_, 1));
  there_->Train(id_, 5);
  there_->Sync();
  ASSERT_TRUE(away_->Report().ok());
  ASSERT_EQ(PartsOfTheForgotten(), 2);
  Advance(seconds(20), {there_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  EXPECT_EQ(bed_.Job(id_).progress().step(), 5);
  // What the job itself writes of a step has its second copy in the place of the other's part.
  there_->Train(id_, 20);
  there_->Checkpoint(id_, 20);
  there_->Sync();
  ASSERT_TRUE(away_->Report().ok());
  ASSERT_EQ(away_->Desired().copy_parts_size(), 1);
  EXPECT_EQ(away_->Desired().copy_parts(0).part().job_uid(), bed_.Job(id_).uid());
  away_->Fetch();
  EXPECT_EQ(PartsOfTheForgotten(), 0);
  EXPECT_EQ(away_->snapshot.checkpoint_parts_size(), 1);
  const std::string expected =
      absl::StrCat("20:", there_->snapshot.worker(), "|", away_->snapshot.worker());
  EXPECT_THAT(Checkpoints(), ElementsAre(expected));
}

TEST_F(ReusedNumberTest, APartThatIsAnotherJobsIsGoneFromItsHolder) {
  CheckpointOnce(10);
  RestoreAndReuse();
  there_->Sync();
  there_->Sync();
  there_->Train(id_, 10);
  const v1::CheckpointPart other = away_->snapshot.checkpoint_parts(0);
  away_->snapshot.clear_checkpoint_parts();
  away_->Sync();
  there_->Checkpoint(id_, 10);
  there_->Sync();
  away_->Fetch();
  ASSERT_EQ(Checkpoints().size(), 1u);
  *away_->snapshot.mutable_checkpoint_parts(0) = other;
  ASSERT_TRUE(away_->Report().ok());
  EXPECT_THAT(Checkpoints(), ElementsAre(absl::StrCat("10:", there_->snapshot.worker(), "|")));
}

TEST_F(AdoptionTest, PartsWithoutAUidAreTheJobsOfTheirNameAndNumber) {
  EXPECT_EQ(w1_.Desired().ranks(0).job_uid(), bed_.Job(id_).uid());
  CheckpointOnce(10);
  const Backup backup = Save();
  CrashAndGoOn();
  CheckpointOnce(30);
  // As an earlier version of the worker writes them.
  for (HandWorker* worker : {&w1_, &w2_}) {
    for (v1::CheckpointPart& part : *worker->snapshot.mutable_checkpoint_parts()) {
      part.clear_job_uid();
    }
  }
  Restore(backup);
  ReportBoth();
  PassTheLease();
  EXPECT_EQ(RestoredStep(), 30);
  // And a job that an earlier version of the coordinator has stored.
  bed_.stored[id_].clear_uid();
  bed_.Restart();
  ReportBoth();
  Advance(seconds(60), {&w1_, &w2_});
  EXPECT_EQ(Drops(), 0);
  CheckpointOnce(40);
  Advance(seconds(10), {&w1_, &w2_});
  EXPECT_EQ(bed_.Job(id_).checkpoints().rbegin()->step(), 40);
  EXPECT_EQ(bed_.Job(id_).checkpoints().rbegin()->parts(0).job_uid(), "");
}

TEST_F(AdoptionTest, NumbersBeyondReasonAreNotBelieved) {
  w1_.Train(id_, 10);
  w1_.Checkpoint(id_, 10);
  for (const int64_t attempt : {int64_t{1} << 40, INT64_MAX}) {
    v1::CheckpointPart* part = w1_.snapshot.add_checkpoint_parts();
    *part = w1_.snapshot.checkpoint_parts(0);
    part->set_attempt(attempt);
    part->set_step(20);
    *w1_.snapshot.add_checkpoint_parts() = *part;
    w1_.snapshot.mutable_checkpoint_parts()->rbegin()->set_job_id("job-9223372036854775807");
  }
  ASSERT_TRUE(w1_.Report().ok());
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(w1_.Desired().drop_checkpoints_size(), 4);
  EXPECT_EQ(bed_.coordinator.next_job_number(), 2);
}

}  // namespace
}  // namespace sinkforge::server
