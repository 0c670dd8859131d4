// Counts what was said; see log_limit.h.
#include "base/log_limit.h"

#include <iterator>

namespace sinkforge::base {
namespace {

constexpr std::chrono::minutes kOnceIn(1);
constexpr size_t kTextsMax = 100;

}  // namespace

std::optional<int64_t> LogLimit::Admit(const std::string& text, std::chrono::nanoseconds now) {
  const auto found = said_.find(text);
  if (found != said_.end() && now - found->second.last < kOnceIn) {
    ++found->second.left_out;
    return std::nullopt;
  }
  if (found == said_.end() && said_.size() >= kTextsMax) {
    for (auto it = said_.begin(); it != said_.end();) {
      it = now - it->second.last < kOnceIn ? std::next(it) : said_.erase(it);
    }
    if (said_.size() >= kTextsMax) return std::nullopt;
  }
  const int64_t left_out = found == said_.end() ? 0 : found->second.left_out;
  said_[text] = {now, 0};
  return left_out;
}

}  // namespace sinkforge::base
