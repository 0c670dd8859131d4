// The worker protocol without work; see load_worker.h.
#include "load_worker.h"

#include <functional>
#include <set>
#include <utility>

#include "base/rpc.h"

namespace sinkforge::bench {
namespace {

constexpr std::chrono::seconds kReportInterval(1);
constexpr std::chrono::milliseconds kReopenAfter(200);

std::string KeyOf(const std::string& job_id, int64_t attempt, int32_t rank) {
  return job_id + "/" + std::to_string(attempt) + "/" + std::to_string(rank);
}

std::string CheckpointOf(const std::string& job_id, int64_t attempt, int64_t step) {
  return job_id + "/" + std::to_string(attempt) + "/" + std::to_string(step);
}

// Spread, so that ranks that start together do not end together.
std::chrono::microseconds TimeOf(const std::string& key, std::chrono::milliseconds average) {
  const double share = static_cast<double>(std::hash<std::string>()(key) % 1000) / 1000;
  return std::chrono::duration_cast<std::chrono::microseconds>(average * (0.5 + share));
}

}  // namespace

// One Synchronize call. At most one write at a time; the next snapshot is made when it can go.
class LoadWorker::Stream final
    : public grpc::ClientBidiReactor<v1::WorkerSnapshot, v1::DesiredState>,
      public std::enable_shared_from_this<Stream> {
 public:
  explicit Stream(LoadWorker* worker) : worker_(worker) {}

  void Open(v1::WorkerService::Stub* stub) {
    self_ = shared_from_this();
    stub->async()->Synchronize(&context_, this);
    // Writes are started from outside of the callbacks.
    AddHold();
    StartRead(&desired_);
    StartCall();
  }

  bool CanWrite() const {
    base::MutexLock lock(&mutex_);
    return !is_writing_ && !is_over_;
  }

  // No lock is held while gRPC is called, because gRPC may call back at once.
  void Write(v1::WorkerSnapshot snapshot) {
    {
      base::MutexLock lock(&mutex_);
      if (is_writing_ || is_over_) return;
      is_writing_ = is_starting_write_ = true;
      snapshot_ = std::move(snapshot);
    }
    StartWrite(&snapshot_);
    {
      base::MutexLock lock(&mutex_);
      is_starting_write_ = false;
    }
    ReleaseIfOver();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return End();
    worker_->Take(desired_, this);
    StartRead(&desired_);
  }
  void OnWriteDone(bool ok) override {
    {
      base::MutexLock lock(&mutex_);
      is_writing_ = false;
    }
    if (!ok) End();
  }
  void OnDone(const grpc::Status&) override {
    const auto self = std::move(self_);
    worker_->Lost(this);
  }

 private:
  void End() {
    {
      base::MutexLock lock(&mutex_);
      is_over_ = true;
    }
    ReleaseIfOver();
  }

  // Once, when the stream is over and nothing is being started.
  void ReleaseIfOver() {
    {
      base::MutexLock lock(&mutex_);
      if (!is_over_ || is_starting_write_ || is_released_) return;
      is_released_ = true;
    }
    RemoveHold();
  }

  LoadWorker* const worker_;
  grpc::ClientContext context_;
  v1::DesiredState desired_;
  std::shared_ptr<Stream> self_;
  mutable base::Mutex mutex_;
  v1::WorkerSnapshot snapshot_;  // the write under way owns it
  bool is_writing_ GUARDED_BY(mutex_) = false;
  bool is_starting_write_ GUARDED_BY(mutex_) = false;  // StartWrite has not returned
  bool is_over_ GUARDED_BY(mutex_) = false;
  bool is_released_ GUARDED_BY(mutex_) = false;
};

LoadWorker::LoadWorker(const LoadWorkerOptions& options, LoadCounts* counts)
    : options_(options), counts_(counts) {
  // A connection for every worker, as in a real fleet.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  channel_ =
      grpc::CreateCustomChannel(options.coordinator, grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::WorkerService::NewStub(channel_);
}

LoadWorker::~LoadWorker() { Close(); }

void LoadWorker::Close() {
  std::shared_ptr<Stream> stream;
  {
    base::MutexLock lock(&mutex_);
    is_closing_ = true;
    stream = stream_;
  }
  if (stream != nullptr) stream->Cancel();
  base::MutexLock lock(&mutex_);
  while (stream_ != nullptr) closed_.Wait(&lock);
}

int64_t LoadWorker::confirmed_streams() const {
  base::MutexLock lock(&mutex_);
  return confirmed_streams_;
}

void LoadWorker::Pump(Time now) {
  std::shared_ptr<Stream> stream;
  v1::WorkerSnapshot snapshot;
  bool opens = false;
  {
    base::MutexLock lock(&mutex_);
    if (is_closing_) return;
    EndRanks(now);
    opens = stream_ == nullptr;
    if (opens) {
      if (now < next_open_) return;
      stream_ = std::make_shared<Stream>(this);
      has_news_ = true;
    } else {
      if ((!has_news_ && now < next_report_) || !stream_->CanWrite()) return;
      snapshot = MakeSnapshot();
      has_news_ = false;
      next_report_ = now + kReportInterval;
    }
    stream = stream_;
  }
  if (opens) {
    stream->Open(stub_.get());
  } else {
    stream->Write(std::move(snapshot));
  }
}

void LoadWorker::EndRanks(Time now) {
  for (auto& [key, rank] : ranks_) {
    if (rank.status.phase() == v1::RANK_PHASE_ENDED || now < rank.end) continue;
    rank.status.set_phase(v1::RANK_PHASE_ENDED);
    rank.status.set_outcome(v1::RANK_OUTCOME_COMPLETED);
    rank.status.set_step(rank.steps);
    v1::CheckpointPart& part =
        parts_[CheckpointOf(rank.status.job_id(), rank.status.attempt(), rank.steps)];
    part.set_job_id(rank.status.job_id());
    part.set_attempt(rank.status.attempt());
    part.set_step(rank.steps);
    part.set_rank(rank.status.rank());
    part.set_world_size(rank.world_size);
    part.set_worker(options_.name);
    part.set_bytes(1 << 20);
    has_news_ = true;
  }
}

v1::WorkerSnapshot LoadWorker::MakeSnapshot() {
  v1::WorkerSnapshot snapshot;
  snapshot.set_worker(options_.name);
  snapshot.set_incarnation(options_.name + "/1");
  snapshot.set_report_sequence(++report_sequence_);
  snapshot.set_address("127.0.0.1:1");
  snapshot.set_disk_free_bytes(int64_t{1} << 40);
  for (int i = 0; i < options_.slots; ++i) {
    v1::Slot* slot = snapshot.add_slots();
    slot->set_index(i);
    slot->set_device(v1::DEVICE_CPU);
  }
  for (const auto& [key, rank] : ranks_) *snapshot.add_ranks() = rank.status;
  for (const auto& [key, part] : parts_) *snapshot.add_checkpoint_parts() = part;
  snapshot.set_applied_desired_revision(revision_);
  return snapshot;
}

void LoadWorker::Take(const v1::DesiredState& desired, Stream* stream) {
  const Time now = std::chrono::steady_clock::now();
  base::MutexLock lock(&mutex_);
  if (stream_.get() != stream || desired.desired_revision() < revision_) return;
  if (revision_ == 0) ++confirmed_streams_;
  revision_ = desired.desired_revision();
  std::set<std::string> wanted;
  for (const v1::DesiredRank& rank : desired.ranks()) {
    const std::string key = KeyOf(rank.job_id(), rank.attempt(), rank.rank());
    wanted.insert(key);
    if (ranks_.contains(key)) continue;
    Rank& fresh = ranks_[key];
    fresh.status.set_job_id(rank.job_id());
    fresh.status.set_attempt(rank.attempt());
    fresh.status.set_rank(rank.rank());
    fresh.status.set_slot(rank.slot());
    fresh.status.set_phase(v1::RANK_PHASE_TRAINING);
    fresh.world_size = rank.world_size();
    fresh.steps = rank.spec().train().steps();
    const bool lasts = rank.slot() < options_.lasting_slots;
    fresh.end = lasts ? Time::max() : now + TimeOf(key, options_.job_time);
    ++counts_->starts;
    if (lasts) ++counts_->lasting_starts;
    if (rank.attempt() > 1) ++counts_->restarts;
    has_news_ = true;
  }
  for (const std::string& key : desired.acknowledged_ends()) {
    if (ranks_.erase(key) > 0) has_news_ = true;
  }
  for (auto& [key, rank] : ranks_) {
    if (wanted.contains(key) || rank.status.phase() == v1::RANK_PHASE_ENDED) continue;
    rank.status.set_phase(v1::RANK_PHASE_ENDED);
    rank.status.set_outcome(v1::RANK_OUTCOME_KILLED);
    ++counts_->taken_back;
    has_news_ = true;
  }
  for (const v1::CopyPart& copy : desired.copy_parts()) {
    const v1::CheckpointPart& part = copy.part();
    v1::CheckpointPart& kept = parts_[CheckpointOf(part.job_id(), part.attempt(), part.step())];
    kept = part;
    kept.set_worker(options_.name);
    has_news_ = true;
  }
  for (const v1::DropCheckpoint& drop : desired.drop_checkpoints()) {
    parts_.erase(CheckpointOf(drop.job_id(), drop.attempt(), drop.step()));
  }
}

void LoadWorker::Lost(Stream* stream) {
  base::MutexLock lock(&mutex_);
  if (stream_.get() != stream) return;
  stream_.reset();
  revision_ = 0;  // what another coordinator says counts from its first word on
  next_open_ = std::chrono::steady_clock::now() + kReopenAfter;
  closed_.NotifyAll();
}

}  // namespace sinkforge::bench
