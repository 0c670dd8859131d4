// The coordinator's calls; see coordinator.h. What they do is in attempts, checkpoints, waiting and
// worker_link.
#include "server/state/coordinator.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "server/state/adoption.h"
#include "server/state/attempts.h"
#include "server/state/call.h"
#include "server/state/checkpoints.h"
#include "server/state/commits.h"
#include "server/state/copies.h"
#include "server/state/fault_text.h"
#include "server/state/job_moves.h"
#include "server/state/leaving.h"
#include "server/state/model.h"
#include "server/state/settings.h"
#include "server/state/stops.h"
#include "server/state/sweeps.h"
#include "server/state/waiting.h"
#include "server/state/worker_link.h"

namespace sinkforge::server {
namespace {

constexpr int kActionIdsMax = 16;       // per job: a client repeats at once or not at all
constexpr size_t kDeletionsMax = 1024;  // remembered for repeats

std::string StateName(v1::JobState state) {
  return v1::JobState_Name(state).substr(std::string("JOB_STATE_").size());
}

absl::Status NotFound(const std::string& job_id) {
  return absl::NotFoundError(
      absl::StrCat("job ", job_id, ": there is no such job; `sinkforge list` shows them all"));
}

absl::Status NoMove(const v1::Job& job, const std::string& verb, const std::string& next_step) {
  return absl::FailedPreconditionError(absl::StrCat("job ", job.job_id(), ": cannot be ", verb,
                                                    " while it is ", StateName(job.state()), "; ",
                                                    next_step));
}

bool WasDone(const v1::Job& job, const std::string& request_id) {
  const auto& ids = job.action_request_ids();
  return !request_id.empty() && std::find(ids.begin(), ids.end(), request_id) != ids.end();
}

void RememberAction(Call* call, JobRecord* record, const std::string& request_id) {
  if (!request_id.empty()) {
    auto* ids = record->job.mutable_action_request_ids();
    if (ids->size() >= kActionIdsMax) ids->erase(ids->begin());
    *ids->Add() = request_id;
  }
  call->Store(*record);
}

// A waiting job that has just joined the queue says at once what it waits for.
void ExplainInPlace(Call* call, JobRecord* record) {
  if (record->waiting == Waiting::kNot) return;
  const Explanation why = ExplainJob(call->state(), *record, call->now());
  record->job.set_reason(why.reason);
  record->job.set_message(why.message);
  call->Store(*record);
}

// The scheduler compares the first jobs of all namespaces: there must not be many.
absl::Status CheckNamespaceRoom(const State& state, const v1::JobSpec& spec) {
  const auto& names = state.cluster.queue.Namespaces(spec.resources().device());
  const bool is_new = !names.contains(spec.namespace_());
  if (!is_new || static_cast<int>(names.size()) < state.options.namespace_count_max) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("jobs of ", names.size(),
                   " namespaces wait, which is the limit; submit it to "
                   "one of these, or try again later"));
}

void RebuildAttempt(State* state, JobRecord* record, const base::Now& now) {
  record->attempt.emplace();
  record->attempt->loaded = true;
  record->attempt->started = now.monotonic;
  record->attempt->last_progress = now.monotonic;
  const v1::Reason stop = record->job.stop_reason();
  if (stop != v1::REASON_UNSPECIFIED && stop != v1::REASON_RESIZED) {
    record->attempt->stop_deadline = now.monotonic + state->options.stop_grace;
  }
  Occupy(state, *record, now);
  for (const v1::RankPlacement& placement : record->job.placement()) {
    RankState& rank = record->attempt->ranks.emplace_back();
    rank.placement = placement;
    // A gang that trained had started all its ranks.
    rank.seen = record->job.state() == v1::JOB_STATE_RUNNING;
    ExpectWorker(state, placement, now);
    WorkerRecord& worker = state->workers.at(placement.worker());
    if (worker.incarnation == placement.incarnation()) {
      worker.assigned[placement.slot()] = {record->job.job_id(), record->job.attempt(),
                                           placement.rank()};
    }
  }
}

}  // namespace

class Coordinator::Impl {
 public:
  explicit Impl(const CoordinatorOptions& options) : state(options) {}

  // Plans copies, commits what need not wait for them, runs the scheduler, which every change may
  // let start something, and hands out the effects.
  void Finish(Call* call, Effects* effects) {
    PlanCopies(call);
    SettleCommits(call);
    RunScheduler(call);
    TellLeaves(call);
    call->Finish(effects);
  }

  State state;
};

Coordinator::Coordinator(const CoordinatorOptions& options)
    : impl_(std::make_unique<Impl>(options)) {}
