// Reading rank reports; see rank_report.h.
#include "server/state/rank_report.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/state/checkpoints.h"

namespace sinkforge::server {
namespace {

constexpr int kRankNotesMax = 64;          // distinct texts an attempt: no flood of events
constexpr size_t kWarningBytesMax = 1024;  // they are stored in the job
constexpr size_t kFaultBytesMax = 2048;    // leaves room for the next step in the job's message

// True the first time in the attempt, also over a restart.
bool IsNews(JobRecord* record, const std::string& text) {
  auto* notes = record->job.mutable_rank_notes();
  if (notes->size() >= kRankNotesMax) return false;
  if (std::find(notes->begin(), notes->end(), text) != notes->end()) return false;
  *notes->Add() = text;
  return true;
}

EventPlace PlaceOf(const Attempt& attempt, int32_t rank) {
  return {attempt.ranks[static_cast<size_t>(rank)].placement.worker(), rank};
}

void NoteWarnings(Call* call, JobRecord* record, const v1::RankStatus& status) {
  for (const std::string& full : status.warnings()) {
    const std::string text = Truncate(full, kWarningBytesMax);
    if (!IsNews(record, text)) continue;
    const v1::EventKind kind = absl::StartsWith(text, "not_bit_exact")
                                   ? v1::EVENT_KIND_NOT_BIT_EXACT
                                   : v1::EVENT_KIND_WARNING;
    call->AddEvent(record, {kind, v1::REASON_UNSPECIFIED, text, status.step(),
                            PlaceOf(*record->attempt, status.rank())});
  }
}

void NoteRestore(Call* call, JobRecord* record, const v1::RankStatus& status) {
  if (status.restored_step() <= 0) return;
  const std::string text = absl::StrCat("restored the checkpoint of step ", status.restored_step());
  if (!IsNews(record, text)) return;
  call->AddEvent(record, {v1::EVENT_KIND_RESTORED, v1::REASON_UNSPECIFIED, text,
                          status.restored_step(), PlaceOf(*record->attempt, status.rank())});
}

void NoteProgress(Call* call, JobRecord* record, const v1::RankStatus& status) {
  v1::JobProgress* progress = record->job.mutable_progress();
  v1::JobProgress next = status.progress();
  if (next.steps_total() == 0) next.set_steps_total(progress->steps_total());
  // A report may be older than the checkpoint that is there by now.
  CatchUpProgress(record->job, &next);
  if (progress->has_update_time()) *next.mutable_update_time() = progress->update_time();
  if (next.SerializeAsString() == progress->SerializeAsString()) return;
  *next.mutable_update_time() = base::ToProto(call->now().wall);
  *progress = next;
  const Monotonic now = call->now().monotonic;
  if (now - record->stored_at >= call->options().progress_store_interval) {
    call->Store(*record);
  } else {
    call->Watch(*record);
  }
}

}  // namespace

v1::Reason FaultOf(const v1::RankStatus& status, bool worker_drains) {
  switch (status.outcome()) {
    case v1::RANK_OUTCOME_COMPLETED:
    case v1::RANK_OUTCOME_STOPPED:
      return v1::REASON_UNSPECIFIED;
    case v1::RANK_OUTCOME_KILLED:
      return worker_drains ? v1::REASON_WORKER_DRAINING : v1::REASON_TRAINER_CRASHED;
    default:
      break;
  }
  switch (status.reason()) {
    case v1::REASON_BAD_JOB:
    case v1::REASON_BAD_DATA:
    case v1::REASON_NON_FINITE_LOSS:
    case v1::REASON_LOSS_SPIKE:
    case v1::REASON_CHECKPOINT_FAILED:
    case v1::REASON_CHECKPOINT_LOST:
    case v1::REASON_WORKER_LOST:  // one that holds its checkpoint
    case v1::REASON_WORKER_DRAINING:
    case v1::REASON_NO_PROGRESS:
    case v1::REASON_START_TIMEOUT:
    case v1::REASON_RANK_LOST:
      return status.reason();
    default:
      return v1::REASON_TRAINER_CRASHED;
  }
}

std::string FaultText(const v1::RankStatus& status, const std::string& worker) {
  std::string what = Truncate(status.message(), kFaultBytesMax);
  if (what.empty()) {
    what = status.outcome() == v1::RANK_OUTCOME_KILLED ? "killed by its worker"
                                                       : "ended without a message";
  }
  return absl::StrCat("rank ", status.rank(), " on ", worker, ": ", what);
}

std::string HeldText(const v1::RankStatus& status, const std::string& worker) {
  return absl::StrCat("rank ", status.rank(), " on ", worker, ": ",
                      Truncate(status.message(), kFaultBytesMax));
}

void NoteReport(Call* call, JobRecord* record, const v1::RankStatus& status) {
  if (status.rank() == 0) {
    NoteRestore(call, record, status);
    if (status.has_progress()) NoteProgress(call, record, status);
  }
  NoteWarnings(call, record, status);
}

}  // namespace sinkforge::server
