// What every service of the coordinator needs, and what every unary call does at its end.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "server/engine/change_hub.h"
#include "server/engine/engine.h"
#include "server/engine/group_writer.h"
#include "server/engine/history_store.h"
#include "server/engine/job_store.h"
#include "server/engine/log_store.h"
#include "server/engine/rendezvous.h"
#include "server/engine/timer_thread.h"
#include "server/engine/work_pool.h"
#include "server/rpc/cluster_guard.h"
#include "sinkforge/v1/log_service.pb.h"
#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::server {

// Trailing metadata of an answer of a coordinator whose store cannot be written: why. What the
// answer shows is then what was stored last.
inline constexpr char kStoreFailureKey[] = "sinkforge-store-failure-bin";

// Durations of unary calls, by method: sinkforge_rpc_seconds.
class RpcTimes {
 public:
  explicit RpcTimes(base::Metrics* metrics);
  void Observe(const std::string& method, std::chrono::nanoseconds duration) const;

 private:
  std::map<std::string, base::Histogram*> by_method_;
};

// Everything outlives the services.
struct RpcContext {
  Engine* engine = nullptr;
  ClusterGuard* cluster = nullptr;
  JobStore* jobs = nullptr;
  HistoryStore* history = nullptr;
  LogStore* logs = nullptr;
  GroupWriter<v1::ReportStepsRequest>* step_writer = nullptr;
  GroupWriter<v1::AppendLogsRequest>* log_writer = nullptr;
  WorkPool* pool = nullptr;
  ChangeHub* hub = nullptr;
  Rendezvous* rendezvous = nullptr;
  TimerThread* timers = nullptr;
  const base::Clock* clock = nullptr;
  const RpcTimes* times = nullptr;
  base::Counter* step_records = nullptr;
  // How long streams wait for what travels apart from a job's final state: its last step records,
  // its last log lines.
  std::chrono::nanoseconds last_words_wait = std::chrono::seconds(1);
};

// One unary call; copies stand for the same call. Request and response live until Finish.
class UnaryCall {
 public:
  UnaryCall(grpc::CallbackServerContext* context, const RpcContext* rpc, const char* method);

  grpc::ServerUnaryReactor* reactor() const { return reactor_; }
  bool is_cancelled() const { return context_->IsCancelled(); }
  // Exactly once. An error without a reason gets the one of its code.
  void Finish(const absl::Status& status) const;
  // For Engine and GroupWriter.
  std::function<void(const absl::Status&)> finisher() const {
    return [call = *this](const absl::Status& status) { call.Finish(status); };
  }

 private:
  grpc::CallbackServerContext* context_;
  const RpcContext* rpc_;
  const char* method_;
  std::chrono::nanoseconds begin_;
  grpc::ServerUnaryReactor* reactor_;
};

}  // namespace sinkforge::server
