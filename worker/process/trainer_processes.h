// TrainerProcesses: runs trainers as child processes. Each trainer has two
// threads: one starts it, waits for its end and reaps it; one reads what it prints.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "sinkforge/v1/log_service.pb.h"
#include "worker/agent/launch.h"
#include "worker/process/log_capture.h"
#include "worker/process/process_ledger.h"

namespace sinkforge::worker {

struct TrainerProcessesOptions {
  std::string trainer;  // path of the program
  std::string socket;   // "unix:/path" of the daemon's TrainerService
  std::vector<std::string> extra_arguments;
  LogRate log_rate;
};

// Thread-safe.
class TrainerProcesses final {
 public:
  struct Sinks {
    std::function<void(const RankKey&, const std::vector<v1::LogLine>&)> on_lines;
    std::function<void(const RankKey&, const TrainerExit&)> on_exit;
  };
  // `ledger` and `clock` are not owned and outlive this.
  TrainerProcesses(TrainerProcessesOptions options, ProcessLedger* ledger, const base::Clock* clock,
                   Sinks sinks);
  // Kills and waits for whatever still runs.
  ~TrainerProcesses();

  // Returns at once. Exactly one on_exit follows for each launch, also where nothing could be
  // started, and only when the process and its whole process group are gone.
  void Launch(const LaunchRequest& request) EXCLUDES_LOCK(mutex_);
  // SIGKILL of the process group. Nothing happens where it has ended already.
  void Kill(const RankKey& key) EXCLUDES_LOCK(mutex_);

 private:
  class Process;
  void JoinEnded() EXCLUDES_LOCK(mutex_);
  std::vector<std::string> Arguments() const;

  const TrainerProcessesOptions options_;
  ProcessLedger* const ledger_;
  const base::Clock* const clock_;
  const Sinks sinks_;
  base::Mutex mutex_;
  std::map<RankKey, std::unique_ptr<Process>> processes_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::worker
