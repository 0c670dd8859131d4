// The picture of one job on a terminal.
#include "client/job_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "client/format.h"

namespace sinkforge::client {
namespace {

using testing::HasSubstr;
using testing::Not;

const Style kPlain(Style::Colour::kOff);

v1::StepRecord Record(int layers, int heads) {
  v1::StepRecord record;
  record.set_step(7);
  record.set_heads(heads);
  for (int i = 0; i < layers * heads; ++i) {
    record.add_importance(static_cast<float>(i) / static_cast<float>(layers * heads));
  }
  return record;
}

JobPicture Picture() {
  JobPicture picture;
  picture.job.set_job_id("d4-gated-1");
  picture.job.set_state(v1::JOB_STATE_RUNNING);
  v1::JobProgress* progress = picture.job.mutable_progress();
  progress->set_step(50);
  progress->set_steps_total(200);
  progress->set_loss(2.5);
  progress->set_imbalance(0.25);
  progress->mutable_eta()->set_seconds(42);
  picture.loss = {4, 3, 2.5};
  picture.imbalance = {0, 0.5, 0.25};
  picture.last = Record(4, 8);
  for (int i = 0; i < 9; ++i) picture.events.push_back("event " + std::to_string(i));
  return picture;
}

TEST(SparklineTest, ScalesToItsOwnRange) {
  EXPECT_EQ(Sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(Sparkline({5, 5}, 8), "▅▅");
  EXPECT_EQ(Sparkline({}, 8), "");
  EXPECT_EQ(Sparkline({1, 2}, 0), "");
}

TEST(SparklineTest, TakesMeansOfNeighboursAndLeavesOutWhatIsNoNumber) {
  EXPECT_EQ(Sparkline({0, 0, 7, 7}, 2), "▁█");
  EXPECT_EQ(Sparkline({NAN, 0, INFINITY, 7}, 8), "▁█");
}

TEST(HeadMapTest, HasALineForEachLayerAndTenthsWithoutColours) {
  const auto lines = HeadMap(Record(2, 5), {80, 20}, kPlain);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1], "  0 0 1 2 3 4 ");
  EXPECT_EQ(lines[2], "  1 5 6 7 8 9 ");
}

TEST(HeadMapTest, ColoursFollowTheValue) {
  const auto lines = HeadMap(Record(1, 2), {80, 20}, Style(Style::Colour::kOn));
  EXPECT_THAT(lines[1], HasSubstr("\033[48;5;53m  \033[0m"));
  EXPECT_THAT(lines[1], HasSubstr("\033[48;5;35m  \033[0m"));
}

TEST(HeadMapTest, FitsASmallTerminalAndSaysHow) {
  const auto lines = HeadMap(Record(40, 32), {24, 11}, kPlain);
  ASSERT_EQ(lines.size(), 11u);
  for (const std::string& line : lines) EXPECT_LE(DisplayWidth(line), 24);
  EXPECT_THAT(HeadMap(Record(40, 32), {60, 11}, kPlain)[0], HasSubstr("4 layer(s) x 1 head(s)"));
  EXPECT_TRUE(HeadMap(Record(4, 4), {80, 1}, kPlain).empty()) << "no room for a row";
  EXPECT_TRUE(HeadMap({}, {80, 20}, kPlain).empty());
}

TEST(RenderJobTest, ShowsProgressCurvesHeadsAndTheLastEvents) {
  const auto lines = RenderJob(Picture(), {100, 40}, kPlain);
  EXPECT_THAT(lines[0], HasSubstr("d4-gated-1  running  [=====>"));
  EXPECT_THAT(lines[0], HasSubstr("50/200  25%  ETA 42 s"));
  EXPECT_THAT(lines[1], HasSubstr("loss       2.5000    █▃▁"));
  EXPECT_THAT(lines[2], HasSubstr("imbalance  0.2500    ▁█▅"));
  EXPECT_EQ(lines.size(), 4u + 5u + 5u);
  EXPECT_EQ(lines.back(), "event 8");
}

TEST(RenderJobTest, SaysSoWhereTheMapOfTheHeadsHasNoRoom) {
  const auto lines = RenderJob(Picture(), {50, 9}, kPlain);
  ASSERT_EQ(lines.size(), 8u);
  EXPECT_EQ(lines[4], "the map of the heads needs a taller terminal");
  EXPECT_EQ(lines.back(), "event 8");
}

TEST(RenderJobTest, NeverIsLargerThanTheTerminal) {
  for (int width = 1; width < 120; width += 7) {
    for (int height = 1; height < 40; height += 3) {
      const auto lines = RenderJob(Picture(), {width, height}, kPlain);
      EXPECT_LE(lines.size(), static_cast<size_t>(std::max(1, height - 1)));
      for (const std::string& line : lines) EXPECT_LE(DisplayWidth(line), std::max(width, 8));
    }
  }
}

TEST(RenderJobTest, SaysWhyAJobWaits) {
  JobPicture picture;
  picture.job.set_job_id("a-1");
  picture.job.set_state(v1::JOB_STATE_QUEUED);
  picture.job.set_message("needs 8 cpu slots");
  EXPECT_EQ(RenderJob(picture, {80, 24}, kPlain),
            std::vector<std::string>{"a-1  queued  needs 8 cpu slots"});
}

TEST(JobScreenTest, RedrawsInPlaceAndClearsWhatIsLeftOver) {
  std::ostringstream out;
  JobScreen screen(
      &out,
      [] {
        return ScreenSize{80, 24};
      },
      kPlain);
  v1::WatchJobResponse message;
  *message.mutable_job() = Picture().job;
  *message.add_steps() = Record(4, 8);
  screen.Show(message);
  EXPECT_THAT(out.str(), Not(HasSubstr("\033[J")));
  out.str("");
  message.mutable_job()->set_state(v1::JOB_STATE_QUEUED);
  message.mutable_job()->clear_progress();
  message.clear_steps();
  screen.Show(message);
  EXPECT_EQ(out.str().substr(0, 5), "\033[9A\r");
  EXPECT_THAT(out.str(), HasSubstr("\033[J"));
}

TEST(JobScreenTest, FollowsTheTerminalsSize) {
  std::ostringstream out;
  ScreenSize size{80, 24};
  JobScreen screen(
      &out, [&size] { return size; }, Style(Style::Colour::kOn));
  v1::WatchJobResponse message;
  *message.mutable_job() = Picture().job;
  *message.add_steps() = Record(4, 8);
  screen.Show(message);
  const std::string first = out.str();
  const auto lines = std::count(first.begin(), first.end(), '\n');
  out.str("");
  // The first line, of 76 columns or so, takes two rows there now.
  size = {40, 10};
  screen.Show(message);
  const std::string second = out.str();
  ASSERT_EQ(second.substr(0, 2), "\033[");
  EXPECT_GT(std::stoi(second.substr(2)), lines);
  EXPECT_LE(std::count(second.begin(), second.end(), '\n'), 9);
  EXPECT_THAT(second, HasSubstr("\033[J"));
  out.str("");
  size = {80, 24};
  screen.Show(message);
  const std::string third = out.str();
  EXPECT_EQ(std::count(third.begin(), third.end(), '\n'), lines);
}

}  // namespace
}  // namespace sinkforge::client
