// The copier against real holders over gRPC, some of which never answer.
#include "worker/rpc/part_copier.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "base/rpc.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/test_support.h"
#include "worker/rpc/checkpoint_service.h"

namespace sinkforge::worker {
namespace {

std::unique_ptr<CheckpointStore> OpenCheckpoints(base::KvStore* kv, const std::string& worker) {
  CheckpointStoreOptions options;
  options.worker = worker;
  options.disk_free_bytes = []() -> absl::StatusOr<int64_t> { return 1 << 30; };
  return CheckpointStore::Open(kv, options).value();
}

// A worker that others copy from.
class Holder {
 public:
  explicit Holder(const std::string& name)
      : name_(name), kv_(OpenKv(folder_.path())), store_(OpenCheckpoints(kv_.get(), name)) {
    base::ServerOptions options;
    options.address = "127.0.0.1:0";
    options.services = {&service_};
    server_ = base::StartServer(options).value();
  }
  ~Holder() {
    Release();
    server_.server->Shutdown();
  }

  void Add(const v1::CheckpointPart& part) {
    auto writer = store_->Begin(part).value();
    for (const v1::CheckpointData& data : MakeStream(100, 1)) ASSERT_TRUE(writer->Add(data).ok());
    ASSERT_TRUE(writer->Commit().ok());
  }
  v1::CopyPart CopyOf(int64_t step) const {
    v1::CopyPart copy;
    *copy.mutable_part() = MakePart("d4-1", 1, step, 0);
    copy.mutable_part()->set_worker(name_);
    copy.set_address("127.0.0.1:" + std::to_string(server_.port));
    return copy;
  }
  // From now on it takes calls and does not answer them.
  void Hang() {
    const std::lock_guard lock(mutex_);
    hangs_ = true;
  }
  void Release() {
    const std::lock_guard lock(mutex_);
    hangs_ = false;
    changed_.notify_all();
  }
  bool was_called() const {
    const std::lock_guard lock(mutex_);
    return calls_ > 0;
  }

 private:
  class Service final : public v1::CheckpointService::Service {
   public:
    explicit Service(Holder* holder) : holder_(holder) {}
    grpc::Status ReadCheckpoint(grpc::ServerContext* context,
                                const v1::ReadCheckpointRequest* request,
                                grpc::ServerWriter<v1::CheckpointData>* writer) override {
      holder_->AwaitRelease();
      CheckpointService service(holder_->store_.get());
      return service.ReadCheckpoint(context, request, writer);
    }

   private:
    Holder* const holder_;
  };

  void AwaitRelease() {
    std::unique_lock lock(mutex_);
    ++calls_;
    changed_.wait(lock, [this] { return !hangs_; });
  }

  const std::string name_;
  TempFolder folder_;
  std::unique_ptr<base::KvStore> kv_;
  std::unique_ptr<CheckpointStore> store_;
  Service service_{this};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool hangs_ = false;
  int calls_ = 0;
  base::RunningServer server_;
};

class PartCopierTest : public testing::Test {
 protected:
  PartCopierTest() : kv_(OpenKv(folder_.path())), store_(OpenCheckpoints(kv_.get(), "node-1")) {
    for (Holder* holder : {&near_, &far_}) {
      for (const int64_t step : {10, 20, 30}) holder->Add(MakePart("d4-1", 1, step, 0));
    }
    PartCopier::Parts parts;
    parts.checkpoints = store_.get();
    parts.clock = &clock_;
    parts.on_copied = [] {};
    parts.retry = std::chrono::milliseconds(10);
    copier_ = std::make_unique<PartCopier>(std::move(parts));
  }
  ~PartCopierTest() override { far_.Release(); }

  bool Has(int64_t step) const { return store_->Find({"d4-1", 1, step, 0}).ok(); }

  TempFolder folder_;
  base::RealClock clock_;
  std::unique_ptr<base::KvStore> kv_;
  std::unique_ptr<CheckpointStore> store_;
  Holder near_{"near"};
  Holder far_{"far"};
  std::unique_ptr<PartCopier> copier_;  // ends before the holders
};

TEST_F(PartCopierTest, FetchesAllThatIsWanted) {
  copier_->SetWanted({near_.CopyOf(10), far_.CopyOf(20), near_.CopyOf(30)});
  EXPECT_TRUE(Eventually([&] { return Has(10) && Has(20) && Has(30); }));
}

TEST_F(PartCopierTest, AHolderThatHangsHoldsUpNobodyElsesParts) {
  far_.Hang();
  copier_->SetWanted({far_.CopyOf(10), far_.CopyOf(20), near_.CopyOf(30)});
  EXPECT_TRUE(Eventually([&] { return Has(30); }));
  EXPECT_FALSE(Has(10));
}

TEST_F(PartCopierTest, WhatIsWantedLaterIsFetchedWhileAHolderHangs) {
  far_.Hang();
  copier_->SetWanted({far_.CopyOf(10)});
  ASSERT_TRUE(Eventually([&] { return far_.was_called(); }));
  copier_->SetWanted({far_.CopyOf(10), near_.CopyOf(20)});
  EXPECT_TRUE(Eventually([&] { return Has(20); }));
  far_.Release();
  EXPECT_TRUE(Eventually([&] { return Has(10); }));
}

TEST_F(PartCopierTest, AnotherHolderTakesOverFromOneThatHangs) {
  far_.Hang();
  copier_->SetWanted({far_.CopyOf(10)});
  ASSERT_TRUE(Eventually([&] { return far_.was_called(); }));
  copier_->SetWanted({near_.CopyOf(10)});
  EXPECT_TRUE(Eventually([&] { return Has(10); }));
}

TEST_F(PartCopierTest, TriesAgainWhatCouldNotBeFetched) {
  copier_->SetWanted({near_.CopyOf(40)});
  ASSERT_TRUE(Eventually([&] { return near_.was_called(); }));
  near_.Add(MakePart("d4-1", 1, 40, 0));
  EXPECT_TRUE(Eventually([&] { return Has(40); }));
}

TEST_F(PartCopierTest, EndsWhileAHolderHangs) {
  far_.Hang();
  copier_->SetWanted({far_.CopyOf(10)});
  ASSERT_TRUE(Eventually([&] { return far_.was_called(); }));
  copier_.reset();
  EXPECT_FALSE(Has(10));
}

}  // namespace
}  // namespace sinkforge::worker
