// StopSignal by signalfd: no handler runs, so that anything may be done in answer.
#include "client/stop_signal.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"

namespace sinkforge::client {
namespace {

sigset_t TerminationSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

StopSignal::StopSignal(Source source) {
  if (source == Source::kNone) return;
  const sigset_t set = TerminationSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
  SINKFORGE_REQUIRE(wake_fd_ >= 0);
  thread_ = std::thread([this] { WatchSignals(); });
}

StopSignal::~StopSignal() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  // An eventfd whose counter is 0 takes this at once.
  SINKFORGE_REQUIRE(write(wake_fd_, &one, sizeof(one)) == sizeof(one));
  thread_.join();
  close(wake_fd_);
  const sigset_t set = TerminationSignals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void StopSignal::WatchSignals() {
  const sigset_t set = TerminationSignals();
  const int signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
  SINKFORGE_REQUIRE(signal_fd >= 0);
  pollfd waits[] = {{wake_fd_, POLLIN, 0}, {signal_fd, POLLIN, 0}};
  while (true) {
    const int count = poll(waits, 2, -1);
    if (count < 0 && errno == EINTR) continue;
    SINKFORGE_REQUIRE(count > 0);
    if (waits[0].revents != 0) break;
    signalfd_siginfo info;
    SINKFORGE_REQUIRE(read(signal_fd, &info, sizeof(info)) == sizeof(info));
    // Whoever asks twice does not want to wait for an orderly end.
    if (stopped()) _exit(128 + static_cast<int>(info.ssi_signo));
    Stop();
  }
  close(signal_fd);
}

void StopSignal::Stop() {
  base::MutexLock lock(&mutex_);
  if (stopped_) return;
  stopped_ = true;
  for (const auto& hook : hooks_) hook();
  changed_.NotifyAll();
}

bool StopSignal::stopped() const {
  base::MutexLock lock(&mutex_);
  return stopped_;
}

bool StopSignal::WaitFor(std::chrono::nanoseconds duration) {
  base::MutexLock lock(&mutex_);
  const auto end = std::chrono::steady_clock::now() + duration;
  while (!stopped_) {
    const auto left = end - std::chrono::steady_clock::now();
    if (left <= std::chrono::nanoseconds(0)) break;
    changed_.WaitFor(&lock, left);
  }
  return stopped_;
}

StopSignal::Hook::Hook(StopSignal* signal, std::function<void()> on_stop) : signal_(signal) {
  base::MutexLock lock(&signal->mutex_);
  if (signal->stopped_) on_stop();
  place_ = signal->hooks_.insert(signal->hooks_.end(), std::move(on_stop));
}

StopSignal::Hook::~Hook() {
  base::MutexLock lock(&signal_->mutex_);
  signal_->hooks_.erase(place_);
}

}  // namespace sinkforge::client
