// Checkpoint parts: whole or not there, whatever happens to the process, the disk or the bytes.
#include "worker/store/checkpoint_store.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/faulty_kv.h"
#include "tests/unit/worker/test_support.h"
#include "worker/process/child_process.h"

namespace sinkforge::worker {
namespace {

using testing::HasSubstr;

constexpr int64_t kElements = 600'000;  // 2.3 MiB a tensor: three chunks

class CheckpointStoreTest : public testing::Test {
 protected:
  CheckpointStoreTest() : kv_(OpenKv(folder_.path() + "/store")) { Open(kv_.get()); }

  void Open(base::KvStore* kv) {
    CheckpointStoreOptions options;
    options.worker = "node-1";
    options.path = folder_.path();
    options.reserve_bytes = 1000;
    options.disk_free_bytes = [this]() -> absl::StatusOr<int64_t> { return free_bytes_; };
    auto store = CheckpointStore::Open(kv, options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void Reopen() {
    store_.reset();
    kv_.reset();
    kv_ = OpenKv(folder_.path() + "/store");
    Open(kv_.get());
  }
  absl::StatusOr<v1::CheckpointPart> Write(const v1::CheckpointPart& part,
                                           const std::vector<v1::CheckpointData>& stream) {
    auto writer = store_->Begin(part);
    if (!writer.ok()) return writer.status();
    for (const v1::CheckpointData& data : stream) {
      if (absl::Status added = (*writer)->Add(data); !added.ok()) return added;
    }
    return (*writer)->Commit();
  }
  absl::StatusOr<std::vector<v1::CheckpointData>> Read(
      const PartKey& key, const std::vector<std::string>& prefixes = {}) {
    std::vector<v1::CheckpointData> stream;
    const absl::Status status = store_->Read(key, prefixes, [&](const v1::CheckpointData& data) {
      stream.push_back(data);
      return true;
    });
    if (!status.ok()) return status;
    return stream;
  }
  // Those of parts.
  void DamageLargeFiles() {
    int damaged = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() + "/store")) {
      if (entry.path().extension() != ".sst" || entry.file_size() < (1 << 20)) continue;
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(entry.file_size() / 2));
      file.write("damaged!", 8);
      ++damaged;
    }
    ASSERT_GT(damaged, 0);
  }
  int64_t Rows() {
    int64_t rows = 0;
    EXPECT_TRUE(
        kv_->Scan("checkpoint_data", "checkpoint_datb", [&](auto, auto) { return ++rows > 0; })
            .ok());
    return rows;
  }

  TempFolder folder_;
  int64_t free_bytes_ = 1 << 30;
  std::unique_ptr<base::KvStore> kv_;
  std::unique_ptr<CheckpointStore> store_;
};

const PartKey kKey{"d4-1", 1, 100, 0};

TEST_F(CheckpointStoreTest, GivesBackWhatWasWrittenAlsoAfterARestart) {
  const auto stream = MakeStream(kElements, 1);
  const auto written = Write(MakePart("d4-1", 1, 100, 0), stream);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->bytes(), 2 * 4 * kElements);
  EXPECT_EQ(written->worker(), "node-1");
  Reopen();
  const auto read = Read(kKey);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), stream.size());
  for (size_t i = 0; i < stream.size(); ++i) {
    EXPECT_EQ((*read)[i].SerializeAsString(), stream[i].SerializeAsString());
  }
  EXPECT_EQ(store_->Parts().size(), 1U);
  EXPECT_EQ(store_->bytes(), 2 * 4 * kElements);
}

TEST_F(CheckpointStoreTest, ReadsOnlyWhatIsAskedForAsAValidStream) {
  ASSERT_TRUE(Write(MakePart("d4-1", 1, 100, 0), MakeStream(kElements, 1)).ok());
  const auto read = Read(kKey, {"optimizer/"});
  ASSERT_TRUE(read.ok());
  checkpoint::PartVerifier verifier;
  for (const v1::CheckpointData& data : *read) {
    const absl::Status accepted = verifier.Accept(data);
    ASSERT_TRUE(accepted.ok()) << accepted;
  }
  EXPECT_TRUE(verifier.Complete().ok());
  EXPECT_EQ(verifier.slices(), 1);
  EXPECT_EQ(read->front().slice().name(), "optimizer/m/transformer.wte.weight");
}

TEST_F(CheckpointStoreTest, KeepsNothingOfAStreamThatBreaksOff) {
  auto stream = MakeStream(kElements, 1);
  stream.pop_back();
  EXPECT_TRUE(absl::IsDataLoss(Write(MakePart("d4-1", 1, 100, 0), stream).status()));
  EXPECT_EQ(Rows(), 0);
  EXPECT_TRUE(absl::IsNotFound(Read(kKey).status()));
}

