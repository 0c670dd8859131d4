// sinkforge show: everything about one job: why it waits, attempts, progress, checkpoints.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "client/checkpoint_table.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/final_checkpoint.h"
#include "client/format.h"
#include "client/session.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/micro_batch.h"

namespace sinkforge::client {
namespace {

struct ShowOptions {
  std::string job_id;
  bool job_file = false;
};

using Lines = std::vector<std::pair<std::string, std::string>>;

std::string Short(const google::protobuf::EnumDescriptor* type, int number) {
  return jobspec::ShortEnumName(*type, number);
}

std::string ModelLine(const v1::Job& job) {
  const v1::ModelSpec& model = job.spec().model();
  std::string line =
      absl::StrCat(FormatCount(static_cast<double>(job.parameters())), " parameters, ",
                   model.layers(), " layers of ", model.heads(), " heads, width ", model.width(),
                   ", ", Short(v1::AttentionVariant_descriptor(), model.attention()), " attention");
  if (model.mlp() == v1::MLP_SWIGLU) absl::StrAppend(&line, ", swiglu");
  const v1::HeadBalanceSpec& balance = job.spec().head_balance();
  if (balance.loss() == v1::BALANCE_LOSS_NONE) return absl::StrCat(line, ", no head-balance loss");
  return absl::StrCat(line, ", ", Short(v1::BalanceLoss_descriptor(), balance.loss()), " loss ",
                      FormatNumber(balance.coefficient()));
}

void AddProgress(const v1::Job& job, Lines* lines) {
  const v1::JobProgress& progress = job.progress();
  const int64_t total = job.spec().train().steps();
  if (progress.step() == 0) {
    lines->emplace_back("progress", absl::StrCat("0 of ", total, " steps"));
    return;
  }
  std::string line =
      absl::StrFormat("%d of %d steps (%.1f%%)", progress.step(), total,
                      100.0 * double(progress.step()) / double(std::max<int64_t>(1, total)));
  if (!IsSettled(job.state())) {
    absl::StrAppend(&line, ", ", FormatCount(progress.tokens_per_second()), " tokens/s");
    if (progress.has_eta()) absl::StrAppend(&line, ", ETA ", FormatDuration(progress.eta()));
  }
  lines->emplace_back("progress", line);
  lines->emplace_back("loss", absl::StrCat(FormatNumber(progress.loss()), " nats per token, ",
                                           FormatNumber(progress.aux_loss()), " auxiliary"));
  lines->emplace_back(
      "heads", absl::StrCat("imbalance ", FormatNumber(progress.imbalance()), ", importance ",
                            FormatNumber(progress.importance_min()), " to ",
                            FormatNumber(progress.importance_max())));
  if (progress.validation_step() > 0) {
    const double bits = progress.validation_bits_per_byte();
    lines->emplace_back("validation",
                        absl::StrCat(bits > 0 ? FormatNumber(bits) + " bits per byte" : "done",
                                     " at step ", progress.validation_step()));
  }
}

// "2 workers that were lost or stopped, 1 crash"
std::string FailuresText(const v1::RetryCounts& retries) {
  std::vector<std::string> texts;
  const auto add = [&](int count, const char* one, const char* several) {
    if (count > 0) texts.push_back(absl::StrCat(count, " ", count == 1 ? one : several));
  };
  add(retries.infrastructure(), "worker that was lost or stopped",
      "workers that were lost or stopped");
  add(retries.crash(), "crash", "crashes");
  add(retries.no_progress(), "hang", "hangs");
  add(retries.unfit_worker(), "worker without its data or room",
      "workers without its data or room");
  return absl::StrJoin(texts, ", ");
}

void AddAttempts(const v1::Job& job, Lines* lines) {
  std::string line = absl::StrCat(job.attempt());
  const std::string failures = FailuresText(job.retries());
  if (!failures.empty()) absl::StrAppend(&line, " (after ", failures, ")");
  if (job.skipped_batches_size() > 0) {
    absl::StrAppend(&line, "; passes over ", job.skipped_batches_size(), " bad batches");
  }
  lines->emplace_back("attempt", line);
  if (!IsSettled(job.state())) {
    for (const v1::RankPlacement& place : job.placement()) {
      lines->emplace_back(absl::StrCat("rank ", place.rank()),
                          absl::StrCat("worker ", place.worker(), ", slot ", place.slot()));
    }
    if (!job.lent_from().empty()) {
      lines->emplace_back(
          "backfilled", absl::StrCat("stops when ", job.lent_from(), " can start with its slots"));
    }
    if (job.has_not_before() && job.state() == v1::JOB_STATE_QUEUED) {
      lines->emplace_back("not before", FormatTime(job.not_before()));
    }
  }
}

// The newest thing known of checkpoints, if it is that one could not be kept. The trainer's
// warnings begin so (worker/trainer/core/loop.cc), and name the step.
void AddLostCheckpoint(const v1::Job& job, Lines* lines) {
  constexpr char kBegin[] = "a checkpoint could not be made durable";
  constexpr char kStep[] = "checkpoint of step ";
  int64_t kept = 0;
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    kept = std::max(kept, checkpoint.step());
  }
  for (int i = job.rank_notes_size() - 1; i >= 0; --i) {
    const std::string& note = job.rank_notes(i);
    const size_t at = note.find(kStep);
    int64_t step = 0;
    if (!absl::StartsWith(note, kBegin) || at == std::string::npos) continue;
    const std::string rest = note.substr(at + sizeof(kStep) - 1);
    if (!absl::SimpleAtoi(rest.substr(0, rest.find(':')), &step)) continue;
    if (step > kept) {
      lines->emplace_back("not kept", OneLine(note.substr(at)));
      lines->emplace_back("", kept == 0
                                  ? std::string("there is no checkpoint to go back to")
                                  : absl::StrCat("the last one that was kept is of step ", kept));
    }
    return;
  }
}

// The state's message is of the moment when the job succeeded, with its last checkpoint.
void AddMissingFinalWeights(const v1::Job& job, Lines* lines) {
  const std::optional<int64_t> missing = MissingFinalStep(job);
  if (job.state() != v1::JOB_STATE_SUCCEEDED || !missing.has_value()) return;
  const std::optional<int64_t> newest = NewestCheckpointStep(job);
  lines->emplace_back(
      "lost",
      absl::StrCat("the final checkpoint, of step ", *missing, ", is no longer there; ",
                   newest.has_value() ? absl::StrCat("the newest that is left is of step ", *newest)
                                      : std::string("no checkpoint is left")));
}

double SecondsBetween(const google::protobuf::Timestamp& from,
                      std::chrono::system_clock::time_point to) {
  return std::chrono::duration<double>(to - base::FromProto(from)).count();
}

// Where the time of a job went, the state that it is in now included.
void AddTime(const v1::Job& job, std::chrono::system_clock::time_point now, Lines* lines) {
  if (!job.has_create_time()) return;
  v1::TimeLedger time = job.time();
  const double present = std::max(
      0.0, SecondsBetween(job.has_state_time() ? job.state_time() : job.create_time(), now));
  if (job.state() == v1::JOB_STATE_QUEUED) time.set_queue(time.queue() + present);
  if (job.state() == v1::JOB_STATE_PAUSED || job.state() == v1::JOB_STATE_FAILED) {
    time.set_pause(time.pause() + present);  // as it counts once the job is resumed
  }
  if (job.state() == v1::JOB_STATE_STARTING) time.set_start(time.start() + present);
  if (job.state() == v1::JOB_STATE_RUNNING) {
    const double copy = job.has_copy_start_time()
                            ? std::clamp(SecondsBetween(job.copy_start_time(), now), 0.0, present)
                            : 0;
    const double trained = present - copy;
    const double checkpoint = std::min(trained, job.progress().checkpoint_stall_seconds());
    const double stall = std::min(trained - checkpoint, job.progress().stall_seconds());
    time.set_checkpoint_stall(time.checkpoint_stall() + checkpoint + copy);
    time.set_stall(time.stall() + stall);
    time.set_train(time.train() + trained - checkpoint - stall);
  }
  const std::vector<std::pair<const char*, double>> lost = {
      {"queue", time.queue()},
      {"start and restore", time.start()},
      {"detect", time.detect()},
      {"replay", time.replay()},
      {"checkpoint stall", time.checkpoint_stall()},
      {"held up", time.stall()},
      {"pause", time.pause()}};
  double sum = time.train();
  for (const auto& [name, seconds] : lost) sum += seconds;
  if (sum <= 0) return;
  const auto text = [](double seconds) {
    return FormatDuration(std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9)));
  };
  lines->emplace_back("time", absl::StrFormat("%.1f%% goodput: %s of %s", 100 * time.train() / sum,
                                              text(time.train()), text(sum)));
  std::string losses;
  for (const auto& [name, seconds] : lost) {
    if (seconds < 0.001) continue;
    absl::StrAppend(&losses, losses.empty() ? "" : ", ", name, " ",
                    seconds < 100 ? absl::StrFormat("%.3g s", seconds) : text(seconds));
  }
  if (!losses.empty()) lines->emplace_back("lost to", losses);
}

