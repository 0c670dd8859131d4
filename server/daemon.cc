// Wires stores, engine and services together; see daemon.h.
#include "server/daemon.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "base/http.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/rpc.h"
#include "base/tls_watch.h"
#include "server/engine/event_log.h"
#include "server/engine/fleet_metrics.h"
#include "server/rpc/context.h"
#include "server/rpc/job_service.h"
#include "server/rpc/log_service.h"
#include "server/rpc/metrics_service.h"
#include "server/rpc/rendezvous_service.h"
#include "server/rpc/web_gateway.h"
#include "server/rpc/worker_service.h"
#include "server/store/kv_history_store.h"
#include "server/store/kv_job_store.h"
#include "server/store/kv_log_store.h"

namespace sinkforge::server {
namespace {

constexpr int kReaderThreads = 2;        // queries are short; two keep one long one from blocking
constexpr int64_t kFollowersMax = 4096;  // WatchJob and ReadLogs streams
constexpr std::chrono::seconds kDrainTime{5};  // for calls under way at a shutdown

constexpr char kAliveService[] = "alive";  // of the health service; deploy/kubernetes asks for it

const std::vector<double> kStoreBounds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                          0.05,   0.1,   0.25,   0.5,   1,    5};
const std::vector<double> kSchedulingBounds = {0.00001, 0.0001, 0.001, 0.01, 0.1, 1};

EngineOptions EngineOptionsOf(const DaemonOptions& options) {
  EngineOptions engine;
  engine.coordinator.lease = options.lease;
  engine.coordinator.snapshot_interval =
      std::min<std::chrono::nanoseconds>(std::chrono::seconds(1), options.lease / 5);
  return engine;
}

absl::Status CheckOptions(const DaemonOptions& options) {
  if (options.data_dir.empty()) {
    return absl::InvalidArgumentError(
        "--data-dir: give the folder for the coordinator's databases");
  }
  if (options.lease < std::chrono::milliseconds(100) || options.lease > std::chrono::hours(1)) {
    return absl::InvalidArgumentError("--lease: give 0.1 to 3600 seconds");
  }
  if (options.retention.history_bytes < (1 << 20) || options.retention.log_bytes < (1 << 20)) {
    return absl::InvalidArgumentError("--history-bytes, --log-bytes: give at least 1 MiB each");
  }
  for (const auto& [flag, address] : {std::pair("--metrics-listen", options.metrics_listen),
                                      std::pair("--http", options.http_listen)}) {
    if (address.empty()) continue;
    const absl::Status checked = base::CheckListenAddress(address, flag, options.reach);
    if (!checked.ok()) return checked;
  }
  return absl::OkStatus();
}

struct Stores {
  std::unique_ptr<KvJobStore> jobs;
  std::unique_ptr<KvHistoryStore> history;
  std::unique_ptr<KvLogStore> logs;
};

absl::StatusOr<Stores> OpenStores(const std::string& data_dir) {
  const absl::Status folder = base::MakeFolder(data_dir);
  if (!folder.ok()) return folder;
  auto jobs = KvJobStore::Open(data_dir + "/jobs");
  if (!jobs.ok()) return jobs.status();
  auto history = KvHistoryStore::Open(data_dir + "/history");
  if (!history.ok()) return history.status();
  auto logs = KvLogStore::Open(data_dir + "/logs");
  if (!logs.ok()) return logs.status();
  return Stores{*std::move(jobs), *std::move(history), *std::move(logs)};
}

}  // namespace

// Members are destroyed in reverse order: what uses something stands below it.
class Daemon::Impl {
 public:
  Impl(const DaemonOptions& options, const base::Clock* clock, Stores stores)
      : options_(options),
        clock_(clock),
        stores_(std::move(stores)),
        times_(metrics_.get()),
        attempts_(metrics_.get()),
        timers_(clock),
        step_writer_("step records", QueueLimits(),
                     [this](const auto& group) { return stores_.history->Append(group); }),
        log_writer_("log lines", QueueLimits(),
                    [this](const auto& group) { return stores_.logs->Append(group); }),
        engine_(EngineOptionsOf(options), stores_.jobs.get(), clock, MakeEngineMetrics(),
                [this](const Coordinator& coordinator, const Effects& effects) {
                  OnCommit(coordinator, effects);
                }),
        retention_(options.retention, &engine_, stores_.jobs.get(), stores_.history.get(),
                   stores_.logs.get()),
        pool_(kReaderThreads, QueueLimits()) {}

  ~Impl() {
    Shutdown();
    // Before the engine, which a scrape asks; nothing counts any more.
    metrics_.reset();
  }

