// LoadWorker: a worker daemon as the coordinator sees one, without trainers: it speaks the real
// protocol over a connection of its own and ends each rank after a given time.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "sinkforge/v1/worker_service.grpc.pb.h"

namespace sinkforge::bench {

using Time = std::chrono::steady_clock::time_point;

// What all workers together have seen. Thread-safe.
struct LoadCounts {
  std::atomic<int64_t> starts{0};
  std::atomic<int64_t> lasting_starts{0};  // of ranks that do not end
  // Of a later attempt than the first, and ranks that were taken away while they trained: nothing
  // fails here, so that there is no reason for either.
  std::atomic<int64_t> restarts{0};
  std::atomic<int64_t> taken_back{0};
};

struct LoadWorkerOptions {
  std::string name;
  std::string coordinator;  // host:port
  int slots = 1;
  int lasting_slots = 0;  // of these, the first: what starts there does not end
  // From the start of a rank to its end, on average; each has its own, from half to one and a half.
  std::chrono::milliseconds job_time{500};
};

// Thread-safe. Pump is called every few milliseconds by one thread, and opens the stream again
// after a break.
class LoadWorker {
 public:
  LoadWorker(const LoadWorkerOptions& options, LoadCounts* counts);
  ~LoadWorker();
  void Pump(Time now);
  // Streams on which the coordinator has said what is to run.
  int64_t confirmed_streams() const;
  // Ends the stream; before the worker goes.
  void Close();

 private:
  class Stream;
  struct Rank {
    v1::RankStatus status;
    int32_t world_size = 1;
    int64_t steps = 1;
    Time end;
  };

  void EndRanks(Time now) REQUIRES_LOCK(mutex_);
  void Take(const v1::DesiredState& desired, Stream* stream);
  v1::WorkerSnapshot MakeSnapshot() REQUIRES_LOCK(mutex_);
  void Lost(Stream* stream);

  const LoadWorkerOptions options_;
  LoadCounts* const counts_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;

  mutable base::Mutex mutex_;
  base::CondVar closed_;
  std::shared_ptr<Stream> stream_ GUARDED_BY(mutex_);
  bool is_closing_ GUARDED_BY(mutex_) = false;
  bool has_news_ GUARDED_BY(mutex_) = true;
  Time next_report_ GUARDED_BY(mutex_);
  Time next_open_ GUARDED_BY(mutex_);
  int64_t report_sequence_ GUARDED_BY(mutex_) = 0;
  int64_t revision_ GUARDED_BY(mutex_) = 0;  // 0: nothing came on this stream yet
  int64_t confirmed_streams_ GUARDED_BY(mutex_) = 0;
  std::map<std::string, Rank> ranks_ GUARDED_BY(mutex_);  // by "<job id>/<attempt>/<rank>"
  std::map<std::string, v1::CheckpointPart> parts_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::bench
