// What every JobStore, HistoryStore and LogStore keeps to: the ones on disk, which are also closed
// and opened again in the middle, and the ones in memory that tests use.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/store/kv_history_store.h"
#include "server/store/kv_job_store.h"
#include "server/store/kv_log_store.h"
#include "tests/unit/server/memory_stores.h"
#include "tests/unit/server/records.h"

namespace sinkforge::server {
namespace {

enum class Place { kDisk, kDiskReopened, kMemory };

std::string NameOf(const ::testing::TestParamInfo<Place>& info) {
  if (info.param == Place::kMemory) return "Memory";
  return info.param == Place::kDisk ? "Disk" : "DiskReopened";
}

// Holds one store; Settle() closes and opens it where the place says so.
template <typename Interface, typename OnDisk, typename InMemory>
class StoreTest : public ::testing::TestWithParam<Place> {
 protected:
  void SetUp() override { Open(); }

  void Open() {
    if (GetParam() == Place::kMemory) {
      store_ = std::make_unique<InMemory>();
      return;
    }
    auto opened = OnDisk::Open(folder_.path() + "/db");
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = *std::move(opened);
  }
  void Settle() {
    if (GetParam() != Place::kDiskReopened) return;
    store_.reset();
    Open();
  }

  TempFolder folder_;
  std::unique_ptr<Interface> store_;
};

std::vector<std::string> JobsOf(const std::vector<JobBytes>& all) {
  std::vector<std::string> ids;
  for (const JobBytes& use : all) ids.push_back(use.job_id);
  return ids;
}

int64_t BytesOf(const std::vector<JobBytes>& all, const std::string& job_id) {
  for (const JobBytes& use : all) {
    if (use.job_id == job_id) return use.bytes;
  }
  return 0;
}

// --- JobStore

using JobStoreTest = StoreTest<JobStore, KvJobStore, MemoryJobStore>;

TEST_P(JobStoreTest, StartsEmptyAndCountsFromOne) {
  const auto stored = store_->Load();
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_TRUE(stored->jobs.empty());
  EXPECT_EQ(stored->next_job_number, 1);
}

TEST_P(JobStoreTest, KeepsTheLastRecordOfAJobAndTheCounter) {
  Effects first;
  first.jobs = {MakeJob("a-1", v1::JOB_STATE_QUEUED), MakeJob("b-2", v1::JOB_STATE_QUEUED)};
  first.next_job_number = 3;
  ASSERT_TRUE(store_->Write(first).ok());
  Effects second;
  second.jobs = {MakeJob("a-1", v1::JOB_STATE_RUNNING)};
  ASSERT_TRUE(store_->Write(second).ok());
  Settle();
  const auto stored = store_->Load();
  ASSERT_TRUE(stored.ok()) << stored.status();
  ASSERT_EQ(stored->jobs.size(), 2u);
  EXPECT_EQ(stored->jobs[0].state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(stored->jobs[1].state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(stored->next_job_number, 3);
}

TEST_P(JobStoreTest, KeepsSettingsUntilTheyAreDeleted) {
  Effects first;
  first.namespaces.emplace_back().set_namespace_("team");
  first.namespaces[0].set_cpu_slots(0);
  first.drains["w1"].emplace().set_worker("w1");
  first.drains["w2"].emplace().set_worker("w2");
  ASSERT_TRUE(first.NeedsStore());
  ASSERT_TRUE(store_->Write(first).ok());
  Effects second;
  second.drains["w1"] = std::nullopt;
  ASSERT_TRUE(second.NeedsStore());
  ASSERT_TRUE(store_->Write(second).ok());
  Settle();
  const auto stored = store_->Load();
  ASSERT_TRUE(stored.ok()) << stored.status();
  ASSERT_EQ(stored->namespaces.size(), 1u);
  EXPECT_EQ(stored->namespaces[0].namespace_(), "team");
  EXPECT_TRUE(stored->namespaces[0].has_cpu_slots());
  ASSERT_EQ(stored->drains.size(), 1u);
  EXPECT_EQ(stored->drains[0].worker(), "w2");
}

TEST_P(JobStoreTest, ListsEventsInOrderAfterASequenceUpToALimit) {
  Effects effects;
  // 300 comes after 2 only where sequences are ordered as numbers.
  for (int64_t sequence : {1, 2, 300}) effects.events.push_back(MakeEvent("a-1", sequence));
  effects.events.push_back(MakeEvent("a-10", 1));
  ASSERT_TRUE(store_->Write(effects).ok());
  Settle();
  const auto all = store_->ListEvents("a-1", 0, 10);
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 3u);
  EXPECT_EQ((*all)[2].sequence(), 300);
  EXPECT_EQ(store_->ListEvents("a-1", 2, 10)->size(), 1u);
  EXPECT_EQ(store_->ListEvents("a-1", 0, 2)->size(), 2u);
  EXPECT_TRUE(store_->ListEvents("c-9", 0, 10)->empty());
}

TEST_P(JobStoreTest, DeletesAJobWithItsEventsAndNoOther) {
  Effects effects;
  effects.jobs = {MakeJob("a-1", v1::JOB_STATE_FAILED), MakeJob("a-10", v1::JOB_STATE_FAILED)};
  effects.events = {MakeEvent("a-1", 1), MakeEvent("a-10", 1)};
  ASSERT_TRUE(store_->Write(effects).ok());
  Effects deletion;
  deletion.events = {MakeEvent("a-1", 2)};
  deletion.deleted_jobs = {"a-1"};
  ASSERT_TRUE(store_->Write(deletion).ok());
  Settle();
  const auto stored = store_->Load();
  ASSERT_EQ(stored->jobs.size(), 1u);
  EXPECT_EQ(stored->jobs[0].job_id(), "a-10");
  EXPECT_TRUE(store_->ListEvents("a-1", 0, 10)->empty());
  EXPECT_EQ(store_->ListEvents("a-10", 0, 10)->size(), 1u);
  EXPECT_EQ(JobsOf(store_->EventBytes()), std::vector<std::string>{"a-10"});
}

TEST_P(JobStoreTest, TrimsTheOldestEvents) {
  Effects effects;
  for (int64_t sequence = 1; sequence <= 10; ++sequence) {
    effects.events.push_back(MakeEvent("a-1", sequence));
  }
  ASSERT_TRUE(store_->Write(effects).ok());
  const int64_t before = BytesOf(store_->EventBytes(), "a-1");
  ASSERT_TRUE(store_->TrimEvents("a-1", before / 2).ok());
  Settle();
  const auto left = store_->ListEvents("a-1", 0, 100);
  ASSERT_FALSE(left->empty());
  EXPECT_LE(left->size(), 5u);
  EXPECT_EQ(left->back().sequence(), 10);
  EXPECT_LE(BytesOf(store_->EventBytes(), "a-1"), before - before / 2);
  ASSERT_TRUE(store_->TrimEvents("a-1", before).ok());
  EXPECT_TRUE(store_->EventBytes().empty());
}

INSTANTIATE_TEST_SUITE_P(Places, JobStoreTest,
                         ::testing::Values(Place::kDisk, Place::kDiskReopened, Place::kMemory),
                         NameOf);

// --- HistoryStore

class HistoryStoreTest : public StoreTest<HistoryStore, KvHistoryStore, MemoryHistoryStore> {
 protected:
  void Append(std::vector<v1::ReportStepsRequest> group) {
    const absl::Status status = store_->Append(group);
    ASSERT_TRUE(status.ok()) << status;
  }
  // "step/attempt" of every record of the range.
  std::vector<std::string> Read(const StepRange& range) {
    std::vector<std::string> found;
    const absl::Status status = store_->Read(range, [&](const v1::StepRecord& record) {
      found.push_back(std::to_string(record.step()) + "/" + std::to_string(record.attempt()));
      return true;
    });
    EXPECT_TRUE(status.ok()) << status;
    return found;
  }
  std::vector<std::string> Curve() { return Read(RangeOf("a-1")); }
  static StepRange RangeOf(const std::string& job_id) {
    StepRange range;
    range.job_id = job_id;
    return range;
  }
};

TEST_P(HistoryStoreTest, ReadsTheRangeInOrder) {
  Append({MakeReport("a-1", 1, 1, 300), MakeReport("a-10", 1, 1, 2)});
  Settle();
  StepRange range = RangeOf("a-1");
  range.first_step = 255;
  range.last_step = 257;
  EXPECT_EQ(Read(range), (std::vector<std::string>{"255/1", "256/1", "257/1"}));
  EXPECT_EQ(Curve().size(), 300u);
  EXPECT_EQ(Read(RangeOf("a-10")).size(), 2u);
  EXPECT_TRUE(Read(RangeOf("a")).empty());
  const auto extent = store_->Extent(range);
  EXPECT_EQ(extent->first, 255);
  EXPECT_EQ(extent->last, 257);
}

TEST_P(HistoryStoreTest, KeepsTheWholeRecord) {
  v1::ReportStepsRequest report = MakeReport("a-1", 1, 7, 7);
  report.mutable_steps(0)->set_validation_bits_per_byte(1.25);
  Append({report});
  Settle();
  ASSERT_TRUE(store_
                  ->Read(RangeOf("a-1"),
                         [&](const v1::StepRecord& record) {
                           EXPECT_EQ(record.SerializeAsString(),
                                     report.steps(0).SerializeAsString());
                           return true;
                         })
                  .ok());
}

TEST_P(HistoryStoreTest, IgnoresWhatIsSentTwice) {
  Append({MakeReport("a-1", 1, 1, 5), MakeReport("a-1", 1, 3, 6)});
  const int64_t bytes = BytesOf(store_->Bytes(), "a-1");
  Settle();
  v1::ReportStepsRequest again = MakeReport("a-1", 1, 1, 6);
  again.mutable_steps(0)->set_loss(99);
  Append({again});
  EXPECT_EQ(Curve().size(), 6u);
  EXPECT_EQ(BytesOf(store_->Bytes(), "a-1"), bytes);
  ASSERT_TRUE(store_
                  ->Read(RangeOf("a-1"),
                         [](const v1::StepRecord& record) {
                           EXPECT_DOUBLE_EQ(record.loss(), 1.1);
                           return false;
                         })
                  .ok());
}

TEST_P(HistoryStoreTest, LeavesOutWhatALaterAttemptWentBackBehind) {
  Append({WithStart(MakeReport("a-1", 1, 1, 5), 1, 0)});
  Append({WithStart(MakeReport("a-1", 2, 4, 6), 2, 3)});
  Settle();
  EXPECT_EQ(Curve(), (std::vector<std::string>{"1/1", "2/1", "3/1", "4/2", "5/2", "6/2"}));
  // Attempt 3 goes back behind attempt 2's restore as well.
  Append({WithStart(MakeReport("a-1", 3, 3, 3), 3, 2)});
  EXPECT_EQ(Curve(), (std::vector<std::string>{"1/1", "2/1", "3/3"}));
  // Attempt 4 restores further on than attempt 3 did: what attempt 3 hid stays hidden.
  Append({WithStart(MakeReport("a-1", 4, 6, 6), 4, 5)});
  EXPECT_EQ(Curve(), (std::vector<std::string>{"1/1", "2/1", "3/3", "6/4"}));
  EXPECT_EQ(store_->Extent(RangeOf("a-1"))->last, 6);
}

TEST_P(HistoryStoreTest, ShowsEveryRecordOfOneAttempt) {
  Append(
      {WithStart(MakeReport("a-1", 1, 1, 5), 1, 0), WithStart(MakeReport("a-1", 2, 3, 4), 2, 2)});
  Settle();
  StepRange range = RangeOf("a-1");
  range.attempt = 1;
  EXPECT_EQ(Read(range), (std::vector<std::string>{"1/1", "2/1", "3/1", "4/1", "5/1"}));
  EXPECT_EQ(store_->Extent(range)->last, 5);
  range.attempt = 2;
  EXPECT_EQ(Read(range), (std::vector<std::string>{"3/2", "4/2"}));
  range.attempt = 3;
  EXPECT_TRUE(Read(range).empty());
  EXPECT_EQ(store_->Extent(range)->last, 0);
}

TEST_P(HistoryStoreTest, TakesLateRecordsOfAnOlderAttempt) {
  Append({WithStart(MakeReport("a-1", 2, 3, 4), 2, 2)});
  Append({WithStart(MakeReport("a-1", 1, 1, 5), 1, 0)});
  Settle();
  EXPECT_EQ(Curve(), (std::vector<std::string>{"1/1", "2/1", "3/2", "4/2"}));
}

TEST_P(HistoryStoreTest, TrimsTheLowestStepsAndDeletesWholeJobs) {
  Append({WithStart(MakeReport("a-1", 1, 1, 100), 1, 0), MakeReport("b-2", 1, 1, 10)});
  const int64_t before = BytesOf(store_->Bytes(), "a-1");
  ASSERT_TRUE(store_->Trim("a-1", before / 2).ok());
  Settle();
  const auto left = Curve();
  ASSERT_FALSE(left.empty());
  EXPECT_EQ(left.back(), "100/1");
  EXPECT_NEAR(static_cast<double>(left.size()), 50, 2);
  ASSERT_TRUE(store_->DeleteJob("a-1").ok());
  Settle();
  EXPECT_TRUE(Curve().empty());
  EXPECT_TRUE(store_->Starts("a-1")->empty());
  EXPECT_EQ(JobsOf(store_->Bytes()), std::vector<std::string>{"b-2"});
  EXPECT_EQ(Read(RangeOf("b-2")).size(), 10u);
}

INSTANTIATE_TEST_SUITE_P(Places, HistoryStoreTest,
                         ::testing::Values(Place::kDisk, Place::kDiskReopened, Place::kMemory),
                         NameOf);

// --- LogStore

class LogStoreTest : public StoreTest<LogStore, KvLogStore, MemoryLogStore> {
 protected:
  void Append(std::vector<v1::AppendLogsRequest> group) {
    const absl::Status status = store_->Append(group);
    ASSERT_TRUE(status.ok()) << status;
  }
  std::vector<std::string> Read(const LogSelection& selection, int64_t after) {
    std::vector<std::string> found;
    const absl::Status status =
        store_->Read(selection, after, [&](int64_t number, const v1::LogLine& line) {
          found.push_back(std::to_string(number) + " " + line.text());
          return true;
        });
    EXPECT_TRUE(status.ok()) << status;
    return found;
  }
  static LogSelection Of(const std::string& job_id) {
    LogSelection selection;
    selection.job_id = job_id;
    return selection;
  }
};

TEST_P(LogStoreTest, ReadsLinesInTheOrderOfArrival) {
  Append({MakeLogs("a-1", 1, 1, 1, 2), MakeLogs("a-1", 1, 0, 1, 1), MakeLogs("a-10", 1, 0, 1, 1)});
  Settle();
  Append({MakeLogs("a-1", 1, 1, 3, 3)});
  EXPECT_EQ(Read(Of("a-1"), 0), (std::vector<std::string>{"1 line 1/1/1", "2 line 1/1/2",
                                                          "3 line 1/0/1", "4 line 1/1/3"}));
  EXPECT_EQ(Read(Of("a-1"), 3), std::vector<std::string>{"4 line 1/1/3"});
}

TEST_P(LogStoreTest, IgnoresWhatIsSentTwiceInAnyOrder) {
  Append({MakeLogs("a-1", 1, 0, 3, 4)});
  Settle();
  Append({MakeLogs("a-1", 1, 0, 1, 4), MakeLogs("a-1", 1, 0, 1, 2)});
  EXPECT_EQ(Read(Of("a-1"), 0), (std::vector<std::string>{"1 line 1/0/3", "2 line 1/0/4",
                                                          "3 line 1/0/1", "4 line 1/0/2"}));
}

TEST_P(LogStoreTest, SelectsByAttemptAndRank) {
  Append({MakeLogs("a-1", 1, 0, 1, 2), MakeLogs("a-1", 1, 1, 1, 2), MakeLogs("a-1", 2, 1, 1, 2)});
  Settle();
  LogSelection selection = Of("a-1");
  selection.attempt = 1;
  EXPECT_EQ(Read(selection, 0).size(), 4u);
  selection.rank = 1;
  EXPECT_EQ(Read(selection, 0), (std::vector<std::string>{"3 line 1/1/1", "4 line 1/1/2"}));
}

TEST_P(LogStoreTest, FindsWhereTheTailBegins) {
  Append({MakeLogs("a-1", 1, 0, 1, 10), MakeLogs("a-1", 1, 1, 1, 10)});
  Settle();
  EXPECT_EQ(*store_->TailStart(Of("a-1"), 5), 15);
  EXPECT_EQ(*store_->TailStart(Of("a-1"), 100), 0);
  LogSelection selection = Of("a-1");
  selection.rank = 0;
  EXPECT_EQ(*store_->TailStart(selection, 2), 8);
  EXPECT_EQ(*store_->TailStart(Of("none-1"), 2), 0);
}

TEST_P(LogStoreTest, TrimsTheOldestLinesAndDoesNotRenumber) {
  Append({MakeLogs("a-1", 1, 0, 1, 100), MakeLogs("b-2", 1, 0, 1, 1)});
  const int64_t before = BytesOf(store_->Bytes(), "a-1");
  ASSERT_TRUE(store_->Trim("a-1", before / 2).ok());
  Settle();
  auto left = Read(Of("a-1"), 0);
  ASSERT_FALSE(left.empty());
  EXPECT_NEAR(static_cast<double>(left.size()), 50, 2);
  EXPECT_EQ(left.back(), "100 line 1/0/100");
  ASSERT_TRUE(store_->Trim("a-1", before).ok());
  Settle();
  EXPECT_EQ(JobsOf(store_->Bytes()), std::vector<std::string>{"b-2"});
  Append({MakeLogs("a-1", 1, 0, 101, 101)});
  EXPECT_EQ(Read(Of("a-1"), 0), std::vector<std::string>{"101 line 1/0/101"});
}

TEST_P(LogStoreTest, DeletesWholeJobs) {
  Append({MakeLogs("a-1", 1, 0, 1, 10), MakeLogs("a-10", 1, 0, 1, 1)});
  ASSERT_TRUE(store_->DeleteJob("a-1").ok());
  Settle();
  EXPECT_TRUE(Read(Of("a-1"), 0).empty());
  EXPECT_EQ(JobsOf(store_->Bytes()), std::vector<std::string>{"a-10"});
}

INSTANTIATE_TEST_SUITE_P(Places, LogStoreTest,
                         ::testing::Values(Place::kDisk, Place::kDiskReopened, Place::kMemory),
                         NameOf);

}  // namespace
}  // namespace sinkforge::server
