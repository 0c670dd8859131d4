// Namespaces and drains; see settings.h.
#include "server/state/settings.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/str_cat.h"
#include "server/state/attempts.h"
#include "server/state/checkpoints.h"
#include "server/state/copies.h"
#include "server/state/job_moves.h"
#include "server/state/worker_link.h"

namespace sinkforge::server {
namespace {

constexpr size_t kNameBytesMax = 40;        // as in job files
constexpr size_t kWorkerNameBytesMax = 63;  // of what a message repeats
constexpr double kWeightMax = 1e6;
constexpr int32_t kSlotsMax = 1 << 20;
constexpr size_t kNoteBytesMax = 200;
constexpr size_t kForgottenMax = 1024;  // remembered for repeats

absl::Status CheckName(const std::string& name) {
  const bool valid = !name.empty() && name.size() <= kNameBytesMax && name.front() != '-' &&
                     std::all_of(name.begin(), name.end(), [](unsigned char c) {
                       return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '-';
                     });
  if (valid) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("namespace '", name.substr(0, kNameBytesMax),
                                                 "': give 1 to ", kNameBytesMax,
                                                 " characters of a-z, 0-9 and -, the first no -"));
}

absl::Status CheckQuota(const char* what, int32_t slots) {
  if (slots >= -1 && slots <= kSlotsMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": is ", slots, "; give 0 to ", kSlotsMax, ", or -1 for no quota"));
}

absl::Status NoWorker(const std::string& worker) {
  return absl::NotFoundError(absl::StrCat("worker ", worker.substr(0, kWorkerNameBytesMax),
                                          ": there is no such worker; `sinkforge workers` shows "
                                          "them all"));
}

void ApplyDrain(Call* call, WorkerRecord* worker, bool drained) {
  worker->drained = drained;
  call->Touch(worker);
  call->RefreshPool(*worker);
  NoteThinOf(call, worker->name);
  for (const auto& [slot, key] : worker->assigned) {
    TouchRanks(call, *call->state().Find(key.job_id));
  }
}

// OK where nothing is to be expected of the worker. One that is there now, or may be back at any
// moment, would lose checkpoints that can still be read.
absl::Status CheckAway(const State& state, const std::string& name, Monotonic now) {
  const WorkerRecord* worker = state.FindWorker(name);
  const bool is_expected = state.expected.contains(name) && now < state.expected_until;
  if (worker != nullptr && worker->reported && worker->alive && worker->connected) {
    return absl::FailedPreconditionError(absl::StrCat(
        "worker ", name, ": it is there; stop it, or take it out of use with `sinkforge drain ",
        name, "`"));
  }
  if (is_expected || (worker != nullptr && worker->alive)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "worker ", name,
        ": it was there a moment ago, or the coordinator has just been started, so that "
        "it may be back at any moment; try again in a few seconds"));
  }
  if (worker != nullptr && !worker->assigned.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", name, ": job ",
                                                      worker->assigned.begin()->second.job_id,
                                                      " ends there; try again in a few seconds"));
  }
  return absl::OkStatus();
}

v1::Worker DescribeKnown(const State& state, const std::string& name) {
  if (const WorkerRecord* worker = state.FindWorker(name); worker != nullptr) {
    return Describe(state, *worker);
  }
  // It has left the list. Who drains a worker knows that it goes, so that nobody needs to look for
  // it: the same as one that has just said goodbye.
  v1::Worker worker;
  worker.set_worker(name);
  worker.set_state(v1::WORKER_STATE_STOPPED);
  return worker;
}

}  // namespace

absl::StatusOr<v1::Namespace> SetNamespace(Call* call, const v1::UpdateNamespaceRequest& request) {
  const std::string& name = request.namespace_();
  absl::Status valid = CheckName(name);
  if (valid.ok()) valid = CheckQuota("cpu_slots", request.cpu_slots());
  if (valid.ok()) valid = CheckQuota("cuda_slots", request.cuda_slots());
  if (!valid.ok()) return valid;
  // Written so that NaN is refused too.
  if (request.has_weight() && !(request.weight() > 0 && request.weight() <= kWeightMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("weight: is ", request.weight(), "; it must be above 0 and at most 1e6"));
  }
  scheduler::Shares& shares = call->state().cluster.shares;
  const auto known = shares.settings().find(name);
  if (known == shares.settings().end() &&
      static_cast<int>(shares.settings().size()) >= call->options().namespace_count_max) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "namespace ", name, ": ", shares.settings().size(), " have settings, which is the limit"));
  }
  v1::Namespace settings;
  if (known != shares.settings().end()) settings = known->second;
  settings.set_namespace_(name);
  if (settings.weight() == 0) settings.set_weight(1);
  if (request.has_weight()) settings.set_weight(request.weight());
  if (request.has_cpu_slots()) settings.set_cpu_slots(request.cpu_slots());
  if (settings.cpu_slots() < 0) settings.clear_cpu_slots();
  if (request.has_cuda_slots()) settings.set_cuda_slots(request.cuda_slots());
  if (settings.cuda_slots() < 0) settings.clear_cuda_slots();
  shares.Set(settings);
  call->StoreNamespace(name);
  return settings;
}

