// Checkpoints: commits, the fence against old attempts, retention, deletion and loss.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "test_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using testing::HasSubstr;

std::vector<int64_t> StepsOf(const v1::Job& job) {
  std::vector<int64_t> steps;
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) steps.push_back(checkpoint.step());
  return steps;
}

TEST(CoordinatorCheckpointTest, CommitsOnlyWhenEveryPartIsDurable) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string id = bed.Submit({.ranks = 2});
  for (HandWorker* worker : {&w1, &w2}) {
    worker->Obey();
    worker->Train(id, 10);
    worker->Sync();
  }
  w1.Checkpoint(id, 10, 2);
  w1.Sync();
  EXPECT_EQ(bed.Job(id).checkpoints_size(), 0);
  w2.Checkpoint(id, 10, 2);
  w2.Sync();
  ASSERT_EQ(bed.Job(id).checkpoints_size(), 1);
  const v1::Checkpoint& checkpoint = bed.Job(id).checkpoints(0);
  EXPECT_EQ(checkpoint.parts(0).worker(), "w1");
  EXPECT_EQ(checkpoint.parts(1).worker(), "w2");
  EXPECT_EQ(checkpoint.bytes(), 2000);
  EXPECT_THAT(bed.last.changed_workers, testing::ElementsAre("w1", "w2"));
  EXPECT_EQ(w1.Desired().committed_parts(0), id + "/1/10/0");
  w1.Sync();
  w2.Sync();
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_CHECKPOINT_COMMITTED).size(), 1u);
}

TEST(CoordinatorCheckpointTest, APartOfAnOldAttemptIsDropped) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  w1.Sync();
  const std::string id = bed.Submit();
  w1.Obey();
  w1.Train(id, 10);
  w1.Sync();
  bed.Advance(seconds(6));
  bed.Tick();
  HandWorker w2(&bed, "w2", 1);
  w2.Sync();
  ASSERT_EQ(bed.Job(id).attempt(), 2);
  // The partitioned worker has gone on and written a checkpoint.
  w1.Checkpoint(id, 20);
  ASSERT_TRUE(w1.Report().ok());
  EXPECT_EQ(bed.Job(id).checkpoints_size(), 0);
  ASSERT_EQ(w1.Desired().drop_checkpoints_size(), 1);
  EXPECT_EQ(w1.Desired().drop_checkpoints(0).attempt(), 1);
  w1.Sync();
  EXPECT_EQ(w1.snapshot.checkpoint_parts_size(), 0);
}

TEST(CoordinatorCheckpointTest, TheLastAttemptMayCommitAfterItsEnd) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 10);
  worker.Sync();
  worker.End(id, v1::RANK_OUTCOME_FAILED, v1::REASON_TRAINER_CRASHED, "boom");
  worker.Sync();
  ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  worker.Checkpoint(id, 10);
  worker.Sync();
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(10));
  bed.Advance(seconds(2));
  bed.Tick();
  EXPECT_EQ(worker.Desired().ranks(0).restore().step(), 10);
}

TEST(CoordinatorCheckpointTest, KeepsTheLastAndForgetsTheOthersOnceTheyAreGone) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit({.keep = 2});
  worker.Obey();
  for (const int64_t step : {10, 20, 30}) {
    worker.Train(id, step);
    worker.Checkpoint(id, step);
    ASSERT_TRUE(worker.Report().ok());
  }
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(10, 20, 30));
  EXPECT_TRUE(bed.Job(id).checkpoints(0).deleting());
  EXPECT_EQ(worker.Desired().drop_checkpoints(0).step(), 10);
  bed.Restart();
  ASSERT_TRUE(worker.Report().ok());
  EXPECT_EQ(worker.Desired().drop_checkpoints(0).step(), 10);
  worker.Sync();
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(20, 30));
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_CHECKPOINT_DELETED).size(), 1u);
}

TEST(CoordinatorCheckpointTest, KeepsTheBestAndThoseOfEveryKthStepBesideTheLast) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit({.keep = 1, .keep_best = 1, .keep_every = 40});
  worker.Obey();
  const std::vector<double> losses = {3, 1, 2, 4, 5, 6};
  for (size_t i = 0; i < losses.size(); ++i) {
    const int64_t step = 10 * static_cast<int64_t>(i + 1);
    worker.Train(id, step);
    worker.Checkpoint(id, step);
    worker.snapshot.mutable_checkpoint_parts()->rbegin()->set_loss(losses[i]);
    worker.Sync();
    worker.Sync();
  }
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(20, 40, 60));
}