Coordinator::~Coordinator() = default;
Coordinator::Coordinator(Coordinator&&) noexcept = default;
Coordinator& Coordinator::operator=(Coordinator&&) noexcept = default;

int64_t Coordinator::NumberOf(const std::string& job_id) {
  const size_t dash = job_id.rfind('-');
  if (dash == std::string::npos) return 0;
  const char* begin = job_id.data() + dash + 1;
  const char* end = job_id.data() + job_id.size();
  int64_t number = 0;
  const auto [rest, error] = std::from_chars(begin, end, number);
  return error == std::errc() && rest == end && number > 0 ? number : 0;
}

void Coordinator::LoadSettings(const std::vector<v1::Namespace>& namespaces,
                               const std::vector<v1::WorkerDrain>& drains) {
  State& state = impl_->state;
  SINKFORGE_REQUIRE(state.jobs.empty() && state.workers.empty());
  for (const v1::Namespace& settings : namespaces) state.cluster.shares.Set(settings);
  for (const v1::WorkerDrain& drain : drains) state.drains[drain.worker()] = drain;
}

void Coordinator::Load(std::vector<v1::Job> jobs, int64_t next_job_number, const base::Now& now) {
  State& state = impl_->state;
  SINKFORGE_REQUIRE(state.jobs.empty() && state.workers.empty());
  state.next_job_number = std::max<int64_t>(1, next_job_number);
  for (v1::Job& job : jobs) {
    const int64_t number = NumberOf(job.job_id());
    SINKFORGE_REQUIRE(number > 0);
    state.next_job_number = std::max(state.next_job_number, number + 1);
    JobRecord& record = state.jobs[number];
    record.number = number;
    record.job = std::move(job);
    record.stored_at = now.monotonic;
    ++state.count_by_state[static_cast<size_t>(record.job.state())];
    state.number_by_request[record.job.request_id()] = number;
    for (const v1::Checkpoint& checkpoint : record.job.checkpoints()) {
      IndexCheckpoint(&state, record, checkpoint);
      if (!checkpoint.deleting() && IsThin(checkpoint)) state.thin.insert(number);
    }
  }
  Call call(&state, now);
  // Those that run first: they count in their sweeps before the others ask to be let in.
  for (auto& [number, record] : state.jobs) {
    if (!IsFinal(record.job.state())) WatchDeadline(&state, record);
    if (!HasAttempt(record.job.state())) continue;
    RebuildAttempt(&state, &record, now);
    record.waiting_job.key = KeyOf(record);
    AdmitToSweep(&call, &record);
  }
  for (const auto& [name, worker] : state.workers) state.expected.insert(name);
  for (const auto& [name, checkpoints] : state.held) state.expected.insert(name);
  state.expected_until = now.monotonic + state.options.lease;
  for (auto& [number, record] : state.jobs) {
    if (record.job.state() != v1::JOB_STATE_QUEUED) continue;
    Monotonic delay{0};
    if (record.job.has_not_before()) {
      // The wall clock may have been moved in between: never longer than a back-off can be.
      delay = std::clamp<Monotonic>(base::FromProto(record.job.not_before()) - now.wall,
                                    Monotonic{0}, state.options.backoff_max);
    }
    StartWaiting(&call, &record, now.monotonic + delay);
  }
}

absl::StatusOr<v1::Job> Coordinator::Submit(const v1::SubmitJobRequest& request,
                                            const JobFacts& facts, const base::Now& now,
                                            Effects* effects) {
  State& state = impl_->state;
  if (request.request_id().empty()) {
    return absl::InvalidArgumentError(
        "request_id: is required, so that a repeated submission is recognised; send a UUID");
  }
  const auto known = state.number_by_request.find(request.request_id());
  if (known != state.number_by_request.end()) return state.jobs.at(known->second).job;
  if (state.count_by_state[v1::JOB_STATE_QUEUED] >= state.options.queue_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full (", state.options.queue_max,
                     " jobs); try again when some have started, or cancel some"));
  }
  const absl::Status room = CheckNamespaceRoom(state, request.spec());
  if (!room.ok()) return room;
  Call call(&state, now);
  const int64_t number = state.next_job_number++;
  call.StoreNextJobNumber();
  JobRecord& record = state.jobs[number];
  record.number = number;
  v1::Job& job = record.job;
  job.set_job_id(absl::StrCat(request.spec().name(), "-", number));
  *job.mutable_spec() = request.spec();
  job.set_state(v1::JOB_STATE_QUEUED);
  job.set_reason(v1::REASON_SUBMITTED);
  *job.mutable_create_time() = base::ToProto(now.wall);
  job.set_request_id(request.request_id());
  job.set_parameters(facts.parameters);
  job.set_uid(facts.uid);
  job.set_sweep(request.sweep());
  job.set_sweep_running_max(request.sweep_running_max());
  if (const double hours = request.spec().deadline_hours(); hours > 0) {
    const std::chrono::duration<double, std::ratio<3600>> after(hours);
    *job.mutable_deadline() = base::ToProto(
        now.wall + std::chrono::duration_cast<std::chrono::system_clock::duration>(after));
    WatchDeadline(&state, record);
  }
  job.set_trace_id(request.trace_id());
  job.mutable_progress()->set_steps_total(request.spec().train().steps());
  state.number_by_request[request.request_id()] = number;
  ++state.count_by_state[v1::JOB_STATE_QUEUED];
  call.AddEvent(&record, {v1::EVENT_KIND_SUBMITTED, v1::REASON_SUBMITTED, "submitted", 0});
  StartWaiting(&call, &record, now.monotonic);
  RunScheduler(&call);
  ExplainInPlace(&call, &record);
  impl_->Finish(&call, effects);
  return record.job;
}

