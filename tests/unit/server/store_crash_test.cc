// The databases over kill -9, a second opener, a newer schema, and garbage.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <random>
#include <string>

#include "base/kv_store.h"
#include "server/store/kv_history_store.h"
#include "server/store/kv_job_store.h"
#include "server/store/kv_log_store.h"
#include "tests/unit/server/records.h"

namespace sinkforge::server {
namespace {

// What a child that writes round after round had acknowledged when it was killed: it sends one byte
// for each round whose three writes returned OK.
int KillAWriter(const std::string& folder, int rounds) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto jobs = KvJobStore::Open(folder + "/jobs");
    auto history = KvHistoryStore::Open(folder + "/history");
    auto logs = KvLogStore::Open(folder + "/logs");
    if (!jobs.ok() || !history.ok() || !logs.ok()) _exit(1);
    for (int64_t round = 1;; ++round) {
      Effects effects;
      effects.jobs = {MakeJob("a-" + std::to_string(round), v1::JOB_STATE_QUEUED)};
      effects.events = {MakeEvent("a-1", round)};
      effects.next_job_number = round + 1;
      const bool kept = (*jobs)->Write(effects).ok() &&
                        (*history)->Append({MakeReport("a-1", 1, round, round)}).ok() &&
                        (*logs)->Append({MakeLogs("a-1", 1, 0, round, round)}).ok();
      if (!kept || write(ends[1], "x", 1) != 1) _exit(1);
    }
  }
  close(ends[1]);
  int acknowledged = 0;
  char byte = 0;
  while (acknowledged < rounds && read(ends[0], &byte, 1) == 1) ++acknowledged;
  EXPECT_EQ(kill(child, SIGKILL), 0);
  while (read(ends[0], &byte, 1) == 1) ++acknowledged;
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  return acknowledged;
}

TEST(StoreCrashTest, KeepsItsClustersId) {
  TempFolder folder;
  const auto read = [&](const std::string& name) {
    const auto jobs = KvJobStore::Open(folder.path() + "/" + name);
    EXPECT_TRUE(jobs.ok()) << jobs.status();
    return (*jobs)->cluster_id();
  };
  const std::string id = read("jobs");
  EXPECT_FALSE(id.empty());
  EXPECT_EQ(read("jobs"), id);
  EXPECT_NE(read("other"), id);
}

TEST(StoreCrashTest, KeepsWhatWasAcknowledgedOverKill) {
  TempFolder folder;
  const int acknowledged = KillAWriter(folder.path(), 25);
  ASSERT_GE(acknowledged, 25);
  auto jobs = KvJobStore::Open(folder.path() + "/jobs");
  auto history = KvHistoryStore::Open(folder.path() + "/history");
  auto logs = KvLogStore::Open(folder.path() + "/logs");
  ASSERT_TRUE(jobs.ok() && history.ok() && logs.ok());
  const auto stored = (*jobs)->Load();
  ASSERT_TRUE(stored.ok()) << stored.status();
  // One more round may have been written and not acknowledged.
  const auto fits = [&](int64_t count) {
    return count == acknowledged || count == acknowledged + 1;
  };
  EXPECT_TRUE(fits(static_cast<int64_t>(stored->jobs.size()))) << stored->jobs.size();
  EXPECT_TRUE(fits(stored->next_job_number - 1));
  EXPECT_TRUE(fits(static_cast<int64_t>((*jobs)->ListEvents("a-1", 0, 1 << 20)->size())));
  StepRange range;
  range.job_id = "a-1";
  EXPECT_TRUE(fits((*history)->Extent(range)->last));
  int64_t lines = 0;
  LogSelection selection;
  selection.job_id = "a-1";
  ASSERT_TRUE((*logs)
                  ->Read(selection, 0,
                         [&](int64_t number, const v1::LogLine& line) {
                           EXPECT_EQ(number, line.sequence());
                           ++lines;
                           return true;
                         })
                  .ok());
  EXPECT_TRUE(fits(lines));
  // What the worker sends again, because it heard no answer, changes nothing.
  ASSERT_TRUE((*logs)->Append({MakeLogs("a-1", 1, 0, 1, lines)}).ok());
  EXPECT_EQ(*(*logs)->TailStart(selection, 1), lines - 1);
}