TEST(CoordinatorCheckpointTest, TheBestAreThoseOfTheLowestValidationLoss) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit({.keep = 1, .keep_best = 2});
  worker.Obey();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::pair<double, std::optional<double>>> losses = {
      {4, 2.5}, {3, nan}, {1, std::nullopt}, {2, 2.0}, {1.5, 3.0}, {1.2, std::nullopt}};
  int64_t step = 0;
  for (const auto& [training, validation] : losses) {
    step += 10;
    worker.Train(id, step);
    worker.Checkpoint(id, step);
    v1::CheckpointPart& part = *worker.snapshot.mutable_checkpoint_parts()->rbegin();
    part.set_loss(training);
    if (validation.has_value()) part.set_validation_loss(*validation);
    worker.Sync();
    worker.Sync();
    if (step == 30) {  // what was not validated comes after what was, even to no number
      EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(10, 20, 30));
    }
  }
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(10, 40, 60));
  EXPECT_EQ(bed.Job(id).checkpoints(1).validation_loss(), 2.0);
  EXPECT_FALSE(bed.Job(id).checkpoints(2).has_validation_loss());
}

TEST(CoordinatorCheckpointTest, AnOvertakenPartIsDropped) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string id = bed.Submit({.ranks = 2});
  w1.Obey();
  w2.Obey();
  w1.Checkpoint(id, 10, 2);
  w1.Checkpoint(id, 20, 2);
  w2.Checkpoint(id, 20, 2);
  w1.Sync();
  w2.Sync();
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(20));
  EXPECT_EQ(w1.Desired().drop_checkpoints(0).step(), 10);
}

TEST(CoordinatorCheckpointTest, WaitsForTheHolderByName) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  const std::string id = bed.Submit();
  w1.Obey();
  w1.Train(id, 10);
  w1.Checkpoint(id, 10);
  w1.Sync();
  w2.Sync();
  bed.Advance(seconds(3));
  w2.Sync();
  bed.Advance(seconds(3));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_WAITING_FOR_CHECKPOINT_HOLDER);
  EXPECT_THAT(bed.Job(id).message(), HasSubstr("worker w1"));
  const std::string other = bed.Submit();  // It holds nobody back.
  EXPECT_EQ(bed.StateOf(other), v1::JOB_STATE_STARTING);
  bed.Restart();
  w2.Sync();
  bed.Tick();
  EXPECT_EQ(bed.coordinator.Explain(id, bed.now).reason, v1::REASON_WAITING_FOR_CHECKPOINT_HOLDER);
  w1.RestartDaemon("w1/2");
  w1.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
}

TEST(CoordinatorCheckpointTest, ALostCheckpointFallsBackToTheOneBefore) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  for (const int64_t step : {10, 20}) {
    worker.Train(id, step);
    worker.Checkpoint(id, step);
    worker.Sync();
  }
  worker.RestartDaemon("w1/2");
  worker.Disconnect();
  bed.Advance(seconds(6));
  bed.Tick();
  worker.snapshot.mutable_checkpoint_parts()->DeleteSubrange(1, 1);
  worker.Sync();
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(10));
  EXPECT_THAT(bed.Events(id, v1::EVENT_KIND_WARNING)[0].message(), HasSubstr("step 10 counts now"));
  EXPECT_EQ(worker.Desired().ranks(0).restore().step(), 10);
}

TEST(CoordinatorCheckpointTest, WithoutAnyCheckpointLeftItStartsFromTheBeginning) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 10);
  worker.Checkpoint(id, 10);
  worker.Sync();
  worker.Disconnect();
  worker.RestartDaemon("w1/2");
  worker.snapshot.clear_checkpoint_parts();
  ASSERT_TRUE(worker.Report().ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_FALSE(worker.Desired().ranks(0).has_restore());
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_WARNING)[0].reason(), v1::REASON_CHECKPOINT_LOST);
}

