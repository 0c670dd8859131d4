// Names of the things a worker holds: ranks, checkpoints and the parts of checkpoints. They order
// by job, attempt, then the rest, which is also the order on disk.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace sinkforge::worker {

// One rank of one attempt of a job; "<job id>/<attempt>/<rank>" on the wire.
struct RankKey {
  std::string job_id;
  int64_t attempt = 0;
  int32_t rank = 0;
  auto operator<=>(const RankKey&) const = default;
};

struct CheckpointKey {
  std::string job_id;
  int64_t attempt = 0;
  int64_t step = 0;
  auto operator<=>(const CheckpointKey&) const = default;
};

// What one rank wrote of a checkpoint.
struct PartKey {
  std::string job_id;
  int64_t attempt = 0;
  int64_t step = 0;
  int32_t rank = 0;
  auto operator<=>(const PartKey&) const = default;
  CheckpointKey checkpoint() const { return {job_id, attempt, step}; }
};

std::string ToString(const RankKey& key);
// "job d4-1, attempt 2, step 100, rank 0": for messages.
std::string ToString(const PartKey& key);

// Whether the text can be a job's id: [a-z0-9-], 1 to 64 characters. Everything that becomes part
// of a key on disk is checked with this first, because it may come from another machine.
bool IsJobId(const std::string& text);
// The same for numbers of attempts, steps and ranks.
inline bool IsKeyNumber(int64_t number) { return number >= 0; }

}  // namespace sinkforge::worker
