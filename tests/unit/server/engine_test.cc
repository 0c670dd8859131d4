// The engine: group commit, failing stores, reads, worker links; with a real thread and stores in
// memory. Conditions are awaited, never times.
#include "server/engine/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/metrics.h"
#include "tests/unit/server/memory_stores.h"
#include "tests/unit/server/records.h"

namespace sinkforge::server {
namespace {

class NullHistogram final : public base::Histogram {
 public:
  void Observe(double) override {}
};

// What one worker was sent, in order. The engine may still be sending when the test is over.
class SentStates {
 public:
  SentStates() {
    link_->send = [sent = sent_](v1::DesiredState state) {
      base::MutexLock lock(&sent->mutex);
      sent->states.push_back(std::move(state));
      sent->changed.NotifyAll();
    };
    link_->close = [sent = sent_](const absl::Status& status) {
      base::MutexLock lock(&sent->mutex);
      sent->closed = status;
      sent->changed.NotifyAll();
    };
  }
  const std::shared_ptr<WorkerLink>& link() const { return link_; }
  v1::DesiredState Await(size_t index) {
    base::MutexLock lock(&sent_->mutex);
    while (sent_->states.size() <= index) sent_->changed.Wait(&lock);
    return sent_->states[index];
  }
  absl::Status AwaitClose() {
    base::MutexLock lock(&sent_->mutex);
    while (sent_->closed.ok()) sent_->changed.Wait(&lock);
    return sent_->closed;
  }
  size_t count() {
    base::MutexLock lock(&sent_->mutex);
    return sent_->states.size();
  }

 private:
  struct Sent {
    base::Mutex mutex;
    base::CondVar changed;
    std::vector<v1::DesiredState> states GUARDED_BY(mutex);
    absl::Status closed GUARDED_BY(mutex);
  };

  const std::shared_ptr<Sent> sent_ = std::make_shared<Sent>();
  const std::shared_ptr<WorkerLink> link_ = std::make_shared<WorkerLink>();
};

v1::WorkerSnapshot MakeSnapshot(const std::string& worker, const std::string& incarnation,
                                int64_t sequence) {
  v1::WorkerSnapshot snapshot;
  snapshot.set_worker(worker);
  snapshot.set_incarnation(incarnation);
  snapshot.set_report_sequence(sequence);
  snapshot.set_address("127.0.0.1:1");
  v1::Slot* slot = snapshot.add_slots();
  slot->set_device(v1::DEVICE_CPU);
  return snapshot;
}

// The machine's clock, which a test can move on.
class JumpingClock final : public base::Clock {
 public:
  base::Now Read() const override {
    base::Now now = real_.Read();
    now.monotonic += ahead_.load();
    now.wall += std::chrono::duration_cast<std::chrono::system_clock::duration>(ahead_.load());
    return now;
  }
  void Jump(std::chrono::nanoseconds duration) { ahead_ = ahead_.load() + duration; }

 private:
  base::RealClock real_;
  std::atomic<std::chrono::nanoseconds> ahead_{std::chrono::nanoseconds(0)};
};

class EngineTest : public ::testing::Test {
 protected:
  void Start(EngineOptions options = Quick()) {
    EngineMetrics metrics;
    metrics.store_write = &histogram_;
    metrics.scheduling = &histogram_;
    engine_ = std::make_unique<Engine>(options, &store_, &clock_, metrics,
                                       [](const Coordinator&, const Effects&) {});
    ASSERT_TRUE(engine_->Start().ok());
  }
  static EngineOptions Quick() {
    EngineOptions options;
    options.retry_after = std::chrono::nanoseconds(0);
    return options;
  }

