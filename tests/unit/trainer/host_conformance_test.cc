// One suite for every RunHost, and one for every RendezvousStore.
#include <gmock/gmock.h>
#include <grpc/grpc.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>

#include "base/signals.h"
#include "tests/unit/trainer/fake_worker.h"
#include "tests/unit/trainer/memory_store.h"
#include "tests/unit/trainer/temp_folder.h"
#include "worker/trainer/checkpoint_file.h"
#include "worker/trainer/standalone_host.h"
#include "worker/trainer/worker_link.h"

namespace sinkforge::trainer {
namespace {

using kernels::Status;
using kernels::StatusCode;

// Before any thread starts: the signals, and gRPC held until the program ends.
[[maybe_unused]] const bool kPrepared = [] {
  base::BlockTerminationSignals();
  grpc_init();
  return true;
}();

// Where a host keeps its checkpoints, and how a test gets at it from outside.
class HostWorld {
 public:
  virtual ~HostWorld() = default;
  // A new process after the last one: it restores the newest checkpoint.
  virtual std::unique_ptr<RunHost> Open() = 0;
  virtual void AskToStop() = 0;
  virtual void FillDiskAt(int64_t step) = 0;
};

class StandaloneWorld final : public HostWorld {
 public:
  std::unique_ptr<RunHost> Open() override {
    StandaloneOptions options;
    options.work_dir = folder_ / "work";
    options.start = StandaloneOptions::Start::kResume;
    auto host = StandaloneHost::Create(options);
    EXPECT_TRUE(host.ok()) << host.status().message();
    return std::move(host).value();
  }
  void AskToStop() override { kill(getpid(), SIGTERM); }
  void FillDiskAt(int64_t step) override {
    std::filesystem::create_symlink(
        "/dev/full", CheckpointPath(folder_ / "work/checkpoints", step) + ".partial");
  }

 private:
  TempFolder folder_;
};

class WorkerWorld final : public HostWorld {
 public:
  WorkerWorld() {
    fake_.on_report = [this](const v1::TrainerReport&, v1::TrainerCommand* command) {
      if (stop_) command->set_run(v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
      return grpc::Status::OK;
    };
    fake_.on_checkpoint = [this](const v1::CheckpointPart& part) {
      if (part.step() != full_at_) return grpc::Status::OK;
      return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "the disk is full");
    };
  }
  std::unique_ptr<RunHost> Open() override {
    if (!fake_.parts.empty()) {
      v1::Checkpoint* restore = fake_.assignment.mutable_rank()->mutable_restore();
      restore->set_step(fake_.parts.rbegin()->first);
      restore->add_parts();
    }
    LinkOptions options;
    options.channel = base::MakeChannel(fake_.address());
    options.token = "secret";
    auto link = std::make_unique<WorkerLink>(std::move(options));
    EXPECT_TRUE(link->Connect().ok());
    return link;
  }
  void AskToStop() override { stop_ = true; }
  void FillDiskAt(int64_t step) override { full_at_ = step; }

