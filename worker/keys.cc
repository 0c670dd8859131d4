// Keys as text; see keys.h.
#include "worker/keys.h"

#include <algorithm>

namespace sinkforge::worker {

std::string ToString(const RankKey& key) {
  return key.job_id + "/" + std::to_string(key.attempt) + "/" + std::to_string(key.rank);
}

std::string ToString(const PartKey& key) {
  return "job " + key.job_id + ", attempt " + std::to_string(key.attempt) + ", step " +
         std::to_string(key.step) + ", rank " + std::to_string(key.rank);
}

bool IsJobId(const std::string& text) {
  if (text.empty() || text.size() > 64) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

}  // namespace sinkforge::worker
