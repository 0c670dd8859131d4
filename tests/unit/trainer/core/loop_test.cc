// RunTraining with a trainer and a host that play a script: when it evaluates, reports, checkpoints
// and stops, and what it makes of failures.
#include <algorithm>
#include <array>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/scripted_host.h"
#include "tests/unit/trainer/core/test_support.h"
#include "tests/unit/trainer/core/training_host_conformance.h"

namespace sinkforge::trainer {
namespace {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ScriptedTrainer final : public Trainer {
 public:
  Status Step(StepReport* report, StepDump* dump) override {
    if (steps_ + 1 == fails_at) return Status(StatusCode::kNonFinite, "step is not finite");
    ++steps_;
    if (dump != nullptr) dump->base = static_cast<double>(steps_);
    *report = {};
    report->step = steps_;
    return Status();
  }
  Result<Evaluation> Evaluate() override {
    if (evaluation_fails) return Status(StatusCode::kNonFinite, "validation is not finite");
    return Evaluation{static_cast<double>(steps_), 2.0 * static_cast<double>(steps_), 10};
  }
  bool can_evaluate() const override { return has_validation; }
  int64_t steps_done() const override { return steps_; }
  int64_t parameter_count() const override { return 0; }
  std::vector<NamedTensor> parameters() const override { return {}; }
  std::vector<NamedTensor> gradients() const override { return {}; }
  Snapshot TakeSnapshot() const override {
    Snapshot snapshot;
    snapshot.state.step = steps_;
    return snapshot;
  }
  Status Restore(const Snapshot& snapshot) override {
    steps_ = snapshot.state.step;
    return Status();
  }
  Status LoadParameters(const std::vector<SnapshotTensor>&) override { return Status(); }

  bool has_validation = true;
  bool evaluation_fails = false;
  int64_t fails_at = 0;

 private:
  int64_t steps_ = 0;
};

class LoopTest : public ::testing::Test {
 protected:
  LoopTest() { config_.steps = 5; }

  Result<TrainingEnd> Run() { return RunTraining(trainer_, config_, host_, solo_); }

  TrainingConfig config_;
  ScriptedTrainer trainer_;
  ScriptedHost host_;
  SoloCollective solo_;
};

TEST_F(LoopTest, EvaluatesAndCheckpointsAtTheEnd) {
  const auto end = Run();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end.value(), TrainingEnd::kCompleted);
  EXPECT_THAT(host_.events, ElementsAre("step 1", "step 2", "step 3", "step 4", "step 5 evaluated",
                                        "finish", "checkpoint 5", "finish"));
  EXPECT_EQ(host_.reports.back().validation_loss, 5.0);
  EXPECT_EQ(host_.reports.back().validation_bits_per_byte, 10.0);
  EXPECT_TRUE(host_.warnings.empty());
}

TEST_F(LoopTest, EvaluatesAndCheckpointsPeriodically) {
  config_.evaluate_every_steps = 2;
  config_.checkpoint_every_steps = 2;
  config_.steps = 4;
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(host_.events, ElementsAre("step 1", "step 2 evaluated", "checkpoint 2", "step 3",
                                        "step 4 evaluated", "finish", "checkpoint 4", "finish"));
}

TEST_F(LoopTest, DoesWithoutAValidationText) {
  trainer_.has_validation = false;
  config_.evaluate_every_steps = 1;
  ASSERT_TRUE(Run().ok());
  for (const StepReport& report : host_.reports) EXPECT_FALSE(report.validation_loss.has_value());
}

TEST_F(LoopTest, GoesOnFromARestoredStep) {
  Snapshot snapshot;
  snapshot.state.step = 3;
  ASSERT_TRUE(trainer_.Restore(snapshot).ok());
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(host_.events,
              ElementsAre("step 4", "step 5 evaluated", "finish", "checkpoint 5", "finish"));
}

TEST_F(LoopTest, MakesAJobThatWasDoneAlreadyDurable) {
  Snapshot snapshot;
  snapshot.state.step = 5;
  ASSERT_TRUE(trainer_.Restore(snapshot).ok());
  const auto end = Run();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end.value(), TrainingEnd::kCompleted);
  EXPECT_THAT(host_.events, ElementsAre("finish", "checkpoint 5", "finish"));
}