 private:
  TempFolder folder_;
  FakeWorker fake_{folder_ / "worker.sock"};
  std::atomic<bool> stop_ = false;
  std::atomic<int64_t> full_at_ = -1;
};

struct HostFactory {
  std::string name;
  std::function<std::unique_ptr<HostWorld>()> make;
};

class RunHostConformanceTest : public testing::TestWithParam<HostFactory> {
 protected:
  static Snapshot At(int64_t step) {
    Snapshot snapshot;
    snapshot.state = {step, step * 8, step * 64, 18446744073709551615U};
    snapshot.loss = 0.1 + 0.2;
    // Three chunks on the wire.
    SnapshotTensor tensor{"w", "F32", {3, 200'000}, 0, 600'000, {}};
    tensor.bytes.resize(2'400'000);
    for (size_t i = 0; i < tensor.bytes.size(); ++i) {
      tensor.bytes[i] = static_cast<std::byte>(i * static_cast<size_t>(step) % 251);
    }
    snapshot.tensors = {tensor, {"optimizer/m/w", "F32", {1}, 0, 1, std::vector<std::byte>(4)}};
    return snapshot;
  }
  static RunContext Context() {
    return {{{"a.txt", 3, 7}}, {2, "cpu model", "cpu", "0.1.0", 1}, "xxh3:7"};
  }

  std::unique_ptr<HostWorld> world_ = GetParam().make();
};

TEST_P(RunHostConformanceTest, BeginsWithoutACheckpoint) {
  const std::unique_ptr<RunHost> host = world_->Open();
  const auto loaded = host->LoadCheckpoint();
  ASSERT_TRUE(loaded.ok());
  EXPECT_FALSE(loaded.value().has_value());
  EXPECT_EQ(host->durable_step(), 0);
  EXPECT_FALSE(host->checkpoint_failed());
  EXPECT_EQ(host->Poll(), HostCommand::kTrain);
}

TEST_P(RunHostConformanceTest, GivesBackTheNewestCheckpointToTheBit) {
  {
    const std::unique_ptr<RunHost> host = world_->Open();
    ASSERT_TRUE(host->Begin(Context(), 0).ok());
    ASSERT_TRUE(host->WriteCheckpoint(At(5)).ok());
    ASSERT_TRUE(host->WriteCheckpoint(At(7)).ok());
    ASSERT_TRUE(host->FinishCheckpoints().ok());
    EXPECT_EQ(host->durable_step(), 7);
  }
  const std::unique_ptr<RunHost> host = world_->Open();
  auto loaded = host->LoadCheckpoint();
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  ASSERT_TRUE(loaded.value().has_value());
  const StoredCheckpoint& stored = *loaded.value();
  const Snapshot written = At(7);
  EXPECT_EQ(ToJson(stored.record), ToJson(MakeRecord(Context(), written)));
  EXPECT_EQ(stored.snapshot.state.seed, written.state.seed);
  EXPECT_EQ(stored.snapshot.loss, written.loss);
  ASSERT_EQ(stored.snapshot.tensors.size(), 2U);
  const auto found = std::find_if(stored.snapshot.tensors.begin(), stored.snapshot.tensors.end(),
                                  [](const SnapshotTensor& tensor) { return tensor.name == "w"; });
  ASSERT_NE(found, stored.snapshot.tensors.end());
  EXPECT_EQ(found->shape, written.tensors[0].shape);
  EXPECT_EQ(found->length, written.tensors[0].length);
  EXPECT_TRUE(found->bytes == written.tensors[0].bytes);
  ASSERT_TRUE(host->Begin(Context(), 7).ok());
  EXPECT_EQ(host->durable_step(), 7);
}

TEST_P(RunHostConformanceTest, TellsAFullDiskAndGoesOn) {
  const std::unique_ptr<RunHost> host = world_->Open();
  ASSERT_TRUE(host->Begin(Context(), 0).ok());
  world_->FillDiskAt(5);
  ASSERT_TRUE(host->WriteCheckpoint(At(5)).ok());
  const Status failed = host->FinishCheckpoints();
  EXPECT_EQ(failed.code(), StatusCode::kResourceExhausted) << failed.message();
  EXPECT_TRUE(host->checkpoint_failed());
  EXPECT_EQ(host->durable_step(), 0);
  ASSERT_TRUE(host->WriteCheckpoint(At(6)).ok());
  EXPECT_TRUE(host->FinishCheckpoints().ok());
  EXPECT_FALSE(host->checkpoint_failed());
  EXPECT_EQ(host->durable_step(), 6);
}

TEST_P(RunHostConformanceTest, PassesOnTheWishToStop) {
  const std::unique_ptr<RunHost> host = world_->Open();
  ASSERT_TRUE(host->Begin(Context(), 0).ok());
  EXPECT_EQ(host->Poll(), HostCommand::kTrain);
  world_->AskToStop();
  while (host->Poll() == HostCommand::kTrain) std::this_thread::yield();
  EXPECT_EQ(host->Poll(), HostCommand::kCheckpointAndStop);
}

INSTANTIATE_TEST_SUITE_P(
    Hosts, RunHostConformanceTest,
    testing::Values(HostFactory{"Standalone", [] { return std::make_unique<StandaloneWorld>(); }},
                    HostFactory{"Worker", [] { return std::make_unique<WorkerWorld>(); }}),
    [](const auto& tested) { return tested.param.name; });

// A store and what it needs to live.
struct StoreWorld {
  std::shared_ptr<void> keeper;
  RendezvousStore* store = nullptr;
};

StoreWorld MakeMemoryStore() {
  auto store = std::make_shared<MemoryStore>();
  return {store, store.get()};
}

StoreWorld MakeLinkStore() {
  struct Keeper {
    TempFolder folder;
    FakeWorker fake{folder / "worker.sock"};
    std::unique_ptr<WorkerLink> link;
  };
  auto keeper = std::make_shared<Keeper>();
  LinkOptions options;
  options.channel = base::MakeChannel(keeper->fake.address());
  options.token = "secret";
  keeper->link = std::make_unique<WorkerLink>(std::move(options));
  return {keeper, keeper->link.get()};
}

struct StoreFactory {
  std::string name;
  std::function<StoreWorld()> make;
};

class RendezvousStoreConformanceTest : public testing::TestWithParam<StoreFactory> {
 protected:
  StoreWorld world_ = GetParam().make();
  RendezvousStore& store_ = *world_.store;
};

TEST_P(RendezvousStoreConformanceTest, GivesTheLastValueWhateverItsBytes) {
  const std::string bytes("\0\xff\n", 3);
  ASSERT_TRUE(store_.Put("a", "old").ok());
  ASSERT_TRUE(store_.Put("a", bytes).ok());
  const auto got = store_.Get("a", std::chrono::seconds(10));
  ASSERT_TRUE(got.ok()) << got.status().message();
  EXPECT_EQ(got.value(), bytes);
}

TEST_P(RendezvousStoreConformanceTest, WaitsForAKeyThatComesLater) {
  std::thread putter([&] { EXPECT_TRUE(store_.Put("late", "x").ok()); });
  const auto got = store_.Get("late", std::chrono::seconds(60));
  putter.join();
  ASSERT_TRUE(got.ok()) << got.status().message();
  EXPECT_EQ(got.value(), "x");
}

TEST_P(RendezvousStoreConformanceTest, KeyThatDoesNotComeIsUnavailable) {
  const auto got = store_.Get("never", std::chrono::milliseconds(50));
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(got.status().message(), testing::HasSubstr("never"));
}

INSTANTIATE_TEST_SUITE_P(Stores, RendezvousStoreConformanceTest,
                         testing::Values(StoreFactory{"Memory", MakeMemoryStore},
                                         StoreFactory{"Worker", MakeLinkStore}),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace sinkforge::trainer
