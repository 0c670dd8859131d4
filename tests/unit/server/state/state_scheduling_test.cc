// The coordinator as a scheduler: what it does with the policy's decisions over whole lives of
// jobs: backfill, preemption, elastic jobs, quotas, drains, deadlines and sweeps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "test_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using testing::HasSubstr;

// Its ranks here, all of the gang, stop as asked, with a checkpoint of `step`.
void Stop(TestBed* bed, HandWorker* worker, const std::string& id, int64_t step) {
  worker->Train(id, step);
  worker->Checkpoint(id, step, bed->Job(id).world_size());
  worker->End(id, v1::RANK_OUTCOME_STOPPED);
  worker->Sync();
  worker->Sync();
}

void Complete(TestBed* bed, HandWorker* worker, const std::string& id) {
  worker->RunTo(id, 99);
  worker->Train(id, 100);
  worker->Checkpoint(id, 100, bed->Job(id).world_size());
  worker->End(id, v1::RANK_OUTCOME_COMPLETED);
  worker->Sync();
  worker->Sync();
}

bool IsAskedToStop(const HandWorker& worker, const std::string& id) {
  const v1::DesiredState desired = worker.Desired();
  return std::any_of(desired.ranks().begin(), desired.ranks().end(), [&](const auto& rank) {
    return rank.job_id() == id && rank.run() == v1::RUN_REQUEST_CHECKPOINT_AND_STOP;
  });
}

TEST(CoordinatorPreemptionTest, TheVictimCheckpointsStopsAndGoesOnLater) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string low = bed.Submit();
  worker.RunTo(low, 5);
  const std::string high = bed.Submit({.priority = 3});
  EXPECT_TRUE(IsAskedToStop(worker, low));
  EXPECT_EQ(bed.StateOf(low), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(bed.Job(low).reason(), v1::REASON_PREEMPTED);
  EXPECT_THAT(bed.Job(low).message(), HasSubstr("makes room for job-2 (priority 3)"));
  bed.Restart();  // which must not forget what was asked
  worker.Sync();
  EXPECT_TRUE(IsAskedToStop(worker, low));
  Stop(&bed, &worker, low, 6);
  EXPECT_EQ(bed.StateOf(low), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.Job(low).retries().infrastructure(), 0) << "it did not fail";
  EXPECT_EQ(bed.StateOf(high), v1::JOB_STATE_STARTING);
  Complete(&bed, &worker, high);
  EXPECT_EQ(bed.StateOf(high), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(bed.StateOf(low), v1::JOB_STATE_STARTING);
  EXPECT_FALSE(IsAskedToStop(worker, low));
  EXPECT_EQ(worker.Desired().ranks(0).restore().step(), 6);
}

TEST(CoordinatorPreemptionTest, WhoDoesNotStopInTimeIsEnded) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string low = bed.Submit();
  worker.RunTo(low, 5);
  const std::string high = bed.Submit({.priority = 1});
  for (int i = 0; i < 119; ++i) {
    bed.Advance(seconds(1));
    worker.Sync();
    bed.Tick();
  }
  EXPECT_EQ(bed.StateOf(low), v1::JOB_STATE_RUNNING);
  bed.Advance(seconds(1));
  bed.Tick();
  EXPECT_EQ(bed.StateOf(low), v1::JOB_STATE_QUEUED);
  worker.Sync();
  EXPECT_EQ(bed.StateOf(high), v1::JOB_STATE_STARTING);
  EXPECT_THAT(bed.Events(low, v1::EVENT_KIND_ATTEMPT_ENDED)[0].message(),
              HasSubstr("did not stop by itself within 120 s"));
}

TEST(CoordinatorPreemptionTest, APauseUnderWayStaysAPause) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string low = bed.Submit();
  worker.RunTo(low, 5);
  ASSERT_TRUE(bed.Pause(low).ok());
  bed.Submit({.priority = 1});
  Stop(&bed, &worker, low, 6);
  EXPECT_EQ(bed.StateOf(low), v1::JOB_STATE_PAUSED);
}

