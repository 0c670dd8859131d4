// The worker put together; see daemon.h.
#include "worker/daemon.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/files.h"
#include "base/ids.h"
#include "base/log.h"
#include "worker/environment.h"
#include "worker/gpu_check.h"

namespace sinkforge::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr int kSchemaVersion = 1;
constexpr nanoseconds kTick = milliseconds(200);  // hang detection needs no more
constexpr nanoseconds kHousekeeping = seconds(2);
constexpr nanoseconds kSalvageRetry = seconds(10);
constexpr nanoseconds kDrainPoll = milliseconds(20);
constexpr milliseconds kLeftoverTimeout{
    30'000};  // a process in an uninterruptible read may take long
constexpr nanoseconds kKillTimeout = seconds(10);  // the same, at the end
// For the last records and ends, once nothing runs any more.
constexpr nanoseconds kHandOverTimeout = seconds(5);
constexpr nanoseconds kGoodbyeTimeout = seconds(2);
constexpr nanoseconds kGoodbyeTimeoutInAHurry = milliseconds(200);
// The coordinator is away: it may be back soon, and there is something to tell it or not.
constexpr nanoseconds kAwayTimeout = seconds(20);
constexpr nanoseconds kAwayTimeoutWithoutNews = seconds(1);

}  // namespace

Daemon::Daemon(DaemonOptions options, const base::Clock* clock)
    : options_(std::move(options)), clock_(clock), incarnation_(base::RandomId()) {}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(
    DaemonOptions options, const base::Clock* clock,
    std::function<void(const absl::Status&)> on_fatal) {
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(options), clock));
  for (const auto step : {&Daemon::CheckOptions, &Daemon::OpenStores, &Daemon::FindGpus,
                          &Daemon::StartServers, &Daemon::StartTrainerServer}) {
    if (absl::Status status = (daemon.get()->*step)(); !status.ok()) return status;
  }
  daemon->StartThreads(std::move(on_fatal));
  return daemon;
}

absl::Status Daemon::CheckOptions() {
  if (absl::Status name = CheckWorkerName(options_.name); !name.ok()) return name;
  if (options_.slots < 1 || options_.slots > 1024) {
    return absl::InvalidArgumentError("--slots " + std::to_string(options_.slots) +
                                      ": must be 1 to 1024");
  }
  if (options_.gpus < 0 || options_.gpus > 1024) {
    return absl::InvalidArgumentError("--gpus " + std::to_string(options_.gpus) +
                                      ": must be 0 to 1024");
  }
  auto tls = base::Tls::Load(options_.tls);
  if (!tls.ok()) return tls.status();
  tls_ = *std::move(tls);
  const base::Reach reach = tls_ == nullptr ? options_.reach : base::Reach::kAnywhere;
  absl::Status listen = base::CheckListenAddress(options_.listen, "--listen", reach);
  if (listen.ok()) {
    listen = base::CheckListenAddress(options_.metrics_listen, "--metrics-listen", options_.reach);
  }
  if (!listen.ok()) return listen;
  auto roots = ResolveDataRoots(options_.data_roots);
  if (!roots.ok()) return roots.status();
  options_.data_roots = *std::move(roots);
  auto trainer = ResolveTrainer(options_.trainer);
  if (!trainer.ok()) return trainer.status();
  options_.trainer = *std::move(trainer);
  return absl::OkStatus();
}

absl::Status Daemon::OpenStores() {
  if (absl::Status made = base::MakeFolder(options_.data_dir); !made.ok()) return made;
  auto membership = ClusterMembership::Open(options_.data_dir);
  if (!membership.ok()) return membership.status();
  membership_ = *std::move(membership);
  base::KvOptions kv;
  kv.path = options_.data_dir + "/store";
  kv.schema_version = kSchemaVersion;
  auto store = WorkerDatabase::Open(kv, [this] { housekeeping_wakeup_.Notify(); });
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  // Damage that only reading finds has set the database aside: the next try finds an empty one.
  absl::Status opened = OpenTables();
  for (int tries = 0; tries < 2 && absl::IsDataLoss(opened); ++tries) opened = OpenTables();
  if (!opened.ok()) return opened;
  if (store_->is_wrecked()) SalvageStores(SalvageParts::KnownParts::kInDamagedFiles);
  // The database's lock is ours: whatever the ledger holds was started by a daemon that is dead.
  ledger_ = std::make_unique<ProcessLedger>(store_.get());
  return ledger_->KillLeftovers(kLeftoverTimeout).status();
}

