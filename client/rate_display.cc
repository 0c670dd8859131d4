// One line on stderr, ended by clearing it.
#include "client/rate_display.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/format.h"
#include "client/progress.h"

namespace sinkforge::client {
namespace {

constexpr std::chrono::milliseconds kInterval(100);
constexpr int kBarWidth = 24;

}  // namespace

RateDisplay::RateDisplay(const Environment& environment, ReadTime read_time)
    : environment_(environment), read_time_(std::move(read_time)), start_(read_time_()) {}

RateDisplay::~RateDisplay() { Finish(); }

void RateDisplay::Show(int64_t done, int64_t total, const std::string& text) {
  if (!environment_.err_is_terminal) return;
  const std::chrono::nanoseconds now = read_time_();
  if (shown_.count() >= 0 && now - shown_ < kInterval) return;
  shown_ = now;
  const double share =
      total > 0 ? static_cast<double>(std::min(done, total)) / static_cast<double>(total) : 0;
  std::string line = absl::StrCat(ProgressBar(done, total, kBarWidth), " ",
                                  static_cast<int>(share * 100), "% ", text);
  if (share > 0) {
    const double left = static_cast<double>((now - start_).count()) * (1 - share) / share;
    absl::StrAppend(&line, ", ",
                    FormatDuration(std::chrono::nanoseconds(static_cast<int64_t>(left))), " left");
  }
  *environment_.err << "\r" << Shorten(line, environment_.screen_size().width - 1) << "\033[K"
                    << std::flush;
}

void RateDisplay::Finish() {
  if (shown_.count() >= 0) *environment_.err << "\r\033[K" << std::flush;
  shown_ = std::chrono::nanoseconds(-1);
}

}  // namespace sinkforge::client
