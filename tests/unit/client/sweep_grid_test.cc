// The grid of a sweep.
#include "client/sweep_grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/exit_code.h"
#include "proto/jobspec/job_file.h"

namespace sinkforge::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ExpandGridTest, TheLastAxisChangesFastest) {
  const auto points = ExpandGrid({"head_balance.loss=none,cv"}, "1,2");
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 4u);
  EXPECT_THAT((*points)[0].assignments, ElementsAre("head_balance.loss=none", "train.seed=1"));
  EXPECT_THAT((*points)[1].assignments, ElementsAre("head_balance.loss=none", "train.seed=2"));
  EXPECT_THAT((*points)[2].assignments, ElementsAre("head_balance.loss=cv", "train.seed=1"));
  EXPECT_EQ((*points)[2].suffix, "cv-s1");
}

TEST(ExpandGridTest, CommasInBracketsDoNotSeparate) {
  const auto points = ExpandGrid({"model.sink_init=0,[0, 8]"}, "");
  ASSERT_TRUE(points.ok());
  ASSERT_EQ(points->size(), 2u);
  EXPECT_EQ((*points)[1].assignments[0], "model.sink_init=[0, 8]");
}

TEST(ExpandGridTest, RefusesWhatMakesNoGrid) {
  for (const std::vector<std::string>& grid :
       std::vector<std::vector<std::string>>{{},
                                             {"model.width"},
                                             {"=1,2"},
                                             {"model.width=64,"},
                                             {"model.width=64,64"},
                                             {"name=a,b"},
                                             {"model.width=64", "model.width=128"}}) {
    const auto points = ExpandGrid(grid, "");
    EXPECT_EQ(ExitCodeOf(points.status()), kExitUsage);
  }
}

TEST(ExpandGridTest, RefusesSeedsThatAreInTheGridAsWell) {
  const auto points = ExpandGrid({"train.seed=3,4"}, "1,2");
  EXPECT_EQ(ExitCodeOf(points.status()), kExitUsage);
  EXPECT_THAT(std::string(points.status().message()), HasSubstr("train.seed is there twice"));
}

TEST(ExpandGridTest, RefusesMoreJobsThanAnyoneMeans) {
  std::string seeds = "1";
  for (int i = 2; i <= 101; ++i) seeds += "," + std::to_string(i);
  const auto points = ExpandGrid({"train.micro_batch=1,2,3,4,5,6,7,8,9,10"}, seeds);
  EXPECT_THAT(std::string(points.status().message()), HasSubstr("more than 1000 jobs"));
}

TEST(SweepJobNameTest, IsAValidNameOfAtMost40Characters) {
  EXPECT_EQ(SweepJobName("d4", "CV-1.0e-3-[0, 8]"), "d4-cv-1-0e-3-0-8");
  EXPECT_EQ(SweepJobName("d4", "///"), "d4");
  const std::string name = SweepJobName(std::string(39, 'a'), "b-c");
  EXPECT_EQ(name, std::string(39, 'a'));
}

TEST(VaryingKeysTest, FindsWhatDiffersAndNothingElse) {
  std::vector<v1::JobSpec> specs(2);
  for (v1::JobSpec& spec : specs) {
    spec.set_name("x" + std::to_string(&spec - specs.data()));
    spec.mutable_model()->set_width(64);
    spec.mutable_train()->set_steps(10);
  }
  specs[0].mutable_head_balance()->set_loss(v1::BALANCE_LOSS_NONE);
  specs[1].mutable_head_balance()->set_loss(v1::BALANCE_LOSS_CV);
  specs[1].mutable_train()->set_seed(7);  // absent in the other
  EXPECT_THAT(VaryingKeys(specs), ElementsAre("head_balance.loss", "train.seed"));
}

TEST(VaryingKeysTest, KeepsTheOrderOfTheGrid) {
  std::vector<v1::JobSpec> specs;
  for (const int seed : {1, 2}) {
    for (const int width : {64, 128, 256}) {
      v1::JobSpec& spec = specs.emplace_back();
      spec.mutable_train()->set_seed(static_cast<uint64_t>(seed));
      spec.mutable_model()->set_width(width);
      spec.mutable_model()->set_mlp_width(4 * width);  // goes with it
    }
  }
  EXPECT_THAT(VaryingKeys(specs), ElementsAre("train.seed", "model.width", "model.mlp_width"));
}

TEST(FlattenJobTest, GivesFullPaths) {
  v1::JobSpec spec;
  spec.set_name("a");
  spec.mutable_model()->set_width(64);
  spec.mutable_model()->mutable_sink_init()->set_low(0);
  spec.mutable_model()->mutable_sink_init()->set_high(8);
  spec.mutable_data()->add_train("x:y.txt");
  using Pair = std::pair<std::string, std::string>;
  EXPECT_THAT(FlattenJob(spec),
              ElementsAre(Pair("name", "a"), Pair("model.width", "64"),
                          Pair("model.sink_init", "[0, 8]"), Pair("data.train", "[\"x:y.txt\"]")));
}

}  // namespace
}  // namespace sinkforge::client
