// Progress lines and displays.
#include "client/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "client/format.h"

namespace sinkforge::client {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

v1::Job RunningJob(int64_t step) {
  v1::Job job;
  job.set_job_id("d4-gated-1");
  job.set_state(v1::JOB_STATE_RUNNING);
  job.set_reason(v1::REASON_TRAINING);
  job.set_attempt(1);
  v1::JobProgress* progress = job.mutable_progress();
  progress->set_step(step);
  progress->set_steps_total(200);
  progress->set_loss(2.43121);
  progress->set_imbalance(0.0312);
  progress->set_importance_min(0.12);
  progress->set_importance_max(0.91);
  progress->set_tokens_per_second(51'234);
  progress->mutable_eta()->set_seconds(42);
  return job;
}

std::string Line(const v1::Job& job, int width) {
  return TerminalProgressLine(job, 10, width, Style(Style::Colour::kOff));
}

TEST(ProgressBarTest, IsFullOnlyAtTheEnd) {
  EXPECT_EQ(ProgressBar(0, 10, 12), "[>         ]");
  EXPECT_EQ(ProgressBar(5, 10, 12), "[=====>    ]");
  EXPECT_EQ(ProgressBar(10, 10, 12), "[==========]");
  EXPECT_EQ(ProgressBar(999, 1000, 12), "[=========>]");
  // Steps that nobody knows the number of, or more than there should be.
  EXPECT_EQ(ProgressBar(5, 0, 12), "[>         ]");
  EXPECT_EQ(ProgressBar(20, 10, 12), "[==========]");
}

TEST(ProgressLineTest, ShowsEverythingWhereThereIsRoom) {
  EXPECT_EQ(Line(RunningJob(100), 200),
            "d4-gated-1  running    [=========>        ]  100/200  loss 2.4312  imbalance 0.0312  "
            "importance 0.1200..0.9100  51.2k tokens/s  ETA 42 s");
}

TEST(ProgressLineTest, NeverIsWiderThanTheTerminal) {
  for (int width = 1; width < 160; ++width) {
    EXPECT_LE(DisplayWidth(Line(RunningJob(100), width)), width) << width;
  }
}

TEST(ProgressLineTest, KeepsStepAndLossLongest) {
  EXPECT_EQ(Line(RunningJob(100), 50), "d4-gated-1  running    100/200  loss 2.4312");
}

TEST(ProgressLineTest, SaysWhyAJobWaits) {
  v1::Job job = RunningJob(0);
  job.set_state(v1::JOB_STATE_QUEUED);
  job.set_message("needs 4 cpu slots,\nthe workers have 2");
  EXPECT_EQ(Line(job, 100), "d4-gated-1  queued     needs 4 cpu slots, the workers have 2");
}

TEST(ProgressLineTest, EndShowsTheTimeItTook) {
  v1::Job job = RunningJob(200);
  job.set_state(v1::JOB_STATE_SUCCEEDED);
  job.mutable_start_time()->set_seconds(1000);
  job.mutable_start_time()->set_nanos(900'000'000);
  job.mutable_end_time()->set_seconds(1065);
  EXPECT_THAT(Line(job, 200), HasSubstr("in 1m04s"));
  EXPECT_THAT(Line(job, 200), Not(HasSubstr("ETA")));
}

TEST(ProgressLineTest, ValidationAppearsOnceItIsThere) {
  v1::Job job = RunningJob(100);
  EXPECT_THAT(Line(job, 200), Not(HasSubstr("bits/byte")));
  job.mutable_progress()->set_validation_step(50);
  job.mutable_progress()->set_validation_bits_per_byte(1.98768);
  EXPECT_THAT(Line(job, 200), HasSubstr("bits/byte 1.9877"));
}

TEST(PlainLineTest, FitsALine) {
  v1::Job job = RunningJob(100);
  job.set_message("training, and whatever else there is to say about a job that runs");
  job.mutable_progress()->set_validation_step(50);
  job.mutable_progress()->set_validation_bits_per_byte(1.98768);
  EXPECT_EQ(PlainProgressLine(job),
            "d4-gated-1 running step=100/200 loss=2.4312 imbalance=0.0312 "
            "importance=0.1200..0.9100 bits/byte=1.9877 tokens/s=51.2k eta=42s");
}

TEST(PlainLineTest, LeavesWhyItFailedToTheCommandsEnd) {
  v1::Job job = RunningJob(100);
  job.set_state(v1::JOB_STATE_FAILED);
  job.set_message("the loss is not finite");
  EXPECT_THAT(PlainProgressLine(job), Not(HasSubstr("finite")));
  job.set_state(v1::JOB_STATE_QUEUED);
  EXPECT_THAT(PlainProgressLine(job), HasSubstr(": the loss is not finite"));
}

TEST(PlainDisplayTest, PrintsAtMostOneLineASecondPlusChanges) {
  std::ostringstream out;
  auto display = MakePlainDisplay(&out);
  auto lines = [&] {
    const std::string text = out.str();
    return std::count(text.begin(), text.end(), '\n');
  };
  display->Show({RunningJob(1)}, milliseconds(0));
  EXPECT_EQ(lines(), 1);
  display->Show({RunningJob(2)}, milliseconds(400));
  display->Show({RunningJob(3)}, milliseconds(999));
  EXPECT_EQ(lines(), 1);
  display->Show({RunningJob(4)}, milliseconds(1000));
  EXPECT_EQ(lines(), 2);
  display->Show({RunningJob(4)}, milliseconds(5000));  // nothing new
  EXPECT_EQ(lines(), 2);
  v1::Job done = RunningJob(5);
  done.set_state(v1::JOB_STATE_SUCCEEDED);
  display->Show({done}, milliseconds(5001));
  EXPECT_EQ(lines(), 3);
  EXPECT_THAT(out.str(), Not(HasSubstr("\033")));
}

TEST(TerminalDisplayTest, RedrawsItsLinesInPlace) {
  std::ostringstream out;
  auto display = MakeTerminalDisplay(
      &out,
      [] {
        return ScreenSize{60, 24};
      },
      Style(Style::Colour::kOff));
  display->Show({RunningJob(1), RunningJob(2)}, milliseconds(0));
  EXPECT_THAT(out.str(), Not(HasSubstr("\033[2A")));
  out.str("");
  display->Show({RunningJob(3), RunningJob(4)}, milliseconds(1));
  EXPECT_EQ(out.str().substr(0, 5), "\033[2A\r");
  EXPECT_THAT(out.str(), HasSubstr("3/200"));
}

TEST(TerminalDisplayTest, AMessageGoesAboveTheLines) {
  std::ostringstream out;
  auto display = MakeTerminalDisplay(
      &out,
      [] {
        return ScreenSize{60, 24};
      },
      Style(Style::Colour::kOff));
  display->Show({RunningJob(1)}, milliseconds(0));
  out.str("");
  display->Say("checkpoint committed");
  const std::string text = out.str();
  EXPECT_EQ(text.substr(0, 5), "\033[1A\r");
  EXPECT_LT(text.find("checkpoint committed"), text.find("1/200"));
}

TEST(EventLineTest, NamesWhatHappened) {
  v1::Event event;
  event.set_job_id("d4-gated-1");
  event.mutable_time()->set_seconds(1'700'000'000);
  event.set_kind(v1::EVENT_KIND_CHECKPOINT_COMMITTED);
  event.set_attempt(2);
  event.set_step(100);
  event.set_message("12.3 MiB");
  EXPECT_EQ(EventLine(event),
            "22:13:20 d4-gated-1: checkpoint committed, attempt 2, step 100: 12.3 MiB");
}

}  // namespace
}  // namespace sinkforge::client