TEST_F(LoopTest, StopsWithADurableCheckpoint) {
  host_.commands[2] = HostCommand::kCheckpointAndStop;
  const auto end = Run();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end.value(), TrainingEnd::kStopped);
  EXPECT_THAT(host_.events, ElementsAre("step 1", "step 2", "finish", "checkpoint 2", "finish"));
}

TEST_F(LoopTest, IsCompleteWhenToldToStopAtTheLastStep) {
  host_.commands[5] = HostCommand::kCheckpointAndStop;
  const auto end = Run();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end.value(), TrainingEnd::kCompleted);
}

TEST_F(LoopTest, WritesNothingMoreWhenAbandoned) {
  config_.checkpoint_every_steps = 2;
  host_.commands[2] = HostCommand::kAbandon;
  const auto end = Run();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end.value(), TrainingEnd::kAbandoned);
  EXPECT_THAT(host_.events, ElementsAre("step 1", "step 2"));
}

TEST_F(LoopTest, WarnsOfAFailedPeriodicCheckpointAndGoesOn) {
  config_.checkpoint_every_steps = 2;
  host_.failures[2] = Status(StatusCode::kResourceExhausted, "disk full");
  host_.failures[4] = Status(StatusCode::kUnavailable, "worker away");
  const auto end = Run();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end.value(), TrainingEnd::kCompleted);
  EXPECT_THAT(host_.warnings, ElementsAre(HasSubstr("disk full"), HasSubstr("worker away")));
}

TEST_F(LoopTest, FailsWhenTheLastCheckpointIsNotDurable) {
  host_.failures[5] = Status(StatusCode::kResourceExhausted, "disk full");
  const auto end = Run();
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(end.status().message(), HasSubstr("step 5"));
  EXPECT_THAT(end.status().message(), HasSubstr("disk full"));
}

TEST_F(LoopTest, PassesAFailedStepOnAndWritesNothing) {
  trainer_.fails_at = 3;
  const auto end = Run();
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.status().code(), StatusCode::kNonFinite);
  EXPECT_THAT(host_.events, ElementsAre("step 1", "step 2"));
}

TEST_F(LoopTest, WritesNoCheckpointOfAModelWhoseValidationIsNotFinite) {
  trainer_.evaluation_fails = true;
  const auto end = Run();
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.status().code(), StatusCode::kNonFinite);
  EXPECT_THAT(host_.events, ElementsAre("step 1", "step 2", "step 3", "step 4"));
}

TEST_F(LoopTest, DumpsTheStepThatTheHostAsksFor) {
  host_.dump_at = 3;
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(host_.dump.base, 3);
}

TEST_F(LoopTest, ReportsTheTimeLostToACheckpointWithTheNextStep) {
  config_.checkpoint_every_steps = 2;
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(host_.reports[1].checkpoint_stall_seconds, 0);
  EXPECT_GT(host_.reports[2].checkpoint_stall_seconds, 0);
  EXPECT_EQ(host_.reports[3].checkpoint_stall_seconds, 0);
}

// The script plays by the rules of every host.
class ScriptedHarness final : public TrainingHostHarness {
 public:
  TrainingHost& host() override { return host_; }
  std::vector<int64_t> ReportedSteps() override {
    std::vector<int64_t> steps;
    for (const StepReport& report : host_.reports) steps.push_back(report.step);
    return steps;
  }
  std::vector<int64_t> DurableCheckpoints() override { return host_.durable; }
  void FailCheckpointOf(int64_t step) override {
    host_.failures[step] = Status(StatusCode::kResourceExhausted, "disk full");
  }
  void Command(HostCommand command) override {
    host_.commands[static_cast<int64_t>(host_.reports.size())] = command;
  }

 private:
  ScriptedHost host_;
};

