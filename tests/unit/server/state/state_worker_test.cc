// The worker protocol: leases, incarnations, restarts of either side, drains, bad snapshots.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

std::string StartOn(TestBed* bed, HandWorker* worker, int64_t step) {
  worker->Sync();
  const std::string id = bed->Submit();
  worker->Obey();
  worker->Train(id, step);
  worker->Sync();
  return id;
}

TEST(CoordinatorWorkerTest, AnExpiredLeaseEndsTheAttempt) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  bed.Advance(seconds(5) - std::chrono::milliseconds(1));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  bed.Advance(std::chrono::milliseconds(1));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_ATTEMPT_ENDED)[0].reason(), v1::REASON_WORKER_LOST);
  EXPECT_EQ(bed.coordinator.Explain(id, bed.now).reason, v1::REASON_NOT_ENOUGH_SLOTS_EXIST);
  EXPECT_EQ(bed.coordinator.Workers()[0].state(), v1::WORKER_STATE_LOST);
}

TEST(CoordinatorWorkerTest, WorkersThatComeAndGoAreTold) {
  TestBed bed;
  std::vector<std::string> told;
  const auto take = [&] {
    for (const WorkerNote& note : bed.last.worker_notes) {
      told.push_back(note.worker + " " + std::to_string(static_cast<int>(note.kind)));
    }
    bed.last = {};
  };
  HandWorker worker(&bed, "w1", 1);
  ASSERT_TRUE(worker.Report().ok());
  take();
  ASSERT_TRUE(worker.Report().ok());
  take();
  EXPECT_THAT(told, testing::ElementsAre("w1 0"));  // joined, once
  bed.Advance(seconds(6));
  bed.Tick();
  take();
  ASSERT_TRUE(worker.Report().ok());
  take();
  EXPECT_THAT(told, testing::ElementsAre("w1 0", "w1 2", "w1 1"));  // lost, returned
}

TEST(CoordinatorWorkerTest, ALeaseDoesNotRunWhileTheCoordinatorStandsStill) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  bed.Advance(seconds(8));
  bed.coordinator.HandleStall(seconds(7));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  bed.Advance(seconds(4));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
}

TEST(CoordinatorWorkerTest, AHealedPartitionKillsTheOldRankBeforeTheSlotIsUsed) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  bed.Advance(seconds(6));
  bed.Tick();
  ASSERT_TRUE(worker.Report().ok());  // It has trained all the time.
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(worker.Desired().ranks_size(), 0);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed.Job(id).attempt(), 2);
}

TEST(CoordinatorWorkerTest, ADisconnectedWorkerKeepsItsJobButGetsNoNewOne) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 2);
  const std::string id = StartOn(&bed, &worker, 5);
  worker.Disconnect();
  const std::string next = bed.Submit();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(bed.Job(next).reason(), v1::REASON_WAITING_FOR_SLOTS);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(next), v1::JOB_STATE_STARTING);
}

TEST(CoordinatorWorkerTest, TwoWorkersWithOneName) {
  TestBed bed;
  HandWorker first(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &first, 5);
  HandWorker second(&bed, "w1", 1);
  second.RestartDaemon("w1/2");
  const absl::Status refused = second.Report();
  EXPECT_EQ(refused.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("w1:7000"));
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);

  // A restarted daemon comes back at once: the old stream is closed.
  first.Disconnect();
  ASSERT_TRUE(second.Report().ok());
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_ATTEMPT_ENDED)[0].reason(), v1::REASON_WORKER_LOST);
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);  // on the new incarnation
  EXPECT_EQ(bed.Job(id).placement(0).incarnation(), "w1/2");
  // The first one is still there: it lost the name.
  second.Disconnect();
  EXPECT_EQ(first.Report().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(bed.Job(id).placement(0).incarnation(), "w1/2");
}

TEST(CoordinatorWorkerTest, ANameIsFreeAgainAfterTheLease) {
  TestBed bed;
  HandWorker first(&bed, "w1", 1);
  first.Sync();
  bed.Advance(seconds(5));
  bed.Tick();
  HandWorker second(&bed, "w1", 1);
  second.RestartDaemon("w1/2");
  EXPECT_TRUE(second.Report().ok());
}