// "4", or of an elastic job "2 to 4, now 3".
std::string RanksText(const v1::Job& job) {
  const v1::ResourceSpec& resources = job.spec().resources();
  if (resources.min_ranks() >= resources.ranks()) return absl::StrCat(resources.ranks());
  return absl::StrCat(resources.min_ranks(), " to ", resources.ranks(),
                      job.placement_size() > 0 ? absl::StrCat(", now ", job.placement_size()) : "");
}

// Who is ahead, and what would let it run.
void AddWait(const v1::JobWait& wait, Lines* lines) {
  if (wait.ahead_count() > 0) {
    const int64_t more = wait.ahead_count() - wait.ahead_size();
    lines->emplace_back("ahead",
                        absl::StrCat(absl::StrJoin(wait.ahead(), ", "),
                                     more > 0 ? absl::StrCat(" and ", more, " more") : ""));
  }
  for (int i = 0; i < wait.would_run_size(); ++i) {
    lines->emplace_back(i == 0 ? "would run by" : "or by", OneLine(wait.would_run(i)));
  }
}

std::string AutoMicroBatch(const v1::Job& job) {
  const int32_t rows = job.progress().micro_batch();
  if (rows > 0) return absl::StrCat("auto: ", jobspec::RowsText(rows));
  if (IsFinal(job.state())) return "auto: never chosen, because no step was done";
  return job.state() == v1::JOB_STATE_QUEUED ? "auto: chosen when the job starts"
                                             : "auto: told with the first step";
}

