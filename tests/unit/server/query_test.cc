// Series, down-sampling and metric queries.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "server/engine/down_sampler.h"
#include "server/engine/metric_query.h"
#include "server/engine/rewind_rule.h"
#include "server/engine/series.h"
#include "tests/unit/server/memory_stores.h"
#include "tests/unit/server/records.h"

namespace sinkforge::server {
namespace {

constexpr ModelShape kShape{2, 2};

std::vector<std::string> NamesOf(const std::vector<std::string>& asked) {
  const auto series = ParseSeries(asked, kShape, 1000);
  EXPECT_TRUE(series.ok()) << series.status();
  std::vector<std::string> names;
  if (series.ok()) {
    for (const SeriesId& id : *series) names.push_back(id.name);
  }
  return names;
}

TEST(SeriesTest, ExpandsPrefixes) {
  EXPECT_EQ(NamesOf({"layer_cv"}), (std::vector<std::string>{"layer_cv/0", "layer_cv/1"}));
  EXPECT_EQ(NamesOf({"importance/1"}),
            (std::vector<std::string>{"importance/1/0", "importance/1/1"}));
  EXPECT_EQ(NamesOf({"importance"}).size(), 4u);
  EXPECT_EQ(NamesOf({"loss", "layer_cv/1", "loss", "layer_cv"}),
            (std::vector<std::string>{"loss", "layer_cv/1", "layer_cv/0"}));
  EXPECT_EQ(NamesOf({}).size(), 13u);
}

TEST(SeriesTest, RefusesWhatIsNotASeriesAndListsWhatIs) {
  for (const char* name : {"", "los", "loss/0", "layer_cv/2", "layer_cv/-1", "layer_cv/0/0",
                           "layer_cv/", "layer_cv/+1", "importance/0/2", "importance/0/0/0",
                           "importance/x", "importance/99999999999999999999", "/"}) {
    const auto series = ParseSeries({name}, kShape, 1000);
    ASSERT_EQ(series.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_NE(series.status().message().find("tokens_per_second"), absl::string_view::npos);
  }
  EXPECT_EQ(ParseSeries({"importance"}, {512, 1024}, 1000).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SeriesTest, ReadsValuesOfARecord) {
  v1::StepRecord record = MakeStep(7, 1);
  const auto value = [&](const std::string& name) {
    return ValueOf(record, ParseSeries({name}, kShape, 1000)->front());
  };
  EXPECT_DOUBLE_EQ(*value("loss"), 7.1);
  EXPECT_DOUBLE_EQ(*value("layer_cv/1"), 107);
  EXPECT_DOUBLE_EQ(*value("importance/1/0"), 2);
  EXPECT_DOUBLE_EQ(*value("importance_min"), 0);
  EXPECT_DOUBLE_EQ(*value("importance_max"), 3);
  EXPECT_FALSE(value("validation_loss").has_value());
  record.set_validation_loss(1.5);
  EXPECT_DOUBLE_EQ(*value("validation_loss"), 1.5);
  record.clear_importance();
  record.clear_layer_cv();
  EXPECT_FALSE(value("importance_min").has_value());
  EXPECT_FALSE(value("importance/0/0").has_value());
  EXPECT_FALSE(value("layer_cv/0").has_value());
}

TEST(SeriesTest, DoesNotReadBeyondARecordThatLies) {
  v1::StepRecord record = MakeStep(7, 1);
  record.set_heads(1000000);
  const auto series = ParseSeries({"importance"}, kShape, 1000);
  for (const SeriesId& id : *series) {
    EXPECT_EQ(ValueOf(record, id).has_value(), id.layer == 0);
  }
}

TEST(DownSamplerTest, KeepsFewPointsAsTheyAre) {
  DownSampler sampler({1, 10}, 10, RangeValue::kMean);
  for (int64_t step = 1; step <= 10; ++step) sampler.Add(step, static_cast<double>(step));
  const auto points = sampler.Points();
  ASSERT_EQ(points.size(), 10u);
  EXPECT_EQ(points[9].step(), 10);
  EXPECT_EQ(points[9].value(), 10);
  EXPECT_EQ(points[9].count(), 1);
}

TEST(DownSamplerTest, PutsMorePointsIntoEqualRanges) {
  DownSampler sampler({1, 10}, 3, RangeValue::kMean);  // ranges of 4 steps: 1-4, 5-8, 9-10
  for (int64_t step = 1; step <= 10; ++step) sampler.Add(step, static_cast<double>(step));
  const auto points = sampler.Points();
  ASSERT_EQ(points.size(), 3u);
  EXPECT_EQ(points[0].step(), 4);
  EXPECT_DOUBLE_EQ(points[0].value(), 2.5);
  EXPECT_EQ(points[0].min(), 1);
  EXPECT_EQ(points[0].max(), 4);
  EXPECT_EQ(points[0].count(), 4);
  EXPECT_EQ(points[2].step(), 10);
  EXPECT_EQ(points[2].count(), 2);
}

TEST(DownSamplerTest, NeverGivesMorePointsThanAsked) {
  for (int64_t total : {1, 2, 7, 99, 100, 101, 1000}) {
    for (int64_t points_max : {1, 2, 3, 10, 100}) {
      DownSampler sampler({5, 5 + total - 1}, points_max, RangeValue::kMean);
      double sum = 0;
      for (int64_t i = 0; i < total; ++i) {
        sampler.Add(5 + i, static_cast<double>(i));
        sum += static_cast<double>(i);
      }
      const auto points = sampler.Points();
      EXPECT_LE(static_cast<int64_t>(points.size()), points_max);
      double sampled_sum = 0;
      for (const v1::Point& point : points) {
        sampled_sum += point.value() * static_cast<double>(point.count());
      }
      EXPECT_NEAR(sampled_sum, sum, 1e-9 * (sum + 1));
      EXPECT_EQ(points.back().step(), 5 + total - 1);
    }
  }
}

TEST(DownSamplerTest, KeepsTheLastOfWhatIsNoMeasurementOfItsStep) {
  DownSampler sampler({1, 6}, 2, RangeValue::kLast);  // ranges of 3 steps
  for (int64_t step = 1; step <= 6; ++step) sampler.Add(step, static_cast<double>(100 * step));
  const auto points = sampler.Points();
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(points[0].value(), 300);
  EXPECT_EQ(points[1].value(), 600);
  EXPECT_EQ(points[0].min(), 100);
}

TEST(DownSamplerTest, ShowsThatAValueWasNotANumber) {
  DownSampler sampler({1, 4}, 1, RangeValue::kMean);
  for (int64_t step = 1; step <= 4; ++step) {
    sampler.Add(step, step == 2 ? std::numeric_limits<double>::quiet_NaN() : 1.0);
  }
  const auto points = sampler.Points();
  ASSERT_EQ(points.size(), 1u);
  EXPECT_TRUE(std::isnan(points[0].value()));
  EXPECT_EQ(points[0].min(), 1.0);
  EXPECT_EQ(points[0].max(), 1.0);
}

class QueryTest : public ::testing::Test {
 protected:
  absl::StatusOr<v1::QueryMetricsResponse> Query(v1::QueryMetricsRequest request) {
    request.set_job_id("a-1");
    return QueryHistory(history_, request, kShape, [] { return false; });
  }

  MemoryHistoryStore history_;
};

TEST_F(QueryTest, AnswersEachSeriesOfARange) {
  ASSERT_TRUE(history_.Append({MakeReport("a-1", 1, 1, 20)}).ok());
  v1::QueryMetricsRequest request;
  request.add_series("loss");
  request.add_series("layer_cv/1");
  request.add_series("validation_loss");
  request.set_first_step(5);
  request.set_last_step(7);
  const auto response = Query(request);
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->series_size(), 3);
  ASSERT_EQ(response->series(0).points_size(), 3);
  EXPECT_EQ(response->series(0).points(0).step(), 5);
  EXPECT_DOUBLE_EQ(response->series(0).points(2).value(), 7.1);
  EXPECT_EQ(response->series(1).name(), "layer_cv/1");
  EXPECT_EQ(response->series(2).points_size(), 0);
}

TEST_F(QueryTest, KeepsASparseSeriesWholeBesideADenseOne) {
  v1::ReportStepsRequest report = MakeReport("a-1", 1, 1, 100);
  for (int i = 9; i < 100; i += 10) report.mutable_steps(i)->set_validation_loss(i);
  ASSERT_TRUE(history_.Append({report}).ok());
  v1::QueryMetricsRequest request;
  request.add_series("loss");
  request.add_series("validation_loss");
  request.set_max_points(10);
  const auto response = Query(request);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->series(0).points_size(), 10);
  EXPECT_EQ(response->series(0).points(9).count(), 10);
  ASSERT_EQ(response->series(1).points_size(), 10);
  EXPECT_EQ(response->series(1).points(0).step(), 10);
  EXPECT_EQ(response->series(1).points(0).count(), 1);
}

TEST_F(QueryTest, ShowsTheCurveAsItCountsOrOneAttempt) {
  ASSERT_TRUE(history_
                  .Append({WithStart(MakeReport("a-1", 1, 1, 5), 1, 0),
                           WithStart(MakeReport("a-1", 2, 4, 6), 2, 3)})
                  .ok());
  v1::QueryMetricsRequest request;
  request.add_series("loss");
  auto response = Query(request);
  ASSERT_EQ(response->series(0).points_size(), 6);
  EXPECT_DOUBLE_EQ(response->series(0).points(3).value(), 4.2);
  request.set_attempt(1);
  response = Query(request);
  ASSERT_EQ(response->series(0).points_size(), 5);
  EXPECT_DOUBLE_EQ(response->series(0).points(3).value(), 4.1);
}

TEST_F(QueryTest, AnswersEmptySeriesWithoutRecords) {
  const auto response = Query({});
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->series_size(), 13);
}

TEST_F(QueryTest, FitsTheAnswerIntoAMessage) {
  v1::QueryMetricsRequest request;
  request.add_series("importance");
  request.set_max_points(100'000);
  EXPECT_EQ(Query(request).status().code(), absl::StatusCode::kInvalidArgument);
  request.set_max_points(25'000);
  EXPECT_TRUE(Query(request).ok());
}

TEST_F(QueryTest, RefusesImpossibleRanges) {
  const auto code = [&](int64_t first, int64_t last, int32_t points) {
    v1::QueryMetricsRequest request;
    request.set_first_step(first);
    request.set_last_step(last);
    request.set_max_points(points);
    return Query(request).status().code();
  };
  EXPECT_EQ(code(-1, 0, 0), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(0, -1, 0), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(5, 4, 0), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(0, 0, -1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(0, 0, 100'001), absl::StatusCode::kInvalidArgument);
  const int64_t largest = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(code(largest, largest, 0), absl::StatusCode::kOk);
  v1::QueryMetricsRequest request;
  request.set_attempt(0);
  EXPECT_EQ(Query(request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(QueryTest, StopsWhenTheClientIsGone) {
  ASSERT_TRUE(history_.Append({MakeReport("a-1", 1, 1, 5)}).ok());
  v1::QueryMetricsRequest request;
  request.set_job_id("a-1");
  int looks = 0;
  const auto response = QueryHistory(history_, request, kShape, [&] { return ++looks == 2; });
  EXPECT_EQ(response.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(looks, 2);
}

}  // namespace
}  // namespace sinkforge::server
