// Who owns what: every element has one owner, Muon's matrices are whole and balanced by cost, and
// the buckets cover the gradients in the order in which the backward completes them.
#include "worker/trainer/core/shard_plan.h"

#include <algorithm>
#include <numeric>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

class ShardPlanTest : public ::testing::Test {
 protected:
  ShardPlanTest() {
    ModelConfig model = SmallJob().model;
    model.layers = 3;
    model.attention = kernels::AttentionVariant::kSink;  // has vectors of a few elements
    auto made = ParameterSet::Create(model, backend_.get());
    SINKFORGE_CHECK(made.ok());
    parameters_ = std::move(made).value();
  }

  ShardPlan Plan(OptimizerKind kind, int rank, int world_size, int64_t bucket_bytes_min = 1) const {
    return ShardPlan(*parameters_, {kind, rank, world_size, bucket_bytes_min});
  }

  std::unique_ptr<kernels::Backend> backend_ = kernels::MakeRefBackend(kernels::DType::kF32);
  std::unique_ptr<ParameterSet> parameters_;
};

TEST_F(ShardPlanTest, EveryElementHasOneOwner) {
  for (const OptimizerKind kind : {OptimizerKind::kMuon, OptimizerKind::kAdamW}) {
    for (const int world_size : {1, 2, 3, 4, 7}) {
      for (size_t i = 0; i < parameters_->all().size(); ++i) {
        std::vector<Share> shares;
        for (int rank = 0; rank < world_size; ++rank) {
          const Share share = Plan(kind, rank, world_size).owned(i);
          if (share.size > 0) shares.push_back(share);
        }
        std::sort(shares.begin(), shares.end(),
                  [](const Share& a, const Share& b) { return a.first < b.first; });
        int64_t covered = 0;
        for (const Share& share : shares) {
          EXPECT_EQ(share.first, covered);
          covered += share.size;
        }
        const ParameterSpec& spec = parameters_->all()[i].spec;
        EXPECT_EQ(covered, spec.elements()) << spec.name;
        if (kind == OptimizerKind::kMuon && spec.role == ParameterRole::kMatrix) {
          EXPECT_EQ(shares.size(), 1U) << spec.name;
        }
      }
    }
  }
}

// Handing out by falling cost leaves no rank further from the mean than one matrix.
TEST_F(ShardPlanTest, BalancesMuonsMatricesByCost) {
  for (const int world_size : {2, 3, 4}) {
    std::vector<double> load;
    double largest = 0;
    for (int rank = 0; rank < world_size; ++rank) {
      const ShardPlan plan = Plan(OptimizerKind::kMuon, rank, world_size);
      load.push_back(0);
      for (size_t i = 0; i < parameters_->all().size(); ++i) {
        const ParameterSpec& spec = parameters_->all()[i].spec;
        if (spec.role != ParameterRole::kMatrix || plan.owned(i).size == 0) continue;
        load.back() += NewtonSchulzCost(spec.rows, spec.columns);
        largest = std::max(largest, NewtonSchulzCost(spec.rows, spec.columns));
      }
    }
    const double mean = std::accumulate(load.begin(), load.end(), 0.0) / world_size;
    EXPECT_LE(*std::max_element(load.begin(), load.end()), mean + largest);
    EXPECT_GE(*std::min_element(load.begin(), load.end()), mean - largest);
  }
}

TEST(NewtonSchulzCostTest, CountsTheProductsOfFiveIterations) {
  EXPECT_EQ(NewtonSchulzCost(2, 3), 5 * (2 * 2 * 2 * 3 + 2 * 2 * 2 * 2 + 2 * 2 * 2 * 3));
  EXPECT_EQ(NewtonSchulzCost(3, 2), NewtonSchulzCost(2, 3));
}

TEST_F(ShardPlanTest, BucketsRunFromTheLastParameterToTheFirst) {
  const int64_t all_bytes = parameters_->gradients().bytes();
  for (const int64_t bytes_min : {int64_t{1}, int64_t{3000}, all_bytes * 2}) {
    const ShardPlan plan = Plan(OptimizerKind::kMuon, 1, 3, bytes_min);
    size_t end = parameters_->all().size();
    for (const ShardPlan::Bucket& bucket : plan.buckets()) {
      EXPECT_EQ(bucket.end_parameter, end);
      end = bucket.first_parameter;
      EXPECT_EQ(bucket.gradients.data, parameters_->all()[end].weight.gradient.data);
      EXPECT_EQ(bucket.values.data, parameters_->all()[end].weight.value.data);
      if (end > 0) {
        EXPECT_GE(bucket.gradients.bytes(), bytes_min);
      }
      int64_t elements = 0;
      for (const Segment& segment : bucket.segments) elements += segment.size;
      for (size_t i = bucket.first_parameter; i < bucket.end_parameter; ++i) {
        elements -= parameters_->all()[i].spec.elements();
      }
      EXPECT_EQ(elements, 0);
    }
    EXPECT_EQ(end, 0U);
    if (bytes_min == 1) {
      EXPECT_EQ(plan.buckets().size(), parameters_->all().size());
    } else if (bytes_min > all_bytes) {
      EXPECT_EQ(plan.buckets().size(), 1U);
    }
  }
}

TEST_F(ShardPlanTest, TheOwnedGradientsAreWhatIsOwnedAndNothingElse) {
  for (const int world_size : {1, 2, 3, 5}) {
    for (int rank = 0; rank < world_size; ++rank) {
      const ShardPlan plan = Plan(OptimizerKind::kMuon, rank, world_size);
      // Ones where the rank owns, a million elsewhere: the sum of squares then counts elements.
      double expected = 0;
      for (size_t i = 0; i < parameters_->all().size(); ++i) {
        const Parameter& parameter = parameters_->all()[i];
        const Share own = plan.owned(i);
        std::vector<double> values(static_cast<size_t>(parameter.spec.elements()), 1e6);
        std::fill_n(values.begin() + own.first, own.size, 1.0);
        expected += static_cast<double>(own.size);
        FromDoubles(backend_.get(), values, parameter.weight.gradient);
      }
      double sum = 0;
      for (const kernels::Tensor& run : plan.owned_gradients()) sum += backend_->SumOfSquares(run);
      EXPECT_EQ(sum, expected);
      if (world_size == 1) {
        EXPECT_EQ(plan.owned_gradients().size(), 1U);
      }
    }
  }
}

}  // namespace
}  // namespace sinkforge::trainer
