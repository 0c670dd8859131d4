// Distances by one row of the usual table.
#include "proto/jobspec/nearest_name.h"

#include <algorithm>

namespace sinkforge::jobspec {

int EditDistance(const std::string& a, const std::string& b) {
  constexpr size_t kLengthMax = 64;
  if (a.size() > kLengthMax || b.size() > kLengthMax) return static_cast<int>(kLengthMax);
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::string NearestName(const std::vector<std::string>& names, const std::string& given) {
  std::string best;
  int best_distance = std::max(2, static_cast<int>(given.size()) / 3) + 1;
  for (const std::string& name : names) {
    const int distance = EditDistance(given, name);
    if (distance < best_distance) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

}  // namespace sinkforge::jobspec