TEST(CoordinatorWorkerTest, StaleSnapshotsAreIgnored) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  const v1::WorkerSnapshot old = worker.snapshot;
  worker.Train(id, 50);
  worker.Sync();
  bed.Advance(seconds(4));
  Effects effects;
  EXPECT_TRUE(bed.coordinator.HandleSnapshot(old, bed.now, &effects).ok());
  EXPECT_FALSE(effects.NeedsStore());
  EXPECT_EQ(bed.Job(id).progress().step(), 50);
  bed.Advance(seconds(1));  // It did not renew the lease either.
  bed.Tick();
  EXPECT_NE(bed.StateOf(id), v1::JOB_STATE_RUNNING);
}

TEST(CoordinatorWorkerTest, ACoordinatorRestartDisturbsNothing) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string id = bed.Submit({.ranks = 2});
  for (HandWorker* worker : {&w1, &w2}) {
    worker->Obey();
    worker->Train(id, 5);
    worker->Sync();
  }
  const int64_t revision = w1.Desired().desired_revision();
  bed.Restart();
  bed.Tick();
  bed.Advance(seconds(4));
  w1.Train(id, 9);
  w1.Sync();
  bed.Tick();
  w2.Sync();
  EXPECT_GT(w1.Desired().desired_revision(), revision);
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(bed.Job(id).attempt(), 1);
  EXPECT_EQ(bed.Job(id).progress().step(), 9);
  EXPECT_TRUE(w1.Holds(id, 1, 0));
  for (HandWorker* worker : {&w1, &w2}) {
    worker->Train(id, 100);
    worker->Checkpoint(id, 100, 2);
    worker->End(id, v1::RANK_OUTCOME_COMPLETED);
    worker->Sync();
  }
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_SUCCEEDED);
}

TEST(CoordinatorWorkerTest, AnEndIsNotForgottenWhileTheGangGoesOn) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  w1.Sync();
  w2.Sync();
  const std::string id = bed.Submit({.ranks = 2});
  for (HandWorker* worker : {&w1, &w2}) {
    worker->Obey();
    worker->Train(id, 100);
    worker->Sync();
  }
  w1.Checkpoint(id, 100, 2);
  w1.End(id, v1::RANK_OUTCOME_COMPLETED);
  w1.Sync();
  EXPECT_EQ(w1.Desired().acknowledged_ends_size(), 0);
  EXPECT_EQ(w1.Desired().ranks_size(), 0);
  bed.Restart();
  w1.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  w2.Checkpoint(id, 100, 2);
  w2.End(id, v1::RANK_OUTCOME_COMPLETED);
  w2.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(w1.Desired().acknowledged_ends_size(), 1);
}

TEST(CoordinatorWorkerTest, AWorkerThatStaysAwayAfterARestartIsLost) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  bed.Advance(seconds(60));
  bed.Restart();
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  EXPECT_TRUE(bed.coordinator.Workers().empty());
  bed.Advance(seconds(5));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
}

TEST(CoordinatorWorkerTest, AWorkerRestartedTogetherWithTheCoordinatorEndsItsAttempt) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  bed.Restart();
  worker.RestartDaemon("w1/2");
  ASSERT_TRUE(worker.Report().ok());
  EXPECT_EQ(bed.Job(id).attempt(), 2);
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
}

TEST(CoordinatorWorkerTest, ARankThatNobodyKnowsIsKilledAndBlocksItsSlot) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  v1::RankStatus* rank = worker.snapshot.add_ranks();
  rank->set_job_id("ghost-7");
  rank->set_attempt(3);
  rank->set_phase(v1::RANK_PHASE_TRAINING);
  ASSERT_TRUE(worker.Report().ok());
  const std::string id = bed.Submit();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(worker.Desired().ranks_size(), 0);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_EQ(worker.Desired().acknowledged_ends(0), "ghost-7/3/0");
}

