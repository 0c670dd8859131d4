// Reconcile: every kind of difference between what runs and what is wanted.
#include "worker/agent/reconcile.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sinkforge::worker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

v1::DesiredRank Wanted(const std::string& job, int64_t attempt, int32_t slot) {
  v1::DesiredRank rank;
  rank.set_job_id(job);
  rank.set_attempt(attempt);
  rank.set_slot(slot);
  rank.set_run(v1::RUN_REQUEST_TRAIN);
  return rank;
}

HeldRank Held(const std::string& job, int64_t attempt, int32_t slot, HeldRank::Life life) {
  return {{job, attempt, 0}, slot, life, v1::RUN_REQUEST_TRAIN};
}

WorkerView TwoSlots() {
  WorkerView view;
  view.slots = {0, 1};
  return view;
}

TEST(ReconcileTest, SpawnsWhatIsWantedAndNotThere) {
  v1::DesiredState desired;
  *desired.add_ranks() = Wanted("b-2", 1, 1);
  *desired.add_ranks() = Wanted("a-1", 1, 0);
  const Plan plan = Reconcile(TwoSlots(), desired);
  ASSERT_EQ(plan.spawn.size(), 2U);
  EXPECT_EQ(plan.spawn[0].job_id(), "a-1");
  EXPECT_EQ(plan.spawn[1].job_id(), "b-2");
}

TEST(ReconcileTest, LeavesAloneWhatRunsAsWanted) {
  WorkerView view = TwoSlots();
  view.ranks = {Held("a-1", 1, 0, HeldRank::Life::kRunning)};
  v1::DesiredState desired;
  *desired.add_ranks() = Wanted("a-1", 1, 0);
  EXPECT_TRUE(Reconcile(view, desired).empty());
}

TEST(ReconcileTest, KillsWhatIsNotWantedAndWaitsWithTheSlot) {
  WorkerView view = TwoSlots();
  view.ranks = {Held("a-1", 1, 0, HeldRank::Life::kRunning)};
  v1::DesiredState desired;
  *desired.add_ranks() = Wanted("a-1", 2, 0);
  const Plan first = Reconcile(view, desired);
  EXPECT_THAT(first.kill, ElementsAre(RankKey{"a-1", 1, 0}));
  EXPECT_THAT(first.spawn, IsEmpty());

  view.ranks[0].life = HeldRank::Life::kDying;
  EXPECT_TRUE(Reconcile(view, desired).empty());

  view.ranks[0].life = HeldRank::Life::kEnded;
  EXPECT_EQ(Reconcile(view, desired).spawn.size(), 1U);
}

TEST(ReconcileTest, NeverSpawnsTwoRanksIntoOneSlot) {
  v1::DesiredState desired;
  *desired.add_ranks() = Wanted("a-1", 1, 0);
  *desired.add_ranks() = Wanted("b-2", 1, 0);
  const Plan plan = Reconcile(TwoSlots(), desired);
  ASSERT_EQ(plan.spawn.size(), 1U);
  EXPECT_EQ(plan.spawn[0].job_id(), "a-1");
}

TEST(ReconcileTest, NeverStartsAnEndedRankAgain) {
  WorkerView view = TwoSlots();
  view.ranks = {Held("a-1", 1, 0, HeldRank::Life::kEnded)};
  v1::DesiredState desired;
  *desired.add_ranks() = Wanted("a-1", 1, 0);
  desired.add_acknowledged_ends("a-1/1/0");
  EXPECT_TRUE(Reconcile(view, desired).empty());
}

TEST(ReconcileTest, ForgetsAcknowledgedEndsOnly) {
  WorkerView view = TwoSlots();
  view.ranks = {Held("a-1", 1, 0, HeldRank::Life::kEnded),
                Held("b-2", 1, 1, HeldRank::Life::kEnded)};
  v1::DesiredState desired;
  desired.add_acknowledged_ends("b-2/1/0");
  EXPECT_THAT(Reconcile(view, desired).forget, ElementsAre(RankKey{"b-2", 1, 0}));
}

TEST(ReconcileTest, AsksToStopOnce) {
  WorkerView view = TwoSlots();
  view.ranks = {Held("a-1", 1, 0, HeldRank::Life::kRunning)};
  v1::DesiredState desired;
  *desired.add_ranks() = Wanted("a-1", 1, 0);
  desired.mutable_ranks(0)->set_run(v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
  EXPECT_THAT(Reconcile(view, desired).stop, ElementsAre(RankKey{"a-1", 1, 0}));
  view.ranks[0].run = v1::RUN_REQUEST_CHECKPOINT_AND_STOP;
  EXPECT_TRUE(Reconcile(view, desired).empty());
}

TEST(ReconcileTest, DrainingStopsWhatRunsAndRefusesTheRest) {
  WorkerView view = TwoSlots();
  view.intake = WorkerView::Intake::kDraining;
  view.ranks = {Held("a-1", 1, 0, HeldRank::Life::kRunning)};
  v1::DesiredState desired;
  *desired.add_ranks() = Wanted("a-1", 1, 0);
  *desired.add_ranks() = Wanted("b-2", 1, 1);
  const Plan plan = Reconcile(view, desired);
  EXPECT_THAT(plan.stop, ElementsAre(RankKey{"a-1", 1, 0}));
  EXPECT_THAT(plan.spawn, IsEmpty());
  ASSERT_EQ(plan.refuse.size(), 1U);
  EXPECT_EQ(plan.refuse[0].reason, v1::REASON_WORKER_DRAINING);
}

TEST(ReconcileTest, RefusesASlotThatDoesNotExist) {
  v1::DesiredState desired;
  *desired.add_ranks() = Wanted("a-1", 1, 7);
  const Plan plan = Reconcile(TwoSlots(), desired);
  ASSERT_EQ(plan.refuse.size(), 1U);
  EXPECT_THAT(plan.refuse[0].message, testing::HasSubstr("slot 7"));
}

TEST(ReconcileTest, DropsOnlyCheckpointsThatAreHere) {
  WorkerView view = TwoSlots();
  view.checkpoints = {{"a-1", 1, 100}};
  v1::DesiredState desired;
  for (const int64_t step : {100, 200}) {
    v1::DropCheckpoint& drop = *desired.add_drop_checkpoints();
    drop.set_job_id("a-1");
    drop.set_attempt(1);
    drop.set_step(step);
  }
  v1::DropCheckpoint& of_another_job = *desired.add_drop_checkpoints();
  of_another_job = desired.drop_checkpoints(0);
  of_another_job.set_job_uid("other");
  Plan::Drop all;
  all.checkpoint = {"a-1", 1, 100};
  Plan::Drop others = all;
  others.job_uid = "other";
  EXPECT_THAT(Reconcile(view, desired).drop_checkpoints, ElementsAre(all, others));
}

}  // namespace
}  // namespace sinkforge::worker
