// Commits that wait for the second copy: for how long, when not at all, and what becomes of them
// when workers, attempts or the coordinator end meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "base/check.h"
#include "commit_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(CommitTest, WaitsForTheSecondCopyAndSaysSo) {
  Checkpoint(10);
  Advance(seconds(4), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  EXPECT_EQ(w2_.Desired().copy_parts(0).address(), "w1:7000");
  EXPECT_EQ(w1_.Desired().drop_checkpoints_size(), 0);
  EXPECT_THAT(Explained(), HasSubstr("trains on w1 slot 0; the checkpoint of step 10 waits for its "
                                     "second copy, on w2, for at most 4 s more"));
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  EXPECT_TRUE(bed_.Events(id_, v1::EVENT_KIND_WARNING).empty());
  EXPECT_THAT(LastMessage(v1::EVENT_KIND_CHECKPOINT_COMMITTED),
              HasSubstr("checkpoint of step 10: 1000 bytes on w1, w2"));
  EXPECT_THAT(Explained(), testing::Not(HasSubstr("waits")));
}

TEST_F(CommitTest, AnAttemptThatHasEndedOnlyCopiesItsLastCheckpoint) {
  w1_.Train(id_, 10);
  w1_.Sync();
  Advance(seconds(3), {&w1_, &w2_});
  w1_.Train(id_, 20);
  w1_.Checkpoint(id_, 20);
  w1_.End(id_, v1::RANK_OUTCOME_COMPLETED);
  w1_.Sync();
  Advance(seconds(2), {&w1_, &w2_});
  bed_.Restart();
  for (HandWorker* worker : {&w2_, &w1_}) worker->Sync();
  Advance(seconds(3), {&w1_, &w2_});
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_RUNNING);
  const Explanation why = bed_.coordinator.Explain(id_, bed_.now);
  EXPECT_EQ(why.reason, v1::REASON_COPYING_LAST_CHECKPOINT);
  EXPECT_THAT(why.message, HasSubstr("its ranks have ended; the checkpoint of step 20 waits for "
                                     "its second copy, on w2"));
  w2_.Fetch();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(bed_.coordinator.Explain(id_, bed_.now).reason, v1::REASON_COMPLETED);
  const v1::TimeLedger& time = bed_.Job(id_).time();
  EXPECT_DOUBLE_EQ(time.train(), 3);
  EXPECT_DOUBLE_EQ(time.checkpoint_stall(), 5);
  EXPECT_DOUBLE_EQ(bed_.Job(id_).checkpoints(0).train_seconds(), 3);
}

TEST_F(CommitTest, WhyItWasAskedToStopIsSaidWhileItsLastCheckpointIsCopied) {
  w1_.Train(id_, 10);
  w1_.Sync();
  ASSERT_TRUE(bed_.Pause(id_).ok());
  w1_.Checkpoint(id_, 10);
  w1_.End(id_, v1::RANK_OUTCOME_STOPPED);
  w1_.Sync();
  EXPECT_EQ(bed_.coordinator.Explain(id_, bed_.now).reason, v1::REASON_COPYING_LAST_CHECKPOINT);
  EXPECT_THAT(Explained(), HasSubstr("checkpoints, then pauses; the checkpoint of step 10 waits"));
  w2_.Fetch();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_PAUSED);
}

TEST_F(CommitTest, WaitsForTheCopyOfEveryRank) {
  HandWorker w3(&bed_, "w3", 2);
  Join(&w3);
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  w1_.Sync();
  w1_.Sync();
  id_ = bed_.Submit({.ranks = 2});
  std::vector<HandWorker*> gang;
  for (HandWorker* worker : {&w1_, &w2_, &w3}) {
    worker->Obey();
    if (worker->snapshot.ranks().empty()) continue;
    worker->Train(id_, 10);
    worker->Checkpoint(id_, 10, 2);
    gang.push_back(worker);
  }
  for (HandWorker* worker : gang) worker->Sync();
  ASSERT_THAT(Checkpoints(), ElementsAre());
  std::vector<HandWorker*> copiers;
  for (HandWorker* worker : {&w1_, &w2_, &w3}) {
    if (worker->Desired().copy_parts_size() > 0) copiers.push_back(worker);
  }
  for (HandWorker* worker : copiers) {
    EXPECT_THAT(Checkpoints(), ElementsAre());
    worker->Fetch();
  }
  ASSERT_EQ(bed_.Job(id_).checkpoints_size(), 1);
  EXPECT_EQ(bed_.Job(id_).checkpoints(0).copies_size(), 2);
}