absl::StatusOr<v1::Worker> SetDrain(Call* call, const v1::DrainWorkerRequest& request) {
  State& state = call->state();
  const std::string& name = request.worker();
  WorkerRecord* worker = state.FindWorker(name);
  if (worker == nullptr && !state.drains.contains(name)) return NoWorker(name);
  v1::WorkerDrain& drain = state.drains[name];
  if (!drain.has_time()) *drain.mutable_time() = base::ToProto(call->now().wall);
  drain.set_worker(name);
  drain.set_note(Truncate(request.note(), kNoteBytesMax));
  call->StoreDrain(name);
  if (worker != nullptr && !worker->drained) ApplyDrain(call, worker, true);
  return DescribeKnown(state, name);
}

absl::StatusOr<v1::Worker> ClearDrain(Call* call, const std::string& name) {
  State& state = call->state();
  WorkerRecord* worker = state.FindWorker(name);
  if (worker == nullptr && !state.drains.contains(name)) return NoWorker(name);
  if (state.drains.erase(name) > 0) call->StoreDrain(name);
  if (worker != nullptr && worker->drained) ApplyDrain(call, worker, false);
  return DescribeKnown(state, name);
}

absl::StatusOr<v1::ForgetWorkerResponse> GiveUpWorker(Call* call,
                                                      const v1::ForgetWorkerRequest& request) {
  State& state = call->state();
  const std::string& name = request.worker();
  v1::ForgetWorkerResponse response;
  for (const ForgottenWorker& done : state.forgotten) {
    if (done.name != name || done.request_id != request.request_id()) continue;
    response.set_checkpoints_lost(done.checkpoints_lost);
    return response;
  }
  WorkerRecord* worker = state.FindWorker(name);
  if (worker == nullptr && !state.held.contains(name) && !state.drains.contains(name)) {
    return absl::NotFoundError(absl::StrCat(
        "worker ", name.substr(0, kWorkerNameBytesMax),
        ": nothing is known of it: it has been forgotten already, or there never was one of this "
        "name; `sinkforge workers` shows them all"));
  }
  const absl::Status away = CheckAway(state, name, call->now().monotonic);
  if (!away.ok()) return away;
  response.set_checkpoints_lost(LoseHolder(call, name));
  if (!request.request_id().empty()) {
    state.forgotten.push_back({name, request.request_id(), response.checkpoints_lost()});
    if (state.forgotten.size() > kForgottenMax) state.forgotten.pop_front();
  }
  if (state.drains.erase(name) > 0) call->StoreDrain(name);
  state.expected.erase(name);
  state.recheck_commits = state.recheck_leaves = true;
  if (worker == nullptr) return response;
  ForgetCopies(&state, worker);
  call->NoteWorker(WorkerNote::Kind::kForgotten, *worker);
  state.workers.erase(name);
  return response;
}

std::vector<v1::Namespace> DescribeNamespaces(const State& state) {
  std::map<std::string, v1::Namespace> all = state.cluster.shares.settings();
  for (const auto& [number, record] : state.jobs) {
    if (IsFinal(record.job.state()) || record.job.state() == v1::JOB_STATE_PAUSED) continue;
    v1::Namespace& name = all[record.job.spec().namespace_()];
    if (record.attempt.has_value()) {
      name.set_jobs_running(name.jobs_running() + 1);
    } else {
      name.set_jobs_queued(name.jobs_queued() + 1);
    }
  }
  std::vector<v1::Namespace> sorted;
  for (auto& [name, description] : all) {
    description.set_namespace_(name);
    if (description.weight() == 0) description.set_weight(1);
    description.set_cpu_slots_used(state.cluster.shares.Used(name, v1::DEVICE_CPU));
    description.set_cuda_slots_used(state.cluster.shares.Used(name, v1::DEVICE_CUDA));
    sorted.push_back(std::move(description));
  }
  return sorted;
}

}  // namespace sinkforge::server
