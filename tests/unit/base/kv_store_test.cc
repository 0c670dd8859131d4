// KvStore: order, ranges, durability over kill -9, schema versions, and a second opener.
#include "base/kv_store.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "base/ids.h"

namespace sinkforge::base {
namespace {

class KvStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.path = (std::filesystem::temp_directory_path() / ("kv-" + RandomId())).string();
  }
  void TearDown() override { std::filesystem::remove_all(options_.path); }

  std::unique_ptr<KvStore> OpenOrDie() {
    auto store = KvStore::Open(options_);
    EXPECT_TRUE(store.ok()) << store.status();
    return std::move(*store);
  }

  KvOptions options_;
};

void Put(KvStore& store, std::string key, std::string value) {
  KvBatch batch;
  batch.Put(std::move(key), std::move(value));
  ASSERT_TRUE(store.Write(batch, Durability::kLogged).ok());
}

std::vector<std::string> Keys(const KvStore& store, std::string_view begin, std::string_view end) {
  std::vector<std::string> keys;
  EXPECT_TRUE(store
                  .Scan(begin, end,
                        [&keys](std::string_view key, std::string_view) {
                          keys.emplace_back(key);
                          return true;
                        })
                  .ok());
  return keys;
}

TEST_F(KvStoreTest, ReadsBackWhatWasWritten) {
  auto store = OpenOrDie();
  Put(*store, "a", "1");
  EXPECT_EQ(*store->Get("a"), "1");
  EXPECT_EQ(store->Get("b").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(KvStoreTest, DropsARangeButNotItsEnd) {
  auto store = OpenOrDie();
  for (const char* key : {"t1", "t2", "t3", "t4"}) Put(*store, key, "x");
  KvBatch batch;
  batch.DeleteRange("t2", "t4");
  ASSERT_TRUE(store->Write(batch, Durability::kSynced).ok());
  EXPECT_EQ(Keys(*store, "t", "u"), (std::vector<std::string>{"t1", "t4"}));
}

TEST_F(KvStoreTest, ScansBackwards) {
  auto store = OpenOrDie();
  for (const char* key : {"t1", "t2", "t3"}) Put(*store, key, "x");
  std::vector<std::string> keys;
  ASSERT_TRUE(store
                  ->ScanBackwards("t1", "t3",
                                  [&keys](std::string_view key, std::string_view) {
                                    keys.emplace_back(key);
                                    return true;
                                  })
                  .ok());
  EXPECT_EQ(keys, (std::vector<std::string>{"t2", "t1"}));
}

TEST_F(KvStoreTest, RefusesASecondOpener) {
  auto store = OpenOrDie();
  const auto second = KvStore::Open(options_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(second.status().message()).find("another process"), std::string::npos);
}

TEST_F(KvStoreTest, RefusesANewerSchema) {
  options_.schema_version = 7;
  options_.migrate = [](KvStore&, int) { return absl::OkStatus(); };
  OpenOrDie().reset();
  options_.schema_version = 6;
  const auto older = KvStore::Open(options_);
  ASSERT_FALSE(older.ok());
  EXPECT_EQ(older.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(older.status().message()).find("newer"), std::string::npos);
}

TEST_F(KvStoreTest, MigratesAnOlderSchemaStepByStepAndOnce) {
  Put(*OpenOrDie(), "name", "old");
  options_.schema_version = 3;
  std::vector<int> steps;
  options_.migrate = [&steps](KvStore& store, int from) {
    steps.push_back(from);
    KvBatch batch;
    batch.Put("name", "version " + std::to_string(from + 1));
    return store.Write(batch, Durability::kSynced);
  };
  EXPECT_EQ(*OpenOrDie()->Get("name"), "version 3");
  EXPECT_EQ(*OpenOrDie()->Get("name"), "version 3");
  EXPECT_EQ(steps, (std::vector<int>{1, 2}));
}

// The child tells over a pipe what was acknowledged, and is killed in the middle.
TEST_F(KvStoreTest, KeepsEveryAcknowledgedWriteOverKill) {
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto store = KvStore::Open(options_);
    for (int i = 0; store.ok(); ++i) {
      KvBatch batch;
      batch.Put(KeyBuilder("n").Number(i).key(), std::to_string(i));
      if (!(*store)->Write(batch, Durability::kLogged).ok()) _exit(1);
      if (write(channel[1], "x", 1) != 1) _exit(1);
    }
    _exit(1);
  }
  close(channel[1]);
  char byte = 0;
  int acknowledged = 0;
  while (acknowledged < 500 && read(channel[0], &byte, 1) == 1) ++acknowledged;
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  while (read(channel[0], &byte, 1) == 1) ++acknowledged;
  close(channel[0]);
  auto store = OpenOrDie();
  const KeyBuilder table("n");
  EXPECT_GE(Keys(*store, table.key(), table.PrefixEnd()).size(), static_cast<size_t>(acknowledged));
}

TEST(KeyBuilderTest, OrdersLikeItsParts) {
  const std::string a = KeyBuilder("t").Text("job").Number(2).key();
  const std::string b = KeyBuilder("t").Text("job").Number(255).key();
  const std::string c = KeyBuilder("t").Text("job").Number(256).key();
  const std::string d = KeyBuilder("t").Text("job-1").Number(0).key();
  EXPECT_LT(a, b);
  EXPECT_LT(b, c);
  EXPECT_LT(c, d);
  const KeyBuilder prefix = KeyBuilder("t").Text("job");
  EXPECT_LT(c, prefix.PrefixEnd());
  EXPECT_LT(prefix.PrefixEnd(), d);
}

TEST(KeyReaderTest, ReadsPartsBackAndRefusesShortKeys) {
  const std::string key = KeyBuilder("t").Text("job").Number(77).key();
  KeyReader reader(key);
  std::string table;
  std::string job;
  int64_t number = 0;
  ASSERT_TRUE(reader.Text(&table) && reader.Text(&job) && reader.Number(&number));
  EXPECT_TRUE(reader.done());
  EXPECT_EQ(job, "job");
  EXPECT_EQ(number, 77);
  EXPECT_FALSE(reader.Number(&number));
  EXPECT_FALSE(reader.Text(&job));
}

}  // namespace
}  // namespace sinkforge::base
