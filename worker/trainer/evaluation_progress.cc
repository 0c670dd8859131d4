// Nothing is shown of what is soon done.
#include "worker/trainer/evaluation_progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/clock.h"

namespace sinkforge::trainer {
namespace {

// A log shall not fill with lines; a person wants to see that it goes on.
constexpr std::chrono::seconds kLineInterval(10);
constexpr std::chrono::milliseconds kRedrawInterval(200);

std::chrono::nanoseconds ReadTime() { return base::RealClock().Read().monotonic; }

}  // namespace

EvaluationProgress::EvaluationProgress(std::string name)
    : name_(std::move(name)), terminal_(isatty(STDERR_FILENO) == 1) {
  start_ = shown_ = ReadTime();
  // It goes to a terminal.
  std::replace_if(
      name_.begin(), name_.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, '?');
}

EvaluationProgress::~EvaluationProgress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void EvaluationProgress::Show(int64_t done, int64_t total) {
  const std::chrono::nanoseconds now = ReadTime();
  const std::chrono::nanoseconds interval =
      terminal_ ? std::chrono::nanoseconds(kRedrawInterval) : kLineInterval;
  if (now - shown_ < interval || done >= total) return;
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = static_cast<double>(done) / seconds;
  const double left = static_cast<double>(total - done) / rate;
  drawn_ = terminal_;
  std::fprintf(stderr, "%s%s: %d%%, %.0f tokens/s, %.0f s left%s", terminal_ ? "\r" : "",
               name_.c_str(),
               static_cast<int>(100 * static_cast<double>(done) / static_cast<double>(total)), rate,
               left, terminal_ ? "\033[K" : "\n");
  std::fflush(stderr);
}

}  // namespace sinkforge::trainer