// Once no trainer of a former life holds one any more.
absl::Status Daemon::FindGpus() {
  if (options_.gpus == 0) return absl::OkStatus();
  return CheckGpus({options_.trainer, options_.gpus}, *clock_);
}

absl::Status Daemon::OpenTables() {
  CheckpointStoreOptions checkpoints;
  checkpoints.worker = options_.name;
  checkpoints.path = options_.data_dir;
  checkpoints.reserve_bytes = options_.disk_reserve_bytes;
  checkpoints.disk_free_bytes = [this] { return base::DiskFreeBytes(options_.data_dir); };
  checkpoints.rows_may_be_missing = [this] { return store_->is_wrecked(); };
  auto opened = CheckpointStore::Open(store_.get(), std::move(checkpoints));
  if (!opened.ok()) return opened.status();
  checkpoints_ = *std::move(opened);
  auto steps = StepSpool::Open(store_.get(), [this] { step_forwarder_->Tell(); });
  if (!steps.ok()) return steps.status();
  steps_ = *std::move(steps);
  LogSpoolOptions logs;
  logs.bytes_max = options_.log_spool_bytes;
  logs.on_news = [this] { log_forwarder_->Tell(); };
  logs.on_dropped = [this](int64_t lines) { counters_.AddDroppedLines(lines); };
  auto log_spool = LogSpool::Open(store_.get(), std::move(logs));
  if (!log_spool.ok()) return log_spool.status();
  logs_ = *std::move(log_spool);
  return absl::OkStatus();
}

void Daemon::SalvageStores(SalvageParts::KnownParts known_parts) {
  const auto lost =
      Salvage({store_.get(), checkpoints_.get(), steps_.get(), logs_.get(), known_parts});
  if (lost.ok()) return;
  next_salvage_ = clock_->Read().monotonic + kSalvageRetry;
  base::LogWarning("a damaged database could not be salvaged; tried again later",
                   {{"error", std::string(lost.status().message())}});
}

absl::Status Daemon::StartServers() {
  tls_watch_ = std::make_unique<base::TlsWatch>(options_.tls);
  metrics_ = base::Metrics::Create();
  step_seconds_ = metrics_->AddHistogram(
      "sinkforge_step_seconds", "Time of one optimizer step of the jobs whose rank 0 runs here.",
      {}, {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100});
  checkpoint_seconds_ = metrics_->AddHistogram("sinkforge_checkpoint_write_seconds",
                                               "Time to make one part of a checkpoint durable.", {},
                                               {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300});
  const auto metrics_port = metrics_->Serve(options_.metrics_listen);
  if (!metrics_port.ok()) return metrics_port.status();
  metrics_address_ = AdvertisedAddress(options_.metrics_listen, *metrics_port);

  checkpoint_service_ = std::make_unique<CheckpointService>(checkpoints_.get());
  base::ServerOptions server;
  server.address = options_.listen;
  server.reach = options_.reach;
  server.tls = tls_.get();
  server.services = {checkpoint_service_.get()};
  auto running = base::StartServer(server);
  if (!running.ok()) return running.status();
  public_server_ = *std::move(running);
  address_ = AdvertisedAddress(options_.listen, public_server_.port);
  if (tls_ == nullptr) return absl::OkStatus();
  // Else checkpoints would be counted on that nobody can read.
  return base::CheckTlsHost(options_.tls, address_.substr(0, address_.rfind(':')));
}

