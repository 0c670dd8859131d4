// The spools: complete, in order, without duplicates; logs within their budget.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/faulty_kv.h"
#include "tests/unit/worker/test_support.h"
#include "worker/store/log_spool.h"
#include "worker/store/step_spool.h"

namespace sinkforge::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

v1::StepRecord Step(int64_t attempt, int64_t step) {
  v1::StepRecord record;
  record.set_attempt(attempt);
  record.set_step(step);
  record.set_loss(static_cast<double>(step));
  return record;
}

v1::AttemptStart Start(int64_t attempt, int64_t restored_step) {
  v1::AttemptStart start;
  start.set_attempt(attempt);
  start.set_restored_step(restored_step);
  return start;
}

std::vector<int64_t> Steps(const v1::ReportStepsRequest& request) {
  std::vector<int64_t> steps;
  for (const v1::StepRecord& step : request.steps()) steps.push_back(step.step());
  return steps;
}

class StepSpoolTest : public testing::Test {
 protected:
  StepSpoolTest() : kv_(OpenKv(folder_.path())) { Open(kv_.get()); }
  void Open(base::KvStore* kv) {
    auto spool = StepSpool::Open(kv, [this] { ++news_; });
    ASSERT_TRUE(spool.ok());
    spool_ = *std::move(spool);
  }
  v1::ReportStepsRequest Next(const std::string& job) { return spool_->Next(job).value(); }

  TempFolder folder_;
  std::unique_ptr<base::KvStore> kv_;
  std::unique_ptr<StepSpool> spool_;
  int news_ = 0;
};

TEST_F(StepSpoolTest, KeepsUntilAcknowledgedAlsoOverARestart) {
  const v1::AttemptStart start = Start(1, 0);
  ASSERT_TRUE(spool_->Append("d4-1", {Step(1, 1), Step(1, 2)}, &start).ok());
  EXPECT_EQ(news_, 1);
  Open(kv_.get());
  EXPECT_EQ(spool_->size().records, 3);
  const auto request = Next("d4-1");
  EXPECT_THAT(Steps(request), ElementsAre(1, 2));
  EXPECT_EQ(request.starts_size(), 1);
  EXPECT_EQ(Next("d4-1").steps_size(), 2);  // not acknowledged: again
  ASSERT_TRUE(spool_->Acknowledge(request).ok());
  EXPECT_EQ(Next("d4-1").steps_size(), 0);
  EXPECT_TRUE(spool_->Jobs().empty());
  EXPECT_EQ(spool_->size().records, 0);
  EXPECT_EQ(spool_->size().bytes, 0);
}

TEST_F(StepSpoolTest, SendsAttemptAfterAttempt) {
  const v1::AttemptStart first = Start(1, 0);
  const v1::AttemptStart second = Start(2, 1);
  ASSERT_TRUE(spool_->Append("d4-1", {Step(2, 2)}, &second).ok());
  ASSERT_TRUE(spool_->Append("d4-1", {Step(1, 1), Step(1, 2)}, &first).ok());
  auto request = Next("d4-1");
  EXPECT_EQ(request.starts(0).attempt(), 1);
  EXPECT_THAT(Steps(request), ElementsAre(1, 2));
  ASSERT_TRUE(spool_->Acknowledge(request).ok());
  request = Next("d4-1");
  EXPECT_EQ(request.starts(0).attempt(), 2);
  EXPECT_THAT(Steps(request), ElementsAre(2));
}

TEST_F(StepSpoolTest, CountsARepeatedRecordOnce) {
  ASSERT_TRUE(spool_->Append("d4-1", {Step(1, 1)}, nullptr).ok());
  ASSERT_TRUE(spool_->Append("d4-1", {Step(1, 1), Step(1, 2)}, nullptr).ok());
  EXPECT_EQ(spool_->size().records, 2);
  EXPECT_THAT(Steps(Next("d4-1")), ElementsAre(1, 2));
}

TEST_F(StepSpoolTest, TakesAnOldRecordThatComesBackBetweenReadAndAcknowledge) {
  ASSERT_TRUE(spool_->Append("d4-1", {Step(1, 5)}, nullptr).ok());
  auto request = Next("d4-1");
  ASSERT_TRUE(spool_->Append("d4-1", {Step(1, 4)}, nullptr).ok());
  ASSERT_TRUE(spool_->Acknowledge(request).ok());
  EXPECT_THAT(Steps(Next("d4-1")), ElementsAre(4));
}

TEST_F(StepSpoolTest, CutsALongQueueIntoMessages) {
  std::vector<v1::StepRecord> steps;
  for (int64_t step = 1; step <= 3000; ++step) steps.push_back(Step(1, step));
  ASSERT_TRUE(spool_->Append("d4-1", steps, nullptr).ok());
  int64_t expected = 1;
  for (auto request = Next("d4-1"); request.steps_size() > 0; request = Next("d4-1")) {
    EXPECT_LE(request.ByteSizeLong(), 2U << 20);
    for (const int64_t step : Steps(request)) EXPECT_EQ(step, expected++);
    ASSERT_TRUE(spool_->Acknowledge(request).ok());
  }
  EXPECT_EQ(expected, 3001);
}

TEST_F(StepSpoolTest, RefusesWhatCannotBeAndKeepsNothingOfIt) {
  EXPECT_TRUE(absl::IsInvalidArgument(spool_->Append("d4-1", {Step(1, 1), Step(1, 0)}, nullptr)));
  EXPECT_TRUE(absl::IsInvalidArgument(spool_->Append("d4-1", {Step(-1, 1)}, nullptr)));
  EXPECT_TRUE(absl::IsInvalidArgument(spool_->Append("../x", {Step(1, 1)}, nullptr)));
  EXPECT_TRUE(spool_->Jobs().empty());
}