TEST(CoordinatorCheckpointTest, ACorruptCheckpointIsNotTriedAgain) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  for (const int64_t step : {10, 20}) {
    worker.Train(id, step);
    worker.Checkpoint(id, step);
    worker.Sync();
  }
  worker.Crash(id);
  bed.Advance(seconds(1));
  bed.Tick();
  worker.Sync();
  worker.End(id, v1::RANK_OUTCOME_FAILED, v1::REASON_CHECKPOINT_LOST, "chunk 3 is corrupt");
  worker.Sync();
  bed.Tick();
  worker.Sync();
  EXPECT_EQ(bed.Job(id).attempt(), 3);
  EXPECT_EQ(worker.Desired().ranks(0).restore().step(), 10);
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(10));
}

TEST(CoordinatorCheckpointTest, UsersDeleteCheckpointsThatAreNotNeeded) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit({.keep = 5});
  worker.Obey();
  for (const int64_t step : {10, 20}) {
    worker.Train(id, step);
    worker.Checkpoint(id, step);
    worker.Sync();
  }
  EXPECT_EQ(bed.DeleteCheckpoint("x-1", 10).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bed.DeleteCheckpoint(id, 11).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bed.DeleteCheckpoint(id, 20).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(bed.DeleteCheckpoint(id, 10).ok());
  worker.Sync();
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(20));
  ASSERT_TRUE(bed.Cancel(id).ok());
  EXPECT_TRUE(bed.DeleteCheckpoint(id, 20).ok());
  worker.Sync();
  EXPECT_EQ(bed.Job(id).checkpoints_size(), 0);
  EXPECT_EQ(worker.snapshot.checkpoint_parts_size(), 0);
}

TEST(CoordinatorCheckpointTest, ProgressIsNeverBehindTheNewestCheckpoint) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Train(id, 50);
  worker.Rank(id).mutable_progress()->set_validation_step(40);
  worker.Rank(id).mutable_progress()->set_validation_bits_per_byte(2.5);
  worker.Sync();
  // The trainer does the rest while nobody listens, and its worker is started anew.
  worker.Checkpoint(id, 100);
  worker.snapshot.mutable_checkpoint_parts(0)->set_loss(0.75);
  worker.snapshot.mutable_checkpoint_parts(0)->set_imbalance(0.125);
  bed.Restart();
  worker.RestartDaemon("w1/2");
  ASSERT_TRUE(worker.Report().ok());
  bed.Tick();
  worker.Sync();
  ASSERT_TRUE(worker.Holds(id, 2));
  // The new attempt restores the last step and has none to report.
  worker.Rank(id).set_step(100);
  worker.Rank(id).set_restored_step(100);
  worker.End(id, v1::RANK_OUTCOME_COMPLETED);
  worker.Sync();
  ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_SUCCEEDED);
  bed.Restart();
  const v1::JobProgress& progress = bed.Job(id).progress();
  EXPECT_EQ(progress.step(), 100);
  EXPECT_EQ(progress.steps_total(), 100);
  EXPECT_EQ(progress.loss(), 0.75);
  EXPECT_EQ(progress.imbalance(), 0.125);
  EXPECT_EQ(progress.validation_step(), 40);
  EXPECT_EQ(progress.validation_bits_per_byte(), 2.5);
}

TEST(CoordinatorCheckpointTest, AnOldReportDoesNotTakeProgressBackBehindACheckpoint) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string id = bed.Submit();
  worker.Obey();
  worker.Checkpoint(id, 20);
  worker.snapshot.mutable_checkpoint_parts(0)->set_loss(0.5);
  worker.Train(id, 15);
  worker.Sync();
  EXPECT_EQ(bed.Job(id).progress().step(), 20);
  EXPECT_EQ(bed.Job(id).progress().loss(), 0.5);
  worker.Train(id, 21);
  worker.Sync();
  EXPECT_EQ(bed.Job(id).progress().step(), 21);
  EXPECT_EQ(bed.Job(id).progress().loss(), 10.0 / 22);
}

