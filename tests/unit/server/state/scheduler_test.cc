// The scheduling policy: order, gangs, holders, and the reasons it gives.
#include "server/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sinkforge::server::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

WaitingJob Waiter(int64_t number, int ranks, int priority = 0,
                  std::vector<std::string> holders = {}) {
  WaitingJob job;
  job.job_id = "job-" + std::to_string(number);
  job.key = {priority, number};
  job.device = v1::DEVICE_CPU;
  job.ranks = ranks;
  job.holders = std::move(holders);
  return job;
}

WorkerView View(const std::string& name, int total, std::vector<int> free) {
  WorkerView view;
  view.worker = name;
  view.incarnation = name + "/1";
  view.serves_checkpoints = true;
  view.slots[v1::DEVICE_CPU] = {total, std::move(free)};
  return view;
}

std::vector<std::string> Places(const Decision& decision) {
  std::vector<std::string> places;
  for (const v1::RankPlacement& rank : decision.placement) {
    places.push_back(rank.worker() + ":" + std::to_string(rank.slot()));
  }
  return places;
}

TEST(QueueTest, PriorityThenFirstComeFirstServed) {
  Queue queue;
  for (const auto& job : {Waiter(3, 1), Waiter(1, 1), Waiter(2, 4, 5), Waiter(4, 2, 5)}) {
    queue.Add(job);
  }
  EXPECT_EQ(queue.First(v1::DEVICE_CPU, 8)->job_id, "job-2");
  EXPECT_EQ(queue.First(v1::DEVICE_CPU, 3)->job_id, "job-4");
  EXPECT_EQ(queue.First(v1::DEVICE_CPU, 1)->job_id, "job-1");
  EXPECT_EQ(queue.First(v1::DEVICE_CPU, 0), nullptr);
  EXPECT_EQ(queue.First(v1::DEVICE_CUDA, 8), nullptr);
  queue.Remove(*queue.First(v1::DEVICE_CPU, 8));
  EXPECT_EQ(queue.First(v1::DEVICE_CPU, 8)->job_id, "job-4");
}

TEST(PoolTest, SumsFollowTheWorkers) {
  Pool pool;
  pool.Update(View("a", 4, {0, 1}));
  pool.Update(View("b", 2, {1}));
  EXPECT_EQ(pool.Total(v1::DEVICE_CPU), 6);
  EXPECT_EQ(pool.Free(v1::DEVICE_CPU), 3);
  pool.Update(View("a", 4, {}));
  pool.Erase("b");
  pool.Erase("b");
  EXPECT_EQ(pool.Total(v1::DEVICE_CPU), 4);
  EXPECT_EQ(pool.Free(v1::DEVICE_CPU), 0);
}

TEST(SchedulerTest, NothingWithoutJobs) {
  EXPECT_EQ(Decide(Queue(), Pool(), v1::DEVICE_CPU).action, Action::kNothing);
}

TEST(SchedulerTest, FillsTheFullestWorkerThatIsEnough) {
  Queue queue;
  queue.Add(Waiter(1, 2));
  Pool pool;
  pool.Update(View("a", 8, {0, 1, 2, 3}));
  pool.Update(View("b", 8, {5, 6, 7}));
  pool.Update(View("c", 8, {0}));
  const Decision decision = Decide(queue, pool, v1::DEVICE_CPU);
  EXPECT_EQ(decision.action, Action::kStart);
  EXPECT_THAT(Places(decision), ElementsAre("b:5", "b:6"));
  EXPECT_EQ(decision.placement[1].rank(), 1);
  EXPECT_EQ(decision.placement[0].incarnation(), "b/1");
}

TEST(SchedulerTest, SpreadsOverFewWorkersWhenOneIsNotEnough) {
  Queue queue;
  queue.Add(Waiter(1, 4));
  Pool pool;
  pool.Update(View("a", 8, {0}));
  pool.Update(View("b", 8, {1, 2}));
  pool.Update(View("c", 8, {5, 6, 7}));
  EXPECT_THAT(Places(Decide(queue, pool, v1::DEVICE_CPU)), ElementsAre("c:5", "c:6", "c:7", "b:1"));
}

TEST(SchedulerTest, PrefersTheHolderOfTheCheckpoint) {
  Queue queue;
  queue.Add(Waiter(1, 1, 0, {"c"}));
  Pool pool;
  pool.Update(View("a", 2, {0}));
  pool.Update(View("c", 8, {0, 1, 2, 3}));
  EXPECT_THAT(Places(Decide(queue, pool, v1::DEVICE_CPU)), ElementsAre("c:0"));
}

TEST(SchedulerTest, AJobThatCanNeverFitHoldsNobodyBack) {
  Queue queue;
  queue.Add(Waiter(1, 9, 100));
  queue.Add(Waiter(2, 1));
  Pool pool;
  pool.Update(View("a", 2, {0, 1}));
  EXPECT_EQ(Decide(queue, pool, v1::DEVICE_CPU).job->job_id, "job-2");
  const Wait wait = ExplainWait(queue, pool, Waiter(1, 9, 100));
  EXPECT_EQ(wait.reason, v1::REASON_NOT_ENOUGH_SLOTS_EXIST);
  EXPECT_THAT(wait.message, HasSubstr("needs 9 cpu slots"));
  EXPECT_THAT(wait.message, HasSubstr("have 2"));
}

TEST(SchedulerTest, AJobThatWaitsHoldsBackThoseBehind) {
  Queue queue;
  queue.Add(Waiter(1, 2));
  queue.Add(Waiter(2, 1));
  Pool pool;
  pool.Update(View("a", 2, {1}));
  const Decision decision = Decide(queue, pool, v1::DEVICE_CPU);
  EXPECT_EQ(decision.action, Action::kWait);
  EXPECT_EQ(decision.job->job_id, "job-1");
  EXPECT_EQ(decision.reason, v1::REASON_WAITING_FOR_SLOTS);
  EXPECT_THAT(decision.message, HasSubstr("needs 2 cpu slots; 1 of 2 free"));
  const Wait behind = ExplainWait(queue, pool, Waiter(2, 1));
  EXPECT_EQ(behind.reason, v1::REASON_BEHIND_OTHER_JOB);
  EXPECT_THAT(behind.message, HasSubstr("behind job-1"));
}

TEST(SchedulerTest, AMissingHolderParks) {
  Queue queue;
  queue.Add(Waiter(1, 1, 0, {"a", "gone"}));
  Pool pool;
  pool.Update(View("a", 2, {1}));
  const Decision decision = Decide(queue, pool, v1::DEVICE_CPU);
  EXPECT_EQ(decision.action, Action::kPark);
  EXPECT_THAT(decision.missing, ElementsAre("gone"));
  EXPECT_THAT(decision.message, HasSubstr("worker gone"));
}

TEST(SchedulerTest, DevicesDoNotMix) {
  Queue queue;
  WaitingJob job = Waiter(1, 1);
  job.device = v1::DEVICE_CUDA;
  queue.Add(job);
  Pool pool;
  pool.Update(View("a", 2, {0, 1}));
  EXPECT_EQ(Decide(queue, pool, v1::DEVICE_CUDA).action, Action::kNothing);
  EXPECT_THAT(ExplainWait(queue, pool, job).message, HasSubstr("1 cuda slot"));
}

}  // namespace
}  // namespace sinkforge::server::scheduler
