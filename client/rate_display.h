// RateDisplay: how far work of a known size is, as a bar that is redrawn in place; nothing where
// messages do not go to a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "client/session.h"

namespace sinkforge::client {

class RateDisplay {
 public:
  using ReadTime = std::function<std::chrono::nanoseconds()>;

  // `read_time`: a monotonic clock.
  RateDisplay(const Environment& environment, ReadTime read_time);
  ~RateDisplay();
  RateDisplay(const RateDisplay&) = delete;
  RateDisplay& operator=(const RateDisplay&) = delete;

  // "[====>   ] 42% text, 13 s left"; redrawn at most ten times a second.
  void Show(int64_t done, int64_t total, const std::string& text);
  // Removes the bar.
  void Finish();
  std::chrono::nanoseconds elapsed() const { return read_time_() - start_; }

 private:
  const Environment& environment_;
  ReadTime read_time_;
  std::chrono::nanoseconds start_;
  std::chrono::nanoseconds shown_{-1};
};

}  // namespace sinkforge::client
