// The life of one rank: reports, hangs, ends.
#include "worker/agent/rank_state.h"

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sinkforge::worker {
namespace {

using std::chrono::seconds;

base::Now At(seconds time) { return {time, std::chrono::system_clock::time_point(time)}; }

RankState Started() {
  v1::DesiredRank desired;
  desired.set_job_id("d4-1");
  desired.set_attempt(2);
  desired.mutable_spec()->mutable_train()->set_steps(100);
  desired.mutable_restore()->set_step(30);
  return StartRank(desired, "token", At(seconds(0)));
}

v1::TrainerReport Step(int64_t step, double step_seconds) {
  v1::TrainerReport report;
  report.set_phase(v1::RANK_PHASE_TRAINING);
  report.set_step(step);
  v1::StepRecord& record = *report.add_steps();
  record.set_step(step);
  record.set_loss(2.5);
  record.set_step_seconds(step_seconds);
  record.add_importance(0.25F);
  record.add_importance(0.75F);
  return report;
}

TEST(RankStateTest, AStepThatWasHeldUpIsNotTraining) {
  RankState rank = Started();
  for (int64_t step = 31; step <= 40; ++step) {
    ApplyReport(Step(step, 0.5), At(seconds(step)), &rank);
  }
  EXPECT_EQ(rank.status.progress().stall_seconds(), 0);
  ApplyReport(Step(41, 20.5), At(seconds(61)), &rank);
  EXPECT_DOUBLE_EQ(rank.status.progress().stall_seconds(), 20);
  // Slower than usual is what the machine does; twice as slow from now on is nothing held up.
  ApplyReport(Step(42, 1.5), At(seconds(63)), &rank);
  EXPECT_DOUBLE_EQ(rank.status.progress().stall_seconds(), 20);
  // One that stays slow is known for it soon.
  for (int64_t step = 43; step <= 60; ++step) {
    ApplyReport(Step(step, 20), At(seconds(step)), &rank);
  }
  const double before = rank.status.progress().stall_seconds();
  ApplyReport(Step(61, 20), At(seconds(61)), &rank);
  EXPECT_DOUBLE_EQ(rank.status.progress().stall_seconds(), before);
}

TEST(RankStateTest, OfSlowStepsASmallMultipleIsHeldUp) {
  RankState rank = Started();
  for (int64_t step = 31; step <= 40; ++step) {
    ApplyReport(Step(step, 2.1), At(seconds(step)), &rank);
  }
  ApplyReport(Step(41, 8.1), At(seconds(50)), &rank);
  EXPECT_NEAR(rank.status.progress().stall_seconds(), 6, 1e-9);
}

TEST(RankStateTest, NamesEveryCauseOfAKill) {
  std::set<std::string> words;
  for (const KillCause cause : {KillCause::kNone, KillCause::kNotDesired, KillCause::kNoProgress,
                                KillCause::kSilent, KillCause::kDrained, KillCause::kLingering}) {
    words.insert(WordsOf(cause));
  }
  EXPECT_EQ(words.size(), 6U);
  EXPECT_FALSE(words.contains("unknown"));
}

// Of a quick step, a short wait is many times its length.
TEST(RankStateTest, MomentsAreNoStall) {
  RankState rank = Started();
  ApplyReport(Step(31, 0.01), At(seconds(31)), &rank);
  ApplyReport(Step(32, 0.9), At(seconds(32)), &rank);
  EXPECT_EQ(rank.status.progress().stall_seconds(), 0);
}

TEST(RankStateTest, HasRestoredNothingBeforeTheTrainerSaysSo) {
  RankState rank = Started();
  EXPECT_EQ(rank.status.step(), 0);
  EXPECT_EQ(rank.status.restored_step(), 0);
  EXPECT_EQ(rank.status.phase(), v1::RANK_PHASE_SPAWNING);
  v1::TrainerReport loading;
  loading.set_phase(v1::RANK_PHASE_LOADING);
  ApplyReport(loading, At(seconds(1)), &rank);
  EXPECT_EQ(rank.status.restored_step(), 0);
  RankState stuck = rank;
  stuck.kill = KillCause::kNoProgress;
  ApplyExit({}, Patience(), &stuck);
  EXPECT_THAT(stuck.status.message(),
              testing::HasSubstr("while it restored the checkpoint of step 30,"));
  v1::TrainerReport begins;
  begins.set_phase(v1::RANK_PHASE_TRAINING);
  begins.set_step(30);
  begins.mutable_start()->set_restored_step(30);
  EXPECT_EQ(ApplyReport(begins, At(seconds(2)), &rank), ReportNews::kPhase);
  EXPECT_EQ(rank.status.step(), 30);
  EXPECT_EQ(rank.status.restored_step(), 30);
}

TEST(RankStateTest, FillsProgressFromStepRecords) {
  RankState rank = Started();
  EXPECT_EQ(ApplyReport(Step(50, 2.0), At(seconds(5)), &rank), ReportNews::kPhase);
  EXPECT_EQ(ApplyReport(Step(51, 2.0), At(seconds(7)), &rank), ReportNews::kStep);
  const v1::JobProgress& progress = rank.status.progress();
  EXPECT_EQ(progress.step(), 51);
  EXPECT_EQ(progress.steps_total(), 100);
  EXPECT_EQ(progress.eta().seconds(), 98);
  EXPECT_EQ(progress.importance_min(), 0.25);
  EXPECT_EQ(progress.importance_max(), 0.75);
  EXPECT_EQ(progress.update_time().seconds(), 7);
}

TEST(RankStateTest, TellsTheMicroBatchThatTheTrainerHasChosen) {
  RankState rank = Started();
  v1::TrainerReport report = Step(31, 2.0);
  report.mutable_start()->set_restored_step(30);
  report.mutable_start()->set_micro_batch(12);
  ApplyReport(report, At(seconds(1)), &rank);
  EXPECT_EQ(rank.status.progress().micro_batch(), 12);
  ApplyReport(Step(32, 2.0), At(seconds(2)), &rank);
  EXPECT_EQ(rank.status.progress().micro_batch(), 12);
}

TEST(RankStateTest, KeepsTheLastValidation) {
  RankState rank = Started();
  v1::TrainerReport report = Step(50, 1);
  report.mutable_steps(0)->set_validation_bits_per_byte(2.1);
  ApplyReport(report, At(seconds(1)), &rank);
  ApplyReport(Step(51, 1), At(seconds(2)), &rank);
  EXPECT_EQ(rank.status.progress().validation_bits_per_byte(), 2.1);
  EXPECT_EQ(rank.status.progress().validation_step(), 50);
}

TEST(RankStateTest, SurvivesNumbersThatAreNone) {
  RankState rank = Started();
  ApplyReport(Step(50, std::nan("")), At(seconds(1)), &rank);
  EXPECT_FALSE(rank.status.progress().has_eta());
  RankState other = Started();
  ApplyReport(Step(50, std::numeric_limits<double>::infinity()), At(seconds(1)), &other);
  EXPECT_FALSE(other.status.progress().has_eta());
}

TEST(RankStateTest, GivesUpOnlyAfterTheWholeTimeWithoutAStep) {
  RankState rank = Started();
  const Patience patience{seconds(10), seconds(5)};
  ApplyReport(Step(31, 1), At(seconds(8)), &rank);
  EXPECT_EQ(Overdue(rank, patience, At(seconds(18))), KillCause::kNone);
  EXPECT_EQ(Overdue(rank, patience, At(seconds(19))), KillCause::kNoProgress);
  // A report without a step is no progress.
  v1::TrainerReport same;
  same.set_phase(v1::RANK_PHASE_TRAINING);
  same.set_step(31);
  ApplyReport(same, At(seconds(18)), &rank);
  EXPECT_EQ(Overdue(rank, patience, At(seconds(19))), KillCause::kNoProgress);
}

TEST(RankStateTest, GivesUpOnATrainerThatIsSilent) {
  RankState rank = Started();
  Patience patience;
  patience.silence = seconds(30);
  // Nothing is expected before the first report: it may take long to start.
  EXPECT_EQ(Overdue(rank, patience, At(seconds(100))), KillCause::kNone);
  ApplyReport(Step(31, 1), At(seconds(100)), &rank);
  EXPECT_EQ(Overdue(rank, patience, At(seconds(130))), KillCause::kNone);
  EXPECT_EQ(Overdue(rank, patience, At(seconds(131))), KillCause::kSilent);
  // A report without news is a sign of life.
  ApplyReport(Step(31, 1), At(seconds(129)), &rank);
  EXPECT_EQ(Overdue(rank, patience, At(seconds(131))), KillCause::kNone);
  rank.kill = KillCause::kSilent;
  ApplyExit({TrainerExit::How::kSignaled, 9, "", {}}, patience, &rank);
  EXPECT_EQ(rank.status.reason(), v1::REASON_NO_PROGRESS);
  EXPECT_THAT(rank.status.message(), testing::HasSubstr("no sign of life for 30 s after step 31"));
}

TEST(RankStateTest, EndsWithItsProcessNotWithItsReport) {
  RankState rank = Started();
  v1::TrainerReport last;
  last.set_phase(v1::RANK_PHASE_ENDED);
  last.set_outcome(v1::RANK_OUTCOME_COMPLETED);
  ApplyReport(last, At(seconds(3)), &rank);
  EXPECT_FALSE(rank.ended());
  EXPECT_EQ(Overdue(rank, Patience(), At(seconds(12))), KillCause::kNone);
  EXPECT_EQ(Overdue(rank, Patience(), At(seconds(14))), KillCause::kLingering);
  rank.kill = KillCause::kLingering;
  ApplyExit({TrainerExit::How::kSignaled, 9, "", {}}, Patience(), &rank);
  EXPECT_TRUE(rank.ended());
  EXPECT_EQ(rank.status.outcome(), v1::RANK_OUTCOME_COMPLETED);
}

TEST(RankStateTest, NamesSignalAndLastLinesOfACrash) {
  RankState rank = Started();
  ApplyExit({TrainerExit::How::kSignaled, 11, "", {"arena: out of range"}}, Patience(), &rank);
  EXPECT_EQ(rank.status.outcome(), v1::RANK_OUTCOME_FAILED);
  EXPECT_EQ(rank.status.reason(), v1::REASON_TRAINER_CRASHED);
  EXPECT_THAT(rank.status.message(), testing::HasSubstr("signal 11 (Segmentation fault)"));
  EXPECT_THAT(rank.status.message(), testing::HasSubstr("arena: out of range"));
}

TEST(RankStateTest, TellsWhyItWasKilled) {
  RankState not_wanted = Started();
  not_wanted.kill = KillCause::kNotDesired;
  ApplyExit({TrainerExit::How::kSignaled, 9, "", {}}, Patience(), &not_wanted);
  EXPECT_EQ(not_wanted.status.outcome(), v1::RANK_OUTCOME_KILLED);

  RankState hung = Started();
  hung.kill = KillCause::kNoProgress;
  ApplyExit({TrainerExit::How::kSignaled, 9, "", {}}, Patience(), &hung);
  EXPECT_EQ(hung.status.reason(), v1::REASON_NO_PROGRESS);
  EXPECT_THAT(hung.status.message(), testing::HasSubstr("600 s"));

  RankState drained = Started();
  drained.kill = KillCause::kDrained;
  ApplyExit({TrainerExit::How::kSignaled, 9, "", {}}, Patience(), &drained);
  EXPECT_EQ(drained.status.reason(), v1::REASON_WORKER_DRAINING);
}

TEST(RankStateTest, CallsACleanExitWithoutAReportACrash) {
  RankState rank = Started();
  ApplyExit({TrainerExit::How::kExited, 0, "", {}}, Patience(), &rank);
  EXPECT_EQ(rank.status.reason(), v1::REASON_TRAINER_CRASHED);
  EXPECT_THAT(rank.status.message(), testing::HasSubstr("without a last report"));
}

TEST(RankStateTest, BoundsMessagesAndWarnings) {
  RankState rank = Started();
  v1::TrainerReport report;
  // Two-byte characters across the limit of 4,096 bytes: the cut must not halve one.
  std::string text = "x";
  for (int i = 0; i < 4000; ++i) text += "\xc3\xa9";
  for (int i = 0; i < 300; ++i) report.add_warnings(text);
  ApplyReport(report, At(seconds(1)), &rank);
  EXPECT_EQ(rank.status.warnings_size(), 100);
  EXPECT_EQ(rank.status.warnings(0).size(), 4095U);
}

}  // namespace
}  // namespace sinkforge::worker
