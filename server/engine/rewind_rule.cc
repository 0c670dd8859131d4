// Which step records count; see rewind_rule.h.
#include "server/engine/rewind_rule.h"

#include <algorithm>
#include <limits>

namespace sinkforge::server {

RewindRule::RewindRule(const std::vector<v1::AttemptStart>& starts) {
  for (const v1::AttemptStart& start : starts) {
    lowest_from_[start.attempt()] = start.restored_step();
  }
  int64_t lowest = std::numeric_limits<int64_t>::max();
  for (auto it = lowest_from_.rbegin(); it != lowest_from_.rend(); ++it) {
    lowest = std::min(lowest, it->second);
    it->second = lowest;
  }
}

bool RewindRule::Counts(int64_t attempt, int64_t step) const {
  const auto later = lowest_from_.upper_bound(attempt);
  return later == lowest_from_.end() || step <= later->second;
}

}  // namespace sinkforge::server
