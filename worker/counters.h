// Counters: what the worker has counted since its start, for /metrics.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/mutex.h"

namespace sinkforge::worker {

// Thread-safe.
class Counters {
 public:
  void AddStart() EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    ++starts_;
  }
  void AddExit(const std::string& reason) EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    ++exits_[reason];
  }
  void AddDroppedLines(int64_t lines) EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    dropped_lines_ += lines;
  }
  int64_t starts() const EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    return starts_;
  }
  int64_t dropped_lines() const EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    return dropped_lines_;
  }
  std::map<std::string, int64_t> exits() const EXCLUDES_LOCK(mutex_) {
    base::MutexLock lock(&mutex_);
    return exits_;
  }

 private:
  mutable base::Mutex mutex_;
  int64_t starts_ GUARDED_BY(mutex_) = 0;
  int64_t dropped_lines_ GUARDED_BY(mutex_) = 0;
  // Those that always are of interest are there from the start, so that their rate can be taken.
  std::map<std::string, int64_t> exits_ GUARDED_BY(mutex_) = {
      {"completed", 0},       {"stopped", 0},     {"killed", 0},
      {"trainer_crashed", 0}, {"no_progress", 0}, {"bad_data", 0}};
};

}  // namespace sinkforge::worker