TEST(CoordinatorCheckpointTest, PartsOfUnknownJobsAreDropped) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  v1::CheckpointPart* part = worker.snapshot.add_checkpoint_parts();
  part->set_job_id("gone-4");
  part->set_attempt(1);
  part->set_step(5);
  part->set_world_size(1);
  ASSERT_TRUE(worker.Report().ok());
  EXPECT_EQ(worker.Desired().drop_checkpoints(0).job_id(), "gone-4");
  EXPECT_THAT(bed.last.changed_workers, testing::ElementsAre("w1"));
}

TEST(CoordinatorCheckpointTest, ACancelledJobKeepsCommittedPartsOnly) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string id = bed.Submit({.ranks = 2});
  w1.Obey();
  w2.Obey();
  w1.Checkpoint(id, 10, 2);
  w2.Checkpoint(id, 10, 2);
  w1.Checkpoint(id, 20, 2);
  w1.Sync();
  w2.Sync();
  ASSERT_TRUE(bed.Cancel(id).ok());
  w1.Sync();
  w2.Checkpoint(id, 20, 2);
  ASSERT_TRUE(w2.Report().ok());
  EXPECT_THAT(StepsOf(bed.Job(id)), testing::ElementsAre(10));
  EXPECT_EQ(w2.Desired().drop_checkpoints(0).step(), 20);
  w1.Sync();
  w1.Sync();
  EXPECT_EQ(w1.snapshot.checkpoint_parts_size(), 1);
}

// Two workers with a job on the first, whose checkpoint of step 10 is committed. The second is
// there before or comes later. No commit waits for a copy for long.
class CopiesTest : public testing::Test {
 protected:
  CopiesTest() {
    for (HandWorker* worker : {&w1_, &w2_}) worker->snapshot.set_disk_free_bytes(1'000'000);
    w1_.Sync();
    id_ = bed_.Submit();
    w1_.Obey();
    Commit(10);
  }

  void Commit(int64_t step) {
    w1_.Train(id_, step);
    w1_.Checkpoint(id_, step);
    w1_.Sync();
    bed_.Advance(kPatience);
    ASSERT_TRUE(w1_.Report().ok());
    bed_.Tick();
  }

  // The worker fetches all that it is to fetch.
  void Copy(HandWorker* worker) {
    const v1::DesiredState desired = worker->Desired();
    for (const v1::CopyPart& copy : desired.copy_parts()) {
      *worker->snapshot.add_checkpoint_parts() = copy.part();
    }
    worker->Sync();
  }

  static void Forget(HandWorker* worker, int64_t step) {
    auto* parts = worker->snapshot.mutable_checkpoint_parts();
    parts->erase(std::remove_if(parts->begin(), parts->end(),
                                [&](const auto& part) { return part.step() == step; }),
                 parts->end());
  }

  // "first holder|copies" of the checkpoint.
  std::string Holders(int index = 0) {
    const v1::Checkpoint& checkpoint = bed_.Job(id_).checkpoints(index);
    std::string text = checkpoint.parts(0).worker() + "|";
    for (const v1::CheckpointPart& copy : checkpoint.copies()) text += copy.worker();
    return text;
  }

  static constexpr std::chrono::milliseconds kPatience{1};
  TestBed bed_{{.commit_patience = kPatience}};
  HandWorker w1_{&bed_, "w1", 1};
  HandWorker w2_{&bed_, "w2", 1};
  std::string id_;
};

TEST_F(CopiesTest, EveryPartGoesToASecondWorker) {
  EXPECT_EQ(Holders(), "w1|");
  w2_.Sync();
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  EXPECT_EQ(w2_.Desired().copy_parts(0).address(), "w1:7000");
  EXPECT_EQ(w2_.Desired().copy_parts(0).part().worker(), "w1");
  EXPECT_EQ(w1_.Desired().copy_parts_size(), 0);
  w2_.Fetch();
  EXPECT_EQ(Holders(), "w1|w2");
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  EXPECT_EQ(w2_.Desired().committed_parts(0), id_ + "/1/10/0");
  // A third worker has nothing to fetch, and a restart forgets nothing.
  HandWorker w3(&bed_, "w3", 1);
  w3.snapshot.set_disk_free_bytes(1'000'000);
  w3.Sync();
  EXPECT_EQ(w3.Desired().copy_parts_size(), 0);
  bed_.Restart();
  for (HandWorker* worker : {&w1_, &w2_, &w3}) worker->Sync();
  EXPECT_EQ(Holders(), "w1|w2");
  EXPECT_EQ(w3.Desired().copy_parts_size(), 0);
}

