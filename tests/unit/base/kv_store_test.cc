// KvStore: order, ranges, durability over kill -9, schema versions, and a second opener.
#include "base/kv_store.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
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

// A store whose disk is said to have `free_` bytes free.
class KvReserveTest : public KvStoreTest {
 protected:
  void SetUp() override {
    KvStoreTest::SetUp();
    options_.reserve_bytes = 1000;
    options_.disk_free_bytes = [this] { return free_; };
  }
  absl::Status TryPut(KvStore& store, const std::string& key, const std::string& value) {
    KvBatch batch;
    batch.Put(key, value);
    return store.Write(batch, Durability::kSynced);
  }

  absl::StatusOr<int64_t> free_ = int64_t{1} << 30;
};

TEST_F(KvReserveTest, RefusesToPutBelowTheReserveAndGoesOnWithRoom) {
  auto store = OpenOrDie();
  ASSERT_TRUE(TryPut(*store, "old", "1").ok());
  free_ = 1009;
  ASSERT_TRUE(TryPut(*store, "a", "12345678").ok());  // leaves exactly the reserve
  const absl::Status refused = TryPut(*store, "b", "123456789");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(refused.message());
  EXPECT_NE(message.find(options_.path), std::string::npos) << message;
  EXPECT_NE(message.find("1009 bytes free"), std::string::npos) << message;
  EXPECT_TRUE(absl::IsNotFound(store->Get("b").status()));
  EXPECT_EQ(*store->Get("old"), "1");
  free_ = 1 << 20;
  EXPECT_TRUE(TryPut(*store, "b", "123456789").ok());
  EXPECT_EQ(*store->Get("b"), "123456789");
}

