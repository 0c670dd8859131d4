// What the tests of commits and of their copies share.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "test_bed.h"

namespace sinkforge::server {

// Workers of which the first has the job, and beside it has room for everybody's copies.
class CommitTest : public testing::Test {
 protected:
  CommitTest() {
    for (HandWorker* worker : {&w1_, &w2_}) Join(worker);
    id_ = bed_.Submit();
    w1_.Obey();
  }

  static void Join(HandWorker* worker) {
    worker->snapshot.set_disk_free_bytes(1'000'000);
    worker->Sync();
  }

  // The step is done and durable on the first worker.
  void Checkpoint(int64_t step) {
    w1_.Train(id_, step);
    w1_.Checkpoint(id_, step);
    w1_.Sync();
  }
  // Time goes by, in which these workers report.
  void Advance(std::chrono::seconds duration, const std::vector<HandWorker*>& workers) {
    for (std::chrono::seconds done{0}; done < duration; done += std::chrono::seconds(1)) {
      bed_.Advance(std::chrono::seconds(1));
      for (HandWorker* worker : workers) worker->Sync();
      bed_.Tick();
    }
  }
  // "10:w1|w2" of each checkpoint.
  std::vector<std::string> Checkpoints() const {
    std::vector<std::string> all;
    for (const v1::Checkpoint& checkpoint : bed_.Job(id_).checkpoints()) {
      if (checkpoint.deleting()) continue;
      std::string& text = all.emplace_back(std::to_string(checkpoint.step()) + ":");
      for (const v1::CheckpointPart& part : checkpoint.parts()) text += part.worker();
      text += "|";
      for (const v1::CheckpointPart& copy : checkpoint.copies()) text += copy.worker();
    }
    return all;
  }
  std::string LastMessage(v1::EventKind kind) const {
    const std::vector<v1::Event> events = bed_.Events(id_, kind);
    return events.empty() ? "" : events.back().message();
  }
  std::string Explained() const { return bed_.coordinator.Explain(id_, bed_.now).message; }

  TestBed bed_{{.commit_patience = std::chrono::seconds(8)}};
  HandWorker w1_{&bed_, "w1", 1};
  HandWorker w2_{&bed_, "w2", 1};
  std::string id_;
};

}  // namespace sinkforge::server