int64_t DiskBytes(const std::string& folder) {
  int64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

// 256 MiB that cannot be compressed go through a log that is kept at 8 MiB. What the disk holds
// beyond that is the write-ahead log (64 MiB at most) and what compaction has not dropped yet.
TEST(StoreBudgetTest, TrimmedLinesLeaveTheDisk) {
  constexpr int64_t kBudgetBytes = 8 << 20;
  TempFolder folder;
  auto logs = KvLogStore::Open(folder.path() + "/logs");
  ASSERT_TRUE(logs.ok());
  std::mt19937_64 random(1);
  int64_t sequence = 0;
  for (int round = 0; round < 128; ++round) {
    v1::AppendLogsRequest lines = MakeLogs("a-1", 1, 0, sequence + 1, sequence + 256);
    sequence += 256;
    for (auto& line : *lines.mutable_lines()) {
      line.mutable_text()->resize(8 << 10);
      for (char& c : *line.mutable_text()) c = static_cast<char>(' ' + random() % 90);
    }
    ASSERT_TRUE((*logs)->Append({lines}).ok());
    const int64_t bytes = (*logs)->Bytes()[0].bytes;
    if (bytes > kBudgetBytes) {
      ASSERT_TRUE((*logs)->Trim("a-1", bytes - kBudgetBytes).ok());
    }
  }
  EXPECT_LE((*logs)->Bytes()[0].bytes, kBudgetBytes);
  RecordProperty("disk_mebibytes", static_cast<int>(DiskBytes(folder.path()) >> 20));
  EXPECT_LT(DiskBytes(folder.path()), 160 << 20);
}

TEST(StoreCrashTest, RefusesASecondOpener) {
  TempFolder folder;
  const auto first = KvJobStore::Open(folder.path() + "/jobs");
  ASSERT_TRUE(first.ok());
  const auto second = KvJobStore::Open(folder.path() + "/jobs");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find("another process"), absl::string_view::npos);
}

TEST(StoreCrashTest, RefusesANewerSchema) {
  TempFolder folder;
  base::KvOptions options;
  options.path = folder.path() + "/logs";
  options.schema_version = 99;
  ASSERT_TRUE(base::KvStore::Open(options).ok());
  const auto opened = KvLogStore::Open(options.path);
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(opened.status().message().find("newer"), absl::string_view::npos);
}

TEST(StoreCrashTest, NamesARecordThatCannotBeRead) {
  TempFolder folder;
  base::KvOptions options;
  options.path = folder.path() + "/db";
  {
    auto kv = base::KvStore::Open(options);
    ASSERT_TRUE(kv.ok());
    base::KvBatch batch;
    batch.Put(base::KeyBuilder("job").Text("a-1").key(), "\xff\xff");
    batch.Put(base::KeyBuilder("step").Text("a-1").Number(7).Number(1).key(), "\xff\xff");
    batch.Put(base::KeyBuilder("line").Text("a-1").Number(3).key(), "\xff\xff");
    ASSERT_TRUE((*kv)->Write(batch, base::Durability::kSynced).ok());
  }
  {
    const auto loaded = (*KvJobStore::Open(options.path))->Load();
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(loaded.status().message().find("a-1"), absl::string_view::npos);
  }
  {
    StepRange range;
    range.job_id = "a-1";
    const auto read = (*KvHistoryStore::Open(options.path))->Read(range, [](const v1::StepRecord&) {
      return true;
    });
    EXPECT_EQ(read.code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(read.message().find("step 7"), absl::string_view::npos);
  }
  LogSelection selection;
  selection.job_id = "a-1";
  const auto read =
      (*KvLogStore::Open(options.path))->Read(selection, 0, [](int64_t, const v1::LogLine&) {
        return true;
      });
  EXPECT_EQ(read.code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace sinkforge::server