TEST_F(CheckpointStoreTest, RefusesACorruptChunkOnTheWayIn) {
  auto stream = MakeStream(kElements, 1);
  (*stream[2].mutable_chunk()->mutable_data())[7] ^= 1;
  const auto written = Write(MakePart("d4-1", 1, 100, 0), stream);
  EXPECT_TRUE(absl::IsDataLoss(written.status()));
  EXPECT_THAT(std::string(written.status().message()), HasSubstr("chunk 1"));
  EXPECT_EQ(Rows(), 0);
}

TEST_F(CheckpointStoreTest, NamesACorruptChunkOnTheWayOut) {
  const auto stream = MakeStream(kElements, 1);
  ASSERT_TRUE(Write(MakePart("d4-1", 1, 100, 0), stream).ok());
  v1::CheckpointData damaged = stream[6];  // of the second tensor: its chunk 1
  ASSERT_EQ(damaged.chunk().index(), 1);
  (*damaged.mutable_chunk()->mutable_data())[1000] ^= 4;
  base::KvBatch batch;
  batch.Put(base::KeyBuilder("checkpoint_data")
                .Text("d4-1")
                .Number(1)
                .Number(100)
                .Number(0)
                .Number(1)
                .Number(2)
                .key(),
            damaged.SerializeAsString());
  ASSERT_TRUE(kv_->Write(batch, base::Durability::kSynced).ok());
  const absl::Status status = Read(kKey).status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  for (const char* name : {"d4-1", "step 100", "optimizer/m/transformer.wte.weight", "chunk 1"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST_F(CheckpointStoreTest, NamesAMissingChunk) {
  ASSERT_TRUE(Write(MakePart("d4-1", 1, 100, 0), MakeStream(kElements, 1)).ok());
  base::KvBatch batch;
  batch.Delete(base::KeyBuilder("checkpoint_data")
                   .Text("d4-1")
                   .Number(1)
                   .Number(100)
                   .Number(0)
                   .Number(0)
                   .Number(2)
                   .key());
  ASSERT_TRUE(kv_->Write(batch, base::Durability::kSynced).ok());
  const absl::Status status = Read(kKey).status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("transformer.wte.weight"));
}

TEST_F(CheckpointStoreTest, FindsDamageInTheDatabasesOwnFiles) {
  ASSERT_TRUE(Write(MakePart("d4-1", 1, 100, 0), MakeStream(kElements, 1)).ok());
  store_.reset();
  kv_.reset();
  DamageLargeFiles();
  kv_ = OpenKv(folder_.path() + "/store");
  Open(kv_.get());
  const absl::Status status = Read(kKey).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("d4-1"));
}

// What was read before is not taken from memory: a check is of what the disk has now.
TEST_F(CheckpointStoreTest, FindsDamageThatCameAfterTheLastRead) {
  ASSERT_TRUE(Write(MakePart("d4-1", 1, 100, 0), MakeStream(kElements, 1)).ok());
  ASSERT_TRUE(Read(kKey).ok());
  DamageLargeFiles();
  const absl::Status status = Read(kKey).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
}

TEST_F(CheckpointStoreTest, DropsEveryPartOfACheckpointAndNothingElse) {
  for (const int32_t rank : {0, 1}) {
    ASSERT_TRUE(Write(MakePart("d4-1", 1, 100, rank), MakeStream(1000, 1)).ok());
  }
  ASSERT_TRUE(Write(MakePart("d4-1", 1, 200, 0), MakeStream(1000, 2)).ok());
  ASSERT_TRUE(Write(MakePart("d4-10", 1, 100, 0), MakeStream(1000, 3)).ok());
  ASSERT_TRUE(store_->Drop({"d4-1", 1, 100}).ok());
  Reopen();
  EXPECT_EQ(store_->Parts().size(), 2U);
  EXPECT_TRUE(Read({"d4-1", 1, 200, 0}).ok());
  EXPECT_TRUE(Read({"d4-10", 1, 100, 0}).ok());
  EXPECT_TRUE(absl::IsNotFound(Read(kKey).status()));
}

TEST_F(CheckpointStoreTest, DropsOnlyThePartsOfTheJobThatIsNamed) {
  for (const int32_t rank : {0, 1, 2}) {
    v1::CheckpointPart part = MakePart("d4-1", 1, 100, rank);
    if (rank > 0) part.set_job_uid(rank == 1 ? "this" : "other");
    ASSERT_TRUE(Write(part, MakeStream(1000, 1)).ok());
  }
  const auto writer = store_->Begin(MakePart("d4-1", 1, 100, 3));
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(store_->Drop({"d4-1", 1, 100}, "other").ok());
  ASSERT_EQ(store_->Parts().size(), 2U);
  EXPECT_EQ(store_->Parts()[0].job_uid(), "");
  EXPECT_EQ(store_->Parts()[1].job_uid(), "this");
  for (const v1::CheckpointData& data : MakeStream(1000, 1)) ASSERT_TRUE((*writer)->Add(data).ok());
  EXPECT_TRUE((*writer)->Commit().ok());
}

// Never more than what is kept and one part more, whatever else is written and merged: a disk that
// has room for that is enough.
TEST_F(CheckpointStoreTest, GivesTheDiskBack) {
  const auto on_disk = [&] {
    int64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() + "/store")) {
      if (entry.path().extension() == ".sst") bytes += static_cast<int64_t>(entry.file_size());
    }
    return bytes;
  };
  // A merging of other rows that is under way may hold files for a moment.
  const auto comes_below = [&](int64_t limit) {
    return Eventually([&] { return on_disk() < limit; });
  };
  ASSERT_TRUE(Write(MakePart("d4-1", 1, 0, 0), MakeStream(kElements, 1)).ok());
  const int64_t part_bytes = on_disk();
  ASSERT_GT(part_bytes, 4 << 20);
  for (int64_t step = 1; step <= 20; ++step) {
    ASSERT_TRUE(Write(MakePart("d4-1", 1, step, 0), MakeStream(kElements, 1)).ok());
    EXPECT_TRUE(comes_below(3 * part_bytes + (4 << 20))) << step << ": " << on_disk();
    const absl::Status dropped = store_->Drop({"d4-1", 1, step - 2});
    ASSERT_TRUE(dropped.ok()) << dropped;
    base::KvBatch beside;
    beside.Put(base::KeyBuilder("beside").Number(step).key(), std::string(1000, 'x'));
    ASSERT_TRUE(kv_->Write(beside, base::Durability::kLogged).ok());
    if (step % 5 == 0) Reopen();  // moves the log into a data file
  }
  for (const v1::CheckpointPart& part : store_->Parts()) {
    ASSERT_TRUE(store_->Drop(KeyOf(part).checkpoint()).ok());
  }
  EXPECT_TRUE(comes_below(1 << 20)) << on_disk();
}