  absl::Status Start(const base::Tls* tls);  // null: plain text
  void Shutdown();

  int port() const { return running_.port; }
  int metrics_port() const { return metrics_port_; }
  int http_port() const { return http_ == nullptr ? 0 : http_->port(); }

 private:
  EngineMetrics MakeEngineMetrics();
  RpcContext MakeContext();
  absl::Status StartPage();
  void OnCommit(const Coordinator& coordinator, const Effects& effects);
  void KeepBudgets();

  const DaemonOptions options_;
  const base::Clock* const clock_;
  const Stores stores_;
  const base::TlsWatch tls_watch_{options_.tls};
  std::unique_ptr<base::Metrics> metrics_ = base::Metrics::Create();
  const RpcTimes times_;
  AttemptMetrics attempts_;
  ChangeHub hub_{kFollowersMax};
  Rendezvous rendezvous_{RendezvousLimits()};
  TimerThread timers_;
  GroupWriter<v1::ReportStepsRequest> step_writer_;
  GroupWriter<v1::AppendLogsRequest> log_writer_;
  Engine engine_;
  Retention retention_;
  WorkPool pool_;
  ClusterGuard cluster_{stores_.jobs->cluster_id()};
  RpcContext context_;
  JobServiceImpl job_service_{&context_};
  WorkerServiceImpl worker_service_{&context_};
  MetricsServiceImpl metrics_service_{&context_};
  LogServiceImpl log_service_{&context_};
  RendezvousServiceImpl rendezvous_service_{&context_};
  base::RunningServer running_;
  std::unique_ptr<WebGateway> gateway_;
  std::unique_ptr<base::HttpServer> http_;
  int metrics_port_ = 0;

  base::Mutex mutex_;
  base::CondVar retention_due_;
  bool is_stopping_ GUARDED_BY(mutex_) = false;
  bool has_deletions_ GUARDED_BY(mutex_) = false;
  std::thread retention_thread_;
};

EngineMetrics Daemon::Impl::MakeEngineMetrics() {
  EngineMetrics result;
  result.store_write = metrics_->AddHistogram(
      "sinkforge_store_write_seconds", "Duration of synced writes of job state.", {}, kStoreBounds);
  result.scheduling = metrics_->AddHistogram(
      "sinkforge_scheduling_seconds",
      "Time in the state machine and scheduler for one group of calls.", {}, kSchedulingBounds);
  return result;
}

RpcContext Daemon::Impl::MakeContext() {
  RpcContext context;
  context.engine = &engine_;
  context.cluster = &cluster_;
  context.jobs = stores_.jobs.get();
  context.history = stores_.history.get();
  context.logs = stores_.logs.get();
  context.step_writer = &step_writer_;
  context.log_writer = &log_writer_;
  context.pool = &pool_;
  context.hub = &hub_;
  context.rendezvous = &rendezvous_;
  context.timers = &timers_;
  context.clock = clock_;
  context.times = &times_;
  context.last_words_wait = options_.last_words_wait;
  context.step_records = metrics_->AddCounter("sinkforge_step_records_total",
                                              "Step records that workers have delivered.", {});
  return context;
}

absl::Status Daemon::Impl::Start(const base::Tls* tls) {
  context_ = MakeContext();
  const absl::Status loaded = engine_.Start();
  if (!loaded.ok()) return loaded;
  metrics_->AddCollector([this] { return CollectFleet(&engine_); });
  metrics_->AddCollector([this] {
    const auto free = base::DiskFreeBytes(options_.data_dir);
    base::GaugeFamily family{"sinkforge_coordinator_disk_free_bytes",
                             "Free bytes of the disk that holds the data folder.",
                             base::GaugeFamily::Type::kGauge,
                             {}};
    if (free.ok()) family.samples.push_back({{}, static_cast<double>(*free)});
    return std::vector<base::GaugeFamily>{family};
  });
  metrics_->AddCollector([this] { return tls_watch_.Collect(); });
  metrics_->AddCollector([version = options_.version] {
    return std::vector<base::GaugeFamily>{{"sinkforge_build_info",
                                           "Always 1; the label says what is running.",
                                           base::GaugeFamily::Type::kGauge,
                                           {{{{"version", version}}, 1}}}};
  });
  if (!options_.metrics_listen.empty()) {
    const auto metrics_port = metrics_->Serve(options_.metrics_listen);
    if (!metrics_port.ok()) return metrics_port.status();
    metrics_port_ = *metrics_port;
  }
  base::ServerOptions server;
  server.address = options_.listen;
  server.reach = options_.reach;
  server.tls = tls;
  server.services = {&job_service_, &worker_service_, &metrics_service_, &log_service_,
                     &rendezvous_service_};
  auto running = base::StartServer(server);
  if (!running.ok()) return running.status();
  running_ = *std::move(running);
  engine_.OnStoreFailure(
      [health = running_.server->GetHealthCheckService()](const absl::Status& failure) {
        health->SetServingStatus("", failure.ok());
        // For those who would restart what is not alive: that would mend no disk.
        health->SetServingStatus(kAliveService, true);
      });
  const absl::Status page = StartPage();
  if (!page.ok()) return page;
  retention_thread_ = std::thread([this] { KeepBudgets(); });
  return absl::OkStatus();
}

