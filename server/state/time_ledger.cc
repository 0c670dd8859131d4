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

// A run so far, or as it ended, without what the ledger has of earlier ones.
struct Run {
  Wall trained_until;     // then its ranks had ended, or it is now
  double checkpoint = 0;  // waited for checkpoints
  double held_up = 0;
  double rest = 0;  // all else
};

Run RunOf(const v1::Job& job, Wall since, Wall now) {
  Run run;
  run.trained_until = job.has_copy_start_time() ? std::clamp(base::FromProto(job.copy_start_time()),
                                                             since, std::max(since, now))
                                                : now;
  const double trained = SecondsBetween(since, run.trained_until);
  const double checkpoint = std::min(trained, job.progress().checkpoint_stall_seconds());
  run.held_up = std::min(trained - checkpoint, job.progress().stall_seconds());
  run.rest = trained - checkpoint - run.held_up;
  run.checkpoint = checkpoint + SecondsBetween(run.trained_until, now);
  return run;
}

// A running job's time: what was done after its last checkpoint is lost when it does not end there.
// Where the user has cancelled it, nothing of it is done again.
void AccountRun(v1::JobState to, Wall since, Wall now, v1::Job* job) {
  const Run run = RunOf(*job, since, now);
  v1::TimeLedger* ledger = job->mutable_time();
  v1::JobProgress* progress = job->mutable_progress();
  progress->clear_checkpoint_stall_seconds();
  progress->clear_stall_seconds();
  double detect = 0;
  double replay = 0;
  v1::Checkpoint* newest = NewestCheckpoint(job);
  const int64_t kept = newest == nullptr ? 0 : newest->step();
  const bool is_lost = progress->step() > kept && to != v1::JOB_STATE_CANCELLED;
  if (is_lost) {
    const Wall last_step = progress->has_update_time()
                               ? std::clamp(base::FromProto(progress->update_time()), since,
                                            std::max(since, run.trained_until))
                               : since;
    const Wall safe =
        newest == nullptr ? since : std::max(since, base::FromProto(newest->commit_time()));
    detect = std::min(run.rest, SecondsBetween(last_step, run.trained_until));
    replay = std::min(run.rest - detect, SecondsBetween(safe, last_step));
  }
  ledger->set_checkpoint_stall(ledger->checkpoint_stall() + run.checkpoint);
  ledger->set_stall(ledger->stall() + run.held_up);
  ledger->set_detect(ledger->detect() + detect);
  ledger->set_replay(ledger->replay() + replay);
  ledger->set_train(ledger->train() + run.rest - detect - replay);
  // No step came after it: the time to the end of the ranks belongs to it.
  if (!is_lost && newest != nullptr && newest->attempt() == job->attempt()) {
    newest->set_train_seconds(ledger->train());
  }
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
  job->clear_copy_start_time();
  *job->mutable_state_time() = base::ToProto(now);
}

double TrainedSeconds(const v1::Job& job, Wall now) {
  double seconds = job.time().train();
  if (job.state() == v1::JOB_STATE_RUNNING) {
    seconds += RunOf(job, base::FromProto(job.state_time()), now).rest;
  }
  return seconds;
}

void GoBackToNewest(v1::Job* job) {
  if (job->state() != v1::JOB_STATE_QUEUED && job->state() != v1::JOB_STATE_PAUSED) return;
  const v1::Checkpoint* newest = NewestCheckpoint(*job);
  v1::JobProgress* progress = job->mutable_progress();
  const int64_t step = newest == nullptr ? 0 : newest->step();
  if (progress->step() > step) {
    progress->set_step(step);
    if (newest != nullptr) {  // else nothing is measured before the first step
      progress->set_loss(newest->loss());
      progress->set_imbalance(newest->imbalance());
    }
  }
  if (newest != nullptr && !newest->has_train_seconds()) return;
  v1::TimeLedger* ledger = job->mutable_time();
  const double again = ledger->train() - (newest == nullptr ? 0 : newest->train_seconds());
  if (again <= 0) return;
  ledger->set_train(ledger->train() - again);
  ledger->set_replay(ledger->replay() + again);
}

}  // namespace sinkforge::server
