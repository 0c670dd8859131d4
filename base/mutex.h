// Mutex, MutexLock and CondVar: std::mutex with thread-safety annotations (clang checks them).
// absl::Mutex is not used because the thread sanitizer does not understand Debian's build of it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define SINKFORGE_ANNOTATE(x) __attribute__((x))
#else
#define SINKFORGE_ANNOTATE(x)
#endif
#undef GUARDED_BY  // Abseil's headers bring a macro of the same name and meaning.
#define GUARDED_BY(x) SINKFORGE_ANNOTATE(guarded_by(x))
#define REQUIRES_LOCK(...) SINKFORGE_ANNOTATE(requires_capability(__VA_ARGS__))
#define EXCLUDES_LOCK(...) SINKFORGE_ANNOTATE(locks_excluded(__VA_ARGS__))

namespace sinkforge::base {

class SINKFORGE_ANNOTATE(capability("mutex")) Mutex {
 public:
  void Lock() SINKFORGE_ANNOTATE(acquire_capability()) { mutex_.lock(); }
  void Unlock() SINKFORGE_ANNOTATE(release_capability()) { mutex_.unlock(); }
  std::mutex& native() { return mutex_; }

 private:
  std::mutex mutex_;
};

class SINKFORGE_ANNOTATE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) SINKFORGE_ANNOTATE(acquire_capability(mutex))
      : lock_(mutex->native()) {}
  ~MutexLock() SINKFORGE_ANNOTATE(release_capability()) {}
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  std::unique_lock<std::mutex>& native() { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

// Waits release the lock that the caller holds.
class CondVar {
 public:
  void NotifyOne() { variable_.notify_one(); }
  void NotifyAll() { variable_.notify_all(); }
  void Wait(MutexLock* lock) { variable_.wait(lock->native()); }
  // False when the time was over first. Wakes up spuriously, like any condition variable.
  bool WaitFor(MutexLock* lock, std::chrono::nanoseconds timeout) {
    return variable_.wait_for(lock->native(), timeout) == std::cv_status::no_timeout;
  }

 private:
  std::condition_variable variable_;
};

}  // namespace sinkforge::base