absl::Status Daemon::StartTrainerServer() {
  auto socket = MakeSocketAddress(options_.data_dir);
  if (!socket.ok()) return socket.status();
  socket_address_ = *std::move(socket);
  agent_ = std::make_unique<Agent>(MakeAgentOptions(), MakeAgentParts());
  TrainerService::Parts parts;
  parts.agent = agent_.get();
  parts.checkpoints = checkpoints_.get();
  parts.spool = steps_.get();
  parts.clock = clock_;
  parts.coordinator = MakeCoordinatorChannel();
  parts.tls = tls_.get();
  parts.on_step = [this](const v1::StepRecord& step) {
    step_seconds_->Observe(step.step_seconds());
  };
  parts.on_checkpoint_written = [this](double time) { checkpoint_seconds_->Observe(time); };
  trainer_service_ = std::make_unique<TrainerService>(std::move(parts));
  base::ServerOptions server;
  server.address = socket_address_;
  server.services = {trainer_service_.get()};
  auto running = base::StartServer(server);
  if (!running.ok()) return running.status();
  trainer_server_ = *std::move(running);

  TrainerProcessesOptions processes;
  processes.trainer = options_.trainer;
  processes.socket = socket_address_;
  // Ranks on other machines reach this one where its checkpoints are read.
  processes.extra_arguments = {"--collective-host", address_.substr(0, address_.rfind(':')),
                               "--slots", std::to_string(options_.slots)};
  processes.extra_arguments.insert(processes.extra_arguments.end(),
                                   options_.trainer_arguments.begin(),
                                   options_.trainer_arguments.end());
  TrainerProcesses::Sinks sinks;
  sinks.on_lines = [this](const RankKey& key, const std::vector<v1::LogLine>& lines) {
    logs_->Append(key, lines);
  };
  sinks.on_exit = [this](const RankKey& key, const TrainerExit& exit) {
    agent_->OnExit(key, exit);
  };
  processes_ = std::make_unique<TrainerProcesses>(std::move(processes), ledger_.get(), clock_,
                                                  std::move(sinks));
  return absl::OkStatus();
}

AgentOptions Daemon::MakeAgentOptions() const {
  AgentOptions options;
  options.worker = options_.name;
  options.incarnation = incarnation_;
  options.address = address_;
  options.metrics_address = metrics_address_;
  options.version = options_.version;
  options.processor = ProcessorName();
  options.data_roots = options_.data_roots;
  options.cpu_slots = options_.slots;
  options.gpu_slots = options_.gpus;
  options.patience = options_.patience;
  return options;
}

Agent::Parts Daemon::MakeAgentParts() {
  Agent::Parts parts;
  parts.launch = [this](const LaunchRequest& request) {
    counters_.AddStart();
    processes_->Launch(request);
  };
  parts.kill = [this](const RankKey& key) { processes_->Kill(key); };
  parts.checkpoints = checkpoints_.get();
  parts.loop = &loop_wakeup_;
  parts.on_news = [this](Agent::Parts::Urgency urgency) { synchronizer_->Tell(urgency); };
  parts.on_copies = [this](std::vector<v1::CopyPart> wanted) {
    copier_->SetWanted(std::move(wanted));
  };
  parts.on_end = [this](const v1::RankStatus& status) { counters_.AddExit(ExitReason(status)); };
  return parts;
}

std::shared_ptr<grpc::Channel> Daemon::MakeCoordinatorChannel() const {
  return base::MakeChannel(options_.coordinator, tls_.get());
}

