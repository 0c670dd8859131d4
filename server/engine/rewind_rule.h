// RewindRule: which step records count after attempts that went back to a checkpoint. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::server {

// A record of attempt a at step s counts if and only if s <= restored_step(a') for every later
// attempt a' that has begun.
class RewindRule {
 public:
  explicit RewindRule(const std::vector<v1::AttemptStart>& starts);

  bool Counts(int64_t attempt, int64_t step) const;

 private:
  // By attempt: the smallest restored step of this attempt and all later ones.
  std::map<int64_t, int64_t> lowest_from_;
};

}  // namespace sinkforge::server
