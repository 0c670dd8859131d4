// Attributing a job's time; see time_ledger.h.
#include "server/state/time_ledger.h"

#include <algorithm>

#include "base/clock.h"
#include "server/state/model.h"

namespace sinkforge::server {
namespace {

using Wall = std::chrono::system_clock::time_point;

double SecondsBetween(Wall from, Wall to) {
  return std::max(0.0, std::chrono::duration<double>(to - from).count());
}

// A running job's time: what was done after its last checkpoint is lost when it does not end there.
// Where the user has cancelled it, nothing of it is done again.
void AccountRun(v1::JobState to, Wall since, Wall now, v1::Job* job) {
  v1::TimeLedger* ledger = job->mutable_time();
  v1::JobProgress* progress = job->mutable_progress();
  const double total = SecondsBetween(since, now);
  const double checkpoint = std::min(total, progress->checkpoint_stall_seconds());
  const double held_up = std::min(total - checkpoint, progress->stall_seconds());
  const double stall = checkpoint + held_up;
  progress->clear_checkpoint_stall_seconds();
  progress->clear_stall_seconds();
  double detect = 0;
  double replay = 0;
  const v1::Checkpoint* newest = NewestCheckpoint(*job);
  const int64_t kept = newest == nullptr ? 0 : newest->step();
  if (progress->step() > kept && to != v1::JOB_STATE_CANCELLED) {
    const Wall last_step =
        progress->has_update_time()
            ? std::clamp(base::FromProto(progress->update_time()), since, std::max(since, now))
            : since;
    const Wall safe =
        newest == nullptr ? since : std::max(since, base::FromProto(newest->commit_time()));
    detect = std::min(total - stall, SecondsBetween(last_step, now));
    replay = std::min(total - stall - detect, SecondsBetween(safe, last_step));
  }
  ledger->set_checkpoint_stall(ledger->checkpoint_stall() + checkpoint);
  ledger->set_stall(ledger->stall() + held_up);
  ledger->set_detect(ledger->detect() + detect);
  ledger->set_replay(ledger->replay() + replay);
  ledger->set_train(ledger->train() + total - stall - detect - replay);
}

}  // namespace

void AccountTime(v1::JobState to, Wall now, v1::Job* job) {
  const Wall since =
      base::FromProto(job->has_state_time() ? job->state_time() : job->create_time());
  v1::TimeLedger* ledger = job->mutable_time();
  switch (job->state()) {
    case v1::JOB_STATE_QUEUED:
      ledger->set_queue(ledger->queue() + SecondsBetween(since, now));
      break;
    case v1::JOB_STATE_STARTING:
      ledger->set_start(ledger->start() + SecondsBetween(since, now));
      break;
    case v1::JOB_STATE_RUNNING:
      AccountRun(to, since, now, job);
      break;
    default:
      ledger->set_pause(ledger->pause() + SecondsBetween(since, now));
      break;
  }
  *job->mutable_state_time() = base::ToProto(now);
}

}  // namespace sinkforge::server
