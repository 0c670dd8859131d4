// Daemon: the worker put together. It owns every part and every thread that is not a part's own;
// main.cc makes one from the command line, tests make one in their own process.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/rpc.h"
#include "base/tls_watch.h"
#include "worker/agent/agent.h"
#include "worker/cluster_membership.h"
#include "worker/counters.h"
#include "worker/exporter/families.h"
#include "worker/process/process_ledger.h"
#include "worker/process/trainer_processes.h"
#include "worker/rpc/checkpoint_service.h"
#include "worker/rpc/forwarder.h"
#include "worker/rpc/part_copier.h"
#include "worker/rpc/synchronizer.h"
#include "worker/rpc/trainer_service.h"
#include "worker/store/checkpoint_store.h"
#include "worker/store/log_spool.h"
#include "worker/store/salvage.h"
#include "worker/store/step_spool.h"
#include "worker/store/worker_database.h"
#include "worker/wakeup.h"

namespace sinkforge::worker {

struct DaemonOptions {
  std::string name;
  std::string coordinator = "127.0.0.1:7070";
  std::string data_dir;
  int32_t slots = 1;
  int32_t gpus = 0;
  std::vector<std::string> data_roots;
  std::string listen = "127.0.0.1:0";
  std::string metrics_listen = "127.0.0.1:9471";
  base::Reach reach = base::Reach::kLoopback;
  base::TlsFiles tls;   // for all but the metrics
  std::string trainer;  // empty: beside this program
  std::vector<std::string> trainer_arguments;
  std::chrono::nanoseconds grace = std::chrono::seconds(60);
  Patience patience;
  ImportanceSeries importance = ImportanceSeries::kExtremes;
  int64_t disk_reserve_bytes = int64_t{512} << 20;
  int64_t log_spool_bytes = int64_t{256} << 20;
  std::string version;
};

class Daemon {
 public:
  // Listens, clears what a former life left, and offers its slots. `on_fatal` is called at most
  // once, on a thread of the daemon, when it can be of no use: another live worker has its name
  // (ALREADY_EXISTS). `clock` is not owned.
  // Where the database is damaged, what can be read of it is moved to a new one first.
  // INVALID_ARGUMENT, NOT_FOUND: the options; FAILED_PRECONDITION: the data folder is in use or of
  // a newer version; UNAVAILABLE: an address is in use, a GPU is not there, or the disk fails. Each
  // says what to change.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(
      DaemonOptions options, const base::Clock* clock,
      std::function<void(const absl::Status&)> on_fatal);
  // Kills every trainer that still runs.
  ~Daemon();

  // Takes no new work, lets every trainer checkpoint and stop, and hands over what the coordinator
  // does not have yet. Returns when that is done or the grace period is over; trainers that are
  // left are killed then.
  void Drain();
  // The grace period is over now. From any thread.
  void Hurry();

  std::string address() const { return address_; }
  std::string metrics_address() const { return metrics_address_; }
  std::string incarnation() const { return incarnation_; }
  // For tests.
  const Agent& agent() const { return *agent_; }
  SpoolSize step_spool() const { return steps_->size(); }

 private:
  Daemon(DaemonOptions options, const base::Clock* clock);
  absl::Status CheckOptions();
  absl::Status OpenStores();
  absl::Status FindGpus();
  absl::Status OpenTables();
  void SalvageStores(SalvageParts::KnownParts known_parts);
  absl::Status StartServers();
  absl::Status StartTrainerServer();
  std::shared_ptr<grpc::Channel> MakeCoordinatorChannel() const;
  void StartThreads(std::function<void(const absl::Status&)> on_fatal);
  AgentOptions MakeAgentOptions() const;
  Agent::Parts MakeAgentParts();
  void AddMetrics();
  WorkerReadings Read() const;
  std::vector<RankView> RanksWithCheckpoints() const;
  int64_t DiskFree() const;
  bool HandedOver() const;
  // Nothing runs any more: what others need of this worker goes to them, until the deadline.
  void HandOver(std::chrono::nanoseconds deadline);

  DaemonOptions options_;
  std::shared_ptr<const base::Tls> tls_;
  std::unique_ptr<ClusterMembership> membership_;
  const base::Clock* const clock_;
  const std::string incarnation_;
  std::string address_;
  std::string metrics_address_;
  std::string socket_address_;
  Counters counters_;
  Wakeup loop_wakeup_;
  Wakeup hurry_wakeup_;
  Wakeup housekeeping_wakeup_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> hurry_ = false;

  std::unique_ptr<WorkerDatabase> store_;
  std::unique_ptr<ProcessLedger> ledger_;
  std::unique_ptr<CheckpointStore> checkpoints_;
  std::unique_ptr<StepSpool> steps_;
  std::unique_ptr<LogSpool> logs_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<TrainerProcesses> processes_;
  std::unique_ptr<base::TlsWatch> tls_watch_;
  std::unique_ptr<base::Metrics> metrics_;
  base::Histogram* step_seconds_ = nullptr;        // of metrics_
  base::Histogram* checkpoint_seconds_ = nullptr;  // of metrics_
  std::unique_ptr<CheckpointService> checkpoint_service_;
  std::unique_ptr<TrainerService> trainer_service_;
  base::RunningServer public_server_;
  base::RunningServer trainer_server_;
  std::unique_ptr<Forwarder> step_forwarder_;
  std::unique_ptr<Forwarder> log_forwarder_;
  std::unique_ptr<Synchronizer> synchronizer_;
  std::unique_ptr<PartCopier> copier_;
  std::thread loop_;
  std::thread housekeeping_;
  std::chrono::nanoseconds next_salvage_{0};  // of the housekeeping, on the monotonic clock
};

}  // namespace sinkforge::worker