TEST_F(CopiesTest, AFullDiskTakesNoCopy) {
  w2_.snapshot.set_disk_free_bytes(999);
  w2_.Sync();
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
}

TEST_F(CopiesTest, AJobGoesOnFromTheCopyWithoutTheWorkerThatWroteIt) {
  w2_.Sync();
  w2_.Fetch();
  bed_.Advance(seconds(3));
  w2_.Sync();
  bed_.Advance(seconds(3));
  bed_.Tick();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
  EXPECT_EQ(Holders(), "w2|w1");
  ASSERT_EQ(w2_.Desired().ranks_size(), 1);
  EXPECT_EQ(w2_.Desired().ranks(0).restore().step(), 10);
}

TEST_F(CopiesTest, AWorkerThatLostAPartFetchesItAnew) {
  w2_.Sync();
  w2_.Fetch();
  Forget(&w1_, 10);  // as one does that found it corrupt
  w1_.Sync();
  EXPECT_EQ(Holders(), "w2|");
  const auto warnings = bed_.Events(id_, v1::EVENT_KIND_WARNING);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0].reason(), v1::REASON_CHECKPOINT_LOST);
  EXPECT_THAT(warnings[0].message(), HasSubstr("worker w1 has the checkpoint of step 10 no more"));
  ASSERT_EQ(w1_.Desired().copy_parts_size(), 1);
  EXPECT_EQ(w1_.Desired().copy_parts(0).address(), "w2:7000");
  w1_.Fetch();
  EXPECT_EQ(Holders(), "w2|w1");
}

TEST_F(CopiesTest, ACheckpointIsLostOnlyWithItsLastCopy) {
  w2_.Sync();
  w2_.Fetch();
  Forget(&w1_, 10);
  w1_.Sync();
  Forget(&w2_, 10);
  w2_.Sync();
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 0);
}

TEST_F(CopiesTest, TheNewestCheckpointOnTwoWorkersStaysUntilANewerOneIs) {
  w2_.Sync();
  w2_.Fetch();
  for (const int64_t step : {20, 30, 40}) Commit(step);
  // Two are kept, and the one of step 10, because neither of them has a second copy.
  EXPECT_FALSE(bed_.Job(id_).checkpoints(0).deleting());
  EXPECT_TRUE(bed_.Job(id_).checkpoints(1).deleting());
  w2_.Fetch();
  w1_.Sync();
  EXPECT_THAT(StepsOf(bed_.Job(id_)), testing::ElementsAre(10, 30, 40));
  EXPECT_TRUE(bed_.Job(id_).checkpoints(0).deleting());
  for (HandWorker* worker : {&w1_, &w2_, &w1_}) worker->Sync();
  EXPECT_THAT(StepsOf(bed_.Job(id_)), testing::ElementsAre(30, 40));
  EXPECT_EQ(Holders(0), "w1|w2");
}

TEST_F(CopiesTest, ADeletedCheckpointGoesFromEveryHolder) {
  w2_.Sync();
  w2_.Fetch();
  Commit(20);
  ASSERT_TRUE(bed_.DeleteCheckpoint(id_, 10).ok());
  EXPECT_EQ(w2_.Desired().drop_checkpoints(0).step(), 10);
  w1_.Sync();
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 2);
  w2_.Sync();
  EXPECT_THAT(StepsOf(bed_.Job(id_)), testing::ElementsAre(20));
}

// The copy was made before the deletion, and is heard of only when the checkpoint is gone.
TEST_F(CopiesTest, ALateReportDoesNotBringADeletedNewestCheckpointBack) {
  w2_.Sync();
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  *w2_.snapshot.add_checkpoint_parts() = w2_.Desired().copy_parts(0).part();
  w1_.Crash(id_, v1::REASON_BAD_JOB);
  ASSERT_EQ(bed_.StateOf(id_), v1::JOB_STATE_FAILED);
  ASSERT_TRUE(bed_.DeleteCheckpoint(id_, 10).ok());
  w1_.Sync();
  ASSERT_EQ(bed_.Job(id_).checkpoints_size(), 0);
  ASSERT_TRUE(w2_.Report().ok());
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 0);
  ASSERT_EQ(w2_.Desired().drop_checkpoints_size(), 1);
  EXPECT_EQ(w2_.Desired().drop_checkpoints(0).step(), 10);
}

