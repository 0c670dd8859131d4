// Signals of a daemon; see signals.h.
#include "base/signals.h"

#include <pthread.h>

#include <csignal>

#include "base/check.h"

namespace sinkforge::base {
namespace {
sigset_t TerminationSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}
}  // namespace

void BlockTerminationSignals() {
  std::signal(SIGPIPE, SIG_IGN);
  const sigset_t set = TerminationSignals();
  SINKFORGE_REQUIRE(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
}

int WaitForTermination() {
  const sigset_t set = TerminationSignals();
  int signal = 0;
  while (sigwait(&set, &signal) != 0) {
  }
  return signal;
}

}  // namespace sinkforge::base