TEST_F(CommitTest, GoesAheadWithOneCopyWhenTheSecondIsLate) {
  Checkpoint(10);
  Advance(seconds(7), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  Advance(seconds(1), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  EXPECT_EQ(bed_.Events(id_, v1::EVENT_KIND_WARNING).size(), 1u);
  EXPECT_THAT(
      LastMessage(v1::EVENT_KIND_WARNING),
      HasSubstr("step 10 is committed with one copy: w2 has not made the second within 8 s"));
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
}

TEST_F(CommitTest, WaitsLongerForMoreBytesButNeverForLong) {
  const int64_t room = int64_t{1} << 50;
  w2_.snapshot.set_disk_free_bytes(room);
  w2_.Sync();
  w1_.Train(id_, 10);
  w1_.Checkpoint(id_, 10);
  w1_.snapshot.mutable_checkpoint_parts(0)->set_bytes(1'000'000'000);
  w1_.Sync();
  Advance(seconds(17), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  Advance(seconds(1), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  // As many as a worker may say.
  w1_.Train(id_, 20);
  w1_.Checkpoint(id_, 20);
  w1_.snapshot.mutable_checkpoint_parts(1)->set_bytes(room);
  w1_.Sync();
  Advance(seconds(119), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  Advance(seconds(1), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|", "20:w1|"));
}

TEST_F(CommitTest, AWorkerAloneWaitsForNobody) {
  TestBed bed;
  HandWorker alone(&bed, "alone", 1);
  Join(&alone);
  const std::string id = bed.Submit();
  alone.Obey();
  alone.Train(id, 10);
  alone.Checkpoint(id, 10);
  alone.Sync();
  EXPECT_EQ(bed.Job(id).checkpoints_size(), 1);
  alone.Train(id, 100);
  alone.Checkpoint(id, 100);
  alone.End(id, v1::RANK_OUTCOME_COMPLETED);
  ASSERT_TRUE(alone.Report().ok());
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_SUCCEEDED);
  const auto committed = bed.Events(id, v1::EVENT_KIND_CHECKPOINT_COMMITTED);
  ASSERT_EQ(committed.size(), 2u);
  EXPECT_EQ(committed[1].message(), "checkpoint of step 100: 1000 bytes on alone");
}

TEST_F(CommitTest, WhatFailedBeforeACheckpointIsForgivenAlsoWhereItWaits) {
  w1_.Train(id_, 5);
  w1_.Crash(id_);
  EXPECT_EQ(bed_.Job(id_).retries().crash(), 1);
  Advance(seconds(3), {&w1_, &w2_});
  ASSERT_TRUE(w2_.Holds(id_, 2));  // where it has not crashed yet
  w2_.Train(id_, 10);
  w2_.Checkpoint(id_, 10);
  w2_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre());
  EXPECT_EQ(bed_.Job(id_).retries().crash(), 0);
  // The same step again is no progress, before it is committed.
  Advance(seconds(6), {&w1_});
  ASSERT_TRUE(w1_.Holds(id_, 3));
  EXPECT_EQ(bed_.Job(id_).retries().infrastructure(), 1);
  w2_.Sync();
  Checkpoint(10);
  EXPECT_EQ(bed_.Job(id_).retries().infrastructure(), 1);
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
  EXPECT_EQ(bed_.Job(id_).retries().infrastructure(), 0);
}

TEST_F(CommitTest, WaitsNoShorterBecauseTheCoordinatorStoodStill) {
  Checkpoint(10);
  bed_.Advance(seconds(20));
  bed_.coordinator.HandleStall(seconds(20));
  bed_.Tick();
  EXPECT_THAT(Checkpoints(), ElementsAre());
  Advance(seconds(7), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  Advance(seconds(1), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
}

TEST_F(CommitTest, AHolderThatLeavesStaysUntilTheCopyIsMade) {
  Checkpoint(10);
  w1_.snapshot.set_draining(true);
  w1_.Sync();
  w1_.End(id_, v1::RANK_OUTCOME_STOPPED);
  w1_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre());
  EXPECT_EQ(w1_.Desired().leave(), v1::LEAVE_LATER);
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w2|w1"));
  EXPECT_EQ(w1_.Desired().leave(), v1::LEAVE_NOW);
  EXPECT_EQ(w1_.Desired().acknowledged_ends_size(), 1);
  EXPECT_THAT(bed_.last.changed_workers, testing::Contains("w1"));
}

TEST_F(CommitTest, AHolderThatCannotStayTakesNoProgressAlong) {
  Checkpoint(10);
  w1_.snapshot.set_draining(true);
  w1_.Sync();
  w1_.End(id_, v1::RANK_OUTCOME_STOPPED);
  w1_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre());
  w1_.snapshot.set_goodbye(true);
  w1_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  EXPECT_THAT(LastMessage(v1::EVENT_KIND_CHECKPOINT_COMMITTED),
              HasSubstr("without a second copy, because its worker was stopped"));
  // It is known to be away at once.
  EXPECT_EQ(bed_.Job(id_).reason(), v1::REASON_WAITING_FOR_CHECKPOINT_HOLDER);
}

// Its last checkpoint is on both workers, and it is paused.
class PausedOnTwoTest : public CommitTest {
 protected:
  PausedOnTwoTest() {
    SINKFORGE_REQUIRE(bed_.Pause(id_).ok());
    w1_.Sync();
    Checkpoint(10);
    w1_.End(id_, v1::RANK_OUTCOME_STOPPED);
    w1_.Sync();
    w2_.Fetch();
    SINKFORGE_REQUIRE(bed_.StateOf(id_) == v1::JOB_STATE_PAUSED);
    w1_.Sync();
  }
  static void Stop(HandWorker* worker) {
    worker->snapshot.set_draining(true);
    worker->Sync();
    worker->snapshot.set_goodbye(true);
    worker->Sync();
    worker->Disconnect();
  }
  static void StartAnew(HandWorker* worker) {
    worker->snapshot.set_draining(false);
    worker->snapshot.set_goodbye(false);
    worker->RestartDaemon(worker->snapshot.incarnation() + "+");
    worker->Sync();
  }
  void ExpectToRunOn(HandWorker* worker) {
    SINKFORGE_REQUIRE(bed_.Resume(id_).ok());
    ASSERT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING) << Explained();
    EXPECT_EQ(bed_.Job(id_).placement(0).worker(), worker->snapshot.worker());
    const v1::DesiredState desired = worker->Desired();
    EXPECT_EQ(desired.ranks(0).restore().parts(0).worker(), worker->snapshot.worker());
  }
};

TEST_F(PausedOnTwoTest, GoesOnWithWhicheverIsBackFirst) {
  Stop(&w2_);
  Stop(&w1_);
  StartAnew(&w2_);
  ExpectToRunOn(&w2_);
}

TEST_F(PausedOnTwoTest, GoesOnWithTheOneThatReturnsAfterBothWereLost) {
  for (HandWorker* worker : {&w1_, &w2_}) worker->Disconnect();
  bed_.Advance(seconds(6));
  bed_.Tick();
  StartAnew(&w2_);
  ExpectToRunOn(&w2_);
}

TEST_F(PausedOnTwoTest, GoesOnWhereTheOtherOneStaysAwayAfterARestart) {
  bed_.Restart();
  w2_.Sync();
  bed_.Advance(seconds(6));
  w2_.Sync();
  bed_.Tick();
  ExpectToRunOn(&w2_);
}

TEST_F(PausedOnTwoTest, ARestartChangesNothingWhereBothComeBack) {
  const std::vector<std::string> before = Checkpoints();
  bed_.Restart();
  w2_.Sync();
  w1_.Sync();
  bed_.Advance(seconds(2));
  bed_.Tick();
  EXPECT_EQ(Checkpoints(), before);
}

TEST_F(PausedOnTwoTest, GoesOnFromACopyThatIsMadeWhileTheFirstHolderLeaves) {
  w2_.Disconnect();
  bed_.Advance(seconds(6));
  w1_.Sync();
  bed_.Tick();
  HandWorker w3(&bed_, "w3", 1);
  Join(&w3);
  ASSERT_EQ(w3.Desired().copy_parts_size(), 1);
  w1_.snapshot.set_draining(true);
  w1_.Sync();
  w3.Fetch();
  ExpectToRunOn(&w3);
}

TEST_F(PausedOnTwoTest, BothOfTwoThatAreDrainedAreNotToBeTakenAway) {
  for (const char* name : {"w1", "w2"}) ASSERT_TRUE(bed_.Drain(name).ok());
  for (const v1::Worker& worker : bed_.coordinator.Workers()) {
    EXPECT_EQ(worker.state(), v1::WORKER_STATE_DRAINING);
    EXPECT_EQ(worker.only_copies(), 1);
  }
  Stop(&w1_);
  EXPECT_EQ(bed_.coordinator.Workers()[0].state(), v1::WORKER_STATE_STOPPED);
  EXPECT_EQ(bed_.coordinator.Workers()[0].only_copies(), 1);
}

// The other holder was killed a moment ago: its lease still runs.
TEST_F(PausedOnTwoTest, AHolderStaysWhileTheOtherOneIsInDoubt) {
  HandWorker w3(&bed_, "w3", 1);
  Join(&w3);
  w2_.Disconnect();
  w1_.snapshot.set_draining(true);
  w1_.Sync();
  EXPECT_EQ(w1_.Desired().leave(), v1::LEAVE_LATER);
  EXPECT_EQ(w1_.Desired().only_copies(), 1);
  Advance(seconds(6), {&w1_, &w3});
  EXPECT_EQ(w1_.Desired().leave(), v1::LEAVE_LATER);
  w3.Fetch();
  EXPECT_EQ(w1_.Desired().leave(), v1::LEAVE_NOW);
  EXPECT_EQ(w1_.Desired().only_copies(), 0);
}

// One that leaves takes nobody else's time: another one makes the copy.
TEST_F(CommitTest, ACopierThatSaysGoodbyeIsReplaced) {
  Checkpoint(10);
  HandWorker w3(&bed_, "w3", 1);
  Join(&w3);
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  w2_.snapshot.set_draining(true);
  w2_.snapshot.set_goodbye(true);
  w2_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre());
  w3.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w3"));
}

TEST_F(CommitTest, AHolderThatIsDrainedByTheUserIsWaitedForLikeAnyOther) {
  Checkpoint(10);
  ASSERT_TRUE(bed_.Drain("w1").ok());
  w1_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre());
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
}

TEST_F(CommitTest, AJobGoesBackToWhatIsOnTwoWorkersRatherThanWaitForALostOne) {
  Checkpoint(10);
  w2_.Fetch();
  Checkpoint(20);
  Advance(seconds(5), {&w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w2|w1"));
  ASSERT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
  ASSERT_EQ(w2_.Desired().ranks_size(), 1);
  EXPECT_EQ(w2_.Desired().ranks(0).restore().step(), 10);
  EXPECT_THAT(LastMessage(v1::EVENT_KIND_WARNING),
              HasSubstr("the checkpoint of step 20 is given up: it had no second copy yet, and "
                        "worker w1 is away; step 10 counts"));
  // It comes back too late.
  ASSERT_TRUE(w1_.Report().ok());
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w2|w1"));
  ASSERT_EQ(w1_.Desired().drop_checkpoints_size(), 1);
  EXPECT_EQ(w1_.Desired().drop_checkpoints(0).step(), 20);
}

// The time for the copy is shorter than the lease of a worker that died.
class ShortPatienceTest : public testing::Test {
 protected:
  ShortPatienceTest() {
    for (HandWorker* worker : {&w1_, &w2_, &w3_}) {
      worker->snapshot.set_disk_free_bytes(1'000'000);
      worker->Sync();
    }
  }

  TestBed bed_{{.commit_patience = seconds(2)}};
  HandWorker w1_{&bed_, "w1", 1};
  HandWorker w2_{&bed_, "w2", 1};
  HandWorker w3_{&bed_, "w3", 1};
};

TEST_F(ShortPatienceTest, ALateCopyDoesNotBindAJobToADeadWorker) {
  const std::string id = bed_.Submit();
  w1_.Obey();
  w1_.Train(id, 10);
  w1_.Checkpoint(id, 10);
  w1_.Sync();
  for (int i = 0; i < 5; ++i) {  // without a word of it
    bed_.Advance(seconds(1));
    for (HandWorker* worker : {&w2_, &w3_}) worker->Sync();
    bed_.Tick();
  }
  EXPECT_EQ(bed_.Job(id).checkpoints_size(), 0);
  EXPECT_EQ(bed_.StateOf(id), v1::JOB_STATE_STARTING);
}

TEST_F(ShortPatienceTest, ALateCopyIsWaitedForUntilTheHolderIsHeardOf) {
  const std::string id = bed_.Submit();
  w1_.Obey();
  w1_.Train(id, 10);
  w1_.Checkpoint(id, 10);
  w1_.Sync();
  for (int i = 0; i < 3; ++i) {
    bed_.Advance(seconds(1));
    bed_.Tick();
  }
  EXPECT_EQ(bed_.Job(id).checkpoints_size(), 0);
  w1_.Sync();
  bed_.Tick();
  EXPECT_EQ(bed_.Job(id).checkpoints_size(), 1);
}

TEST_F(ShortPatienceTest, APeerThatKnowsFirstDoesNotBindAJobToADeadWorker) {
  const std::string id = bed_.Submit({.ranks = 2});
  std::vector<HandWorker*> gang;
  for (HandWorker* worker : {&w1_, &w2_, &w3_}) {
    worker->Obey();
    if (worker->snapshot.ranks().empty()) continue;
    worker->Train(id, 10);
    worker->Checkpoint(id, 10, 2);
    worker->Sync();
    gang.push_back(worker);
  }
  ASSERT_EQ(gang.size(), 2u);
  gang[0]->Disconnect();
  gang[1]->End(id, v1::RANK_OUTCOME_FAILED, v1::REASON_RANK_LOST, "a peer is gone");
  for (int i = 0; i < 2; ++i) {
    gang[1]->Sync();
    bed_.Advance(seconds(1));
    bed_.Tick();
  }
  gang[1]->Sync();
  EXPECT_EQ(bed_.Events(id, v1::EVENT_KIND_ATTEMPT_ENDED).size(), 1u);
  EXPECT_EQ(bed_.Job(id).checkpoints_size(), 0);
}

TEST_F(CommitTest, AHolderThatIsBackBeforeTheNextAttemptHasLostNothing) {
  Checkpoint(10);
  w2_.snapshot.clear_slots();  // nowhere else can the job start
  w2_.Sync();
  Advance(seconds(5), {&w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_QUEUED);
  ASSERT_TRUE(w1_.Report().ok());
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  w1_.Sync();
  w1_.Sync();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
  EXPECT_EQ(w1_.Desired().ranks(0).restore().step(), 10);
  EXPECT_TRUE(bed_.Events(id_, v1::EVENT_KIND_WARNING).empty());
}

TEST_F(CommitTest, ADaemonThatIsStartedAnewHasLostNothing) {
  Checkpoint(10);
  w1_.Disconnect();
  w1_.RestartDaemon("w1/2");
  ASSERT_TRUE(w1_.Report().ok());
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  EXPECT_TRUE(bed_.Events(id_, v1::EVENT_KIND_WARNING).empty());
}

TEST_F(CommitTest, IsReadWhereItCanBeWhenOneHolderOfAGangIsLost) {
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  HandWorker w3(&bed_, "w3", 1);
  for (HandWorker* worker : {&w1_, &w1_, &w3}) worker->Sync();
  id_ = bed_.Submit({.ranks = 2});
  std::vector<HandWorker*> gang;
  std::vector<HandWorker*> others;
  for (HandWorker* worker : {&w1_, &w2_, &w3}) {
    Join(worker);
    (worker->snapshot.ranks().empty() ? others : gang).push_back(worker);
  }
  ASSERT_EQ(gang.size(), 2u);
  for (HandWorker* worker : gang) {
    worker->Train(id_, 10);
    worker->Checkpoint(id_, 10, 2);
    worker->Sync();
  }
  // One of the two parts has its copy when the worker that wrote it is lost.
  HandWorker* copier = others[0]->Desired().copy_parts_size() > 0 ? others[0] : gang[1];
  const std::string writer = copier->Desired().copy_parts(0).part().worker();
  copier->Fetch();
  ASSERT_THAT(Checkpoints(), ElementsAre());
  std::vector<HandWorker*> rest;
  for (HandWorker* worker : {&w1_, &w2_, &w3}) {
    if (worker->snapshot.worker() != writer) rest.push_back(worker);
  }
  Advance(seconds(5), rest);
  ASSERT_EQ(bed_.Job(id_).checkpoints_size(), 1);
  for (const v1::CheckpointPart& part : bed_.Job(id_).checkpoints(0).parts()) {
    EXPECT_NE(part.worker(), writer);
  }
  Advance(seconds(2), rest);
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
}

TEST_F(CommitTest, WaitsAlsoAfterARestart) {
  Checkpoint(10);
  w2_.Fetch();
  Checkpoint(20);
  bed_.Restart();
  // The one that is to take the copy is not heard of at once.
  w1_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
  w2_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2", "20:w1|w2"));
}

TEST_F(CommitTest, ARestartedCoordinatorDoesNotWaitForeverForWhoDoesNotComeBack) {
  Checkpoint(10);
  w2_.Fetch();
  Checkpoint(20);
  bed_.Restart();
  Advance(seconds(4), {&w1_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
  Advance(seconds(1), {&w1_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2", "20:w1|"));
  EXPECT_TRUE(bed_.Events(id_, v1::EVENT_KIND_WARNING).empty());
  Checkpoint(30);
  EXPECT_THAT(Checkpoints(), testing::Contains("30:w1|"));
}

TEST_F(CommitTest, ARestartedCoordinatorThatKnowsOfNobodyElseGoesAhead) {
  Checkpoint(10);
  bed_.Restart();
  w1_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
}

TEST_F(CommitTest, ARestartedCoordinatorFindsBothCopies) {
  Checkpoint(10);
  *w2_.snapshot.add_checkpoint_parts() = w1_.snapshot.checkpoint_parts(0);
  bed_.Restart();
  ASSERT_TRUE(w2_.Report().ok());
  EXPECT_EQ(w2_.Desired().drop_checkpoints_size(), 0);
  EXPECT_THAT(Checkpoints(), ElementsAre());
  w1_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w2|w1"));
}

TEST_F(CommitTest, KeepsTheProgressOfAnAttemptThatEndsMeanwhile) {
  Checkpoint(10);
  w1_.Crash(id_);
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  EXPECT_THAT(LastMessage(v1::EVENT_KIND_CHECKPOINT_COMMITTED),
              HasSubstr("because its attempt has ended"));
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 1);
  Advance(seconds(3), {&w1_, &w2_});
  const auto started = bed_.Events(id_, v1::EVENT_KIND_ATTEMPT_STARTED);
  ASSERT_EQ(started.size(), 2u);
  EXPECT_EQ(started[1].step(), 10);
}

TEST_F(CommitTest, ACancelledJobKeepsWhatWaited) {
  Checkpoint(10);
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
  ASSERT_TRUE(bed_.Delete(id_).ok());
  Advance(seconds(9), {&w1_, &w2_});
  EXPECT_EQ(w1_.snapshot.checkpoint_parts_size() + w2_.snapshot.checkpoint_parts_size(), 0);
}

TEST_F(CommitTest, AJobIsPausedWhenItsLastCheckpointIsOnTwoWorkers) {
  Checkpoint(10);
  w2_.Fetch();
  ASSERT_TRUE(bed_.Pause(id_).ok());
  Checkpoint(15);
  w1_.End(id_, v1::RANK_OUTCOME_STOPPED);
  w1_.Sync();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_RUNNING);
  EXPECT_THAT(Explained(), HasSubstr("the checkpoint of step 15 waits for its second copy"));
  w2_.Fetch();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_PAUSED);
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2", "15:w1|w2"));
}

TEST_F(CommitTest, APauseDoesNotHang) {
  ASSERT_TRUE(bed_.Pause(id_).ok());
  Checkpoint(10);
  w1_.End(id_, v1::RANK_OUTCOME_STOPPED);
  Advance(seconds(8), {&w1_, &w2_});
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_PAUSED);
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
}

TEST_F(CommitTest, AStopThatIsOverdueTakesTheCheckpointAlong) {
  TestBed bed({.stop_grace = seconds(3), .commit_patience = seconds(8)});
  HandWorker w1(&bed, "w1", 1);
  HandWorker w2(&bed, "w2", 0);
  Join(&w1);
  Join(&w2);
  const std::string victim = bed.Submit();
  w1.Obey();
  w1.Train(victim, 10);
  w1.Sync();
  const std::string urgent = bed.Submit({.priority = 1});
  w1.Train(victim, 12);
  w1.Checkpoint(victim, 12);
  w1.End(victim, v1::RANK_OUTCOME_STOPPED);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(bed.Job(victim).checkpoints_size(), 0);
    bed.Advance(seconds(1));
    w2.Sync();
    w1.Sync();
    bed.Tick();
  }
  EXPECT_EQ(bed.StateOf(urgent), v1::JOB_STATE_STARTING);
  ASSERT_EQ(bed.Job(victim).checkpoints_size(), 1);
  EXPECT_THAT(bed.Events(victim, v1::EVENT_KIND_ATTEMPT_ENDED)[0].message(),
              HasSubstr("stopped after step 12"));
}

TEST_F(CommitTest, AJobHasSucceededWhenItsLastCheckpointIsOnTwoWorkers) {
  Checkpoint(100);
  w1_.End(id_, v1::RANK_OUTCOME_COMPLETED);
  w1_.Sync();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_RUNNING);
  w2_.Fetch();
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_SUCCEEDED);
  EXPECT_THAT(Checkpoints(), ElementsAre("100:w1|w2"));
}

TEST_F(CommitTest, AJobSucceedsAlsoWithoutTheSecondCopy) {
  Checkpoint(100);
  w1_.End(id_, v1::RANK_OUTCOME_COMPLETED);
  Advance(seconds(8), {&w1_, &w2_});
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_SUCCEEDED);
  EXPECT_THAT(Checkpoints(), ElementsAre("100:w1|"));
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("100:w1|w2"));
}