TEST_F(CopiesTest, ADrainingWorkerIsNoSecondHolder) {
  w2_.Sync();
  w2_.Fetch();
  HandWorker w3(&bed_, "w3", 1);
  w3.snapshot.set_disk_free_bytes(1'000'000);
  w3.Sync();
  w2_.snapshot.set_draining(true);
  w2_.Sync();
  EXPECT_EQ(w3.Desired().copy_parts_size(), 1);
}

TEST_F(CopiesTest, TheWorkerThatHoldsTheLeastFetches) {
  w2_.Sync();
  w2_.Fetch();
  HandWorker w3(&bed_, "w3", 1);
  w3.snapshot.set_disk_free_bytes(1'000'000);
  w3.Sync();
  Commit(20);
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  ASSERT_EQ(w3.Desired().copy_parts_size(), 1);
  // What is still to be fetched counts too.
  Commit(30);
  EXPECT_EQ(w2_.Desired().copy_parts_size() + w3.Desired().copy_parts_size(), 2);
  EXPECT_EQ(w3.Desired().copy_parts_size(), 1);
}

TEST_F(CopiesTest, WhatAWorkerWasFetchingWhenItWentIsFetchedByAnother) {
  w2_.Sync();
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  HandWorker w3(&bed_, "w3", 1);
  w3.snapshot.set_disk_free_bytes(1'000'000);
  w3.Sync();
  EXPECT_EQ(w3.Desired().copy_parts_size(), 0);
  bed_.Advance(seconds(3));
  w1_.Sync();
  w3.Sync();
  bed_.Advance(seconds(3));
  bed_.Tick();
  EXPECT_EQ(w3.Desired().copy_parts_size(), 1);
}

TEST_F(CopiesTest, WhatALostWorkerHeldIsFetchedNoMoreWhenItIsBack) {
  w2_.Sync();
  w2_.Fetch();
  HandWorker w3(&bed_, "w3", 1);
  w3.snapshot.set_disk_free_bytes(1'000'000);
  for (int i = 0; i < 5; ++i) {
    bed_.Advance(seconds(1));
    w1_.Sync();
    w3.Sync();
    bed_.Tick();
  }
  EXPECT_EQ(w3.Desired().copy_parts_size(), 1);
  w2_.Sync();
  EXPECT_EQ(w3.Desired().copy_parts_size(), 0);
  EXPECT_EQ(Holders(), "w1|w2");
}

TEST_F(CopiesTest, TheDropOfADeletedJobIsSaidUntilItIsDone) {
  w2_.Sync();
  w2_.Fetch();
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  ASSERT_TRUE(bed_.Delete(id_).ok());
  // A report that was on its way.
  ASSERT_TRUE(w2_.Report().ok());
  EXPECT_THAT(bed_.last.changed_workers, testing::Contains("w2"));
  for (HandWorker* worker : {&w1_, &w2_}) {
    EXPECT_EQ(worker->Desired().drop_checkpoints_size(), 1);
    EXPECT_EQ(worker->Desired().committed_parts_size(), 0);
    worker->Sync();
    EXPECT_EQ(worker->Desired().drop_checkpoints_size(), 0);
  }
}

TEST_F(CopiesTest, WhatIsDeletedIsFetchedNoMore) {
  w2_.Sync();
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  ASSERT_TRUE(bed_.Delete(id_).ok());
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  w2_.Sync();
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
}

TEST_F(CopiesTest, APartThatIsReportedTwiceInOneSnapshotIsOne) {
  w2_.Sync();
  w2_.Fetch();
  *w1_.snapshot.add_checkpoint_parts() = w1_.snapshot.checkpoint_parts(0);
  w1_.Sync();
  EXPECT_EQ(Holders(), "w1|w2");
  EXPECT_EQ(w1_.Desired().committed_parts_size(), 1);
  Forget(&w1_, 10);
  w1_.Sync();
  EXPECT_EQ(Holders(), "w2|");
}

}  // namespace
}  // namespace sinkforge::server