TEST(CoordinatorWorkerTest, DrainingCheckpointsAndHandsOver) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  const std::string id = StartOn(&bed, &w1, 5);
  w1.snapshot.set_draining(true);
  w1.Sync();
  EXPECT_THAT(bed.last.changed_workers, testing::Contains("w1"));
  EXPECT_EQ(w1.Desired().ranks(0).run(), v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
  EXPECT_EQ(bed.coordinator.Workers()[0].state(), v1::WORKER_STATE_DRAINING);
  w2.Sync();
  w1.Checkpoint(id, 5);
  w1.End(id, v1::RANK_OUTCOME_STOPPED);
  w1.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_ATTEMPT_ENDED)[0].reason(), v1::REASON_WORKER_DRAINING);
  // Its only copy goes away with w1, so that it waits for w1 to come back.
  EXPECT_EQ(bed.Job(id).reason(), v1::REASON_WAITING_FOR_CHECKPOINT_HOLDER);
  EXPECT_THAT(bed.Job(id).message(), HasSubstr("worker w1"));
  w1.Disconnect();
  w1.snapshot.set_draining(false);
  w1.RestartDaemon("w1/2");
  w1.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed.Job(id).placement(0).worker(), "w1");  // Holders come first.
}

TEST(CoordinatorWorkerTest, AWorkerThatWasStoppedLeavesTheListAndOneThatVanishedStays) {
  TestBed bed;
  HandWorker stopped(&bed, "w1", 1);
  HandWorker vanished(&bed, "w2", 1);
  HandWorker killed(&bed, "w3", 1);
  const std::string id = StartOn(&bed, &killed, 5);
  for (HandWorker* worker : {&stopped, &vanished}) worker->Sync();
  stopped.snapshot.set_draining(true);
  stopped.snapshot.set_goodbye(true);
  ASSERT_TRUE(stopped.Report().ok());
  EXPECT_EQ(bed.coordinator.Workers()[0].state(), v1::WORKER_STATE_STOPPED);
  EXPECT_EQ(bed.Drain("w1")->state(), v1::WORKER_STATE_STOPPED);
  EXPECT_EQ(bed.Undrain("w1")->state(), v1::WORKER_STATE_STOPPED);
  ASSERT_TRUE(bed.Drain("w1").ok());
  // Not in order: without a last word.
  killed.snapshot.set_draining(true);
  ASSERT_TRUE(killed.Report().ok());
  for (HandWorker* worker : {&stopped, &vanished, &killed}) worker->Disconnect();
  bed.Advance(seconds(6));
  bed.Tick();
  const auto workers = bed.coordinator.Workers();
  ASSERT_EQ(workers.size(), 2u);
  EXPECT_EQ(workers[0].worker(), "w2");
  EXPECT_EQ(workers[0].state(), v1::WORKER_STATE_LOST);
  EXPECT_EQ(workers[1].worker(), "w3");
  EXPECT_EQ(workers[1].state(), v1::WORKER_STATE_LOST);
  // Off the list, it is what it was before: stopped, and drained until that is taken back.
  EXPECT_EQ(bed.Drain("w1")->state(), v1::WORKER_STATE_STOPPED);
  EXPECT_EQ(bed.Undrain("w1")->state(), v1::WORKER_STATE_STOPPED);
  EXPECT_EQ(bed.Undrain("w1").status().code(), absl::StatusCode::kNotFound);
}

TEST(CoordinatorWorkerTest, AWorkerThatWasStoppedIsAwayAtOnceAndItsJobsGoOn) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  const std::string id = StartOn(&bed, &w1, 5);
  w2.snapshot.set_disk_free_bytes(1'000'000);
  w2.Sync();
  w1.snapshot.set_draining(true);
  w1.Sync();
  w1.Checkpoint(id, 5);
  w1.End(id, v1::RANK_OUTCOME_STOPPED);
  w1.Sync();
  w2.Fetch();
  w1.snapshot.set_goodbye(true);
  w1.Sync();
  bed.Advance(std::chrono::milliseconds(1500));  // the back-off
  w2.Sync();
  bed.Tick();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING) << bed.Job(id).message();
  EXPECT_EQ(bed.Job(id).placement(0).worker(), "w2");
  // Started anew within its lease, it is known with all that it has.
  w1.Disconnect();
  w1.snapshot.set_draining(false);
  w1.snapshot.set_goodbye(false);
  w1.RestartDaemon("w1/2");
  w1.snapshot.clear_checkpoint_parts();
  w1.Sync();
  EXPECT_THAT(bed.Events(id, v1::EVENT_KIND_WARNING).back().message(), HasSubstr("w1"));
}

