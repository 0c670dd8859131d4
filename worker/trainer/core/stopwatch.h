// Stopwatch: the one place of the core that reads a clock. Times are measured and reported; nothing
// in the core depends on them.
#pragma once

#include <chrono>

namespace sinkforge::trainer {

class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace sinkforge::trainer
