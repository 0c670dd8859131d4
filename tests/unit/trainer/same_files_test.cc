// Ranks as threads with different files: every rank says the same field, and its own numbers.
#include "worker/trainer/same_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "worker/trainer/core/in_process_collective.h"

namespace sinkforge::trainer {
namespace {

using kernels::Status;
using kernels::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

using Fields = std::vector<FieldFiles>;

constexpr uint64_t kLarge = 0xFEDCBA9876543210U;  // negative as an int64_t

// What each rank is told.
std::vector<Status> Check(const std::vector<Fields>& fields_of_rank) {
  auto collectives = MakeInProcessCollectives(static_cast<int>(fields_of_rank.size()));
  std::vector<Status> told(fields_of_rank.size());
  std::vector<std::thread> ranks;
  for (size_t rank = 0; rank < told.size(); ++rank) {
    ranks.emplace_back([&, rank] {
      const std::unique_ptr<Collective> own = std::move(collectives[rank]);
      told[rank] = CheckSameFiles(fields_of_rank[rank], own.get());
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return told;
}

TEST(SameFilesTest, TheSameFilesAreTaken) {
  const Fields fields = {{"data.train", {{"a.txt", 5, kLarge}, {"b.txt", 6, 2}}},
                         {"data.validation", {}}};
  for (const Status& status : Check({fields, fields, fields})) {
    EXPECT_TRUE(status.ok()) << status.message();
  }
}

TEST(SameFilesTest, EveryRankNamesTheFirstFileThatDiffersWithItsOwnNumbers) {
  const FieldFiles same = {"data.tokenizer", {{"t.json", 9, 9}}};
  const std::vector<Status> told =
      Check({{same, {"data.train", {{"a.txt", 5, 1}, {"b.txt", 6, kLarge}}}},
             {same, {"data.train", {{"a.txt", 5, 1}, {"b.txt", 7, 3}}}},
             {same, {"data.train", {{"a.txt", 5, 1}, {"b.txt", 6, kLarge}}}}});
  EXPECT_EQ(told[0].message(),
            "data.train: its files are not the same on all ranks' machines (rank 0: b.txt, 6 "
            "bytes, fingerprint fedcba9876543210; rank 1: 7 bytes, fingerprint 0000000000000003); "
            "copy them from one machine to the others");
  EXPECT_THAT(told[1].message(), HasSubstr("(rank 1: b.txt, 7 bytes, fingerprint "
                                           "0000000000000003; rank 0: 6 bytes, fingerprint "
                                           "fedcba9876543210)"));
  EXPECT_THAT(told[2].message(), HasSubstr("(rank 2: b.txt, 6 bytes"));
  for (const Status& status : told) EXPECT_EQ(status.code(), StatusCode::kInvalidData);
}

TEST(SameFilesTest, ContentNameOrderAndNumberCount) {
  const FieldFiles files = {"data.train", {{"a.txt", 5, 1}, {"b.txt", 5, 2}}};
  const std::pair<std::vector<FileDigest>, const char*> cases[] = {
      {{{"a.txt", 5, 1}, {"b.txt", 5, 3}}, "rank 1: b.txt, 5 bytes, fingerprint 0000000000000003"},
      {{{"a.txt", 5, 1}, {"c.txt", 5, 2}}, "rank 0: another name, 5 bytes"},
      {{{"b.txt", 5, 2}, {"a.txt", 5, 1}}, "rank 1: b.txt, 5 bytes"},
      {{{"a.txt", 5, 1}}, "rank 1: 1 files; rank 0: 2 files"},
      {{}, "rank 1: 0 files; rank 0: 2 files"}};
  for (const auto& [others, says] : cases) {
    EXPECT_THAT(Check({{files}, {{"data.train", others}}})[1].message(),
                AllOf(HasSubstr("data.train: "), HasSubstr(says)));
  }
}

TEST(SameFilesTest, ALostRankEndsTheOthers) {
  auto collectives = MakeInProcessCollectives(2);
  collectives[1].reset();
  const Status status = CheckSameFiles({{"data.train", {{"a.txt", 5, 1}}}}, collectives[0].get());
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
}

TEST(SameFilesTest, ALinkIsComparedByTheNameThatTheJobGives) {
  const FieldFiles fields =
      ByGivenNames("data.train", {{"/data/v2.txt", "v2.txt", "a.txt"}}, {{"v2.txt", 5, 1}});
  EXPECT_EQ(fields.field, "data.train");
  EXPECT_EQ(fields.files[0].name, "a.txt");
  EXPECT_EQ(fields.files[0].bytes, 5);
}

}  // namespace
}  // namespace sinkforge::trainer