TEST_F(StepSpoolTest, NeverPretendsToHaveKeptARecord) {
  FaultyKv faulty(kv_.get());
  Open(&faulty);
  faulty.SetDisk(FaultyKv::Disk::kFull);
  EXPECT_TRUE(absl::IsResourceExhausted(spool_->Append("d4-1", {Step(1, 1)}, nullptr)));
  EXPECT_EQ(spool_->size().records, 0);
  faulty.SetDisk(FaultyKv::Disk::kGood);
  EXPECT_TRUE(spool_->Append("d4-1", {Step(1, 1)}, nullptr).ok());
  EXPECT_THAT(Steps(Next("d4-1")), ElementsAre(1));
  spool_.reset();
}

class LogSpoolTest : public testing::Test {
 protected:
  LogSpoolTest() : kv_(OpenKv(folder_.path())) { Open(kv_.get(), 1 << 20); }
  void Open(base::KvStore* kv, int64_t bytes_max) {
    LogSpoolOptions options;
    options.bytes_max = bytes_max;
    options.on_news = [] {};
    options.on_dropped = [this](int64_t lines) { dropped_ += lines; };
    auto spool = LogSpool::Open(kv, options);
    ASSERT_TRUE(spool.ok());
    spool_ = *std::move(spool);
  }
  // Lines first..last of rank 0 of the job.
  void Append(const std::string& job, int64_t first, int64_t last) {
    std::vector<v1::LogLine> lines;
    for (int64_t sequence = first; sequence <= last; ++sequence) {
      v1::LogLine& line = lines.emplace_back();
      line.set_attempt(1);
      line.set_sequence(sequence);
      line.set_text("line " + std::to_string(sequence));
    }
    spool_->Append({job, 1, 0}, lines);
  }
  // Everything of the job, in the order in which it would be sent.
  std::vector<v1::LogLine> Drain(const std::string& job) {
    std::vector<v1::LogLine> lines;
    for (auto request = spool_->Next(job).value(); request.lines_size() > 0;
         request = spool_->Next(job).value()) {
      lines.insert(lines.end(), request.lines().begin(), request.lines().end());
      EXPECT_TRUE(spool_->Acknowledge(request).ok());
    }
    return lines;
  }

  TempFolder folder_;
  std::unique_ptr<base::KvStore> kv_;
  std::unique_ptr<LogSpool> spool_;
  int64_t dropped_ = 0;
};

TEST_F(LogSpoolTest, KeepsLinesInOrderOverARestart) {
  Append("d4-1", 1, 3);
  Open(kv_.get(), 1 << 20);
  Append("d4-1", 4, 5);
  EXPECT_EQ(spool_->size().records, 5);
  const auto lines = Drain("d4-1");
  ASSERT_EQ(lines.size(), 5U);
  for (size_t i = 0; i < lines.size(); ++i)
    EXPECT_EQ(lines[i].text(), "line " + std::to_string(i + 1));
  EXPECT_EQ(spool_->size().records, 0);
  EXPECT_EQ(spool_->size().bytes, 0);
  EXPECT_TRUE(spool_->Jobs().empty());
}

TEST_F(LogSpoolTest, DropsTheOldestOfTheLongestAndSaysHowMany) {
  Open(kv_.get(), 20'000);
  Append("quiet-2", 1, 5);
  for (int64_t first = 1; first <= 2000; first += 10) Append("loud-1", first, first + 9);
  EXPECT_LE(spool_->size().bytes, 20'000);
  EXPECT_EQ(Drain("quiet-2").size(), 5U);
  const auto lines = Drain("loud-1");
  EXPECT_EQ(lines.back().text(), "line 2000");
  EXPECT_THAT(lines.front().text(), HasSubstr(std::to_string(dropped_) + " log lines"));
  // What was dropped and what is left make up all that was written: one line is the note.
  EXPECT_EQ(dropped_ + static_cast<int64_t>(lines.size()) - 1, 2000);
  for (size_t i = 1; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].sequence(), lines[i - 1].sequence() + 1);
  }
  EXPECT_EQ(spool_->size().bytes, 0);
}

TEST_F(LogSpoolTest, DoesNotDropWhatIsOnItsWay) {
  Open(kv_.get(), 20'000);
  Append("loud-1", 1, 100);
  const auto in_flight = spool_->Next("loud-1").value();
  ASSERT_EQ(in_flight.lines_size(), 100);
  for (int64_t first = 101; first <= 2000; first += 10) Append("loud-1", first, first + 9);
  ASSERT_TRUE(spool_->Acknowledge(in_flight).ok());
  const auto lines = Drain("loud-1");
  EXPECT_EQ(100 + dropped_ + static_cast<int64_t>(lines.size()) - 1, 2000);
  EXPECT_EQ(spool_->size().records, 0);
  EXPECT_EQ(spool_->size().bytes, 0);
}

TEST_F(LogSpoolTest, SaysWhatAFullDiskCost) {
  FaultyKv faulty(kv_.get());
  Open(&faulty, 1 << 20);
  Append("d4-1", 1, 2);
  faulty.SetDisk(FaultyKv::Disk::kFull);
  Append("d4-1", 3, 7);
  faulty.SetDisk(FaultyKv::Disk::kGood);
  Append("d4-1", 8, 8);
  const auto lines = Drain("d4-1");
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_THAT(lines[2].text(), HasSubstr("5 log lines"));
  EXPECT_EQ(lines[2].sequence(), 7);
  EXPECT_EQ(lines[3].text(), "line 8");
  EXPECT_EQ(dropped_, 5);
  spool_.reset();
}

}  // namespace
}  // namespace sinkforge::worker
