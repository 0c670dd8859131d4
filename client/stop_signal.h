// StopSignal: Ctrl-C and SIGTERM as something that a waiting command can be woken by. Made by a
// command that waits, before the channel is connected (Session::coordinator), because threads take
// over the signal mask of the thread that makes them. Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <thread>

#include "base/mutex.h"

namespace sinkforge::client {

class StopSignal {
 public:
  enum class Source {
    kSignals,  // SIGINT and SIGTERM; a second one ends the program at once
    kNone,     // only Stop(): tests
  };
  explicit StopSignal(Source source);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  void Stop();
  bool stopped() const;
  // Waits for `duration`; true when stopped meanwhile.
  bool WaitFor(std::chrono::nanoseconds duration);

  // Calls `on_stop` once, at Stop() or at once if stopped already, as long as the Hook lives.
  class Hook {
   public:
    Hook(StopSignal* signal, std::function<void()> on_stop);
    ~Hook();
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;

   private:
    StopSignal* signal_;
    std::list<std::function<void()>>::iterator place_;
  };

 private:
  void WatchSignals();

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopped_ GUARDED_BY(mutex_) = false;
  std::list<std::function<void()>> hooks_ GUARDED_BY(mutex_);
  int wake_fd_ = -1;  // ends the thread
  std::thread thread_;
};

}  // namespace sinkforge::client
