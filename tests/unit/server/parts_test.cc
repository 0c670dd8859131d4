// The engine's small parts: queue, pool, writer, timers, hub, rendezvous, retention.
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/engine/bounded_queue.h"
#include "server/engine/change_hub.h"
#include "server/engine/group_writer.h"
#include "server/engine/rendezvous.h"
#include "server/engine/retention.h"
#include "server/engine/timer_thread.h"
#include "server/engine/work_pool.h"
#include "tests/unit/server/memory_stores.h"
#include "tests/unit/server/records.h"

namespace sinkforge::server {
namespace {

using std::chrono::nanoseconds;

TEST(BoundedQueueTest, RefusesBeyondItsLimits) {
  BoundedQueue<int> queue({2, 100});
  EXPECT_EQ(queue.Push(1, 60), PushResult::kOk);
  EXPECT_EQ(queue.Push(2, 60), PushResult::kFull);
  EXPECT_EQ(queue.Push(2, 40), PushResult::kOk);
  EXPECT_EQ(queue.Push(3, 0), PushResult::kFull);
  EXPECT_EQ(queue.PopGroup(10, nanoseconds(0)), (std::vector<int>{1, 2}));
  EXPECT_EQ(queue.Push(4, 1000), PushResult::kOk);  // alone, it may be larger
  queue.Close();
  EXPECT_EQ(queue.Push(5, 0), PushResult::kClosed);
  EXPECT_FALSE(queue.drained());
  EXPECT_EQ(queue.PopGroup(10, nanoseconds(0)), std::vector<int>{4});
  EXPECT_TRUE(queue.drained());
}

TEST(BoundedQueueTest, BulkGivesWayAndIsNeverLeftBehind) {
  BoundedQueue<int> queue({6, 100});
  for (const int item : {1, 2, 3}) EXPECT_EQ(queue.Push(item, 1, Lane::kBulk), PushResult::kOk);
  for (const int item : {4, 5, 6}) EXPECT_EQ(queue.Push(item, 1), PushResult::kOk);
  EXPECT_EQ(queue.Push(7, 1, Lane::kBulk), PushResult::kFull);
  EXPECT_EQ(queue.PopGroup(2, nanoseconds(0), 1), (std::vector<int>{4, 5, 1}));
  EXPECT_EQ(queue.Push(7, 1), PushResult::kOk);
  queue.Close();
  EXPECT_EQ(queue.PopGroup(2, nanoseconds(0), 1), (std::vector<int>{6, 7, 2}));
  EXPECT_FALSE(queue.drained());
  EXPECT_EQ(queue.PopGroup(2, nanoseconds(0), 1), std::vector<int>{3});
  EXPECT_TRUE(queue.drained());
}

TEST(WorkPoolTest, RunsWhatItAcceptedAndRefusesTheRest) {
  std::atomic<int> ran{0};
  std::promise<void> go;
  std::shared_future<void> gone = go.get_future().share();
  std::promise<void> busy;
  {
    WorkPool pool(1, {2, 100});
    ASSERT_TRUE(pool.Run([&] {
                      busy.set_value();
                      gone.wait();
                    })
                    .ok());
    busy.get_future().wait();
    EXPECT_TRUE(pool.Run([&] { ++ran; }).ok());
    EXPECT_TRUE(pool.Run([&] { ++ran; }).ok());
    EXPECT_EQ(pool.Run([&] { ++ran; }).code(), absl::StatusCode::kResourceExhausted);
    go.set_value();
  }
  EXPECT_EQ(ran, 2);
}

TEST(GroupWriterTest, WritesWhatWaitsInOneGoAndAnswersEach) {
  std::vector<size_t> groups;
  std::promise<void> go;
  std::shared_future<void> gone = go.get_future().share();
  std::promise<void> busy;
  std::atomic<int> answers{0};
  {
    GroupWriter<v1::ReportStepsRequest> writer("step records", {3, 1 << 20},
                                               [&](const auto& group) {
                                                 if (groups.empty()) {
                                                   busy.set_value();
                                                   gone.wait();
                                                 }
                                                 groups.push_back(group.size());
                                                 return absl::UnavailableError("I/O error");
                                               });
    const auto count = [&](const absl::Status& status) {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      ++answers;
    };
    writer.Add(MakeReport("a-1", 1, 1, 1), count);
    busy.get_future().wait();
    for (int i = 0; i < 3; ++i) writer.Add(MakeReport("a-1", 1, 1, 1), count);
    absl::Status refused;
    writer.Add(MakeReport("a-1", 1, 1, 1), [&](const absl::Status& status) { refused = status; });
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
    go.set_value();
  }
  EXPECT_EQ(groups, (std::vector<size_t>{1, 3}));
  EXPECT_EQ(answers, 4);
}

TEST(TimerThreadTest, FiresInOrderUnlessCancelled) {
  base::RealClock clock;
  TimerThread timers(&clock);
  std::promise<std::vector<int>> fired;
  std::vector<int> order;
  timers.After(std::chrono::milliseconds(30), [&] {
    order.push_back(3);
    fired.set_value(order);
  });
  const int64_t cancelled =
      timers.After(std::chrono::milliseconds(20), [&] { order.push_back(2); });
  timers.After(std::chrono::milliseconds(10), [&] { order.push_back(1); });
  timers.Cancel(cancelled);
  timers.Cancel(cancelled);
  timers.Cancel(0);
  EXPECT_EQ(fired.get_future().get(), (std::vector<int>{1, 3}));
}

std::shared_ptr<ChangeListener> MakeListener(int* changes, absl::Status* end) {
  auto listener = std::make_shared<ChangeListener>();
  listener->on_change = [changes](Change) { ++*changes; };
  listener->on_shutdown = [end](const absl::Status& status) { *end = status; };
  return listener;
}

TEST(ChangeHubTest, TellsThoseWhoFollowTheJob) {
  ChangeHub hub(2);
  int changes = 0;
  absl::Status end;
  auto listener = MakeListener(&changes, &end);
  ASSERT_TRUE(hub.Listen("a-1", listener).ok());
  hub.Notify("a-1", Change::kJob);
  hub.Notify("b-2", Change::kJob);
  EXPECT_EQ(changes, 1);
  ASSERT_TRUE(hub.Listen("b-2", MakeListener(&changes, &end)).ok());
  EXPECT_EQ(hub.Listen("c-3", listener).code(), absl::StatusCode::kResourceExhausted);
  hub.Shutdown(absl::UnavailableError("bye"));
  EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(hub.Listen("a-1", listener).code(), absl::StatusCode::kUnavailable);
  hub.Forget("a-1", listener.get());
  hub.Forget("a-1", listener.get());
  EXPECT_EQ(hub.listener_count(), 1);
}

// --- Rendezvous

// What a wait ended with; absent while it waits.
struct Waited {
  std::optional<absl::StatusOr<std::string>> value;
  Rendezvous::Done done() {
    return [this](const absl::StatusOr<std::string>& v) {
      EXPECT_FALSE(value.has_value());
      value = v;
    };
  }
  absl::StatusCode code() const { return value->status().code(); }
};

RendezvousLimits Tight() {
  RendezvousLimits limits;
  limits.keys_max = 2;
  limits.value_bytes_max = 10;
  limits.bytes_max = 35;
  limits.waiters_max = 2;
  return limits;
}

TEST(RendezvousTest, GivesWhatWasPutBeforeOrAfter) {
  Rendezvous rendezvous{RendezvousLimits()};
  Waited late;
  const int64_t waiter = rendezvous.Get({"a-1", 1, "rank/0"}, late.done());
  EXPECT_NE(waiter, 0);
  ASSERT_TRUE(rendezvous.Put({"a-1", 2, "rank/0"}, "other attempt").ok());
  EXPECT_FALSE(late.value.has_value());
  ASSERT_TRUE(rendezvous.Put({"a-1", 1, "rank/0"}, "here").ok());
  EXPECT_EQ(**late.value, "here");
  rendezvous.Cancel(waiter, absl::CancelledError(""));  // over already: nothing happens
  Waited early;
  EXPECT_EQ(rendezvous.Get({"a-1", 1, "rank/0"}, early.done()), 0);
  EXPECT_EQ(**early.value, "here");
}

TEST(RendezvousTest, EndsWaitsWithTheirAttempt) {
  Rendezvous rendezvous{RendezvousLimits()};
  Waited old_attempt, current, other_job;
  rendezvous.Get({"a-1", 1, "k"}, old_attempt.done());
  rendezvous.Get({"a-1", 2, "k"}, current.done());
  rendezvous.Get({"a-10", 1, "k"}, other_job.done());
  rendezvous.Drop("a-1", 2);
  EXPECT_EQ(old_attempt.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(current.value.has_value());
  rendezvous.Drop("a-1", 0);
  EXPECT_EQ(current.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(other_job.value.has_value());
  rendezvous.Shutdown(absl::UnavailableError("bye"));
  EXPECT_EQ(other_job.code(), absl::StatusCode::kUnavailable);
  Waited after;
  EXPECT_EQ(rendezvous.Get({"a-1", 3, "k"}, after.done()), 0);
  EXPECT_EQ(after.code(), absl::StatusCode::kUnavailable);
}

TEST(RendezvousTest, KeepsItsLimits) {
  Rendezvous rendezvous(Tight());
  const auto put = [&](int64_t attempt, const std::string& key, const std::string& value) {
    return rendezvous.Put({"a-1", attempt, key}, value).code();
  };
  EXPECT_EQ(put(1, "", "v"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(put(1, std::string(2000, 'k'), "v"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(put(1, "k", std::string(11, 'v')), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(put(1, "k1", std::string(10, 'v')), absl::StatusCode::kOk);
  EXPECT_EQ(put(1, "k2", std::string(10, 'v')), absl::StatusCode::kOk);
  EXPECT_EQ(put(1, "k3", "v"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(put(1, "k2", "v"), absl::StatusCode::kOk);  // replaces
  EXPECT_EQ(put(2, "k1", std::string(10, 'v')), absl::StatusCode::kOk);
  EXPECT_EQ(put(2, "k2", std::string(10, 'v')), absl::StatusCode::kResourceExhausted);
  rendezvous.Drop("a-1", 2);
  EXPECT_EQ(put(2, "k2", std::string(10, 'v')), absl::StatusCode::kOk);
  Waited first, second, third;
  rendezvous.Get({"a-1", 2, "w"}, first.done());
  const int64_t waiter = rendezvous.Get({"a-1", 2, "w"}, second.done());
  rendezvous.Get({"a-1", 2, "w"}, third.done());
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  rendezvous.Cancel(waiter, absl::DeadlineExceededError("late"));
  EXPECT_EQ(second.code(), absl::StatusCode::kDeadlineExceeded);
}

// --- Retention

TEST(RetentionTest, TrimsNothingWithinTheBudget) {
  EXPECT_TRUE(DecideTrims({{"a-1", 50, true, 1}, {"b-2", 50, false, 0}}, 100).empty());
}

TEST(RetentionTest, GivesUpTheJobThatEndedFirstFirst) {
  const auto trims =
      DecideTrims({{"a-1", 40, false, 0}, {"b-2", 30, true, 20}, {"c-3", 40, true, 10}}, 100);
  ASSERT_EQ(trims.size(), 1u);
  EXPECT_EQ(trims[0].job_id, "c-3");
  EXPECT_TRUE(trims[0].is_whole);
}

TEST(RetentionTest, TakesFromUnfinishedJobsInProportionWhenNothingElseIsLeft) {
  const auto trims =
      DecideTrims({{"a-1", 300, false, 0}, {"b-2", 100, false, 0}, {"c-3", 10, true, 5}}, 200);
  ASSERT_EQ(trims.size(), 3u);
  EXPECT_EQ(trims[0].job_id, "c-3");
  EXPECT_TRUE(trims[0].is_whole);
  EXPECT_EQ(trims[1].job_id, "a-1");
  EXPECT_FALSE(trims[1].is_whole);
  // 410 bytes, down to 180: 10 go with the finished job, 220 of the other 400.
  EXPECT_NEAR(static_cast<double>(trims[1].bytes), 165, 2);
  EXPECT_NEAR(static_cast<double>(trims[2].bytes), 55, 2);
}

class NullHistogram final : public base::Histogram {
 public:
  void Observe(double) override {}
};

TEST(RetentionTest, DeletesWhatBelongsToNoJobAndKeepsTheBudget) {
  base::RealClock clock;
  NullHistogram histogram;
  MemoryJobStore jobs;
  MemoryHistoryStore history;
  MemoryLogStore logs;
  Effects effects;
  for (int i = 1; i <= 3; ++i) {
    v1::Job job = MakeJob(absl::StrCat("a-", i), v1::JOB_STATE_SUCCEEDED);
    job.mutable_end_time()->set_seconds(i);
    effects.jobs.push_back(job);
    effects.events.push_back(MakeEvent(job.job_id(), 1));
  }
  ASSERT_TRUE(jobs.Write(effects).ok());
  EngineMetrics metrics;
  metrics.store_write = &histogram;
  metrics.scheduling = &histogram;
  Engine engine(EngineOptions(), &jobs, &clock, metrics, [](const Coordinator&, const Effects&) {});
  ASSERT_TRUE(engine.Start().ok());
  for (const char* job_id : {"a-1", "a-2", "a-3", "gone-9"}) {
    ASSERT_TRUE(history.Append({MakeReport(job_id, 1, 1, 100)}).ok());
    ASSERT_TRUE(logs.Append({MakeLogs(job_id, 1, 0, 1, 100)}).ok());
  }
  RetentionOptions options;
  options.history_bytes = history.Bytes()[0].bytes * 5 / 2;
  options.log_bytes = logs.Bytes()[0].bytes * 3 / 2;
  Retention retention(options, &engine, &jobs, &history, &logs);
  ASSERT_TRUE(retention.Pass().ok());
  ASSERT_EQ(history.Bytes().size(), 2u);
  EXPECT_EQ(history.Bytes()[0].job_id, "a-2");
  ASSERT_EQ(logs.Bytes().size(), 1u);
  EXPECT_EQ(logs.Bytes()[0].job_id, "a-3");
  EXPECT_TRUE(jobs.ListEvents("a-1", 0, 10)->empty());
  EXPECT_EQ(jobs.ListEvents("a-2", 0, 10)->size(), 1u);
  engine.Stop();
  EXPECT_EQ(retention.Pass().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sinkforge::server
