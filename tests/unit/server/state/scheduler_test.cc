// The scheduling policy: order, gangs, shares, backfill, evictions, growth, and the reasons it
// gives.
#include "server/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/scheduler/explain.h"
#include "server/scheduler/order.h"

namespace sinkforge::server::scheduler {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct WaiterOptions {
  int priority = 0;
  std::string name_space = "default";
  std::vector<std::string> holders = {};
};

WaitingJob Waiter(int64_t number, int ranks, const WaiterOptions& options = {}) {
  WaitingJob job;
  job.job_id = "job-" + std::to_string(number);
  job.key.priority = options.priority;
  job.key.number = number;
  job.name_space = options.name_space;
  job.device = v1::DEVICE_CPU;
  job.ranks = job.min_ranks = ranks;
  job.holders = options.holders;
  return job;
}

WorkerView View(const std::string& name, int total, std::vector<int> free, int leaving = 0) {
  WorkerView view;
  view.worker = name;
  view.incarnation = name + "/1";
  view.serves_checkpoints = true;
  view.slots[v1::DEVICE_CPU] = {total, std::move(free), leaving};
  return view;
}

std::vector<std::string> Places(const Decision& decision) {
  std::vector<std::string> places;
  for (const v1::RankPlacement& rank : decision.placement) {
    places.push_back(rank.worker() + ":" + std::to_string(rank.slot()));
  }
  return places;
}

v1::Namespace Settings(const std::string& name, double weight) {
  v1::Namespace settings;
  settings.set_namespace_(name);
  settings.set_weight(weight);
  return settings;
}

class SchedulerTest : public testing::Test {
 protected:
  Decision Ask(v1::Device device = v1::DEVICE_CPU) { return Decide(cluster_, device, {}, now_); }

  // An attempt under way that trains since `age` ago, without a checkpoint.
  void Run(int64_t number, int ranks, int priority, seconds age,
           const std::string& lent_from = "") {
    RunningJob job;
    job.job_id = "job-" + std::to_string(number);
    job.key.priority = priority;
    job.key.number = number;
    job.device = v1::DEVICE_CPU;
    job.name_space = "default";
    job.ranks = job.ranks_wanted = ranks;
    job.started = job.safe_until = now_ - age;
    job.lent_from = lent_from;
    cluster_.shares.Use(job.name_space, job.device, ranks);
    cluster_.running.Add(job);
  }