  // A submission under way.
  struct Call {
    std::promise<absl::Status> promise;
    std::future<absl::Status> future = promise.get_future();
    v1::Job job;
  };
  std::shared_ptr<Call> Submit(const std::string& request_id) {
    auto call = std::make_shared<Call>();
    v1::SubmitJobRequest request = MakeSubmission(request_id);
    request.mutable_spec()->mutable_resources()->set_ranks(1);
    request.mutable_spec()->mutable_resources()->set_device(v1::DEVICE_CPU);
    engine_->Mutate(
        [call, request](Coordinator& coordinator, const base::Now& now, Effects* effects) {
          auto job = coordinator.Submit(request, {1000, request.request_id()}, now, effects);
          if (job.ok()) call->job = *job;
          return job.status();
        },
        [call](const absl::Status& status) { call->promise.set_value(status); }, 100);
    return call;
  }
  absl::Status SubmitAndWait(const std::string& request_id) {
    return Submit(request_id)->future.get();
  }
  absl::Status Report(const SentStates& sent, const v1::WorkerSnapshot& snapshot) {
    std::promise<absl::Status> promise;
    engine_->Synchronize(sent.link(), snapshot,
                         [&](const absl::Status& status) { promise.set_value(status); });
    return promise.get_future().get();
  }
  int64_t JobCount() {
    int64_t count = 0;
    const absl::Status read =
        engine_->ReadAndWait([&](const Coordinator& coordinator, const auto&) {
          for (const int64_t of_state : coordinator.CountByState()) count += of_state;
        });
    EXPECT_TRUE(read.ok()) << read;
    return count;
  }

  v1::WorkerState StateOfOnlyWorker() {
    v1::WorkerState state = v1::WORKER_STATE_UNSPECIFIED;
    const absl::Status read =
        engine_->ReadAndWait([&](const Coordinator& coordinator, const auto&) {
          state = coordinator.Workers().at(0).state();
        });
    EXPECT_TRUE(read.ok()) << read;
    return state;
  }