TEST_F(KvReserveTest, DeletesBelowTheReserve) {
  auto store = OpenOrDie();
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(TryPut(*store, key, "1").ok());
  free_ = 10;
  KvBatch deletes;
  deletes.Delete("a");
  deletes.DeleteRange("b", "c");
  EXPECT_TRUE(store->Write(deletes, Durability::kSynced).ok());
  EXPECT_EQ(Keys(*store, "a", "z"), std::vector<std::string>{"c"});
  deletes.Put("d", "1");
  EXPECT_EQ(store->Write(deletes, Durability::kSynced).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(KvReserveTest, WithoutAReserveAsksNobody) {
  options_.reserve_bytes = 0;
  free_ = absl::InternalError("asked");
  EXPECT_TRUE(TryPut(*OpenOrDie(), "a", "1").ok());
}

TEST_F(KvReserveTest, TellsWhyFreeSpaceIsUnknown) {
  auto store = OpenOrDie();
  free_ = absl::UnavailableError("the disk is away");
  EXPECT_EQ(TryPut(*store, "a", "1"), free_.status());
}

// No file of this process grows beyond `bytes` while this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before_), 0);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*const handler_)(int);
  rlimit before_ = {};
};

class KvFileTest : public KvStoreTest {
 protected:
  static std::string Row(int number) { return KeyBuilder("n").Number(number).key(); }
  std::string FilePath() const { return options_.path + "-file"; }
  // Rows of [from, to).
  std::unique_ptr<KvFile> MakeFile(int from, int to) const {
    auto file = KvFile::Create(FilePath());
    EXPECT_TRUE(file.ok()) << file.status();
    for (int number = from; number < to; ++number) {
      EXPECT_TRUE((*file)->Put(Row(number), std::string(10'000, static_cast<char>(number))).ok());
    }
    return *std::move(file);
  }
  static int Count(const KvStore& store) {
    int count = 0;
    EXPECT_TRUE(store
                    .Scan(Row(0), KeyBuilder("n").PrefixEnd(),
                          [&](std::string_view, std::string_view) { return ++count > 0; })
                    .ok());
    return count;
  }
  int64_t BytesOfFiles() const {
    int64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(options_.path)) {
      if (entry.path().extension() == ".sst") bytes += static_cast<int64_t>(entry.file_size());
    }
    return bytes;
  }
};

TEST_F(KvFileTest, AppearsWholeAndStaysOrNotAtAll) {
  auto store = OpenOrDie();
  auto file = MakeFile(0, 100);
  EXPECT_EQ(Count(*store), 0);
  ASSERT_TRUE(file->Finish().ok());
  ASSERT_TRUE(store->Ingest(*file).ok());
  EXPECT_EQ(Count(*store), 100);
  EXPECT_FALSE(std::filesystem::exists(FilePath()));
  file.reset();
  file = MakeFile(100, 200);
  EXPECT_TRUE(std::filesystem::exists(FilePath()));
  EXPECT_FALSE(file->Put(Row(5), "not in order").ok());
  file.reset();
  EXPECT_FALSE(std::filesystem::exists(FilePath()));
  store.reset();
  EXPECT_EQ(Count(*OpenOrDie()), 100);
  EXPECT_FALSE(KvFile::Create(options_.path + "/none/file").ok());
}

TEST_F(KvFileTest, RemovingARangeFreesItsFilesAtOnceAndLeavesOtherRows) {
  auto store = OpenOrDie();
  for (const int from : {0, 100, 200}) {
    auto file = MakeFile(from, from + 100);
    ASSERT_TRUE(file->Finish().ok());
    ASSERT_TRUE(store->Ingest(*file).ok());
  }
  KvBatch batch;
  batch.Put(Row(150), "newer than the file");
  batch.Put(Row(300), "beside");
  ASSERT_TRUE(store->Write(batch, Durability::kSynced).ok());
  const int64_t before = BytesOfFiles();
  ASSERT_TRUE(store->RemoveRange(Row(0), Row(100)).ok());
  EXPECT_EQ(Count(*store), 201);
  EXPECT_LT(BytesOfFiles(), before * 3 / 4);
  // With a row in the log, and one of a file that has others.
  ASSERT_TRUE(store->RemoveRange(Row(100), Row(201)).ok());
  EXPECT_EQ(Count(*store), 100);
  EXPECT_TRUE(absl::IsNotFound(store->Get(Row(150)).status()));
  EXPECT_TRUE(absl::IsNotFound(store->Get(Row(200)).status()));
  EXPECT_TRUE(store->Get(Row(300)).ok());
  ASSERT_TRUE(store->RemoveRange(Row(1000), Row(2000)).ok());
  store.reset();
  store = OpenOrDie();
  EXPECT_EQ(Count(*store), 100);
  // The same rows may come again.
  auto file = MakeFile(100, 200);
  ASSERT_TRUE(file->Finish().ok());
  ASSERT_TRUE(store->Ingest(*file).ok());
  EXPECT_EQ(Count(*store), 200);
  EXPECT_EQ(store->Get(Row(150))->size(), 10'000U);
}

// The write-ahead log itself fails, as it does when the reserve was used up in between.
TEST_F(KvStoreTest, TakesWritesAgainAfterTheLogFailed) {
  auto store = OpenOrDie();
  const auto put = [&store](int number) {
    KvBatch batch;
    batch.Put(KeyBuilder("n").Number(number).key(), std::string(1000, 'x'));
    return store->Write(batch, Durability::kSynced);
  };
  int kept = 0;
  {
    const FileSizeLimit limit(100'000);
    while (kept < 1000 && put(kept).ok()) ++kept;
    ASSERT_GT(kept, 0);
    ASSERT_LT(kept, 1000);
  }
  EXPECT_TRUE(put(2000).ok());
  for (int i = 0; i < kept; ++i) {
    ASSERT_TRUE(store->Get(KeyBuilder("n").Number(i).key()).ok()) << i;
  }
  EXPECT_TRUE(absl::IsNotFound(store->Get(KeyBuilder("n").Number(kept).key()).status()));
  store.reset();
  EXPECT_TRUE(OpenOrDie()->Get(KeyBuilder("n").Number(2000).key()).ok());
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