// The head of the queue starts at the same moment with and without jobs to backfill.
TEST(CoordinatorBackfillTest, TheHeadStartsNoLaterThanWithoutBackfill) {
  for (const bool backfills : {false, true}) {
    SCOPED_TRACE(backfills);
    TestBed bed;
    HandWorker worker(&bed, "w1", 4);
    worker.Sync();
    const std::string first = bed.Submit({.ranks = 2});
    worker.RunTo(first, 5);
    const std::string head = bed.Submit({.ranks = 4});
    std::string small;
    if (backfills) {
      small = bed.Submit({.ranks = 2});
      EXPECT_EQ(bed.StateOf(small), v1::JOB_STATE_STARTING);
      EXPECT_EQ(bed.Job(small).lent_from(), head);
      worker.RunTo(small, 3);
    }
    EXPECT_EQ(bed.StateOf(head), v1::JOB_STATE_QUEUED);
    worker.Train(first, 100);
    worker.Checkpoint(first, 100, 2);
    worker.End(first, v1::RANK_OUTCOME_COMPLETED);
    ASSERT_TRUE(worker.Report().ok());
    worker.Sync();  // without backfill this changes nothing: the slots are free already
    EXPECT_EQ(bed.StateOf(head), v1::JOB_STATE_STARTING);
    if (!backfills) continue;
    EXPECT_EQ(bed.StateOf(small), v1::JOB_STATE_QUEUED);
    EXPECT_EQ(bed.Job(small).retries().infrastructure(), 0);
    EXPECT_EQ(bed.coordinator.Explain(small, bed.now).reason, v1::REASON_WAITING_FOR_SLOTS);
    EXPECT_EQ(bed.Events(small, v1::EVENT_KIND_ATTEMPT_ENDED)[0].reason(),
              v1::REASON_LENT_SLOTS_TAKEN_BACK);
  }
}

TEST(CoordinatorBackfillTest, LentSlotsBelongToTheBorrowerOnceTheHeadIsGone) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 3);
  worker.Sync();
  const std::string first = bed.Submit();
  worker.RunTo(first, 5);
  const std::string head = bed.Submit({.ranks = 3});
  const std::string small = bed.Submit();
  ASSERT_EQ(bed.Job(small).lent_from(), head);
  ASSERT_TRUE(bed.Cancel(head).ok());
  EXPECT_EQ(bed.Job(small).lent_from(), "");
  EXPECT_EQ(bed.stored.at(small).lent_from(), "");
  bed.Submit({.ranks = 2});
  bed.Submit({.ranks = 3});
  EXPECT_EQ(bed.StateOf(small), v1::JOB_STATE_STARTING);
}

TEST(CoordinatorElasticTest, ShrinksWhenAWorkerIsLostAndGrowsBack) {
  TestBed bed;
  HandWorker one(&bed, "w1", 1);
  HandWorker two(&bed, "w2", 1);
  one.Sync();
  two.Sync();
  const std::string id = bed.Submit({.ranks = 2, .min_ranks = 1});
  EXPECT_EQ(bed.Job(id).world_size(), 2);
  one.RunTo(id, 3);
  two.RunTo(id, 3);
  // The second worker falls silent.
  for (int i = 0; i < 6; ++i) {
    bed.Advance(seconds(1));
    one.Sync();
    bed.Tick();
  }
  one.Sync();
  EXPECT_EQ(bed.Job(id).attempt(), 2);
  EXPECT_EQ(bed.Job(id).world_size(), 1);
  EXPECT_EQ(one.Desired().ranks(0).world_size(), 1);
  one.RunTo(id, 4);
  one.Checkpoint(id, 4, 1);
  one.Sync();
  EXPECT_EQ(bed.Job(id).checkpoints(0).parts_size(), 1) << "all parts of the gang there is";
  // It is back, and the attempt is old enough after a minute.
  two.RestartDaemon("w2/2");
  for (int i = 0; i < 60; ++i) {
    EXPECT_FALSE(IsAskedToStop(one, id)) << i;
    bed.Advance(seconds(1));
    one.Sync();
    two.Sync();
    bed.Tick();
  }
  EXPECT_TRUE(IsAskedToStop(one, id));
  Stop(&bed, &one, id, 5);
  EXPECT_EQ(bed.Job(id).attempt(), 3);
  EXPECT_EQ(bed.Job(id).world_size(), 2);
  EXPECT_EQ(two.Desired().ranks(0).restore().step(), 5);
}

