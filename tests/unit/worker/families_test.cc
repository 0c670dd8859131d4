// /metrics: which series there are, and that Prometheus's own checker has nothing to say.
#include "worker/exporter/families.h"

#include <cstdio>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/http_get.h"
#include "tests/unit/worker/test_support.h"

namespace sinkforge::worker {
namespace {

using testing::HasSubstr;
using testing::Not;

RankView Running(const std::string& job, int64_t attempt, int32_t rank) {
  RankView view;
  view.key = {job, attempt, rank};
  view.status.set_phase(v1::RANK_PHASE_TRAINING);
  view.status.mutable_progress()->set_validation_step(5);
  view.desired.mutable_spec()->set_namespace_("team");
  v1::StepRecord& step = view.last_step;
  step.set_step(7);
  step.set_loss(2.5);
  step.set_imbalance(0.125);
  view.imbalance_mean = 0.25;
  view.imbalance_least = 0.1;
  step.set_heads(2);
  for (const float value : {0.5F, 0.25F, 0.75F, 1.0F}) step.add_importance(value);
  step.add_layer_cv(0.1);
  step.add_layer_cv(0.2);
  return view;
}

const base::GaugeFamily& Find(const std::vector<base::GaugeFamily>& families,
                              const std::string& name) {
  for (const base::GaugeFamily& family : families) {
    if (family.name == name) return family;
  }
  ADD_FAILURE() << name << " is missing";
  return families.front();
}

std::string Scrape(int port) {
  const std::string answer = HttpGet(port, "/metrics");
  return answer.substr(answer.find("\r\n\r\n") + 4);
}

TEST(FamiliesTest, ShowsAJobWhereItsRankZeroRuns) {
  const auto families =
      JobFamilies({Running("a-1", 1, 0), Running("b-2", 1, 1)}, ImportanceSeries::kExtremes);
  const base::GaugeFamily& imbalance = Find(families, "sinkforge_job_imbalance_ratio");
  ASSERT_EQ(imbalance.samples.size(), 1U);
  EXPECT_EQ(imbalance.samples[0].value, 0.125);
  EXPECT_EQ(imbalance.samples[0].labels,
            (base::Labels{{"sinkforge_namespace", "team"}, {"sinkforge_job", "a-1"}}));
  const base::GaugeFamily& layers = Find(families, "sinkforge_job_layer_cv_ratio");
  ASSERT_EQ(layers.samples.size(), 2U);
  EXPECT_EQ(layers.samples[1].labels.at("layer"), "1");
  EXPECT_EQ(Find(families, "sinkforge_job_importance_min_ratio").samples[0].value, 0.25);
  EXPECT_EQ(Find(families, "sinkforge_job_importance_max_ratio").samples[0].value, 1.0);
  EXPECT_TRUE(Find(families, "sinkforge_job_importance_ratio").samples.empty());
}

TEST(FamiliesTest, ShowsTheTrendOnceThereAreStepsEnough) {
  RankView job = Running("a-1", 1, 0);
  auto families = JobFamilies({job}, ImportanceSeries::kExtremes);
  EXPECT_EQ(Find(families, "sinkforge_job_imbalance_mean_ratio").samples[0].value, 0.25);
  EXPECT_EQ(Find(families, "sinkforge_job_imbalance_least_ratio").samples[0].value, 0.1);
  job.imbalance_mean.reset();
  job.imbalance_least.reset();
  families = JobFamilies({job}, ImportanceSeries::kExtremes);
  EXPECT_TRUE(Find(families, "sinkforge_job_imbalance_mean_ratio").samples.empty());
  EXPECT_TRUE(Find(families, "sinkforge_job_imbalance_least_ratio").samples.empty());
}

TEST(FamiliesTest, ShowsHeadsOnlyWhenAsked) {
  const auto families = JobFamilies({Running("a-1", 1, 0)}, ImportanceSeries::kEveryHead);
  const base::GaugeFamily& heads = Find(families, "sinkforge_job_importance_ratio");
  ASSERT_EQ(heads.samples.size(), 4U);
  EXPECT_EQ(heads.samples[2].labels.at("layer"), "1");
  EXPECT_EQ(heads.samples[2].labels.at("head"), "0");
  EXPECT_EQ(heads.samples[2].value, 0.75);
}

TEST(FamiliesTest, JobsLeaveWithTheirEndAndNewerAttemptsReplaceOlder) {
  RankView ended = Running("a-1", 1, 0);
  ended.status.set_phase(v1::RANK_PHASE_ENDED);
  RankView newer = Running("b-2", 2, 0);
  newer.last_step.set_loss(1.5);
  const auto families =
      JobFamilies({ended, Running("b-2", 1, 0), newer}, ImportanceSeries::kExtremes);
  const base::GaugeFamily& loss = Find(families, "sinkforge_job_loss_nats");
  ASSERT_EQ(loss.samples.size(), 1U);
  EXPECT_EQ(loss.samples[0].value, 1.5);
}

// The bound that deploy/prometheus/README.md states.
TEST(FamiliesTest, SeriesOfAJobAreBounded) {
  RankView job = Running("a-1", 1, 0);
  job.desired.mutable_spec()->mutable_checkpoint()->set_every_steps(20);
  const auto count = [&](ImportanceSeries importance) {
    size_t series = 0;
    for (const base::GaugeFamily& family : JobFamilies({job}, importance)) {
      series += family.samples.size();
    }
    return series;
  };
  EXPECT_EQ(count(ImportanceSeries::kExtremes), kSeriesOfAJobMax + 2U);
  EXPECT_EQ(count(ImportanceSeries::kEveryHead), kSeriesOfAJobMax + 2U + 4U);
}

TEST(FamiliesTest, SaysWhatKindOfJobItIsAndHowFarItsCheckpointIs) {
  RankView job = Running("a-1", 1, 0);
  job.checkpoint_step = 4;
  v1::JobSpec* spec = job.desired.mutable_spec();
  spec->mutable_model()->set_attention(v1::ATTENTION_VARIANT_GATED);
  spec->mutable_model()->set_mlp(v1::MLP_SWIGLU);
  spec->mutable_head_balance()->set_loss(v1::BALANCE_LOSS_NONE);
  const auto families = JobFamilies({job}, ImportanceSeries::kExtremes);
  const base::GaugeFamily& info = Find(families, "sinkforge_job_info");
  ASSERT_EQ(info.samples.size(), 1U);
  EXPECT_EQ(info.samples[0].labels.at("attention"), "gated");
  EXPECT_EQ(info.samples[0].labels.at("mlp"), "swiglu");
  EXPECT_EQ(info.samples[0].labels.at("head_balance"), "none");
  EXPECT_EQ(Find(families, "sinkforge_job_checkpoint_step").samples[0].value, 4);
  EXPECT_TRUE(Find(families, "sinkforge_job_checkpoint_interval_steps").samples.empty())
      << "no interval: no checkpoint can be overdue";
}

TEST(FamiliesTest, CountsTheOperationsOfTheModel) {
  RankView job = Running("a-1", 1, 0);
  job.desired.set_parameters(1000);
  v1::JobSpec* spec = job.desired.mutable_spec();
  spec->mutable_model()->set_layers(2);
  spec->mutable_model()->set_width(8);
  spec->mutable_model()->set_vocab_size(50);
  spec->mutable_data()->set_sequence_length(16);
  job.last_step.set_tokens_per_second(10);
  const auto families = JobFamilies({job}, ImportanceSeries::kExtremes);
  EXPECT_EQ(Find(families, "sinkforge_job_model_flops_per_second").samples[0].value,
            10 * (6 * (1000 - 50 * 8) + 12 * 2 * 8 * 16));
}

TEST(FamiliesTest, NamesReasonsOfExits) {
  v1::RankStatus status;
  status.set_outcome(v1::RANK_OUTCOME_COMPLETED);
  EXPECT_EQ(ExitReason(status), "completed");
  status.set_outcome(v1::RANK_OUTCOME_FAILED);
  status.set_reason(v1::REASON_TRAINER_CRASHED);
  EXPECT_EQ(ExitReason(status), "trainer_crashed");
}

// But for one name: promtool takes "bits" for a unit that should be bytes, and bits per byte is the
// quantity's name.
TEST(FamiliesTest, PromtoolHasNothingElseToSay) {
  const auto metrics = base::Metrics::Create();
  metrics->AddHistogram("sinkforge_step_seconds", "Time of a step.", {}, {0.1, 1})->Observe(0.5);
  metrics->AddCollector([] {
    auto families = JobFamilies({Running("a-1", 1, 0)}, ImportanceSeries::kEveryHead);
    WorkerReadings readings;
    readings.version = "1";
    readings.trainer_exits = {{"completed", 1}};
    for (auto& family : WorkerFamilies(readings)) families.push_back(family);
    return families;
  });
  const auto port = metrics->Serve("127.0.0.1:0");
  ASSERT_TRUE(port.ok()) << port.status();
  const std::string text = Scrape(*port);
  EXPECT_THAT(text, HasSubstr("sinkforge_job_imbalance_ratio{"));
  const TempFolder folder;
  const std::string file = folder.path() + "/metrics";
  std::ofstream(file) << text;
  const std::string command = "promtool check metrics < " + file + " 2>&1";
  FILE* promtool = popen(command.c_str(), "r");
  ASSERT_NE(promtool, nullptr);
  std::string said;
  for (int c = 0; (c = fgetc(promtool)) != EOF;) said += static_cast<char>(c);
  pclose(promtool);
  EXPECT_EQ(said,
            "sinkforge_job_validation_bits_per_byte use base unit \"bytes\" instead of \"bits\"\n");
}

}  // namespace
}  // namespace sinkforge::worker