TEST(CoordinatorWorkerTest, ARankOfAWorkerThatWasStoppedEndsWithIt) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  worker.snapshot.set_draining(true);
  worker.snapshot.set_goodbye(true);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Events(id, v1::EVENT_KIND_ATTEMPT_ENDED)[0].reason(), v1::REASON_WORKER_DRAINING);
  EXPECT_TRUE(bed.Job(id).avoided_workers().empty());
}

TEST(CoordinatorWorkerTest, OneThatAloneHasACheckpointIsNotDrained) {
  TestBed bed;
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  const std::string id = StartOn(&bed, &w1, 5);
  ASSERT_TRUE(bed.Drain("w1").ok());
  w1.Sync();
  w1.Checkpoint(id, 5);
  w1.End(id, v1::RANK_OUTCOME_STOPPED);
  w1.Sync();
  w2.snapshot.set_disk_free_bytes(1'000'000);
  w2.Sync();
  v1::Worker drained = bed.coordinator.Workers()[0];
  EXPECT_EQ(drained.state(), v1::WORKER_STATE_DRAINING);
  EXPECT_EQ(drained.only_copies(), 1);
  w2.Fetch();
  drained = bed.coordinator.Workers()[0];
  EXPECT_EQ(drained.state(), v1::WORKER_STATE_DRAINED);
  EXPECT_EQ(drained.only_copies(), 0);
}

// It is told so as soon as it says that it is being stopped: it waits for that.
TEST(CoordinatorWorkerTest, AWorkerThatHasNothingMayLeave) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  EXPECT_EQ(worker.Desired().leave(), v1::LEAVE_UNSPECIFIED);
  worker.snapshot.set_draining(true);
  worker.Sync();
  EXPECT_EQ(worker.Desired().leave(), v1::LEAVE_NOW);
  EXPECT_THAT(bed.last.changed_workers, testing::Contains("w1"));
}

TEST(CoordinatorWorkerTest, AKillDuringADrainIsTheWorkersFault) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  worker.snapshot.set_draining(true);
  worker.End(id, v1::RANK_OUTCOME_KILLED);
  ASSERT_TRUE(worker.Report().ok());
  EXPECT_EQ(bed.Job(id).retries().infrastructure(), 1);
  EXPECT_EQ(bed.Job(id).retries().crash(), 0);
}

TEST(CoordinatorWorkerTest, BadSnapshotsAreRefusedByName) {
  TestBed bed({.worker_count_max = 2, .slots_per_worker_max = 4, .snapshot_entries_max = 3});
  const auto expect_refused = [&](const std::function<void(v1::WorkerSnapshot*)>& spoil) {
    HandWorker worker(&bed, "w1", 2);
    spoil(&worker.snapshot);
    EXPECT_EQ(worker.Report().code(), absl::StatusCode::kInvalidArgument)
        << worker.snapshot.ShortDebugString();
  };
  expect_refused([](auto* s) { s->set_worker(""); });
  expect_refused([](auto* s) { s->set_worker("a b"); });
  expect_refused([](auto* s) { s->set_worker(std::string(64, 'a')); });
  expect_refused([](auto* s) { s->set_incarnation(""); });
  expect_refused([](auto* s) { s->set_incarnation(std::string(129, 'a')); });
  expect_refused([](auto* s) { s->set_report_sequence(-5); });
  expect_refused([](auto* s) { s->mutable_slots(1)->set_index(0); });
  expect_refused([](auto* s) { s->mutable_slots(1)->set_index(-1); });
  expect_refused([](auto* s) { s->mutable_slots(1)->set_device(v1::DEVICE_UNSPECIFIED); });
  expect_refused([](auto* s) {
    for (int i = 2; i < 5; ++i) {
      s->add_slots()->set_index(i);
      s->mutable_slots(i)->set_device(v1::DEVICE_CPU);
    }
  });
  expect_refused([](auto* s) {
    for (int i = 0; i < 4; ++i) s->add_ranks();
  });
  EXPECT_TRUE(bed.coordinator.Workers().empty());
}

