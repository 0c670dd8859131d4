// Power loss of the coordinator: its engine and its store on a disk that forgets every byte that
// was not synced. What was acknowledged before the power failed must be there afterwards.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "lossy_disk.h"
#include "server/engine/engine.h"
#include "server/store/kv_job_store.h"

namespace sinkforge::sim {
namespace {

constexpr int kPowerLosses = 12;
constexpr int kSubmissionsBetween = 10;  // at least so many are new at each power loss

// A coordinator's engine on a store in a folder, and what it has acknowledged.
class PowerLossTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "sinkforge-power-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    auto store = server::KvJobStore::Open(folder_ + "/jobs");
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    metrics_ = base::Metrics::Create();
    server::EngineMetrics metrics;
    metrics.store_write = metrics_->AddHistogram("write_seconds", "", {}, {1});
    metrics.scheduling = metrics_->AddHistogram("scheduling_seconds", "", {}, {1});
    engine_ =
        std::make_unique<server::Engine>(server::EngineOptions(), store_.get(), &clock_, metrics,
                                         [](const server::Coordinator&, const server::Effects&) {});
    ASSERT_TRUE(engine_->Start().ok());
  }

  void TearDown() override {
    engine_.reset();
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

  // Waits for the acknowledgement, and notes it.
  void Submit(int64_t number) {
    v1::SubmitJobRequest request;
    request.set_request_id(absl::StrCat("r", number));
    request.mutable_spec()->set_name("job");
    request.mutable_spec()->mutable_resources()->set_device(v1::DEVICE_CPU);
    auto job_id = std::make_shared<std::string>();
    std::promise<absl::Status> done;
    engine_->Mutate(
        [=](server::Coordinator& coordinator, const base::Now& now, server::Effects* effects) {
          auto job = coordinator.Submit(request, {1, request.request_id()}, now, effects);
          if (job.ok()) *job_id = job->job_id();
          return job.status();
        },
        [&](const absl::Status& status) { done.set_value(status); }, 100);
    ASSERT_TRUE(done.get_future().get().ok());
    base::MutexLock lock(&mutex_);
    acknowledged_.insert(*job_id);
  }

  std::set<std::string> Acknowledged() {
    base::MutexLock lock(&mutex_);
    return acknowledged_;
  }

  std::string folder_;
  base::RealClock clock_;
  std::unique_ptr<base::Metrics> metrics_;
  std::unique_ptr<server::KvJobStore> store_;
  std::unique_ptr<server::Engine> engine_;
  base::Mutex mutex_;
  std::set<std::string> acknowledged_;
};

TEST_F(PowerLossTest, WhatWasAcknowledgedIsThereAfterwards) {
  std::jthread client([&](const std::stop_token& stop) {
    for (int64_t number = 1; !stop.stop_requested(); ++number) Submit(number);
  });
  size_t known = 0;
  for (int loss = 0; loss < kPowerLosses && !HasFailure(); ++loss) {
    std::set<std::string> acknowledged = Acknowledged();
    while (acknowledged.size() < known + kSubmissionsBetween) {
      std::this_thread::yield();
      acknowledged = Acknowledged();
    }
    known = acknowledged.size();
    const std::string copy = folder_ + "/after-" + std::to_string(loss);
    CopyAfterPowerLoss(folder_ + "/jobs", copy);
    auto store = server::KvJobStore::Open(copy);
    ASSERT_TRUE(store.ok()) << store.status();
    const auto stored = (*store)->Load();
    ASSERT_TRUE(stored.ok()) << stored.status();
    std::set<std::string> found;
    for (const v1::Job& job : stored->jobs) found.insert(job.job_id());
    for (const std::string& job_id : acknowledged) {
      ASSERT_TRUE(found.contains(job_id)) << job_id << " was acknowledged and is lost";
    }
    EXPECT_GT(stored->next_job_number, static_cast<int64_t>(known));
  }
  EXPECT_GT(SyncCount(), kPowerLosses) << "the layer is not in use";
}

}  // namespace
}  // namespace sinkforge::sim