TEST(CoordinatorPlacementTest, AvoidsTheWorkerWhereItFailed) {
  TestBed bed;
  HandWorker one(&bed, "w1", 1);
  HandWorker two(&bed, "w2", 1);
  one.Sync();
  two.Sync();
  const std::string id = bed.Submit();
  one.RunTo(id, 3);
  one.Crash(id);
  bed.Restart();
  one.Sync();
  two.Sync();
  bed.Advance(seconds(2));
  bed.Tick();
  ASSERT_EQ(bed.StateOf(id), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed.Job(id).placement(0).worker(), "w2");
}

TEST(CoordinatorNamespaceTest, AQuotaHoldsAcrossARestartAndIsShown) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 4);
  worker.Sync();
  v1::UpdateNamespaceRequest request;
  request.set_namespace_("team");
  request.set_cpu_slots(1);
  ASSERT_TRUE(bed.UpdateNamespace(request).ok());
  const std::string first = bed.Submit({.name_space = "team"});
  const std::string second = bed.Submit({.name_space = "team"});
  bed.Restart();
  worker.Sync();
  EXPECT_EQ(bed.StateOf(first), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed.coordinator.Explain(second, bed.now).reason, v1::REASON_WAITING_FOR_QUOTA);
  const auto namespaces = bed.coordinator.Namespaces();
  ASSERT_EQ(namespaces.size(), 1u);
  EXPECT_EQ(namespaces[0].cpu_slots_used(), 1);
  EXPECT_EQ(namespaces[0].jobs_running(), 1);
  EXPECT_EQ(namespaces[0].jobs_queued(), 1);
  request.set_cpu_slots(-1);
  ASSERT_TRUE(bed.UpdateNamespace(request).ok());
  EXPECT_EQ(bed.StateOf(second), v1::JOB_STATE_STARTING);
  EXPECT_FALSE(bed.namespaces.at("team").has_cpu_slots());
}