TEST(CoordinatorWorkerTest, NonsenseInRanksAndPartsChangesNothing) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  const std::string id = StartOn(&bed, &worker, 5);
  HandWorker other(&bed, "w2", 0);
  for (const int rank : {-1, 0, 7}) {
    v1::RankStatus* status = other.snapshot.add_ranks();
    status->set_job_id(id);
    status->set_attempt(1);
    status->set_rank(rank);
    status->set_phase(v1::RANK_PHASE_ENDED);
    status->set_outcome(v1::RANK_OUTCOME_FAILED);
    for (const int world_size : {-1, 0, 7}) {
      v1::CheckpointPart* part = other.snapshot.add_checkpoint_parts();
      part->set_job_id(id);
      part->set_attempt(1);
      part->set_rank(rank);
      part->set_step(world_size);
      part->set_world_size(world_size);
    }
  }
  ASSERT_TRUE(other.Report().ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(bed.Job(id).checkpoints_size(), 0);
}

TEST(CoordinatorWorkerTest, TooManyWorkersPushOutTheLostOnesOnly) {
  TestBed bed({.worker_count_max = 2});
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 1);
  HandWorker w3(&bed, "w3", 1);
  w1.Sync();
  w2.Sync();
  EXPECT_EQ(w3.Report().code(), absl::StatusCode::kResourceExhausted);
  bed.Advance(seconds(3));
  w2.Sync();
  bed.Advance(seconds(3));
  bed.Tick();
  EXPECT_TRUE(w3.Report().ok());
  EXPECT_EQ(bed.coordinator.Workers()[0].worker(), "w2");
}

TEST(CoordinatorWorkerTest, LostWorkersAreForgottenInTheEnd) {
  TestBed bed({.forget_worker_after = seconds(100)});
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  bed.Advance(seconds(5));
  bed.Tick();
  EXPECT_EQ(bed.coordinator.Workers().size(), 1u);
  bed.Advance(seconds(100));
  bed.Tick();
  EXPECT_TRUE(bed.coordinator.Workers().empty());
}

TEST(CoordinatorWorkerTest, DesiredOfAnUnknownWorkerIsEmpty) {
  TestBed bed;
  const v1::DesiredState desired = bed.coordinator.Desired("nobody");
  EXPECT_EQ(desired.ranks_size(), 0);
  EXPECT_GT(desired.lease().seconds(), 0);
}

TEST(CoordinatorWorkerTest, TheSnapshotIntervalIsAtMostAThirdOfTheLease) {
  TestBed bed({.lease = seconds(3), .snapshot_interval = seconds(2)});
  EXPECT_EQ(bed.coordinator.Desired("w1").snapshot_interval().seconds(), 1);
}

TEST(CoordinatorWorkerTest, AMissedDesiredStateIsSentAgain) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  bed.Submit();
  const int64_t revision = worker.Desired().desired_revision();
  ASSERT_TRUE(worker.Report().ok());  // It has not heard of the rank.
  EXPECT_THAT(bed.last.changed_workers, testing::ElementsAre("w1"));
  EXPECT_EQ(worker.Desired().desired_revision(), revision);
}

TEST(CoordinatorWorkerTest, WorkersAreDescribedWithTheirUse) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 2);
  const std::string id = StartOn(&bed, &worker, 5);
  const std::vector<v1::Worker> workers = bed.coordinator.Workers();
  ASSERT_EQ(workers.size(), 1u);
  EXPECT_EQ(workers[0].state(), v1::WORKER_STATE_LIVE);
  EXPECT_EQ(workers[0].slots_size(), 2);
  ASSERT_EQ(workers[0].used_size(), 1);
  EXPECT_EQ(workers[0].used(0).job_id(), id);
}

}  // namespace
}  // namespace sinkforge::server