absl::StatusOr<v1::Job> Coordinator::Cancel(const v1::JobActionRequest& request,
                                            const base::Now& now, Effects* effects) {
  JobRecord* record = impl_->state.Find(request.job_id());
  if (record == nullptr) return NotFound(request.job_id());
  if (WasDone(record->job, request.request_id())) return record->job;
  if (!CanMove(record->job.state(), v1::JOB_STATE_CANCELLED)) {
    return NoMove(record->job, "cancelled", "it has finished");
  }
  Call call(&impl_->state, now);
  record->job.set_cancel_requested(true);
  record->job.set_pause_requested(false);
  RememberAction(&call, record, request.request_id());
  StopWaiting(&call, record);
  const std::string message = "cancelled by the user";
  call.AddEvent(record, {v1::EVENT_KIND_CANCEL_REQUESTED, v1::REASON_CANCELLED_BY_USER, message,
                         record->job.progress().step()});
  if (record->attempt.has_value()) {
    EndAttempt(&call, record, v1::REASON_CANCELLED_BY_USER, message);
  }
  record->job.clear_not_before();
  call.Move(record, v1::JOB_STATE_CANCELLED, v1::REASON_CANCELLED_BY_USER, message);
  impl_->Finish(&call, effects);
  return record->job;
}

absl::StatusOr<v1::Job> Coordinator::Pause(const v1::JobActionRequest& request,
                                           const base::Now& now, Effects* effects) {
  JobRecord* record = impl_->state.Find(request.job_id());
  if (record == nullptr) return NotFound(request.job_id());
  if (WasDone(record->job, request.request_id())) return record->job;
  if (!CanMove(record->job.state(), v1::JOB_STATE_PAUSED)) {
    return NoMove(record->job, "paused",
                  record->job.state() == v1::JOB_STATE_PAUSED
                      ? absl::StrCat("`sinkforge resume ", record->job.job_id(), "` goes on")
                      : std::string("it has finished"));
  }
  Call call(&impl_->state, now);
  RememberAction(&call, record, request.request_id());
  const int64_t step = record->job.progress().step();
  if (record->attempt.has_value()) {
    if (!record->job.pause_requested()) {
      record->job.set_pause_requested(true);
      record->job.set_reason(v1::REASON_PAUSE_REQUESTED);
      record->job.set_message("checkpoints, then pauses");
      call.AddEvent(record, {v1::EVENT_KIND_PAUSE_REQUESTED, v1::REASON_PAUSE_REQUESTED,
                             "the user pauses the job", step});
      TouchRanks(&call, *record);
    }
  } else {
    StopWaiting(&call, record);
    record->job.clear_not_before();
    call.Move(record, v1::JOB_STATE_PAUSED, v1::REASON_PAUSED_BY_USER,
              absl::StrCat("paused while it waited; `sinkforge resume ", record->job.job_id(),
                           "` puts it back into the queue"));
  }
  impl_->Finish(&call, effects);
  return record->job;
}