INSTANTIATE_TEST_SUITE_P(Scripted, TrainingHostConformanceTest,
                         ::testing::Values(TrainingHostFactory{
                             "Scripted", [] { return std::make_unique<ScriptedHarness>(); }}),
                         [](const auto& tested) { return tested.param.name; });

// One rank's host wants something; every rank must do it at the same step.
TEST(LoopRanksTest, ObeyTheStrongestCommandAtTheSameStep) {
  for (const HostCommand second : {HostCommand::kTrain, HostCommand::kAbandon}) {
    std::vector<std::vector<std::string>> events(3);
    std::vector<TrainingEnd> ends(3);
    RunRanks(3, [&](int rank, std::unique_ptr<Collective> collective) {
      ScriptedTrainer trainer;
      ScriptedHost host;
      TrainingConfig config;
      config.steps = 9;
      if (rank == 1) host.commands[4] = HostCommand::kCheckpointAndStop;
      if (rank == 2) host.commands[4] = second;
      const auto end = RunTraining(trainer, config, host, *collective);
      ASSERT_TRUE(end.ok());
      ends[static_cast<size_t>(rank)] = end.value();
      events[static_cast<size_t>(rank)] = host.events;
      ASSERT_TRUE(collective->Barrier().ok());
    });
    const bool abandoned = second == HostCommand::kAbandon;
    for (size_t rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(ends[rank], abandoned ? TrainingEnd::kAbandoned : TrainingEnd::kStopped);
      EXPECT_EQ(events[rank].back(), abandoned ? "step 4" : "finish");
      EXPECT_EQ(events[rank], events[0]);
    }
  }
}

// The wish reaches the ranks at different steps, or only one of them.
TEST(LoopRanksTest, AHundredRandomPausesLeaveNoRankBehind) {
  constexpr int64_t kSteps = 12;
  constexpr int kRanks = 3;
  for (uint64_t round = 0; round < 100; ++round) {
    const RandomStream stream(round, "pauses");
    std::array<int64_t, kRanks> told{};  // after which step; 0: never
    int64_t first = kSteps + 1;
    for (size_t rank = 0; rank < kRanks; ++rank) {
      const uint64_t bits = stream.Bits(rank);
      told[rank] = rank == round % kRanks || bits % 2 == 0
                       ? 1 + static_cast<int64_t>((bits >> 8) % (kSteps - 1))
                       : 0;
      if (told[rank] > 0) first = std::min(first, told[rank]);
    }
    std::array<std::vector<int64_t>, kRanks> durable;
    RunRanks(kRanks, [&](int rank, std::unique_ptr<Collective> collective) {
      const auto index = static_cast<size_t>(rank);
      ScriptedTrainer trainer;
      ScriptedHost host;
      TrainingConfig config;
      config.steps = kSteps;
      // Once told, it is told again at every step.
      for (int64_t step = told[index]; step > 0 && step <= kSteps; ++step) {
        host.commands[step] = HostCommand::kCheckpointAndStop;
      }
      const auto end = RunTraining(trainer, config, host, *collective);
      ASSERT_TRUE(end.ok());
      EXPECT_EQ(end.value(), TrainingEnd::kStopped);
      durable[index] = host.durable;
      ASSERT_TRUE(collective->Barrier().ok());
    });
    for (const auto& steps : durable) EXPECT_EQ(steps, std::vector<int64_t>{first}) << round;
  }
}

TEST(LoopRanksTest, EndWhenARankIsLost) {
  RunRanks(2, [&](int rank, std::unique_ptr<Collective> collective) {
    ScriptedTrainer trainer;
    ScriptedHost host;
    TrainingConfig config;
    config.steps = 9;
    if (rank == 1) trainer.fails_at = 3;
    const auto end = RunTraining(trainer, config, host, *collective);
    ASSERT_FALSE(end.ok());
    EXPECT_EQ(end.status().code(), rank == 1 ? StatusCode::kNonFinite : StatusCode::kUnavailable);
  });
}

}  // namespace
}  // namespace sinkforge::trainer