TEST_F(CheckpointStoreTest, DropReachesAPartThatIsBeingWritten) {
  const auto stream = MakeStream(1000, 1);
  auto writer = store_->Begin(MakePart("d4-1", 1, 100, 0));
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(store_->Checkpoints().count({"d4-1", 1, 100}), 1U);
  ASSERT_TRUE(store_->Drop({"d4-1", 1, 100}).ok());
  for (const v1::CheckpointData& data : stream) ASSERT_TRUE((*writer)->Add(data).ok());
  EXPECT_TRUE(absl::IsAborted((*writer)->Commit().status()));
  writer->reset();
  EXPECT_EQ(Rows(), 0);
}

TEST_F(CheckpointStoreTest, RefusesASecondWriterOfOnePart) {
  const auto writer = store_->Begin(MakePart("d4-1", 1, 100, 0));
  ASSERT_TRUE(writer.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(store_->Begin(MakePart("d4-1", 1, 100, 0)).status()));
}

TEST_F(CheckpointStoreTest, RefusesImpossibleNames) {
  for (const auto& part :
       {MakePart("", 1, 1, 0), MakePart(std::string("a\0b", 3), 1, 1, 0), MakePart("a", -1, 1, 0),
        MakePart("a", 1, -1, 0), MakePart("a", 1, 1, -1)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store_->Begin(part).status()));
  }
}

TEST_F(CheckpointStoreTest, SaysHowFullTheDiskIs) {
  free_bytes_ = 999;
  const absl::Status status = Write(MakePart("d4-1", 1, 100, 0), MakeStream(1000, 1)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder_.path()));
  EXPECT_THAT(std::string(status.message()), HasSubstr("999 bytes free"));
  free_bytes_ = 1 << 30;
  EXPECT_TRUE(Write(MakePart("d4-1", 1, 100, 0), MakeStream(1000, 1)).ok());
}

