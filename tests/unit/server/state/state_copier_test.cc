// Who makes the copy that a commit waits for, and what becomes of it when that worker goes away, or
// has no room, and when another checkpoint is copied sooner.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "commit_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

class CopierTest : public CommitTest {};

TEST_F(CopierTest, DoesNotWaitForAFullDisk) {
  w2_.snapshot.set_disk_free_bytes(999);
  w2_.Sync();
  Checkpoint(10);
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  EXPECT_THAT(LastMessage(v1::EVENT_KIND_CHECKPOINT_COMMITTED),
              HasSubstr("on w1; no other worker can take a copy now"));
}

TEST_F(CopierTest, ACopierThatDrainsIsWaitedForNoMore) {
  Checkpoint(10);
  w2_.snapshot.set_draining(true);
  w2_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  EXPECT_TRUE(bed_.Events(id_, v1::EVENT_KIND_WARNING).empty());
}

TEST_F(CopierTest, ACopierThatTheUserDrainsIsWaitedForNoMore) {
  Checkpoint(10);
  ASSERT_TRUE(bed_.Drain("w2").ok());
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
}

TEST_F(CopierTest, ACopierThatIsLostIsWaitedForNoMore) {
  Checkpoint(10);
  Advance(seconds(4), {&w1_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  Advance(seconds(1), {&w1_});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  EXPECT_EQ(bed_.Job(id_).attempt(), 1);
}

TEST_F(CopierTest, AThirdWorkerTakesOverFromACopierThatIsLost) {
  HandWorker w3(&bed_, "w3", 1);
  Checkpoint(10);
  Join(&w3);
  EXPECT_EQ(w3.Desired().copy_parts_size(), 0);
  Advance(seconds(5), {&w1_, &w3});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  ASSERT_EQ(w3.Desired().copy_parts_size(), 1);
  w3.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w3"));
}

TEST_F(CopierTest, ACopierThatIsGoneIsReplacedAtOnce) {
  HandWorker w3(&bed_, "w3", 1);
  Checkpoint(10);
  Join(&w3);
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  w2_.Disconnect();  // as when it is killed: its lease still runs
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  ASSERT_EQ(w3.Desired().copy_parts_size(), 1);
  w3.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w3"));
}

TEST_F(CopierTest, ACopierThatSaysNothingIsReplacedBeforeItsLeaseIsOver) {
  HandWorker w3(&bed_, "w3", 1);
  Checkpoint(10);
  Join(&w3);
  Advance(seconds(2), {&w1_, &w3});
  EXPECT_EQ(w3.Desired().copy_parts_size(), 0);
  Advance(seconds(1), {&w1_, &w3});
  EXPECT_EQ(w3.Desired().copy_parts_size(), 1);
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
}

TEST_F(CopierTest, ACopierThatSaysNothingIsWaitedForWhereNobodyElseCanTakeTheCopy) {
  Checkpoint(10);
  w2_.Disconnect();
  Advance(seconds(4), {&w1_});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
}

TEST_F(CopierTest, AWorkerThatAnswersIsChosenBeforeOneThatDoesNot) {
  HandWorker w3(&bed_, "w3", 1);
  Join(&w3);
  w2_.Disconnect();
  Checkpoint(10);
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  EXPECT_EQ(w3.Desired().copy_parts_size(), 1);
}

TEST_F(CopierTest, ACopierWhoseDiskFillsUpIsWaitedForNoMore) {
  Checkpoint(10);
  w2_.snapshot.set_disk_free_bytes(999);
  w2_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  EXPECT_THAT(LastMessage(v1::EVENT_KIND_CHECKPOINT_COMMITTED),
              HasSubstr("on w1; no other worker can take a copy now"));
  w2_.Sync();
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  // It has room again.
  w2_.snapshot.set_disk_free_bytes(1000);
  w2_.Sync();
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2"));
}

TEST_F(CopierTest, ACopierWhoseDiskFillsUpIsReplacedAtOnce) {
  HandWorker w3(&bed_, "w3", 1);
  Checkpoint(10);
  Join(&w3);
  w2_.snapshot.set_disk_free_bytes(999);
  w2_.Sync();
  EXPECT_THAT(Checkpoints(), ElementsAre());
  EXPECT_EQ(w2_.Desired().copy_parts_size(), 0);
  EXPECT_EQ(w3.Desired().copy_parts_size(), 1);
}

TEST_F(CopierTest, WhatACommitWaitsForIsFetchedFirst) {
  w2_.snapshot.set_disk_free_bytes(999);
  w2_.Sync();
  Checkpoint(10);
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|"));
  w2_.snapshot.set_disk_free_bytes(1'000'000);
  w2_.Sync();
  Checkpoint(20);
  const v1::DesiredState desired = w2_.Desired();
  ASSERT_EQ(desired.copy_parts_size(), 2);
  EXPECT_EQ(desired.copy_parts(0).part().step(), 20);
  EXPECT_EQ(desired.copy_parts(1).part().step(), 10);
}

TEST_F(CopierTest, ACheckpointWaitsForTheOneThatItOvertook) {
  HandWorker w3(&bed_, "w3", 1);
  Join(&w3);
  Checkpoint(10);
  Checkpoint(20);
  ASSERT_EQ(w2_.Desired().copy_parts(0).part().step(), 10);
  ASSERT_EQ(w3.Desired().copy_parts(0).part().step(), 20);
  w3.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre());
  w2_.Fetch();
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|w2", "20:w1|w3"));
}

TEST_F(CopierTest, ACheckpointWaitsForTheOneThatItOvertookNoLongerThanThatOneMay) {
  HandWorker w3(&bed_, "w3", 1);
  Join(&w3);
  Checkpoint(10);
  Advance(seconds(2), {&w1_, &w2_, &w3});
  Checkpoint(20);
  w3.Fetch();
  Advance(seconds(5), {&w1_, &w2_, &w3});
  EXPECT_THAT(Checkpoints(), ElementsAre());
  Advance(seconds(1), {&w1_, &w2_, &w3});
  EXPECT_THAT(Checkpoints(), ElementsAre("10:w1|", "20:w1|w3"));
}

TEST_F(CopierTest, AnAttemptThatEndsTakesAlongWhatOvertookAnother) {
  HandWorker w3(&bed_, "w3", 1);
  Join(&w3);
  Checkpoint(10);
  Checkpoint(20);
  w3.Fetch();
  Advance(seconds(5), {&w2_, &w3});  // without the worker that wrote them
  EXPECT_THAT(Checkpoints(), ElementsAre("20:w3|w1"));
}

}  // namespace
}  // namespace sinkforge::server
