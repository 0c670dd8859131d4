// LogStream: one LogService.ReadLogs call.
#pragma once

#include <chrono>
#include <memory>

#include "server/rpc/push_stream.h"
#include "sinkforge/v1/log_service.pb.h"

namespace sinkforge::server {

// Sends the selected lines in the order in which they arrived. When it follows a job that became
// final it goes on until no line came for a little (last_words_wait), because the last lines travel
// apart from the job's state.
class LogStream final : public PushStream<v1::ReadLogsResponse> {
 public:
  LogStream(const RpcContext* rpc, const v1::ReadLogsRequest& request);

 private:
  bool Cares(Change change) const override;
  void Prepare() override;
  // NOT_FOUND: the job has not had the attempt, or has not the rank, that is asked for.
  absl::Status CheckSelection(const v1::Job& job) const;
  // On a thread of the pool.
  void Gather(bool is_final);
  std::shared_ptr<LogStream> Self();

  // One look at a time uses what follows: no lock.
  const v1::ReadLogsRequest request_;
  LogSelection selection_;
  bool is_first_look_ = true;
  int64_t number_ = 0;                       // lines up to here were sent
  std::chrono::nanoseconds quiet_since_{0};  // of a final job; 0: not yet
};

}  // namespace sinkforge::server
