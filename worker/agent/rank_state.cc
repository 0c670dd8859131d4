// Moves of one rank; see rank_state.h.
#include "worker/agent/rank_state.h"

#include <algorithm>
#include <cstring>

namespace sinkforge::worker {
namespace {

constexpr int kWarningsMax = 100;          // of one rank: each becomes an event
constexpr size_t kMessageBytesMax = 4096;  // a status message goes into every snapshot

// Cuts at a character's boundary, so that the text stays valid UTF-8.
std::string Shorten(std::string text) {
  if (text.size() <= kMessageBytesMax) return text;
  size_t end = kMessageBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  text.resize(end);
  return text;
}

// What a step takes; returns what this one took beyond that, where it was held up. A few steps'
// memory: one slow step must not throw the estimate about, and a machine that has become slow is
// known as such soon.
double SmoothStep(double seconds, RankState* rank) {
  constexpr double kWeight = 0.1;
  constexpr double kHeldUp = 3;  // times the usual
  constexpr double kHeldUpSeconds = 1;
  double& usual = rank->step_seconds_smooth;
  const double before = usual;
  if (before == 0) {
    usual = seconds;
    return 0;
  }
  usual = (1 - kWeight) * before + kWeight * std::min(seconds, kHeldUp * before);
  return seconds > kHeldUp * before && seconds - before > kHeldUpSeconds ? seconds - before : 0;
}

void UpdateProgress(const v1::StepRecord& record, const base::Now& now, RankState* rank) {
  v1::JobProgress& progress = *rank->status.mutable_progress();
  progress.set_stall_seconds(progress.stall_seconds() + SmoothStep(record.step_seconds(), rank));
  progress.set_step(record.step());
  progress.set_steps_total(rank->desired.spec().train().steps());
  progress.set_micro_batch(rank->micro_batch);
  progress.set_loss(record.loss());
  progress.set_aux_loss(record.aux_loss());
  progress.set_imbalance(record.imbalance());
  progress.set_tokens_per_second(record.tokens_per_second());
  const auto left =
      static_cast<double>(std::max<int64_t>(0, progress.steps_total() - record.step()));
  const double eta_nanoseconds = left * rank->step_seconds_smooth * 1e9;
  if (eta_nanoseconds >= 0 && eta_nanoseconds < 9e18) {  // false for NaN as well
    *progress.mutable_eta() =
        base::ToProto(std::chrono::nanoseconds(static_cast<int64_t>(eta_nanoseconds)));
  }
  progress.set_checkpoint_stall_seconds(progress.checkpoint_stall_seconds() +
                                        record.checkpoint_stall_seconds());
  if (record.has_validation_bits_per_byte()) {
    progress.set_validation_bits_per_byte(record.validation_bits_per_byte());
    progress.set_validation_step(record.step());
  }
  if (record.importance_size() > 0) {
    const auto [low, high] =
        std::minmax_element(record.importance().begin(), record.importance().end());
    progress.set_importance_min(static_cast<double>(*low));
    progress.set_importance_max(static_cast<double>(*high));
  }
  *progress.mutable_update_time() = base::ToProto(now.wall);
}

void Fail(v1::Reason reason, const std::string& message, RankState* rank) {
  rank->status.set_outcome(v1::RANK_OUTCOME_FAILED);
  rank->status.set_reason(reason);
  rank->status.set_message(Shorten(message));
}

std::string Seconds(const std::chrono::nanoseconds time) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time).count();
  return std::to_string(seconds) + " s";
}

// How far it had come.
std::string Since(const RankState& rank) {
  const int64_t restores = rank.desired.restore().step();
  if (restores > 0 && rank.status.step() == 0) {
    return " while it restored the checkpoint of step " + std::to_string(restores);
  }
  return " after step " + std::to_string(rank.status.step());
}

}  // namespace

const char* WordsOf(KillCause cause) {
  switch (cause) {
    case KillCause::kNone:
      return "none";
    case KillCause::kNotDesired:
      return "the coordinator wants it no more";
    case KillCause::kNoProgress:
      return "no progress";
    case KillCause::kSilent:
      return "no reports";
    case KillCause::kDrained:
      return "the grace period is over";
    case KillCause::kLingering:
      return "still there after its last report";
  }
  return "unknown";
}

RankState StartRank(const v1::DesiredRank& desired, const std::string& token,
                    const base::Now& now) {
  RankState rank;
  rank.desired = desired;
  rank.token = token;
  rank.run = desired.run();
  rank.status.set_job_id(desired.job_id());
  rank.status.set_attempt(desired.attempt());
  rank.status.set_rank(desired.rank());
  rank.status.set_slot(desired.slot());
  rank.status.set_phase(v1::RANK_PHASE_SPAWNING);
  rank.progress_time = now.monotonic;
  return rank;
}

