// RankState: all that the daemon knows of one rank, and the pure functions that move it: a
// trainer's report, the passing of time, the end of its process.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "sinkforge/v1/metrics.pb.h"
#include "sinkforge/v1/trainer_service.pb.h"
#include "sinkforge/v1/worker_service.pb.h"
#include "worker/agent/imbalance_trend.h"
#include "worker/agent/launch.h"
#include "worker/keys.h"

namespace sinkforge::worker {

// Why the daemon killed a trainer.
enum class KillCause {
  kNone,
  kNotDesired,
  kNoProgress,
  kSilent,     // not even the reports came that it sends without news
  kDrained,    // the grace period was over
  kLingering,  // its process was still there long after its last report
};

// For the log.
const char* WordsOf(KillCause cause);

struct RankState {
  v1::DesiredRank desired;
  std::string token;
  v1::RankStatus status;
  v1::RunRequest run = v1::RUN_REQUEST_TRAIN;
  KillCause kill = KillCause::kNone;
  std::optional<v1::TrainerReport> last_report;  // the one with phase ENDED
  std::optional<v1::StepRecord> last_step;
  ImbalanceTrend trend;
  double step_seconds_smooth = 0;
  int32_t micro_batch = 0;                       // as rank 0's trainer has told
  std::chrono::nanoseconds progress_time{0};     // monotonic, of the last sign of progress
  std::chrono::nanoseconds last_report_time{0};  // monotonic; 0: none yet
  bool held = false;       // its records cannot be kept now; status.message says why
  bool told_held = false;  // one warning an attempt says that they could not

  bool ended() const { return status.phase() == v1::RANK_PHASE_ENDED; }
};

RankState StartRank(const v1::DesiredRank& desired, const std::string& token, const base::Now& now);

// Its records cannot be kept, so it waits: the status says why, and promises no end of the job.
void HoldRank(const std::string& worker, const absl::Status& why, RankState* rank);

// How much of the state a report changed: a new phase is told to the coordinator at once, a new
// step may wait for others.
enum class ReportNews { kNothing, kStep, kPhase };
ReportNews ApplyReport(const v1::TrainerReport& report, const base::Now& now, RankState* rank);

// Whether time alone is reason to kill it.
struct Patience {
  std::chrono::nanoseconds no_progress = std::chrono::minutes(10);
  std::chrono::nanoseconds linger = std::chrono::seconds(10);
  // Reports come every 200 ms from a thread that does nothing else, whatever a step takes.
  std::chrono::nanoseconds silence = std::chrono::seconds(30);
};
KillCause Overdue(const RankState& rank, const Patience& patience, const base::Now& now);

// The process is gone: sets phase, outcome, reason and message.
void ApplyExit(const TrainerExit& exit, const Patience& patience, RankState* rank);

// "was killed by signal 11 (Segmentation fault)"
std::string Describe(const TrainerExit& exit);

}  // namespace sinkforge::worker
