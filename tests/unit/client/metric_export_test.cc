// sinkforge metrics as CSV and JSON, answered by the coordinator's own query: every step comes,
// however many answers they take.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "client/exit_code.h"
#include "server/engine/metric_query.h"
#include "tests/unit/client/fake_services.h"
#include "tests/unit/client/run_client.h"
#include "tests/unit/server/memory_stores.h"
#include "tests/unit/server/records.h"

namespace sinkforge::client {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class MetricExportTest : public testing::Test {
 protected:
  MetricExportTest() {
    fake_.SetMetrics([this](const v1::QueryMetricsRequest& request) {
      return server::QueryHistory(history_, request, server::ModelShape{2, 2},
                                  [] { return false; });
    });
  }

  void Train(int64_t attempt, int64_t first, int64_t last) {
    const auto report = server::MakeReport("long-1", attempt, first, last);
    ASSERT_TRUE(history_.Append({server::WithStart(report, attempt, first - 1)}).ok());
  }
  ClientRun Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"metrics", "long-1"});
    ClientWorld world;
    world.variables = {{"SINKFORGE_COORDINATOR", fake_.address()}, {"HOME", folder_.path()}};
    return RunClient(arguments, world);
  }

  TempFolder folder_;
  server::MemoryHistoryStore history_;
  FakeServices fake_;
};

// Rows of "step,loss,..." as MakeStep made them: from `first` on, one a step, nothing averaged.
int64_t RowsAsMeasured(const std::string& csv, int64_t first, double part) {
  std::istringstream lines(csv);
  std::string line;
  std::getline(lines, line);
  EXPECT_THAT(line, testing::StartsWith("step,loss"));
  int64_t rows = 0;
  while (std::getline(lines, line)) {
    const int64_t step = first + rows++;
    char* end = nullptr;
    EXPECT_EQ(std::strtoll(line.c_str(), &end, 10), step) << line;
    EXPECT_EQ(std::strtod(end + 1, nullptr), static_cast<double>(step) + part) << line;
    if (testing::Test::HasFailure()) break;  // one row says enough
  }
  return rows;
}

TEST_F(MetricExportTest, CsvHasEveryStepOfALongJob) {
  Train(1, 1, 20'000);  // 13 series: 7692 steps fit into one answer
  const ClientRun run = Run({"-o", "csv"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(RowsAsMeasured(run.out, 1, 0.1), 20'000);
  const ClientRun window = Run({"--from", "9999", "--to", "10008", "-o", "csv"});
  EXPECT_EQ(window.code, kExitOk) << window.err;
  EXPECT_EQ(RowsAsMeasured(window.out, 9999, 0.1), 10);
}

TEST_F(MetricExportTest, NothingIsAveragedBeyondWhatOneAnswerHolds) {
  Train(1, 1, 100'001);
  const ClientRun run = Run({"--series", "loss", "-o", "csv"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(RowsAsMeasured(run.out, 1, 0.1), 100'001);
}

TEST_F(MetricExportTest, JsonIsOneDocumentOfEveryStep) {
  Train(1, 1, 60'000);
  const ClientRun run = Run({"--series", "loss,layer_cv/1", "-o", "json"});
  ASSERT_EQ(run.code, kExitOk) << run.err;
  const json series = json::parse(run.out)["series"];
  ASSERT_EQ(series.size(), 2u);
  EXPECT_EQ(series[1]["name"], "layer_cv/1");
  for (const json& one : series) {
    ASSERT_EQ(one["points"].size(), 60'000u);
    const json& point = one["points"][50'000];  // the first of the second answer
    EXPECT_EQ(point["step"], "50001");
    EXPECT_EQ(point["count"], "1");
  }
  EXPECT_EQ(series[0]["points"][50'000]["value"], 50'001.1);
}

TEST_F(MetricExportTest, AnAttemptThatWentOnLateComesWhole) {
  Train(1, 1, 9'000);
  Train(2, 8'001, 20'000);
  const ClientRun run = Run({"--attempt", "2", "-o", "csv"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(RowsAsMeasured(run.out, 8'001, 0.2), 12'000);
}

TEST_F(MetricExportTest, AnExportOfNothingHasItsTitles) {
  const ClientRun run = Run({"--series", "loss", "-o", "csv"});
  EXPECT_EQ(run.code, kExitOk) << run.err;
  EXPECT_EQ(run.out, "step,loss\n");
}

TEST_F(MetricExportTest, MorePointsThanOneAnswerHoldsAreRefusedWithTheNumberThatFits) {
  const ClientRun run = Run({"--points", "7693"});
  EXPECT_EQ(run.code, kExitUsage);
  EXPECT_THAT(run.err, HasSubstr("ask for 7692 points a series or less, or for fewer series"));
}

}  // namespace
}  // namespace sinkforge::client
