// ScriptedHost: a TrainingHost that remembers what it was told and answers by a script.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/core/host.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::trainer {

class ScriptedHost final : public TrainingHost {
 public:
  void OnStep(const StepReport& report) override {
    reports.push_back(report);
    events.push_back("step " + std::to_string(report.step) +
                     (report.validation_loss.has_value() ? " evaluated" : ""));
  }
  StepDump* DumpOf(int64_t step) override { return step == dump_at ? &dump : nullptr; }
  HostCommand Poll() override {
    const auto found = commands.find(static_cast<int64_t>(reports.size()));
    return found == commands.end() ? HostCommand::kTrain : found->second;
  }
  kernels::Status WriteCheckpoint(Snapshot snapshot) override {
    events.push_back("checkpoint " + std::to_string(snapshot.state.step));
    const kernels::Status earlier = std::exchange(pending_failure_, kernels::Status());
    const auto found = failures.find(snapshot.state.step);
    if (found != failures.end()) {
      pending_failure_ = found->second;
    } else {
      durable.push_back(snapshot.state.step);
    }
    return earlier;
  }
  kernels::Status FinishCheckpoints() override {
    events.push_back("finish");
    return std::exchange(pending_failure_, kernels::Status());
  }
  void Warn(const std::string& message) override { warnings.push_back(message); }

  std::map<int64_t, HostCommand> commands;      // after so many reports
  std::map<int64_t, kernels::Status> failures;  // of the checkpoint of a step, found out later
  int64_t dump_at = 0;
  StepDump dump;
  std::vector<StepReport> reports;
  std::vector<std::string> events;
  std::vector<std::string> warnings;
  std::vector<int64_t> durable;  // steps of the checkpoints that did not fail

 private:
  kernels::Status pending_failure_;
};

}  // namespace sinkforge::trainer