TEST_F(CommitTest, AJobWhoseLastWorkerIsLostMeanwhileDoesTheRestAgain) {
  Checkpoint(90);
  w2_.Fetch();
  Checkpoint(100);
  w1_.End(id_, v1::RANK_OUTCOME_COMPLETED);
  w1_.Sync();
  Advance(seconds(5), {&w2_});
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
  EXPECT_EQ(w2_.Desired().ranks(0).restore().step(), 90);
}

TEST_F(CommitTest, TheOldestGoesWhenANewOneIsOnTwoWorkersAndNotBefore) {
  for (const int64_t step : {10, 20}) {
    Checkpoint(step);
    w2_.Fetch();
  }
  Checkpoint(30);
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2", "20:w1|w2"));
  EXPECT_EQ(w1_.Desired().drop_checkpoints_size(), 0);
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("20:w1|w2", "30:w1|w2"));
  EXPECT_EQ(w1_.Desired().drop_checkpoints(0).step(), 10);
}

TEST_F(CommitTest, APartThatIsGoneBeforeTheCommitIsNotCommitted) {
  Checkpoint(10);
  w1_.snapshot.clear_checkpoint_parts();  // it was found corrupt
  w1_.Sync();
  Advance(seconds(9), {&w1_, &w2_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  Checkpoint(20);
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("20:w1|w2"));
}

}  // namespace
}  // namespace sinkforge::server