  JumpingClock clock_;
  MemoryJobStore store_;
  NullHistogram histogram_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, AnswersWhenTheChangeIsStored) {
  Start();
  const auto call = Submit("r1");
  ASSERT_TRUE(call->future.get().ok());
  EXPECT_EQ(call->job.job_id(), "tiny-1");
  ASSERT_EQ(store_.Load()->jobs.size(), 1u);
  EXPECT_EQ(store_.ListEvents("tiny-1", 0, 10)->size(), 1u);
}

TEST_F(EngineTest, WritesWhatWaitsInOneGo) {
  Start();
  store_.Hold();
  const auto first = Submit("r0");
  store_.AwaitHeldWrite();
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 1; i <= 50; ++i) calls.push_back(Submit(absl::StrCat("r", i)));
  const int before = store_.writes();
  store_.Release();
  ASSERT_TRUE(first->future.get().ok());
  for (const auto& call : calls) ASSERT_TRUE(call->future.get().ok());
  EXPECT_EQ(store_.writes() - before, 2);  // the held one, and one for all that waited
  EXPECT_EQ(JobCount(), 51);
}

TEST_F(EngineTest, KeepsNothingOfAGroupThatCannotBeWritten) {
  Start();
  ASSERT_TRUE(SubmitAndWait("r0").ok());
  store_.Hold();
  const auto first = Submit("r1");
  store_.AwaitHeldWrite();
  const auto second = Submit("r2");
  const auto third = Submit("r3");
  store_.FailWrites(2, absl::ResourceExhaustedError("the disk is full"));
  store_.Release();
  for (const auto& call : {first, second, third}) {
    const absl::Status status = call->future.get();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_NE(status.message().find("the disk is full"), absl::string_view::npos);
    EXPECT_NE(status.message().find("nothing was kept"), absl::string_view::npos);
  }
  EXPECT_EQ(JobCount(), 1);
  // The same request_id succeeds once the store takes writes, and takes the next number.
  const auto again = Submit("r2");
  ASSERT_TRUE(again->future.get().ok());
  EXPECT_EQ(again->job.job_id(), "tiny-2");
  EXPECT_EQ(store_.Load()->next_job_number, 3);
}

TEST_F(EngineTest, RefusesForAWhileAfterAFailure) {
  EngineOptions options;
  options.retry_after = std::chrono::hours(1);
  Start(options);
  store_.FailWrites(1, absl::UnavailableError("I/O error"));
  EXPECT_EQ(SubmitAndWait("r1").code(), absl::StatusCode::kUnavailable);
  const int writes = store_.writes();
  EXPECT_EQ(SubmitAndWait("r1").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store_.writes(), writes);
  EXPECT_EQ(JobCount(), 0);  // reads go on
}

TEST_F(EngineTest, ComesBackWhenTheStoreCanBeReadAgain) {
  Start();
  ASSERT_TRUE(SubmitAndWait("r0").ok());
  store_.FailLoads(1);
  store_.FailWrites(1, absl::UnavailableError("I/O error"));
  EXPECT_EQ(SubmitAndWait("r1").code(), absl::StatusCode::kUnavailable);
  absl::Status status = absl::UnavailableError("");
  while (absl::IsUnavailable(status)) status = SubmitAndWait("r1");
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(JobCount(), 2);
}

TEST_F(EngineTest, KeepsItsWorkersInSightWhileTheStoreFails) {
  EngineOptions options = Quick();
  options.probe_every = std::chrono::nanoseconds(0);
  options.coordinator.lease = std::chrono::hours(1);
  Start(options);
  std::atomic<bool> healthy = false;
  engine_->OnStoreFailure([&](const absl::Status& failure) { healthy = failure.ok(); });
  EXPECT_TRUE(healthy);
  SentStates first;
  ASSERT_TRUE(Report(first, MakeSnapshot("w1", "a", 1)).ok());
  const auto workers = [this] {
    std::vector<std::string> names;
    const absl::Status read =
        engine_->ReadAndWait([&](const Coordinator& coordinator, const base::Now& now) {
          for (const v1::Worker& worker : engine_->Workers(coordinator, now)) {
            EXPECT_EQ(worker.state(), v1::WORKER_STATE_LIVE);
            EXPECT_EQ(worker.slots_size(), 1);
            names.push_back(worker.worker());
          }
        });
    EXPECT_TRUE(read.ok()) << read;
    return names;
  };
  // An idle coordinator finds out by itself.
  store_.FailWrites(1'000'000, absl::ResourceExhaustedError("the disk is full"));
  while (engine_->store_failure().ok()) JobCount();
  EXPECT_FALSE(healthy);
  EXPECT_EQ(engine_->store_failure().message(), "the disk is full");
  EXPECT_EQ(Report(first, MakeSnapshot("w1", "a", 2)).code(), absl::StatusCode::kUnavailable);
  SentStates second;
  EXPECT_EQ(Report(second, MakeSnapshot("w2", "b", 1)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(workers(), (std::vector<std::string>{"w1", "w2"}));
  // It finds out that the disk has room again; nobody is forgotten until he has reported.
  store_.FailWrites(0, absl::OkStatus());
  while (!engine_->store_failure().ok()) JobCount();
  EXPECT_TRUE(healthy);
  EXPECT_EQ(workers(), (std::vector<std::string>{"w1", "w2"}));
  ASSERT_TRUE(Report(second, MakeSnapshot("w2", "b", 2)).ok());
  EXPECT_EQ(workers(), (std::vector<std::string>{"w1", "w2"}));
  EXPECT_TRUE(SubmitAndWait("r1").ok());
  engine_->OnStoreFailure(nullptr);
}

TEST_F(EngineTest, RefusesToStartWithoutItsStore) {
  store_.FailLoads(1);
  EngineMetrics metrics;
  metrics.store_write = &histogram_;
  metrics.scheduling = &histogram_;
  Engine engine(EngineOptions(), &store_, &clock_, metrics,
                [](const Coordinator&, const Effects&) {});
  EXPECT_EQ(engine.Start().code(), absl::StatusCode::kUnavailable);
}

TEST_F(EngineTest, RefusesWhatItsQueueCannotHold) {
  EngineOptions options = Quick();
  options.queue.items_max = 2;
  Start(options);
  store_.Hold();
  const auto first = Submit("r1");
  store_.AwaitHeldWrite();
  const auto second = Submit("r2");
  const auto third = Submit("r3");
  const auto fourth = Submit("r4");
  EXPECT_EQ(fourth->future.get().code(), absl::StatusCode::kResourceExhausted);
  store_.Release();
  for (const auto& call : {first, second, third}) EXPECT_TRUE(call->future.get().ok());
  EXPECT_EQ(JobCount(), 3);
}

TEST_F(EngineTest, LimitsReadsApartFromMutations) {
  EngineOptions options = Quick();
  options.reads_waiting_max = 1;
  Start(options);
  store_.Hold();
  const auto first = Submit("r1");
  store_.AwaitHeldWrite();
  std::promise<void> seen;
  engine_->Read([&](const Coordinator&, const base::Now&) { seen.set_value(); },
                [](const absl::Status& status) { ADD_FAILURE() << status; });
  std::promise<absl::Status> refused;
  engine_->Read([](const Coordinator&, const base::Now&) { ADD_FAILURE(); },
                [&](const absl::Status& status) { refused.set_value(status); });
  EXPECT_EQ(refused.get_future().get().code(), absl::StatusCode::kResourceExhausted);
  const auto second = Submit("r2");
  store_.Release();
  seen.get_future().wait();
  EXPECT_TRUE(second->future.get().ok());
  EXPECT_EQ(JobCount(), 2);  // the finished read made room
}

TEST_F(EngineTest, AnswersEverythingWhenItStops) {
  Start();
  store_.Hold();
  const auto first = Submit("r1");
  store_.AwaitHeldWrite();
  const auto second = Submit("r2");
  auto stopping = std::async(std::launch::async, [&] { engine_->Stop(); });
  store_.Release();
  EXPECT_TRUE(first->future.get().ok());
  EXPECT_TRUE(second->future.get().ok());
  stopping.get();
  EXPECT_EQ(store_.Load()->jobs.size(), 2u);
  EXPECT_EQ(SubmitAndWait("r3").code(), absl::StatusCode::kUnavailable);
}

TEST_F(EngineTest, SendsWorkersWhatChangedOnceItIsStored) {
  Start();
  SentStates sent;
  ASSERT_TRUE(Report(sent, MakeSnapshot("w1", "i1", 1)).ok());
  EXPECT_TRUE(sent.Await(0).ranks().empty());
  store_.Hold();
  const auto call = Submit("r1");
  store_.AwaitHeldWrite();
  EXPECT_EQ(sent.count(), 1u);  // nothing leaves before it is stored
  store_.Release();
  ASSERT_TRUE(call->future.get().ok());
  const v1::DesiredState state = sent.Await(1);
  ASSERT_EQ(state.ranks_size(), 1);
  EXPECT_EQ(state.ranks(0).job_id(), "tiny-1");
  EXPECT_GT(state.desired_revision(), sent.Await(0).desired_revision());
}

TEST_F(EngineTest, NeverTellsAWorkerToStopWhenItsStoreFails) {
  Start();
  SentStates sent;
  ASSERT_TRUE(Report(sent, MakeSnapshot("w1", "i1", 1)).ok());
  ASSERT_TRUE(SubmitAndWait("r1").ok());
  const v1::DesiredState running = sent.Await(1);
  ASSERT_EQ(running.ranks_size(), 1);
  store_.FailWrites(1, absl::UnavailableError("I/O error"));
  EXPECT_FALSE(SubmitAndWait("r2").ok());
  // The new Coordinator has not heard from the worker. It says nothing until it has, and then
  // wants the same rank.
  v1::WorkerSnapshot snapshot = MakeSnapshot("w1", "i1", 2);
  snapshot.set_applied_desired_revision(running.desired_revision());
  v1::RankStatus* rank = snapshot.add_ranks();
  rank->set_job_id("tiny-1");
  rank->set_attempt(1);
  rank->set_phase(v1::RANK_PHASE_TRAINING);
  rank->set_step(1);
  const size_t before = sent.count();
  ASSERT_TRUE(Report(sent, snapshot).ok());
  for (size_t i = 2; i < before; ++i) EXPECT_EQ(sent.Await(i).ranks_size(), 1);
  SentStates reconnected;
  snapshot.set_report_sequence(3);
  ASSERT_TRUE(Report(reconnected, snapshot).ok());
  const v1::DesiredState state = reconnected.Await(0);
  ASSERT_EQ(state.ranks_size(), 1);
  EXPECT_EQ(state.ranks(0).attempt(), 1);
  EXPECT_GE(state.desired_revision(), running.desired_revision());
}

TEST_F(EngineTest, LosesNoWorkerBecauseItStoodStillItself) {
  EngineOptions options = Quick();
  options.coordinator.lease = std::chrono::hours(3);
  Start(options);
  SentStates sent;
  ASSERT_TRUE(Report(sent, MakeSnapshot("w1", "i1", 1)).ok());
  clock_.Jump(std::chrono::hours(5));
  EXPECT_EQ(StateOfOnlyWorker(), v1::WORKER_STATE_LIVE);
  // From then on silence counts as ever.
  clock_.Jump(std::chrono::hours(1));
  EXPECT_EQ(StateOfOnlyWorker(), v1::WORKER_STATE_LIVE);
  clock_.Jump(std::chrono::hours(1));
  EXPECT_EQ(StateOfOnlyWorker(), v1::WORKER_STATE_LIVE);
  clock_.Jump(std::chrono::hours(1));
  EXPECT_EQ(StateOfOnlyWorker(), v1::WORKER_STATE_LOST);
}

TEST_F(EngineTest, ClosesTheOlderLinkOfAWorker) {
  Start();
  SentStates first;
  SentStates second;
  ASSERT_TRUE(Report(first, MakeSnapshot("w1", "i1", 1)).ok());
  ASSERT_TRUE(Report(second, MakeSnapshot("w1", "i1", 2)).ok());
  EXPECT_EQ(first.AwaitClose().code(), absl::StatusCode::kAborted);
  // The end of the older one does not disconnect the worker: its next job starts.
  engine_->Disconnect(first.link());
  ASSERT_TRUE(SubmitAndWait("r1").ok());
  EXPECT_EQ(second.Await(1).ranks_size(), 1);
}

TEST_F(EngineTest, PlacesNothingOnADisconnectedWorker) {
  Start();
  SentStates sent;
  ASSERT_TRUE(Report(sent, MakeSnapshot("w1", "i1", 1)).ok());
  engine_->Disconnect(sent.link());
  // Taken in after that, as all that comes from workers; it has no slot to give.
  SentStates other;
  v1::WorkerSnapshot behind = MakeSnapshot("w2", "i1", 1);
  behind.clear_slots();
  ASSERT_TRUE(Report(other, behind).ok());
  const auto call = Submit("r1");
  ASSERT_TRUE(call->future.get().ok());
  EXPECT_EQ(call->job.state(), v1::JOB_STATE_QUEUED);
  SentStates again;
  ASSERT_TRUE(Report(again, MakeSnapshot("w1", "i1", 2)).ok());
  EXPECT_EQ(again.Await(0).ranks_size(), 1);
}

TEST_F(EngineTest, RefusesASecondIncarnationOfALiveWorker) {
  Start();
  SentStates first;
  SentStates second;
  ASSERT_TRUE(Report(first, MakeSnapshot("w1", "i1", 1)).ok());
  EXPECT_EQ(Report(second, MakeSnapshot("w1", "i2", 1)).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(EngineTest, ClosesAllLinksAndLaterOnes) {
  Start();
  SentStates first;
  ASSERT_TRUE(Report(first, MakeSnapshot("w1", "i1", 1)).ok());
  engine_->CloseLinks(absl::UnavailableError("shutting down"));
  EXPECT_EQ(first.AwaitClose().code(), absl::StatusCode::kUnavailable);
  SentStates second;
  EXPECT_EQ(Report(second, MakeSnapshot("w2", "i1", 1)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(second.AwaitClose().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sinkforge::server