  Cluster cluster_;
  std::chrono::nanoseconds now_ = std::chrono::hours(10);
};

TEST_F(SchedulerTest, NothingWithoutJobs) { EXPECT_EQ(Ask().action, Action::kNothing); }

TEST_F(SchedulerTest, PriorityThenDeadlineThenFirstComeFirstServed) {
  cluster_.pool.Update(View("a", 8, {0, 1, 2, 3, 4, 5, 6, 7}));
  WaitingJob urgent = Waiter(5, 1);
  urgent.key.deadline = 1000;
  for (const auto& job : {Waiter(3, 1), Waiter(1, 1), Waiter(2, 4, {.priority = 5}), urgent}) {
    cluster_.queue.Add(job);
  }
  std::vector<std::string> order;
  while (const WaitingJob* head = Head(cluster_, v1::DEVICE_CPU)) {
    order.push_back(head->job_id);
    cluster_.queue.Remove(*head);
  }
  EXPECT_THAT(order, ElementsAre("job-2", "job-5", "job-1", "job-3"));
}

TEST_F(SchedulerTest, TheNamespaceThatUsesLeastForItsWeightIsFirst) {
  cluster_.pool.Update(View("a", 8, {0, 1}));
  cluster_.queue.Add(Waiter(1, 1, {.name_space = "busy"}));
  cluster_.queue.Add(Waiter(2, 1, {.name_space = "idle"}));
  cluster_.shares.Use("busy", v1::DEVICE_CPU, 2);
  cluster_.shares.Use("idle", v1::DEVICE_CPU, 1);
  EXPECT_EQ(Ask().job->job_id, "job-2");
  // Two slots for a weight of 4 are less than one for a weight of 1.
  cluster_.shares.Set(Settings("busy", 4));
  EXPECT_EQ(Ask().job->job_id, "job-1");
  // Another device's use does not count, and priority comes before shares.
  cluster_.shares.Use("busy", v1::DEVICE_CUDA, 100);
  EXPECT_EQ(Ask().job->job_id, "job-1");
  cluster_.queue.Add(Waiter(3, 1, {.priority = 1, .name_space = "idle"}));
  EXPECT_EQ(Ask().job->job_id, "job-3");
}

TEST_F(SchedulerTest, AUsedUpQuotaHoldsItsNamespaceAlone) {
  cluster_.pool.Update(View("a", 8, {0, 1, 2, 3}));
  v1::Namespace settings = Settings("small", 1);
  settings.set_cpu_slots(3);
  cluster_.shares.Set(settings);
  cluster_.shares.Use("small", v1::DEVICE_CPU, 2);
  cluster_.shares.Use("default", v1::DEVICE_CPU, 2);
  const WaitingJob wide = Waiter(1, 2, {.name_space = "small"});
  cluster_.queue.Add(wide);
  cluster_.queue.Add(Waiter(2, 1, {.name_space = "small"}));
  EXPECT_EQ(Ask().action, Action::kNothing) << "a smaller job must not eat what the first needs";
  cluster_.queue.Add(Waiter(3, 1));
  EXPECT_EQ(Ask().job->job_id, "job-3");
  const Wait wait = ExplainWait(cluster_, wide);
  EXPECT_EQ(wait.reason, v1::REASON_WAITING_FOR_QUOTA);
  EXPECT_THAT(wait.message, HasSubstr("namespace small uses 2 of the 3 that it may"));
  EXPECT_THAT(ExplainWait(cluster_, Waiter(2, 1, {.name_space = "small"})).message,
              HasSubstr("behind job-1 of the same namespace"));
  EXPECT_THAT(ExplainInFull(cluster_, wide).would_run(0),
              HasSubstr("sinkforge namespaces set small --cpu-slots 4"));
}

TEST_F(SchedulerTest, AJobBeyondItsQuotaHoldsNobodyBack) {
  cluster_.pool.Update(View("a", 8, {0, 1, 2, 3}));
  v1::Namespace settings = Settings("small", 1);
  settings.set_cpu_slots(1);
  cluster_.shares.Set(settings);
  cluster_.queue.Add(Waiter(1, 2, {.name_space = "small"}));
  cluster_.queue.Add(Waiter(2, 1, {.name_space = "small"}));
  EXPECT_EQ(Ask().job->job_id, "job-2");
  // No other job stands in its way: somebody has to help it.
  const WaitingJob wide = Waiter(1, 2, {.name_space = "small"});
  const Wait wait = ExplainWait(cluster_, wide);
  EXPECT_EQ(wait.reason, v1::REASON_NOT_ENOUGH_SLOTS_EXIST);
  EXPECT_THAT(wait.message, HasSubstr("needs 2 cpu slots at once; namespace small may use 1"));
  EXPECT_THAT(wait.message, HasSubstr("`sinkforge namespaces set small --cpu-slots 2`"));
  EXPECT_THAT(ExplainInFull(cluster_, wide).would_run(0), HasSubstr("a larger quota"));
}

TEST_F(SchedulerTest, FillsTheFullestWorkerThatIsEnough) {
  cluster_.queue.Add(Waiter(1, 2));
  cluster_.pool.Update(View("a", 8, {0, 1, 2, 3}));
  cluster_.pool.Update(View("b", 8, {5, 6, 7}));
  cluster_.pool.Update(View("c", 8, {0}));
  const Decision decision = Ask();
  EXPECT_EQ(decision.action, Action::kStart);
  EXPECT_THAT(Places(decision), ElementsAre("b:5", "b:6"));
  EXPECT_EQ(decision.placement[1].rank(), 1);
  EXPECT_EQ(decision.placement[0].incarnation(), "b/1");
}

TEST_F(SchedulerTest, SpreadsOverFewWorkersWhenOneIsNotEnough) {
  cluster_.queue.Add(Waiter(1, 4));
  cluster_.pool.Update(View("a", 8, {0}));
  cluster_.pool.Update(View("b", 8, {1, 2}));
  cluster_.pool.Update(View("c", 8, {5, 6, 7}));
  EXPECT_THAT(Places(Ask()), ElementsAre("c:5", "c:6", "c:7", "b:1"));
}

TEST_F(SchedulerTest, PrefersTheHolderOfTheCheckpoint) {
  cluster_.queue.Add(Waiter(1, 1, {.holders = {"c"}}));
  cluster_.pool.Update(View("a", 2, {0}));
  cluster_.pool.Update(View("c", 8, {0, 1, 2, 3}));
  EXPECT_THAT(Places(Ask()), ElementsAre("c:0"));
}

TEST_F(SchedulerTest, AWorkerWhereItFailedIsTheLastChoice) {
  WaitingJob job = Waiter(1, 2, {.holders = {"c"}});
  job.avoided = {"c"};
  cluster_.queue.Add(job);
  cluster_.pool.Update(View("a", 2, {0}));
  cluster_.pool.Update(View("b", 2, {1}));
  cluster_.pool.Update(View("c", 8, {0, 1, 2, 3}));
  EXPECT_THAT(Places(Ask()), ElementsAre("a:0", "b:1"));
  cluster_.pool.Erase("b");
  EXPECT_THAT(Places(Ask()), ElementsAre("a:0", "c:0"));
  cluster_.pool.Erase("a");
  EXPECT_THAT(Places(Ask()), ElementsAre("c:0", "c:1"));
}

TEST_F(SchedulerTest, RatherWaitsThanStartsOnAnUnfitWorker) {
  WaitingJob job = Waiter(1, 2);
  job.avoided = job.unfit = {"a"};
  cluster_.queue.Add(job);
  cluster_.pool.Update(View("a", 2, {0, 1}));
  EXPECT_EQ(Ask().action, Action::kStart) << "there is no other";
  cluster_.pool.Update(View("b", 1, {}));
  EXPECT_EQ(Ask().action, Action::kStart) << "the others are too small";
  cluster_.pool.Update(View("c", 1, {}));
  EXPECT_EQ(Ask().action, Action::kStepBack);
  EXPECT_EQ(Ask().job->job_id, "job-1");
  cluster_.pool.Update(View("b", 1, {0}));
  EXPECT_EQ(Ask().action, Action::kStepBack) << "one of two ranks would start on it";
  cluster_.pool.Update(View("c", 1, {0}));
  EXPECT_THAT(Places(Ask()), ElementsAre("b:0", "c:0"));
}

TEST_F(SchedulerTest, WhoIsBackfilledAvoidsUnfitWorkersToo) {
  Run(9, 2, 0, seconds(100));
  cluster_.pool.Update(View("a", 2, {1}));
  cluster_.pool.Update(View("b", 2, {}));
  cluster_.queue.Add(Waiter(10, 4));
  WaitingJob job = Waiter(11, 1);
  job.avoided = job.unfit = {"a"};
  cluster_.queue.Add(job);
  EXPECT_EQ(Ask().action, Action::kStepBack);
  EXPECT_EQ(Ask().job->job_id, "job-11");
}

TEST_F(SchedulerTest, AnElasticJobStartsAndGrowsWithoutUnfitWorkers) {
  WaitingJob job = Waiter(1, 3);
  job.min_ranks = 1;
  job.avoided = job.unfit = {"a"};
  cluster_.queue.Add(job);
  cluster_.pool.Update(View("a", 2, {0, 1}));
  cluster_.pool.Update(View("b", 2, {1}));
  EXPECT_THAT(Places(Ask()), ElementsAre("b:1"));
  cluster_.queue.Remove(job);
  RunningJob running;
  running.job_id = "job-1";
  running.key.number = 1;
  running.device = v1::DEVICE_CPU;
  running.ranks = 1;
  running.ranks_wanted = 3;
  running.unfit = {"a"};
  running.started = now_ - seconds(60);
  cluster_.running.Add(running);
  cluster_.pool.Update(View("b", 2, {}));
  EXPECT_EQ(Ask().action, Action::kNothing);
  cluster_.pool.Update(View("b", 2, {0}));
  EXPECT_EQ(Ask().action, Action::kGrow);
  EXPECT_THAT(Ask().message, HasSubstr("2 instead of 1"));
}

TEST_F(SchedulerTest, AJobThatCanNeverFitHoldsNobodyBack) {
  cluster_.queue.Add(Waiter(1, 9, {.priority = 100}));
  cluster_.queue.Add(Waiter(2, 1));
  cluster_.pool.Update(View("a", 2, {0, 1}));
  EXPECT_EQ(Ask().job->job_id, "job-2");
  const Wait wait = ExplainWait(cluster_, Waiter(1, 9, {.priority = 100}));
  EXPECT_EQ(wait.reason, v1::REASON_NOT_ENOUGH_SLOTS_EXIST);
  EXPECT_THAT(wait.message, HasSubstr("needs 9 cpu slots"));
  EXPECT_THAT(wait.message, HasSubstr("have 2"));
  EXPECT_THAT(ExplainInFull(cluster_, Waiter(1, 9)).would_run(0),
              HasSubstr("another worker with 7 cpu slots"));
}

TEST_F(SchedulerTest, LendsWhatTheHeadCannotUseYet) {
  Run(9, 2, 0, seconds(100));
  cluster_.pool.Update(View("a", 4, {2, 3}));
  cluster_.queue.Add(Waiter(10, 3));
  cluster_.queue.Add(Waiter(11, 3));
  cluster_.queue.Add(Waiter(12, 1));
  const Decision decision = Ask();
  EXPECT_EQ(decision.action, Action::kStart);
  EXPECT_EQ(decision.job->job_id, "job-12");
  EXPECT_EQ(decision.lent_from, "job-10");
  EXPECT_THAT(decision.message, HasSubstr("slots of job-10"));
}

TEST_F(SchedulerTest, TakesLentSlotsBackAsSoonAsTheHeadCanStartWithThem) {
  cluster_.queue.Add(Waiter(10, 3));
  Run(11, 1, 0, seconds(50), "job-10");
  Run(12, 1, 0, seconds(5), "job-10");
  // Still one short: the lent slots alone are not enough.
  Run(9, 2, 0, seconds(100));
  cluster_.pool.Update(View("a", 4, {}));
  EXPECT_EQ(Ask().action, Action::kWait);
  // The other job has ended: two are free, and of the lent ones one is enough.
  cluster_.running.Remove(9);
  cluster_.shares.Use("default", v1::DEVICE_CPU, -2);
  cluster_.pool.Update(View("a", 4, {2, 3}));
  const Decision decision = Ask();
  EXPECT_EQ(decision.action, Action::kEvict);
  EXPECT_EQ(decision.job->job_id, "job-10");
  ASSERT_EQ(decision.victims.size(), 1u);
  EXPECT_EQ(decision.victims[0].number, 12) << "it has the least to lose";
  EXPECT_EQ(decision.victims[0].how, Eviction::kAtOnce);
}

TEST_F(SchedulerTest, WhatOneHeadLentNoLaterJobTakesBack) {
  Run(11, 2, 0, seconds(50), "job-10");
  EXPECT_THAT(cluster_.running.GiveAway("job-10"), ElementsAre(11));  // job-10 has started
  cluster_.queue.Add(Waiter(12, 2));
  cluster_.pool.Update(View("a", 2, {}));
  EXPECT_EQ(Ask().action, Action::kWait);
}

TEST_F(SchedulerTest, SlotsOnTheirWayToTheHeadAreNotLentAgain) {
  cluster_.queue.Add(Waiter(10, 3));
  cluster_.queue.Add(Waiter(11, 1));
  cluster_.pool.Update(View("a", 4, {0, 1}, /*leaving=*/1));
  const Decision decision = Ask();
  EXPECT_EQ(decision.action, Action::kWait);
  EXPECT_THAT(decision.message, HasSubstr("2 of 4 free, 1 being freed; first in line"));
}

TEST_F(SchedulerTest, PreemptsTheLowestPriorityAndThereWhoLosesTheLeastWork) {
  Run(1, 1, 0, seconds(500));
  Run(2, 1, 0, seconds(10));
  Run(3, 1, 5, seconds(1));
  Run(4, 1, 3, seconds(1));  // it would preempt one of the first two in turn
  cluster_.pool.Update(View("a", 4, {}));
  cluster_.queue.Add(Waiter(10, 1, {.priority = 5}));
  const Decision decision = Ask();
  EXPECT_EQ(decision.action, Action::kEvict);
  ASSERT_EQ(decision.victims.size(), 1u);
  EXPECT_EQ(decision.victims[0].number, 2);
  EXPECT_EQ(decision.victims[0].how, Eviction::kCheckpointFirst);
  EXPECT_THAT(decision.message, HasSubstr("makes room for job-10 (priority 5)"));
  // A checkpoint makes the oldest the cheapest.
  cluster_.running.SetSafe(1, now_);
  EXPECT_EQ(Ask().victims[0].number, 1);
  // Who stops already is not asked twice, and is enough.
  cluster_.running.SetStopping(1, true);
  EXPECT_EQ(Ask().action, Action::kWait);
}

TEST_F(SchedulerTest, PreemptsNoMoreThanNeededAndNothingInVain) {
  Run(1, 1, 0, seconds(1));
  Run(2, 1, 0, seconds(2));
  Run(3, 4, 0, seconds(3));
  cluster_.pool.Update(View("a", 6, {}));
  cluster_.queue.Add(Waiter(10, 4, {.priority = 1}));
  Decision decision = Ask();
  ASSERT_EQ(decision.victims.size(), 1u) << "the wide one alone is enough";
  EXPECT_EQ(decision.victims[0].number, 3);
  cluster_.queue.Remove(Waiter(10, 4, {.priority = 1}));
  Run(4, 2, 9, seconds(1));
  cluster_.pool.Update(View("a", 8, {}));
  cluster_.queue.Add(Waiter(11, 7, {.priority = 1}));
  decision = Ask();
  EXPECT_EQ(decision.action, Action::kWait) << "all that may be taken would not do";
  EXPECT_THAT(decision.victims, IsEmpty());
}

TEST_F(SchedulerTest, AnElasticJobStartsWithWhatIsFree) {
  WaitingJob job = Waiter(1, 4);
  job.min_ranks = 2;
  cluster_.queue.Add(job);
  cluster_.pool.Update(View("a", 4, {1}));
  EXPECT_EQ(Ask().action, Action::kWait);
  EXPECT_THAT(ExplainWait(cluster_, job).message, HasSubstr("needs 2 to 4 cpu slots"));
  cluster_.pool.Update(View("a", 4, {1, 2, 3}));
  const Decision decision = Ask();
  EXPECT_THAT(Places(decision), ElementsAre("a:1", "a:2", "a:3"));
  EXPECT_THAT(decision.message, HasSubstr("with 3 of 4 ranks"));
}

TEST_F(SchedulerTest, AnElasticAttemptGrowsWhenNobodyWaitsForTheSlots) {
  RunningJob running;
  running.job_id = "job-1";
  running.key.number = 1;
  running.device = v1::DEVICE_CPU;
  running.ranks = 1;
  running.ranks_wanted = 4;
  running.started = now_ - seconds(59);
  cluster_.running.Add(running);
  cluster_.pool.Update(View("a", 3, {1, 2}));
  EXPECT_EQ(Ask().action, Action::kNothing) << "too young";
  now_ += seconds(1);
  const Decision decision = Ask();
  EXPECT_EQ(decision.action, Action::kGrow);
  EXPECT_EQ(decision.victims[0].number, 1);
  EXPECT_THAT(decision.message, HasSubstr("3 instead of 1"));
  cluster_.queue.Add(Waiter(2, 3));
  EXPECT_EQ(Ask().action, Action::kWait) << "somebody waits";
}

TEST_F(SchedulerTest, TheFullExplanationNamesWhoIsAheadAndWhoHoldsTheSlots) {
  Run(1, 2, 5, seconds(5));
  cluster_.pool.Update(View("a", 2, {}));
  for (int64_t number = 2; number <= 9; ++number) cluster_.queue.Add(Waiter(number, 1));
  const Wait behind = ExplainWait(cluster_, Waiter(9, 1));
  EXPECT_EQ(behind.reason, v1::REASON_BEHIND_OTHER_JOB);
  EXPECT_THAT(behind.message, HasSubstr("behind job-2, which is first in line for 1 cpu slot"));
  const v1::JobWait wait = ExplainInFull(cluster_, Waiter(9, 1));
  EXPECT_EQ(wait.ahead_count(), 7);
  EXPECT_THAT(wait.ahead(), ElementsAre("job-2", "job-3", "job-4", "job-5", "job-6"));
  EXPECT_THAT(wait.would_run(0), HasSubstr("`sinkforge cancel` job-1 (2 cpu slots)"));
  EXPECT_THAT(wait.would_run(wait.would_run_size() - 1), HasSubstr("--set priority=1"));
}

TEST_F(SchedulerTest, TheFullExplanationListsOnlyWhatWouldHelp) {
  const auto would_run = [&](const WaitingJob& job) {
    const v1::JobWait wait = ExplainInFull(cluster_, job);
    return std::vector<std::string>(wait.would_run().begin(), wait.would_run().end());
  };
  cluster_.pool.Update(View("a", 2, {}));
  Run(1, 2, 0, seconds(5));
  // First in line, behind what has its own priority.
  EXPECT_THAT(would_run(Waiter(2, 1)), testing::Contains(HasSubstr("--set priority=1")));
  // More than there are.
  cluster_.queue.Add(Waiter(3, 1));
  EXPECT_THAT(would_run(Waiter(4, 5)), ElementsAre("another worker with 3 cpu slots"));
  // What waits for its quota does not hold up others, and nothing but quota helps it.
  v1::Namespace settings = Settings("small", 1);
  settings.set_cpu_slots(1);
  cluster_.shares.Set(settings);
  cluster_.shares.Use("small", v1::DEVICE_CPU, 1);
  const WaitingJob held = Waiter(5, 1, {.priority = 3, .name_space = "small"});
  cluster_.queue.Add(held);
  EXPECT_THAT(would_run(held), ElementsAre(HasSubstr("namespaces set small --cpu-slots 2")));
  EXPECT_THAT(ExplainInFull(cluster_, Waiter(6, 1)).ahead(), ElementsAre("job-3"));
  EXPECT_THAT(ExplainWait(cluster_, Waiter(7, 2, {.name_space = "small"})).message,
              HasSubstr("--cpu-slots 3"));
}

TEST_F(SchedulerTest, AMissingHolderParks) {
  cluster_.queue.Add(Waiter(1, 1, {.holders = {"a", "gone"}}));
  cluster_.pool.Update(View("a", 2, {1}));
  const Decision decision = Ask();
  EXPECT_EQ(decision.action, Action::kPark);
  EXPECT_THAT(decision.missing, ElementsAre("gone"));
  EXPECT_THAT(decision.message, HasSubstr("worker gone"));
}

TEST_F(SchedulerTest, DevicesDoNotMix) {
  WaitingJob job = Waiter(1, 1);
  job.device = v1::DEVICE_CUDA;
  cluster_.queue.Add(job);
  cluster_.pool.Update(View("a", 2, {0, 1}));
  EXPECT_EQ(Ask(v1::DEVICE_CUDA).action, Action::kNothing);
  EXPECT_THAT(ExplainWait(cluster_, job).message,
              HasSubstr("no live worker offers cuda slots. Start one that does"));
}

TEST_F(SchedulerTest, SlotsThatUsersDrainedAreNamedWithTheirRemedy) {
  const auto drain = [&](const std::string& name, int slots) {
    WorkerView view = View(name, 0, {});
    view.slots.clear();
    view.drained[v1::DEVICE_CPU] = slots;
    cluster_.pool.Update(view);
  };
  drain("a", 2);
  EXPECT_EQ(ExplainWait(cluster_, Waiter(1, 1)).message,
            "needs 1 cpu slot; worker a, which has 2 cpu slots, is drained; `sinkforge undrain a` "
            "puts it into use again");
  EXPECT_THAT(ExplainWait(cluster_, Waiter(1, 3)).message, HasSubstr("Start one that does"));
  cluster_.pool.Update(View("z", 1, {0}));
  EXPECT_THAT(ExplainWait(cluster_, Waiter(1, 3)).message,
              HasSubstr("needs 3 cpu slots; workers in use have 1, and worker a, which has 2"));
  for (const char* name : {"b", "c", "d"}) drain(name, 1);
  EXPECT_THAT(ExplainWait(cluster_, Waiter(1, 6)).message,
              HasSubstr("workers a, b, c and 1 more, which have 5 cpu slots, are drained; "
                        "`sinkforge undrain a b c` puts them into use again"));
  EXPECT_THAT(ExplainInFull(cluster_, Waiter(1, 6)).would_run(1),
              HasSubstr("the 2 cpu slots of a drained worker: `sinkforge undrain a`"));
  for (const char* name : {"a", "b", "c", "d"}) cluster_.pool.Erase(name);
  EXPECT_THAT(ExplainWait(cluster_, Waiter(1, 3)).message, HasSubstr("together have 1."));
}

TEST(PoolTest, SumsFollowTheWorkers) {
  Pool pool;
  pool.Update(View("a", 4, {0, 1}));
  pool.Update(View("b", 2, {1}, 1));
  EXPECT_EQ(pool.Total(v1::DEVICE_CPU), 6);
  EXPECT_EQ(pool.Free(v1::DEVICE_CPU), 3);
  EXPECT_EQ(pool.Leaving(v1::DEVICE_CPU), 1);
  EXPECT_EQ(pool.ByFree(v1::DEVICE_CPU).size(), 2u);
  pool.Update(View("a", 4, {}));
  pool.Erase("b");
  pool.Erase("b");
  EXPECT_EQ(pool.Total(v1::DEVICE_CPU), 4);
  EXPECT_EQ(pool.Free(v1::DEVICE_CPU), 0);
  EXPECT_TRUE(pool.ByFree(v1::DEVICE_CPU).empty());
}

}  // namespace
}  // namespace sinkforge::server::scheduler
