// What every TrainingHost must do, as one suite: give it a factory of harnesses and instantiate it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/trainer/core/host.h"

namespace sinkforge::trainer {

// A host and what its other side saw of it. The harness may wait inside the questions until the
// host's background work is done.
class TrainingHostHarness {
 public:
  virtual ~TrainingHostHarness() = default;
  virtual TrainingHost& host() = 0;
  // Steps whose reports arrived, in their order.
  virtual std::vector<int64_t> ReportedSteps() = 0;
  // Steps of the checkpoints that are durable, oldest first.
  virtual std::vector<int64_t> DurableCheckpoints() = 0;
  // The checkpoint of this step will turn out not to be durable.
  virtual void FailCheckpointOf(int64_t step) = 0;
  // What the other side wants from now on.
  virtual void Command(HostCommand command) = 0;
};

struct TrainingHostFactory {
  std::string name;
  std::function<std::unique_ptr<TrainingHostHarness>()> make;
};

class TrainingHostConformanceTest : public ::testing::TestWithParam<TrainingHostFactory> {
 protected:
  static Snapshot SnapshotOf(int64_t step) {
    Snapshot snapshot;
    snapshot.state.step = step;
    SnapshotTensor tensor;
    tensor.name = "transformer.wte.weight";
    tensor.dtype = "F32";
    tensor.shape = {2, 3};
    tensor.length = 6;
    tensor.bytes.resize(24, static_cast<std::byte>(step));
    snapshot.tensors.push_back(std::move(tensor));
    return snapshot;
  }

  std::unique_ptr<TrainingHostHarness> harness_ = GetParam().make();
};

TEST_P(TrainingHostConformanceTest, DeliversReportsInTheirOrder) {
  for (int64_t step = 1; step <= 5; ++step) {
    StepReport report;
    report.step = step;
    report.heads = 2;
    report.layer_cv = {0.1};
    report.importance = {0.4, 0.5};
    harness_->host().OnStep(report);
  }
  EXPECT_THAT(harness_->ReportedSteps(), ::testing::ElementsAre(1, 2, 3, 4, 5));
}

TEST_P(TrainingHostConformanceTest, TrainsUntilToldOtherwise) {
  EXPECT_EQ(harness_->host().Poll(), HostCommand::kTrain);
  harness_->Command(HostCommand::kCheckpointAndStop);
  EXPECT_EQ(harness_->host().Poll(), HostCommand::kCheckpointAndStop);
}

TEST_P(TrainingHostConformanceTest, DumpsNothingUnlessAsked) {
  EXPECT_EQ(harness_->host().DumpOf(1), nullptr);
}

TEST_P(TrainingHostConformanceTest, MakesCheckpointsDurable) {
  EXPECT_TRUE(harness_->host().FinishCheckpoints().ok());
  for (const int64_t step : {3, 6}) {
    EXPECT_TRUE(harness_->host().WriteCheckpoint(SnapshotOf(step)).ok());
  }
  EXPECT_TRUE(harness_->host().FinishCheckpoints().ok());
  EXPECT_THAT(harness_->DurableCheckpoints(), ::testing::ElementsAre(3, 6));
}

// The failure is reported once, by the next call that speaks of checkpoints, and the snapshot that
// this call brings is taken all the same.
TEST_P(TrainingHostConformanceTest, ReportsAFailedCheckpointOnceAndGoesOn) {
  harness_->FailCheckpointOf(3);
  EXPECT_TRUE(harness_->host().WriteCheckpoint(SnapshotOf(3)).ok());
  EXPECT_FALSE(harness_->host().WriteCheckpoint(SnapshotOf(6)).ok());
  EXPECT_TRUE(harness_->host().FinishCheckpoints().ok());
  EXPECT_THAT(harness_->DurableCheckpoints(), ::testing::ElementsAre(6));
}

TEST_P(TrainingHostConformanceTest, ReportsAFailedLastCheckpoint) {
  harness_->FailCheckpointOf(3);
  EXPECT_TRUE(harness_->host().WriteCheckpoint(SnapshotOf(3)).ok());
  const kernels::Status status = harness_->host().FinishCheckpoints();
  EXPECT_FALSE(status.ok());
  EXPECT_FALSE(status.message().empty());
  EXPECT_TRUE(harness_->host().FinishCheckpoints().ok());
}

}  // namespace sinkforge::trainer