void HoldRank(const std::string& worker, const absl::Status& why, RankState* rank) {
  const std::string message =
      Shorten("worker " + worker +
              " cannot keep its step records; training waits for that, at its next checkpoint at "
              "the latest, and goes on by itself: " +
              std::string(why.message()));
  rank->held = true;
  rank->status.set_message(message);
  rank->status.mutable_progress()->clear_eta();
  if (rank->told_held || rank->status.warnings_size() >= kWarningsMax) return;
  rank->told_held = true;
  rank->status.add_warnings(message);
}

ReportNews ApplyReport(const v1::TrainerReport& report, const base::Now& now, RankState* rank) {
  ReportNews news = ReportNews::kNothing;
  if (rank->held) {
    rank->held = false;
    rank->status.clear_message();
    news = ReportNews::kPhase;
  }
  if (!rank->last_report) rank->last_report_time = now.monotonic;
  if (report.step() > rank->status.step()) {
    rank->status.set_step(report.step());
    *rank->status.mutable_progress_time() = base::ToProto(now.wall);
    rank->progress_time = now.monotonic;
    news = std::max(news, ReportNews::kStep);
  }
  if (report.has_start()) {
    rank->status.set_restored_step(report.start().restored_step());
    rank->micro_batch = report.start().micro_batch();
  }
  for (const v1::StepRecord& record : report.steps()) {
    UpdateProgress(record, now, rank);
    rank->last_step = record;
    rank->trend.Add(record.imbalance());
    news = std::max(news, ReportNews::kStep);
  }
  for (const std::string& warning : report.warnings()) {
    if (rank->status.warnings_size() >= kWarningsMax) break;
    rank->status.add_warnings(Shorten(warning));
    news = ReportNews::kPhase;
  }
  if (report.phase() == v1::RANK_PHASE_ENDED) {
    // The slot is free only when the process is gone, so the phase waits for its exit.
    if (!rank->last_report) {
      rank->last_report = report;
      rank->last_report->clear_steps();
    }
  } else if (report.phase() > rank->status.phase()) {
    rank->status.set_phase(report.phase());
    rank->progress_time = now.monotonic;
    news = ReportNews::kPhase;
  }
  return news;
}

KillCause Overdue(const RankState& rank, const Patience& patience, const base::Now& now) {
  if (rank.ended() || rank.kill != KillCause::kNone) return KillCause::kNone;
  if (rank.last_report) {
    return now.monotonic - rank.last_report_time > patience.linger ? KillCause::kLingering
                                                                   : KillCause::kNone;
  }
  const bool heard = rank.last_report_time.count() > 0;
  if (heard && now.monotonic - rank.last_report_time > patience.silence) return KillCause::kSilent;
  return now.monotonic - rank.progress_time > patience.no_progress ? KillCause::kNoProgress
                                                                   : KillCause::kNone;
}

std::string Describe(const TrainerExit& exit) {
  switch (exit.how) {
    case TrainerExit::How::kExited:
      return "exited with code " + std::to_string(exit.code);
    case TrainerExit::How::kSignaled:
      return "was killed by signal " + std::to_string(exit.code) + " (" + strsignal(exit.code) +
             ")";
    case TrainerExit::How::kNotStarted:
      return "could not be started: " + exit.failure;
  }
  return "";
}

void ApplyExit(const TrainerExit& exit, const Patience& patience, RankState* rank) {
  if (rank->held) rank->status.clear_message();
  rank->status.set_phase(v1::RANK_PHASE_ENDED);
  // What the trainer said last counts, also where it was then killed for not going away.
  if (rank->last_report && rank->last_report->outcome() != v1::RANK_OUTCOME_UNSPECIFIED) {
    rank->status.set_outcome(rank->last_report->outcome());
    rank->status.set_reason(rank->last_report->reason());
    rank->status.set_message(Shorten(rank->last_report->message()));
    return;
  }
  switch (rank->kill) {
    case KillCause::kNotDesired:
      rank->status.set_outcome(v1::RANK_OUTCOME_KILLED);
      rank->status.set_message("killed: no longer wanted");
      return;
    case KillCause::kNoProgress:
      Fail(v1::REASON_NO_PROGRESS,
           "no step for " + Seconds(patience.no_progress) + Since(*rank) +
               ", so the worker killed the trainer; its --no-progress sets the limit",
           rank);
      return;
    case KillCause::kSilent:
      Fail(v1::REASON_NO_PROGRESS,
           "the trainer's process gave no sign of life for " + Seconds(patience.silence) +
               Since(*rank) +
               ", so the worker killed it; it may have been stopped, or starved of processor time",
           rank);
      return;
    case KillCause::kDrained:
      Fail(v1::REASON_WORKER_DRAINING,
           "the worker stopped and the trainer had no checkpoint written within the grace period",
           rank);
      return;
    case KillCause::kNone:
    case KillCause::kLingering:
      break;
  }
  std::string message = "trainer " + Describe(exit);
  if (exit.how == TrainerExit::How::kExited && exit.code == 0) message += " without a last report";
  if (!exit.stderr_tail.empty()) {
    message += "; its last lines on stderr:";
    for (const std::string& line : exit.stderr_tail) message += "\n" + line;
  }
  Fail(v1::REASON_TRAINER_CRASHED, message, rank);
}

}  // namespace sinkforge::worker
