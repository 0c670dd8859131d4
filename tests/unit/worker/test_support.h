// What the worker's tests share: a folder that goes away, checkpoint parts, waiting for a
// condition.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/kv_store.h"
#include "gtest/gtest.h"
#include "proto/checkpoint_format/checkpoint_stream.h"
#include "sinkforge/v1/checkpoint_service.pb.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::worker {

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = testing::TempDir() + "/sinkforge-worker-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A program in the place of a trainer.
inline void WriteScript(const std::string& path, const std::string& script) {
  std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

inline std::unique_ptr<base::KvStore> OpenKv(const std::string& path) {
  auto store = base::KvStore::Open({.path = path, .migrate = nullptr});
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

// Whether the condition comes true within a minute, far longer than anything here takes.
inline bool Eventually(const std::function<bool()>& condition) {
  const base::RealClock clock;
  const auto end = clock.Read().monotonic + std::chrono::minutes(1);
  while (!condition()) {
    if (clock.Read().monotonic > end) return false;
    poll(nullptr, 0, 5);
  }
  return true;
}

inline v1::CheckpointPart MakePart(const std::string& job, int64_t attempt, int64_t step,
                                   int32_t rank) {
  v1::CheckpointPart part;
  part.set_job_id(job);
  part.set_attempt(attempt);
  part.set_step(step);
  part.set_rank(rank);
  part.set_world_size(1);
  return part;
}

// A part of two tensors, the first of several chunks; the bytes depend on the seed.
inline std::vector<v1::CheckpointData> MakeStream(int64_t elements, uint32_t seed) {
  std::vector<v1::CheckpointData> stream;
  checkpoint::PartWriter writer([&](const v1::CheckpointData& data) {
    stream.push_back(data);
    return true;
  });
  for (const char* name : {"transformer.wte.weight", "optimizer/m/transformer.wte.weight"}) {
    std::vector<uint32_t> values(static_cast<size_t>(elements));
    for (uint32_t& value : values) value = seed = seed * 1664525 + 1013904223;
    v1::TensorSlice slice;
    slice.set_name(name);
    slice.set_dtype("F32");
    slice.add_shape(elements);
    slice.set_length(elements);
    EXPECT_TRUE(writer.AddSlice(slice, values.data()));
  }
  EXPECT_TRUE(writer.Finish("{\"step\": 100}"));
  return stream;
}

}  // namespace sinkforge::worker
