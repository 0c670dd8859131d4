// Tail and follow; see log_stream.h.
#include "server/rpc/log_stream.h"

#include <utility>

namespace sinkforge::server {
namespace {

// Of one message.
constexpr int64_t kBytesMax = 256 << 10;

}  // namespace

LogStream::LogStream(const RpcContext* rpc, const v1::ReadLogsRequest& request)
    : PushStream(rpc, request.job_id()), request_(request) {
  selection_.job_id = request.job_id();
  if (request.has_attempt()) selection_.attempt = request.attempt();
  if (request.has_rank()) selection_.rank = request.rank();
}

bool LogStream::Cares(Change change) const { return change != Change::kHistory; }

std::shared_ptr<LogStream> LogStream::Self() {
  return std::static_pointer_cast<LogStream>(this->shared_from_this());
}

void LogStream::Prepare() {
  rpc()->engine->Read(
      [self = Self()](const Coordinator& coordinator, const base::Now&) {
        const v1::Job* job = coordinator.Find(self->job_id());
        if (job == nullptr) return self->Settle(Next::kEnd, JobNotFound(self->job_id()));
        const absl::Status known = self->CheckSelection(*job);
        if (!known.ok()) return self->Settle(Next::kEnd, known);
        const bool is_final = IsFinal(job->state());
        const absl::Status queued =
            self->rpc()->pool->Run([self, is_final] { self->Gather(is_final); });
        if (!queued.ok()) self->Settle(Next::kEnd, queued);
      },
      [self = Self()](const absl::Status& status) { self->Settle(Next::kEnd, status); });
}

absl::Status LogStream::CheckSelection(const v1::Job& job) const {
  absl::Status known;
  if (request_.has_attempt()) known = CheckAttempt(job, request_.attempt());
  if (known.ok() && request_.has_rank()) known = CheckRank(job, request_.rank());
  return known;
}

void LogStream::Gather(bool is_final) {
  if (is_first_look_ && request_.tail() > 0) {
    const auto start = rpc()->logs->TailStart(selection_, request_.tail());
    if (!start.ok()) return Settle(Next::kEnd, start.status());
    number_ = *start;
  }
  is_first_look_ = false;
  v1::ReadLogsResponse response;
  int64_t bytes = 0;
  bool has_more = false;
  const absl::Status read =
      rpc()->logs->Read(selection_, number_, [&](int64_t number, const v1::LogLine& line) {
        if (bytes > kBytesMax) {
          has_more = true;
          return false;
        }
        bytes += static_cast<int64_t>(line.ByteSizeLong());
        *response.add_lines() = line;
        number_ = number;
        return true;
      });
  if (!read.ok()) return Settle(Next::kEnd, read);
  Next next = Next::kChange;
  if (has_more) {
    next = Next::kNow;
  } else if (!request_.follow()) {
    next = Next::kEnd;
  } else if (is_final) {
    const auto now = rpc()->clock->Read().monotonic;
    if (quiet_since_.count() == 0 || response.lines_size() > 0) quiet_since_ = now;
    next = now - quiet_since_ > rpc()->last_words_wait ? Next::kEnd : Next::kSoon;
  }
  if (response.lines_size() == 0) return Settle(next);
  Send(std::move(response), next);
}

}  // namespace sinkforge::server