TEST(CoordinatorNamespaceTest, RefusesWhatMakesNoSense) {
  TestBed bed({.namespace_count_max = 1});
  v1::UpdateNamespaceRequest request;
  request.set_namespace_("Team A");
  EXPECT_EQ(bed.UpdateNamespace(request).code(), absl::StatusCode::kInvalidArgument);
  request.set_namespace_("team");
  request.set_weight(0);
  EXPECT_EQ(bed.UpdateNamespace(request).code(), absl::StatusCode::kInvalidArgument);
  request.set_weight(2);
  request.set_cpu_slots(-2);
  EXPECT_EQ(bed.UpdateNamespace(request).code(), absl::StatusCode::kInvalidArgument);
  request.set_cpu_slots(0);
  EXPECT_TRUE(bed.UpdateNamespace(request).ok());
  request.set_namespace_("other");
  EXPECT_EQ(bed.UpdateNamespace(request).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(bed.TrySubmit({.name_space = "a"}).ok());
  EXPECT_EQ(bed.TrySubmit({.name_space = "b"}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(CoordinatorDrainTest, ADrainedWorkersJobsGoOnElsewhereAndItStaysDrained) {
  TestBed bed;
  HandWorker one(&bed, "w1", 1);
  HandWorker two(&bed, "w2", 1);
  one.Sync();
  const std::string id = bed.Submit();
  one.RunTo(id, 5);
  ASSERT_TRUE(bed.Drain("w1", "new disk").ok());
  EXPECT_TRUE(IsAskedToStop(one, id));
  EXPECT_EQ(bed.coordinator.Workers()[0].state(), v1::WORKER_STATE_DRAINING);
  Stop(&bed, &one, id, 6);
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed.coordinator.Workers()[0].only_copies(), 1);
  bed.Restart();
  one.RestartDaemon("w1/2");
  one.Sync();
  EXPECT_EQ(bed.StateOf(id), v1::JOB_STATE_QUEUED);
  const v1::JobWait wait = bed.coordinator.ExplainWait(id);
  EXPECT_THAT(wait.would_run(wait.would_run_size() - 1), HasSubstr("`sinkforge undrain w1`"));
  EXPECT_THAT(bed.coordinator.Explain(id, bed.now).message,
              HasSubstr("worker w1, which has 1 cpu slot, is drained"));
  two.Sync();  // reads the checkpoint from the drained one
  EXPECT_EQ(bed.Job(id).placement(0).worker(), "w2");
  EXPECT_EQ(two.Desired().ranks(0).holder_addresses().count("w1"), 1u);
  EXPECT_EQ(bed.coordinator.Workers()[0].drain().note(), "new disk");
  ASSERT_TRUE(bed.Undrain("w1").ok());
  EXPECT_EQ(bed.coordinator.Workers()[0].state(), v1::WORKER_STATE_LIVE);
  EXPECT_TRUE(bed.drains.empty());
  EXPECT_EQ(bed.StateOf(bed.Submit()), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed.Drain("nobody").status().code(), absl::StatusCode::kNotFound);
}

TEST(CoordinatorDeadlineTest, FailsWhatWaitsAndStopsWhatRuns) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 1);
  worker.Sync();
  const std::string runs = bed.Submit({.deadline_hours = 1});
  worker.RunTo(runs, 5);
  const std::string waits = bed.Submit({.deadline_hours = 1});
  const std::string later = bed.Submit({.deadline_hours = 2});
  bed.Restart();
  bed.Advance(hours(1) - seconds(1));
  worker.Sync();
  bed.Tick();
  EXPECT_EQ(bed.StateOf(waits), v1::JOB_STATE_QUEUED);
  bed.Advance(seconds(1));
  worker.Sync();
  bed.Tick();
  EXPECT_EQ(bed.StateOf(waits), v1::JOB_STATE_FAILED);
  EXPECT_EQ(bed.Job(waits).reason(), v1::REASON_DEADLINE_EXCEEDED);
  EXPECT_TRUE(IsAskedToStop(worker, runs));
  Stop(&bed, &worker, runs, 6);
  EXPECT_EQ(bed.StateOf(runs), v1::JOB_STATE_FAILED);
  EXPECT_EQ(bed.Job(runs).reason(), v1::REASON_DEADLINE_EXCEEDED);
  EXPECT_EQ(bed.Job(runs).checkpoints_size(), 1) << "nothing that was done is lost";
  EXPECT_EQ(bed.StateOf(later), v1::JOB_STATE_STARTING);
  ASSERT_TRUE(bed.Resume(runs).ok());
  EXPECT_FALSE(bed.Job(runs).has_deadline());
}

TEST(CoordinatorSweepTest, RunsNoMoreAtATimeThanAllowed) {
  TestBed bed;
  HandWorker worker(&bed, "w1", 4);
  worker.Sync();
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(bed.Submit({.sweep = "s", .sweep_running_max = 2}));
  const std::string other = bed.Submit();
  const auto running = [&] {
    return std::count_if(ids.begin(), ids.end(), [&](const std::string& id) {
      return bed.StateOf(id) == v1::JOB_STATE_STARTING || bed.StateOf(id) == v1::JOB_STATE_RUNNING;
    });
  };
  EXPECT_EQ(running(), 2);
  EXPECT_EQ(bed.StateOf(other), v1::JOB_STATE_STARTING) << "held jobs are in nobody's way";
  EXPECT_EQ(bed.coordinator.Explain(ids[3], bed.now).reason, v1::REASON_WAITING_FOR_SWEEP);
  EXPECT_EQ(bed.coordinator.ExplainWait(ids[3]).ahead(0), ids[2]);
  bed.Restart();
  worker.Sync();
  EXPECT_EQ(running(), 2);
  ASSERT_TRUE(bed.Cancel(ids[2]).ok());
  Complete(&bed, &worker, ids[0]);
  EXPECT_EQ(running(), 2);
  EXPECT_EQ(bed.StateOf(ids[3]), v1::JOB_STATE_STARTING);
  // A member that fails makes room while it backs off, and waits for room afterwards.
  const std::string fifth = bed.Submit({.sweep = "s", .sweep_running_max = 2});
  worker.RunTo(ids[1], 3);
  worker.Crash(ids[1]);
  EXPECT_EQ(bed.StateOf(fifth), v1::JOB_STATE_STARTING);
  bed.Advance(seconds(1));
  worker.Sync();
  bed.Tick();
  EXPECT_EQ(running(), 1) << "and the fifth";
  EXPECT_EQ(bed.coordinator.Explain(ids[1], bed.now).reason, v1::REASON_WAITING_FOR_SWEEP);
}

}  // namespace
}  // namespace sinkforge::server