absl::StatusOr<v1::Job> Coordinator::Resume(const v1::JobActionRequest& request,
                                            const base::Now& now, Effects* effects) {
  JobRecord* record = impl_->state.Find(request.job_id());
  if (record == nullptr) return NotFound(request.job_id());
  v1::Job& job = record->job;
  if (WasDone(job, request.request_id())) return job;
  const bool takes_back = record->attempt.has_value() && job.pause_requested();
  const bool requeues = job.state() == v1::JOB_STATE_PAUSED || job.state() == v1::JOB_STATE_FAILED;
  if (!takes_back && !requeues) {
    return NoMove(job, "resumed", NoResumeText(job));
  }
  Call call(&impl_->state, now);
  RememberAction(&call, record, request.request_id());
  if (takes_back) {
    job.set_pause_requested(false);
    job.set_reason(job.state() == v1::JOB_STATE_RUNNING ? v1::REASON_TRAINING
                                                        : v1::REASON_SCHEDULED);
    job.set_message("the pause was taken back");
    TouchRanks(&call, *record);
  } else {
    job.clear_retries();
    job.clear_avoided_workers();  // what was wrong there may have been mended
    // Who goes on past a deadline does not mean it any more.
    if (job.has_deadline() && base::FromProto(job.deadline()) <= now.wall) job.clear_deadline();
    WatchDeadline(&impl_->state, *record);
    call.Move(record, v1::JOB_STATE_QUEUED, v1::REASON_RESUMED_BY_USER, "resumed by the user");
    StartWaiting(&call, record, now.monotonic);
    RunScheduler(&call);
    ExplainInPlace(&call, record);
  }
  impl_->Finish(&call, effects);
  return job;
}