Lines Describe(const v1::Job& job, const Style& style) {
  Lines lines;
  lines.emplace_back("job", style.Bold(job.job_id()));
  std::string state = absl::StrCat(style.State(job.state(), StateName(job.state())), " (",
                                   ReasonName(job.reason()), ")");
  if (job.pause_requested() && !IsSettled(job.state())) state += ", pause requested";
  if (job.cancel_requested() && !IsSettled(job.state())) state += ", cancel requested";
  if (job.delete_requested()) state += ", being deleted";
  lines.emplace_back("state", state);
  if (!job.message().empty()) lines.emplace_back("", OneLine(job.message()));
  AddMissingFinalWeights(job, &lines);
  if (job.has_wait()) AddWait(job.wait(), &lines);
  AddProgress(job, &lines);
  AddAttempts(job, &lines);
  if (!IsFinal(job.state())) AddLostCheckpoint(job, &lines);
  lines.emplace_back("model", ModelLine(job));
  if (jobspec::IsAutoMicroBatch(job.spec().train())) {
    lines.emplace_back("micro-batch", AutoMicroBatch(job));
  }
  lines.emplace_back(
      "resources",
      absl::StrCat(RanksText(job), " x ",
                   Short(v1::Device_descriptor(), job.spec().resources().device()), ", priority ",
                   job.spec().priority(), ", namespace ", job.spec().namespace_()));
  if (!job.sweep().empty()) {
    lines.emplace_back(
        "sweep", absl::StrCat(job.sweep(), job.sweep_running_max() > 0
                                               ? absl::StrCat(", at most ", job.sweep_running_max(),
                                                              " at a time")
                                               : ""));
  }
  if (job.has_deadline()) lines.emplace_back("deadline", FormatTime(job.deadline()));
  lines.emplace_back("created", FormatTime(job.create_time()));
  if (job.has_start_time()) lines.emplace_back("first step", FormatTime(job.start_time()));
  if (job.has_end_time()) lines.emplace_back("ended", FormatTime(job.end_time()));
  AddTime(job, base::RealClock().Read().wall, &lines);
  return lines;
}

void PrintNextSteps(const Session& session, const v1::Job& job) {
  const std::string& id = job.job_id();
  if (job.state() == v1::JOB_STATE_FAILED) {
    session.Say(
        absl::StrCat("what happened: `sinkforge events ", id, "`, `sinkforge logs ", id, "`"));
  } else if (job.state() == v1::JOB_STATE_PAUSED) {
    session.Say(absl::StrCat("go on with `sinkforge resume ", id, "`"));
  } else if (job.state() == v1::JOB_STATE_SUCCEEDED && MissingFinalStep(job).has_value()) {
    session.Say(absl::StrCat("to have the final weights again, train it again: `sinkforge show ",
                             id, " --job-file > again.yaml && sinkforge submit again.yaml`"));
  }
}

absl::StatusOr<int> Show(Session& session, const ShowOptions& options) {
  const auto job = session.coordinator().GetJob(options.job_id);
  if (!job.ok()) return job.status();
  session.WarnOfStore();
  if (options.job_file) {
    session.out() << jobspec::FormatJobFile(job->spec());
    return kExitOk;
  }
  if (session.json()) {
    session.PrintJson(*job);
    return kExitOk;
  }
  for (const auto& [name, text] : Describe(*job, session.out_style())) {
    session.out() << absl::StrFormat("%-13s", name) << text << "\n";
  }
  if (!job->checkpoints().empty()) session.out() << "\n" << CheckpointTable(*job).Render(0);
  session.out() << std::flush;
  PrintNextSteps(session, *job);
  return kExitOk;
}

}  // namespace

Command ShowCommand() {
  auto options = std::make_shared<ShowOptions>();
  Command command;
  command.name = "show";
  command.summary = "Show one job: why it waits, attempts, progress, checkpoints";
  command.examples =
      "  sinkforge show d4-gated-1\n"
      "  sinkforge show d4-gated-1 --job-file > again.yaml";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = &options->job_id}};
  command.options = {
      {"--job-file", "", "Print only the resolved job as a job file", &options->job_file}};
  command.run = [options](Session& session) { return Show(session, *options); };
  return command;
}

}  // namespace sinkforge::client
