// The counter-based generator: the published bits, the right distribution, the same numbers always.
#include "worker/trainer/core/random.h"

#include <cmath>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sinkforge::trainer {
namespace {

using ::testing::ElementsAre;

TEST(PhiloxTest, GivesTheKnownAnswersOfItsAuthors) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U));
  EXPECT_THAT(
      Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
      ElementsAre(0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU));
  EXPECT_THAT(
      Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      ElementsAre(0xd16cfe09U, 0x94fdcceb, 0x5001e420U, 0x24126ea1U));
}

TEST(RandomStreamTest, NormalsHaveTheMomentsOfTheStandardNormal) {
  const RandomStream stream(3, "moments");
  constexpr int kPairs = 200000;
  double sum = 0;
  double squares = 0;
  double fourths = 0;
  double products = 0;
  double tails = 0;
  for (uint64_t i = 0; i < kPairs; ++i) {
    const auto [x, y] = stream.NormalPair(i);
    sum += x + y;
    squares += x * x + y * y;
    fourths += x * x * x * x + y * y * y * y;
    products += x * y;
    tails += (std::abs(x) > 2 ? 1 : 0) + (std::abs(y) > 2 ? 1 : 0);
  }
  constexpr double kCount = 2.0 * kPairs;
  // Four standard errors each.
  EXPECT_NEAR(sum / kCount, 0, 4 / std::sqrt(kCount));
  EXPECT_NEAR(squares / kCount, 1, 4 * std::sqrt(2 / kCount));
  EXPECT_NEAR(fourths / kCount, 3, 4 * std::sqrt(96 / kCount));
  EXPECT_NEAR(products / kPairs, 0, 4 / std::sqrt(1.0 * kPairs));
  EXPECT_NEAR(tails / kCount, 0.0455003, 4 * std::sqrt(0.0455 / kCount));
}

TEST(RandomStreamTest, DependsOnSeedPurposeAndIndexAlone) {
  const RandomStream stream(1, "a");
  EXPECT_EQ(stream.Bits(5), RandomStream(1, "a").Bits(5));
  std::set<uint64_t> all = {stream.Bits(5),
                            stream.Bits(6),
                            RandomStream(2, "a").Bits(5),
                            RandomStream(1, "b").Bits(5),
                            stream.Bits(5 + (uint64_t{1} << 40)),
                            RandomStream(uint64_t{1} << 32 | 1, "a").Bits(5)};
  EXPECT_EQ(all.size(), 6U);
}

// Fixed bits: a change of the generator, or a machine that rounds otherwise, breaks every stored
// job's reproducibility and must be noticed.
TEST(RandomStreamTest, GivesTheSameBitsOnEveryMachine) {
  const RandomStream stream(1, "transformer.wte.weight");
  EXPECT_EQ(stream.NormalPair(0)[0], 0x1.f097c1206dd4fp+0);
  EXPECT_EQ(stream.NormalPair(0)[1], -0x1.0f53195723bcp-1);
  EXPECT_EQ(stream.NormalPair(123456789)[0], -0x1.8a1491abd3863p-9);
}

}  // namespace
}  // namespace sinkforge::trainer