void Daemon::StartThreads(std::function<void(const absl::Status&)> on_fatal) {
  const Sender sender{options_.name, membership_.get()};
  // Connections of their own, so that a flood of log lines does not delay the snapshots.
  step_forwarder_ = std::make_unique<Forwarder>(
      StepQueue(steps_.get(), MakeCoordinatorChannel(), sender), clock_);
  log_forwarder_ =
      std::make_unique<Forwarder>(LogQueue(logs_.get(), MakeCoordinatorChannel(), sender), clock_);
  copier_ = std::make_unique<PartCopier>(PartCopier::Parts{
      checkpoints_.get(), clock_, [this] { agent_->OnStoreChange(); }, tls_.get()});
  SynchronizerOptions options;
  options.coordinator = options_.coordinator;
  options.is_encrypted = tls_ != nullptr;
  Synchronizer::Callbacks callbacks;
  callbacks.snapshot = [this] {
    // More than that is refused, so that nobody should plan with it.
    v1::WorkerSnapshot snapshot =
        agent_->Snapshot(std::max<int64_t>(0, DiskFree() - options_.disk_reserve_bytes));
    snapshot.set_cluster_id(membership_->id());
    return snapshot;
  };
  callbacks.trainers = [this] { return agent_->running(); };
  callbacks.on_stream_opened = [this] { agent_->OnStreamOpened(); };
  callbacks.on_desired = [this](const v1::DesiredState& desired) {
    if (membership_->Accept(desired.cluster_id())) agent_->SetDesired(desired);
  };
  callbacks.on_name_taken = [on_fatal = std::move(on_fatal)](const std::string& message) {
    on_fatal(absl::AlreadyExistsError(message));
  };
  synchronizer_ = std::make_unique<Synchronizer>(MakeCoordinatorChannel(), clock_,
                                                 std::move(options), std::move(callbacks));
  loop_ = std::thread([this] {
    while (!stopping_) {
      loop_wakeup_.Wait(kTick);
      agent_->Tick(clock_->Read());
    }
  });
  housekeeping_ = std::thread([this] {
    while (!stopping_) {
      housekeeping_wakeup_.Wait(kHousekeeping);
      if (stopping_) return;
      if (!store_->is_wrecked() || clock_->Read().monotonic < next_salvage_) continue;
      SalvageStores(SalvageParts::KnownParts::kInMemory);
      agent_->OnStoreChange();
      step_forwarder_->Tell();
      log_forwarder_->Tell();
    }
  });
  AddMetrics();  // last: it reads all of the above on the scraper's thread
}

Daemon::~Daemon() {
  stopping_ = true;
  loop_wakeup_.Notify();
  housekeeping_wakeup_.Notify();
  if (loop_.joinable()) loop_.join();
  if (housekeeping_.joinable()) housekeeping_.join();
  // Those that call are stopped before those that are called.
  const auto now = clock_->Read().wall;
  if (trainer_server_.server) trainer_server_.server->Shutdown(now);
  processes_.reset();
  if (public_server_.server) public_server_.server->Shutdown(now);
  metrics_.reset();
  synchronizer_.reset();
  copier_.reset();
  step_forwarder_.reset();
  log_forwarder_.reset();
}

void Daemon::Drain() {
  base::LogInfo("draining: trainers checkpoint and stop",
                {{"trainers", int64_t{agent_->running()}}});
  const nanoseconds deadline = clock_->Read().monotonic + options_.grace;
  agent_->Drain();
  while (agent_->running() > 0 && !hurry_ && clock_->Read().monotonic < deadline) {
    hurry_wakeup_.Wait(kDrainPoll);
  }
  if (agent_->running() > 0) {
    base::LogWarning("trainers are killed before they had stopped",
                     {{"trainers", int64_t{agent_->running()}}});
    agent_->KillAll();
    const nanoseconds killed = clock_->Read().monotonic + kKillTimeout;
    while (agent_->running() > 0 && clock_->Read().monotonic < killed) {
      hurry_wakeup_.Wait(kDrainPoll);
    }
  }
  HandOver(deadline);
  synchronizer_->SayGoodbye(hurry_ ? kGoodbyeTimeoutInAHurry : kGoodbyeTimeout);
  base::LogInfo("has left");
}

