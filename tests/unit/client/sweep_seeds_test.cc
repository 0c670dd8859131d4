// Means and spread of a sweep over its seeds.
#include "client/sweep_seeds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace sinkforge::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

SweepRow Row(const std::string& job_id, SweepSettings settings, std::optional<double> bits_per_byte,
             v1::JobState state = v1::JOB_STATE_SUCCEEDED) {
  SweepRow row;
  row.job.set_job_id(job_id);
  row.job.set_state(state);
  row.settings = std::move(settings);
  row.validation_bits_per_byte = bits_per_byte;
  return row;
}

TEST(OverSeedsTest, GroupsByEverythingButTheSeed) {
  const auto rows = OverSeeds({Row("a-1", {{"loss", "none"}, {"train.seed", "1"}}, 1.0),
                               Row("a-2", {{"loss", "cv"}, {"train.seed", "1"}}, 5.0),
                               Row("a-3", {{"loss", "none"}, {"train.seed", "2"}}, 2.0),
                               Row("a-4", {{"loss", "none"}, {"train.seed", "3"}}, 6.0)});
  ASSERT_EQ(rows.size(), 1U);  // `cv` has one seed
  EXPECT_THAT(rows[0].settings, ElementsAre(std::pair("loss", "none")));
  EXPECT_THAT(rows[0].job_ids, ElementsAre("a-1", "a-3", "a-4"));
  ASSERT_TRUE(rows[0].validation_bits_per_byte.has_value());
  EXPECT_DOUBLE_EQ(rows[0].validation_bits_per_byte->mean, 3);
  EXPECT_DOUBLE_EQ(rows[0].validation_bits_per_byte->standard_deviation, std::sqrt(7.0));
  EXPECT_FALSE(rows[0].imbalance.has_value());
}

TEST(OverSeedsTest, OnlySucceededJobsCount) {
  const auto rows =
      OverSeeds({Row("a-1", {{"train.seed", "1"}}, 1.0), Row("a-2", {{"train.seed", "2"}}, 3.0),
                 Row("a-3", {{"train.seed", "3"}}, 100.0, v1::JOB_STATE_FAILED),
                 Row("a-4", {{"train.seed", "4"}}, std::nullopt)});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].succeeded, 3);
  ASSERT_TRUE(rows[0].validation_bits_per_byte.has_value());
  EXPECT_DOUBLE_EQ(rows[0].validation_bits_per_byte->mean, 2);
  const std::string table = SeedsTable(rows).Render(0);
  EXPECT_THAT(table, HasSubstr("3/4"));
  EXPECT_THAT(table, HasSubstr("2.0000 ± 1.4142"));
}

TEST(SeedsTableTest, TheDeviationHasTheDecimalsOfTheMean) {
  const auto cell = [](double first, double second) {
    return SeedsTable(OverSeeds({Row("a-1", {{"train.seed", "1"}}, first),
                                 Row("a-2", {{"train.seed", "2"}}, second)}))
        .Render(0);
  };
  EXPECT_THAT(cell(0.937, 0.9377), HasSubstr("0.9374 ± 0.0005"));
  EXPECT_THAT(cell(1500, 1500), HasSubstr("1500.0 ± 0.0"));
  EXPECT_THAT(cell(2e-8, 2e-8), HasSubstr("2e-08 ± 0"));
}

TEST(OverSeedsTest, NothingWhereNoSeedsVary) {
  EXPECT_THAT(OverSeeds({Row("a-1", {{"loss", "none"}}, 1.0), Row("a-2", {{"loss", "cv"}}, 1.0)}),
              IsEmpty());
}

}  // namespace
}  // namespace sinkforge::client
