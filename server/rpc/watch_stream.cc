// What one watcher has seen and has yet to see; see watch_stream.h.
#include "server/rpc/watch_stream.h"

#include <algorithm>
#include <utility>

namespace sinkforge::server {
namespace {

// Of one message; keeps it far below the largest one even with many heads.
constexpr int64_t kStepBytesMax = 1 << 20;
constexpr int kStepsMax = 1000;
constexpr int kEventsMax = 500;

}  // namespace

WatchStream::WatchStream(const RpcContext* rpc, const v1::WatchJobRequest& request)
    : PushStream(rpc, request.job_id()),
      wants_steps_(request.after_step() >= 0),
      step_(std::max<int64_t>(request.after_step(), 0)) {}

bool WatchStream::Cares(Change change) const { return change != Change::kLogs; }

std::shared_ptr<WatchStream> WatchStream::Self() {
  return std::static_pointer_cast<WatchStream>(this->shared_from_this());
}

void WatchStream::Prepare() {
  rpc()->engine->Read(
      [self = Self()](const Coordinator& coordinator, const base::Now& now) {
        const v1::Job* job = coordinator.Find(self->job_id());
        if (job == nullptr) return self->Settle(Next::kEnd, JobNotFound(self->job_id()));
        self->job_ = ViewOf(coordinator, *job, now);
        const absl::Status queued = self->rpc()->pool->Run([self] { self->Gather(); });
        if (!queued.ok()) self->Settle(Next::kEnd, queued);
      },
      [self = Self()](const absl::Status& status) { self->Settle(Next::kEnd, status); });
}

void WatchStream::Gather() {
  v1::WatchJobResponse response;
  bool has_more = false;
  absl::Status status = AddSteps(&response, &has_more);
  if (status.ok()) status = AddEvents(&response, &has_more);
  if (!status.ok()) return Settle(Next::kEnd, status);
  Decide(std::move(response), has_more);
}

absl::Status WatchStream::AddSteps(v1::WatchJobResponse* response, bool* has_more) {
  if (!wants_steps_) return absl::OkStatus();
  const auto starts = rpc()->history->Starts(job_id());
  if (!starts.ok()) return starts.status();
  const bool is_first = attempt_ < 0;
  for (const v1::AttemptStart& start : *starts) {
    if (!is_first && start.attempt() > attempt_) step_ = std::min(step_, start.restored_step());
  }
  attempt_ = starts->empty() ? 0 : starts->back().attempt();
  StepRange range;
  range.job_id = job_id();
  range.first_step = step_ + 1;
  int64_t bytes = 0;
  return rpc()->history->Read(range, [&](const v1::StepRecord& record) {
    if (response->steps_size() == kStepsMax || bytes > kStepBytesMax) {
      *has_more = true;
      return false;
    }
    bytes += static_cast<int64_t>(record.ByteSizeLong());
    *response->add_steps() = record;
    step_ = record.step();
    return true;
  });
}

absl::Status WatchStream::AddEvents(v1::WatchJobResponse* response, bool* has_more) {
  if (event_ < 0) {
    event_ = job_.event_count();
    return absl::OkStatus();
  }
  if (event_ >= job_.event_count()) return absl::OkStatus();
  auto events = rpc()->jobs->ListEvents(job_id(), event_, kEventsMax);
  if (!events.ok()) return events.status();
  for (v1::Event& event : *events) {
    event_ = event.sequence();
    *response->add_events() = std::move(event);
  }
  if (response->events_size() == kEventsMax) *has_more = true;
  return absl::OkStatus();
}

void WatchStream::Decide(v1::WatchJobResponse response, bool has_more) {
  std::string serialized = job_.SerializeAsString();
  const bool has_news =
      serialized != sent_job_ || response.steps_size() > 0 || response.events_size() > 0;
  Next next = Next::kChange;
  if (has_more) {
    next = Next::kNow;
  } else if (IsFinal(job_.state())) {
    const auto now = rpc()->clock->Read().monotonic;
    if (final_since_.count() == 0) final_since_ = now;
    const bool has_all = !wants_steps_ || step_ >= job_.progress().step();
    next = has_all || now - final_since_ > rpc()->last_words_wait ? Next::kEnd : Next::kSoon;
  }
  if (!has_news) return Settle(next);
  sent_job_ = std::move(serialized);
  *response.mutable_job() = job_;
  Send(std::move(response), next);
}

}  // namespace sinkforge::server