TEST_F(CheckpointStoreTest, NoticesADiskThatFillsUpOnTheWay) {
  auto writer = store_->Begin(MakePart("d4-1", 1, 100, 0));
  ASSERT_TRUE(writer.ok());
  free_bytes_ = 0;
  absl::Status status;
  for (const v1::CheckpointData& data : MakeStream(8 << 20, 1)) {
    status = (*writer)->Add(data);
    if (!status.ok()) break;
  }
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  writer->reset();
  EXPECT_EQ(Rows(), 0);
}

TEST_F(CheckpointStoreTest, KeepsNothingWhenWritesFailAndGoesOnWhenThereIsRoom) {
  // The data and the manifest.
  for (int writes = 0; writes < 2; ++writes) {
    FaultyKv faulty(kv_.get());
    Open(&faulty);
    faulty.FillAfter(writes);
    const auto written = Write(MakePart("d4-1", 1, 100, 0), MakeStream(kElements, 1));
    EXPECT_TRUE(absl::IsResourceExhausted(written.status())) << writes << written.status();
    EXPECT_TRUE(store_->Parts().empty());
    EXPECT_TRUE(absl::IsNotFound(Read(kKey).status()));
    faulty.FillAfter(-1);
    faulty.SetDisk(FaultyKv::Disk::kGood);
    EXPECT_TRUE(Write(MakePart("d4-1", 1, 100, 0), MakeStream(kElements, 2)).ok());
    EXPECT_TRUE(Read(kKey).ok());
    ASSERT_TRUE(store_->Drop(kKey.checkpoint()).ok());
    EXPECT_EQ(Rows(), 0);
    store_.reset();
  }
}

// A child writes parts without end and says which are durable; it is killed at random moments.
TEST_F(CheckpointStoreTest, EveryPartReportedDurableSurvivesKill) {
  store_.reset();
  kv_.reset();
  const std::string path = folder_.path() + "/crash";
  std::mt19937 random(20261);
  std::map<int64_t, uint32_t> durable;  // step to seed
  int64_t next_step = 1;
  for (int round = 0; round < 12; ++round) {
    ChildCommand command;
    command.arguments = {
        std::string(std::getenv("SINKFORGE_BUILD_DIR")) + "/bin/worker_store_writer", path,
        std::to_string(next_step)};
    command.environment = CleanEnvironment(environ, 1);
    const auto child = StartChild(command, [](pid_t) { return absl::OkStatus(); });
    ASSERT_TRUE(child.ok()) << child.status();
    // Reads what is durable until a random moment, then kills; what was printed before counts.
    std::string output;
    const size_t parts_wanted = random() % 4;
    const int microseconds = static_cast<int>(random() % 30'000);
    char byte = 0;
    size_t lines = 0;
    while (lines <= parts_wanted && read(child->stdout_fd, &byte, 1) == 1) {
      output += byte;
      if (byte == '\n') ++lines;
    }
    poll(nullptr, 0, microseconds / 1000);
    kill(child->pid, SIGKILL);
    while (read(child->stdout_fd, &byte, 1) == 1) output += byte;
    waitpid(child->pid, nullptr, 0);
    close(child->stdout_fd);
    close(child->stderr_fd);
    std::istringstream parsed(output.substr(0, output.rfind('\n') + 1));
    int64_t step = 0;
    while (parsed >> step) {
      if (step > 0) durable[step] = static_cast<uint32_t>(step);
      next_step = std::max(next_step, step + 2);
    }
    next_step += 2;  // the one that was under way

    const auto kv = OpenKv(path);
    Open(kv.get());
    std::set<int64_t> present;
    for (const v1::CheckpointPart& part : store_->Parts()) present.insert(part.step());
    for (const auto& [durable_step, seed] : durable) {
      EXPECT_EQ(present.count(durable_step), 1U) << "step " << durable_step << " was lost";
    }
    for (const int64_t present_step : present) {
      const auto read = Read({"d4-1", 1, present_step, 0});
      ASSERT_TRUE(read.ok()) << read.status();
      const auto expected = MakeStream(kElements, static_cast<uint32_t>(present_step));
      ASSERT_EQ(read->size(), expected.size());
      EXPECT_EQ((*read)[5].SerializeAsString(), expected[5].SerializeAsString());
    }
    // Nothing half is left in the table either.
    int64_t rows = 0;
    ASSERT_TRUE(kv->Scan("checkpoint_data", "checkpoint_datb", [&](auto, auto) {
                    return ++rows > 0;
                  }).ok());
    EXPECT_EQ(rows, static_cast<int64_t>(present.size()) * 9);
    store_.reset();
  }
  EXPECT_GE(durable.size(), 5U);
}

}  // namespace
}  // namespace sinkforge::worker