void Daemon::HandOver(nanoseconds deadline) {
  const nanoseconds begin = clock_->Read().monotonic;
  nanoseconds heard = begin;
  bool told = false;
  while (!hurry_) {
    const nanoseconds now = clock_->Read().monotonic;
    if (synchronizer_->connected()) heard = now;
    const v1::Leave leave = agent_->leave();
    if (leave == v1::LEAVE_NOW && HandedOver()) break;
    const bool is_news_due = leave == v1::LEAVE_LATER || !HandedOver();
    const nanoseconds away_until = heard + (is_news_due ? kAwayTimeout : kAwayTimeoutWithoutNews);
    if (now >= deadline || now >= away_until) break;
    if (leave != v1::LEAVE_LATER && now == heard && now >= begin + kHandOverTimeout) break;
    if (leave == v1::LEAVE_LATER && !std::exchange(told, true)) {
      base::LogInfo("stays until others have what only this worker has, at most for its grace",
                    {{"grace_left_seconds", std::chrono::duration<double>(deadline - now).count()},
                     {"checkpoints", agent_->only_copies()}});
    }
    hurry_wakeup_.Wait(kDrainPoll);
  }
  if (!HandedOver()) {
    base::LogWarning(
        "leaves before the coordinator has heard everything: it will when this "
        "worker is back",
        {{"ends", int64_t{agent_->unacknowledged()}},
         {"step_records", steps_->size().records},
         {"log_lines", logs_->size().records}});
  }
  if (agent_->only_copies() > 0) {
    const bool is_early = agent_->leave() == v1::LEAVE_LATER;
    base::Log(is_early ? base::Severity::kWarning : base::Severity::kInfo,
              "leaves with checkpoints that no worker has which stays: their jobs wait until it is "
              "back",
              {{"checkpoints", agent_->only_copies()}});
  }
}

void Daemon::Hurry() {
  hurry_ = true;
  hurry_wakeup_.Notify();
}

bool Daemon::HandedOver() const {
  return agent_->unacknowledged() == 0 && steps_->size().records == 0 && logs_->size().records == 0;
}

int64_t Daemon::DiskFree() const { return base::DiskFreeBytes(options_.data_dir).value_or(0); }

WorkerReadings Daemon::Read() const {
  WorkerReadings readings;
  readings.version = options_.version;
  readings.slots = options_.slots + options_.gpus;
  readings.slots_busy = std::min<int64_t>(agent_->running(), readings.slots);
  readings.steps = steps_->size();
  readings.logs = logs_->size();
  readings.checkpoint_bytes = checkpoints_->bytes();
  readings.disk_free_bytes = DiskFree();
  readings.coordinator_connected = synchronizer_ && synchronizer_->connected() ? 1 : 0;
  readings.databases_set_aside = store_->set_aside_count();
  readings.trainers_started = counters_.starts();
  readings.log_lines_dropped = counters_.dropped_lines();
  readings.trainer_exits = counters_.exits();
  return readings;
}

std::vector<RankView> Daemon::RanksWithCheckpoints() const {
  std::map<std::string, int64_t> newest;
  for (const v1::CheckpointPart& part : checkpoints_->Parts()) {
    int64_t& step = newest[part.job_id()];
    if (part.rank() == 0) step = std::max(step, part.step());
  }
  std::vector<RankView> ranks = agent_->Ranks();
  for (RankView& rank : ranks) {
    const auto found = newest.find(rank.key.job_id);
    const int64_t written = found == newest.end() ? 0 : found->second;
    rank.checkpoint_step = std::max(rank.desired.restore().step(), written);
  }
  return ranks;
}

void Daemon::AddMetrics() {
  metrics_->AddCollector([this] { return tls_watch_->Collect(); });
  metrics_->AddCollector([this] {
    std::vector<base::GaugeFamily> families = WorkerFamilies(Read());
    for (base::GaugeFamily& family : JobFamilies(RanksWithCheckpoints(), options_.importance)) {
      families.push_back(std::move(family));
    }
    return families;
  });
}

}  // namespace sinkforge::worker