absl::Status Coordinator::Delete(const v1::JobActionRequest& request, const base::Now& now,
                                 Effects* effects) {
  State& state = impl_->state;
  JobRecord* record = state.Find(request.job_id());
  if (record == nullptr) {
    const auto done = std::make_pair(request.job_id(), request.request_id());
    const bool repeated = std::find(state.deleted_jobs.begin(), state.deleted_jobs.end(), done) !=
                          state.deleted_jobs.end();
    return repeated ? absl::OkStatus() : NotFound(request.job_id());
  }
  const v1::JobState job_state = record->job.state();
  if (!IsFinal(job_state) && job_state != v1::JOB_STATE_PAUSED) {
    return NoMove(record->job, "deleted",
                  absl::StrCat("first `sinkforge cancel ", record->job.job_id(), "`"));
  }
  Call call(&state, now);
  UnindexJob(&call, *record);
  state.number_by_request.erase(record->job.request_id());
  --state.count_by_state[static_cast<size_t>(job_state)];
  call.Deleted(*record);
  state.deleted_jobs.emplace_back(request.job_id(), request.request_id());
  if (state.deleted_jobs.size() > kDeletionsMax) state.deleted_jobs.pop_front();
  state.jobs.erase(record->number);
  impl_->Finish(&call, effects);
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> Coordinator::DeleteCheckpoint(const v1::DeleteCheckpointRequest& request,
                                                      const base::Now& now, Effects* effects) {
  JobRecord* record = impl_->state.Find(request.job_id());
  if (record == nullptr) return NotFound(request.job_id());
  if (WasDone(record->job, request.request_id())) return record->job;
  std::vector<v1::Checkpoint*> found;
  for (v1::Checkpoint& checkpoint : *record->job.mutable_checkpoints()) {
    if (checkpoint.step() == request.step() && !checkpoint.deleting()) found.push_back(&checkpoint);
  }
  if (found.empty()) {
    return absl::NotFoundError(
        absl::StrCat("job ", request.job_id(), ": it has no checkpoint of step ", request.step(),
                     "; `sinkforge checkpoints list ", request.job_id(), "` shows them"));
  }
  if (!IsFinal(record->job.state()) && NewestCheckpoint(record->job)->step() == request.step()) {
    return absl::FailedPreconditionError(
        absl::StrCat("job ", request.job_id(), ": step ", request.step(),
                     " is its newest checkpoint, from which it would go on; cancel the job first"));
  }
  Call call(&impl_->state, now);
  RememberAction(&call, record, request.request_id());
  for (v1::Checkpoint* checkpoint : found) MarkDeleting(&call, record, checkpoint);
  impl_->Finish(&call, effects);
  return record->job;
}

absl::StatusOr<v1::Namespace> Coordinator::UpdateNamespace(
    const v1::UpdateNamespaceRequest& request, const base::Now& now, Effects* effects) {
  Call call(&impl_->state, now);
  auto result = SetNamespace(&call, request);
  impl_->Finish(&call, effects);
  return result;
}

absl::StatusOr<v1::Worker> Coordinator::DrainWorker(const v1::DrainWorkerRequest& request,
                                                    const base::Now& now, Effects* effects) {
  Call call(&impl_->state, now);
  auto result = SetDrain(&call, request);
  impl_->Finish(&call, effects);
  return result;
}

absl::StatusOr<v1::Worker> Coordinator::UndrainWorker(const v1::UndrainWorkerRequest& request,
                                                      const base::Now& now, Effects* effects) {
  Call call(&impl_->state, now);
  auto result = ClearDrain(&call, request.worker());
  impl_->Finish(&call, effects);
  return result;
}

absl::StatusOr<v1::ForgetWorkerResponse> Coordinator::ForgetWorker(
    const v1::ForgetWorkerRequest& request, const base::Now& now, Effects* effects) {
  Call call(&impl_->state, now);
  auto result = GiveUpWorker(&call, request);
  impl_->Finish(&call, effects);
  return result;
}

absl::Status Coordinator::HandleSnapshot(const v1::WorkerSnapshot& snapshot, const base::Now& now,
                                         Effects* effects) {
  Call call(&impl_->state, now);
  absl::Status status = TakeSnapshot(&call, snapshot);
  impl_->Finish(&call, effects);
  return status;
}

void Coordinator::HandleDisconnect(const std::string& name, const std::string& incarnation,
                                   const base::Now& now, Effects* effects) {
  WorkerRecord* worker = impl_->state.FindWorker(name);
  if (worker == nullptr || worker->incarnation != incarnation) return;
  Call call(&impl_->state, now);
  worker->connected = false;
  impl_->state.recheck_leaves = true;
  call.RefreshPool(*worker);
  NoteCopier(&call, *worker);
  impl_->Finish(&call, effects);
}

void Coordinator::HandleStall(std::chrono::nanoseconds duration) {
  for (auto& [name, worker] : impl_->state.workers) {
    worker.lease_end += duration;
    worker.heard += duration;
  }
  PostponeCommits(&impl_->state, duration);
}

void Coordinator::Tick(const base::Now& now, Effects* effects) {
  Call call(&impl_->state, now);
  CheckLeases(&call);
  CheckDeadlines(&call);
  AdoptLaterAttempts(&call);
  WakeBackedOff(&call);
  CheckCommits(&call);
  impl_->Finish(&call, effects);
}

v1::DesiredState Coordinator::Desired(const std::string& worker) const {
  const WorkerRecord* record = std::as_const(impl_->state).FindWorker(worker);
  if (record == nullptr) return DesiredOf(impl_->state, WorkerRecord());
  return DesiredOf(impl_->state, *record);
}

const v1::Job* Coordinator::Find(const std::string& job_id) const {
  const JobRecord* record = std::as_const(impl_->state).Find(job_id);
  return record == nullptr ? nullptr : &record->job;
}

void Coordinator::VisitJobs(int64_t before_number,
                            const std::function<bool(const v1::Job& job)>& visit) const {
  const auto& jobs = impl_->state.jobs;
  for (auto it = jobs.lower_bound(before_number); it != jobs.begin();) {
    if (!visit((--it)->second.job)) return;
  }
}

std::array<int64_t, v1::JobState_ARRAYSIZE> Coordinator::CountByState() const {
  return impl_->state.count_by_state;
}

std::vector<v1::Worker> Coordinator::Workers() const {
  std::vector<v1::Worker> workers;
  for (const auto& [name, worker] : impl_->state.workers) {
    if (worker.reported) workers.push_back(Describe(impl_->state, worker));
  }
  return workers;
}

Explanation Coordinator::Explain(const std::string& job_id, const base::Now& now) const {
  const JobRecord* record = std::as_const(impl_->state).Find(job_id);
  if (record == nullptr) return {};
  Explanation why = ExplainJob(impl_->state, *record, now);
  const std::string commit = CommitWaitText(impl_->state, *record, now);
  if (!commit.empty()) absl::StrAppend(&why.message, "; ", commit);
  return why;
}

v1::JobWait Coordinator::ExplainWait(const std::string& job_id) const {
  const JobRecord* record = std::as_const(impl_->state).Find(job_id);
  return record == nullptr ? v1::JobWait() : ExplainJobInFull(impl_->state, *record);
}

std::vector<v1::Namespace> Coordinator::Namespaces() const {
  return DescribeNamespaces(impl_->state);
}

bool Coordinator::IsCurrentAttempt(const std::string& job_id, int64_t attempt) const {
  const JobRecord* record = std::as_const(impl_->state).Find(job_id);
  return record != nullptr && record->attempt.has_value() && record->job.attempt() == attempt;
}

int64_t Coordinator::next_job_number() const { return impl_->state.next_job_number; }

}  // namespace sinkforge::server