absl::Status Daemon::Impl::StartPage() {
  if (options_.http_listen.empty()) return absl::OkStatus();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(base::kMessageBytesMax);
  gateway_ = std::make_unique<WebGateway>(running_.server->InProcessChannel(arguments), clock_);
  auto http = base::HttpServer::Start(
      options_.http_listen, "--http",
      [this](const base::HttpRequest& request) { return gateway_->Answer(request); });
  if (!http.ok()) return http.status();
  http_ = *std::move(http);
  return absl::OkStatus();
}

void Daemon::Impl::OnCommit(const Coordinator& coordinator, const Effects& effects) {
  attempts_.Observe(coordinator, effects.events);
  LogEvents(coordinator, effects);
  for (const std::string& job_id : effects.changed_jobs) {
    const v1::Job* job = coordinator.Find(job_id);
    const int64_t attempt = job == nullptr ? 0 : job->attempt();
    rendezvous_.Drop(job_id, coordinator.IsCurrentAttempt(job_id, attempt) ? attempt : 0);
    hub_.Notify(job_id, Change::kJob);
  }
  for (const std::string& job_id : effects.deleted_jobs) {
    rendezvous_.Drop(job_id, 0);
    hub_.Notify(job_id, Change::kJob);
  }
  if (effects.deleted_jobs.empty()) return;
  base::MutexLock lock(&mutex_);
  has_deletions_ = true;
  retention_due_.NotifyAll();
}

void Daemon::Impl::KeepBudgets() {
  while (true) {
    {
      base::MutexLock lock(&mutex_);
      if (!is_stopping_ && !has_deletions_) {
        retention_due_.WaitFor(&lock, options_.retention_interval);
      }
      if (is_stopping_) return;
      has_deletions_ = false;
    }
    const absl::Status passed = retention_.Pass();
    if (!passed.ok()) {
      base::LogWarning("history and logs were not trimmed; the next pass tries again",
                       {{"error", std::string(passed.message())}});
    }
  }
}

void Daemon::Impl::Shutdown() {
  const absl::Status stopping =
      absl::UnavailableError("the coordinator is shutting down; try again in a moment");
  http_.reset();
  engine_.OnStoreFailure(nullptr);
  if (running_.server != nullptr) {
    running_.server->GetHealthCheckService()->SetServingStatus(false);
    hub_.Shutdown(stopping);
    rendezvous_.Shutdown(stopping);
    engine_.CloseLinks(stopping);
    running_.server->Shutdown(std::chrono::system_clock::now() + kDrainTime);
    running_.server->Wait();
    running_.server.reset();
  }
  {
    base::MutexLock lock(&mutex_);
    is_stopping_ = true;
    retention_due_.NotifyAll();
  }
  if (retention_thread_.joinable()) retention_thread_.join();
  engine_.Stop();
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const DaemonOptions& options,
                                                      const base::Clock* clock) {
  const absl::Status checked = CheckOptions(options);
  if (!checked.ok()) return checked;
  const auto tls = base::Tls::Load(options.tls);
  if (!tls.ok()) return tls.status();
  auto stores = OpenStores(options.data_dir);
  if (!stores.ok()) return stores.status();
  auto impl = std::make_unique<Impl>(options, clock, *std::move(stores));
  const absl::Status started = impl->Start(tls->get());
  if (!started.ok()) return started;
  return std::unique_ptr<Daemon>(new Daemon(std::move(impl)));
}

Daemon::Daemon(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Daemon::~Daemon() = default;
int Daemon::port() const { return impl_->port(); }
int Daemon::metrics_port() const { return impl_->metrics_port(); }
int Daemon::http_port() const { return impl_->http_port(); }
void Daemon::Shutdown() { impl_->Shutdown(); }

}  // namespace sinkforge::server
