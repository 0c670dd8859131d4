// WatchStream: one JobService.WatchJob call.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "server/rpc/push_stream.h"
#include "sinkforge/v1/job_service.pb.h"

namespace sinkforge::server {

// Sends the job when it differs from what was sent last, with the step records and events that came
// since. Where an attempt went back to a checkpoint, the steps after it are sent again as the new
// attempt makes them. After a final state it waits a little (last_words_wait) for the job's last
// step records, which travel apart from its state.
class WatchStream final : public PushStream<v1::WatchJobResponse> {
 public:
  WatchStream(const RpcContext* rpc, const v1::WatchJobRequest& request);

 private:
  bool Cares(Change change) const override;
  void Prepare() override;
  // With job_ filled, on a thread of the pool.
  void Gather();
  absl::Status AddSteps(v1::WatchJobResponse* response, bool* has_more);
  absl::Status AddEvents(v1::WatchJobResponse* response, bool* has_more);
  void Decide(v1::WatchJobResponse response, bool has_more);
  std::shared_ptr<WatchStream> Self();

  // One look at a time uses what follows: no lock.
  const bool wants_steps_;
  v1::Job job_;
  std::string sent_job_;  // serialized; empty before the first message
  int64_t step_;          // records up to here were sent
  int64_t attempt_ = -1;  // the newest attempt whose start was taken in; -1 before the first look
  int64_t event_ = -1;    // events up to here are known to the client; -1 before the first look
  std::chrono::nanoseconds final_since_{0};
};

}  // namespace sinkforge::server
