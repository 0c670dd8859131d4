// Reading damaged RocksDB files one by one; see kv_store_wreck.h.
#include "base/kv_store_wreck.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/slice.h>
#include <rocksdb/sst_file_reader.h>

#include <algorithm>
#include <cstdarg>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/kv_store_rocks.h"
#include "base/log.h"

namespace sinkforge::base {
namespace {

namespace fs = std::filesystem;

constexpr char kLogsFolder[] = "/logs-as-data";
constexpr int64_t kBatchBytes = 1 << 20;

// RocksDB's own logger keeps a file beside the data; the errors that it would say come back as
// statuses.
class NoLogger final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::Options PlainOptions() {
  rocksdb::Options options;
  options.info_log = std::make_shared<NoLogger>();
  return options;
}

// Sorted, which is by age for the names that RocksDB gives.
std::vector<std::string> FilesWith(const std::string& folder, const std::string& extension) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == extension) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// The middle of two keys, taken as fractions of so many digits in base 256.
std::string Middle(const std::string& low, const std::string& high, size_t size) {
  std::string middle(size, '\0');
  const auto digit = [](const std::string& key, size_t i) {
    return i < key.size() ? static_cast<unsigned>(static_cast<unsigned char>(key[i])) : 0U;
  };
  unsigned carry = 0;
  for (size_t i = size; i-- > 0;) {
    carry += digit(low, i) + digit(high, i);
    middle[i] = static_cast<char>(carry & 0xff);
    carry >>= 8;
  }
  for (size_t i = 0; i < size; ++i) {
    carry = (carry << 8) | digit(middle, i);
    middle[i] = static_cast<char>(carry / 2);
    carry &= 1;
  }
  while (!middle.empty() && middle.back() == '\0') middle.pop_back();
  return middle;
}

}  // namespace

absl::Status CheckDataFilesCount(const std::string& path) {
  const std::vector<std::string> files = FilesWith(path, ".sst");
  if (files.empty()) return absl::OkStatus();
  // Without the lock another process has it open, and whoever opens it learns that.
  rocksdb::FileLock* lock = nullptr;
  rocksdb::Env* const env = rocksdb::Env::Default();
  if (!env->LockFile(path + "/LOCK", &lock).ok()) return absl::OkStatus();
  std::string why = "its file CURRENT is missing";
  if (fs::exists(path + "/CURRENT")) {
    why.clear();
    rocksdb::DB* raw = nullptr;
    // What does not open at all says so when it is opened for good.
    if (rocksdb::DB::OpenForReadOnly(PlainOptions(), path, &raw).ok()) {
      const std::unique_ptr<rocksdb::DB> db(raw);
      std::vector<rocksdb::LiveFileMetaData> live;
      db->GetLiveFilesMetaData(&live);
      if (live.empty()) why = "its MANIFEST names none of them";
    }
  }
  env->UnlockFile(lock);
  if (why.empty()) return absl::OkStatus();
  return absl::DataLossError("database " + path + ": " + std::to_string(files.size()) +
                             " data files are there, and " + why);
}

// The rows of one file in [begin, end), over damage as well.
class KvWreck::Cursor {
 public:
  Cursor(KvWreck* wreck, const DataFile& file, std::string_view begin, std::string_view end)
      : wreck_(wreck), path_(file.path), end_(end), upper_(ToSlice(end_)), reader_(PlainOptions()) {
    const rocksdb::Status opened = reader_.Open(path_);
    if (!opened.ok()) {
      wreck_->NoteDamage(path_, opened.ToString());
      return;
    }
    read_.iterate_upper_bound = &upper_;
    read_.fill_cache = false;
    Seek(begin);
    Settle(std::string(begin));
  }
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  bool valid() const { return rows_ != nullptr && rows_->Valid(); }
  std::string_view key() const { return rows_->key().ToStringView(); }
  std::string_view value() const { return rows_->value().ToStringView(); }
  void Next() {
    std::string last(key());
    rows_->Next();
    Settle(std::move(last));
  }

 private:
  // With an iterator of its own: one that has met damage may find it again where there is none.
  void Seek(std::string_view key) {
    rows_.reset(reader_.NewIterator(read_));
    rows_->Seek(ToSlice(key));
  }

  // Everything up to `last` was read, or cannot be. Where there is damage now, goes on behind it.
  void Settle(std::string last) {
    if (rows_->Valid() || rows_->status().ok()) return;
    wreck_->NoteDamage(path_, rows_->status().ToString());
    std::string low = std::move(last);
    std::string high = end_;
    std::string found;
    rows_.reset(reader_.NewIterator(read_));
    rows_->SeekToLast();
    if (rows_->Valid() && rows_->key().ToStringView() > low) found = high = rows_->key().ToString();
    const size_t digits = std::max(low.size(), high.size()) + 1;
    for (;;) {
      const std::string middle = Middle(low, high, digits);
      if (middle <= low || middle >= high) break;
      Seek(middle);
      if (rows_->Valid()) found = rows_->key().ToString();
      const bool readable = rows_->Valid() || rows_->status().ok();
      (readable ? high : low) = middle;
    }
    // Without a find the iterator is left where nothing can be read, which is its end.
    if (!found.empty()) Seek(found);
  }

  KvWreck* const wreck_;
  const std::string path_;
  const std::string end_;
  const rocksdb::Slice upper_;
  rocksdb::ReadOptions read_;
  rocksdb::SstFileReader reader_;
  std::unique_ptr<rocksdb::Iterator> rows_;
};

absl::StatusOr<std::unique_ptr<KvWreck>> KvWreck::Open(const std::string& path) {
  std::unique_ptr<KvWreck> wreck(new KvWreck(path));
  if (absl::Status converted = wreck->ConvertLogs(); !converted.ok()) return converted;
  wreck->AddDataFiles(path);
  wreck->AddDataFiles(path + kLogsFolder);
  return wreck;
}

absl::Status KvWreck::ConvertLogs() {
  const std::string folder = path_ + kLogsFolder;
  std::error_code error;
  fs::remove_all(folder, error);  // of an earlier try
  fs::create_directory(folder, error);
  for (const std::string& log : FilesWith(path_, ".log")) {
    const std::string link = folder + "/" + fs::path(log).filename().string();
    if (!error) fs::create_hard_link(log, link, error);
  }
  if (error) return absl::UnavailableError("folder " + folder + ": " + error.message());
  // Without data files there is nothing that its repair could get wrong: it reads every log as far
  // as it can be read, and moves it aside.
  rocksdb::Options options = PlainOptions();
  options.create_if_missing = true;
  const rocksdb::Status repaired = rocksdb::RepairDB(folder, options);
  if (!repaired.ok()) NoteDamage(folder, repaired.ToString());
  return absl::OkStatus();
}

void KvWreck::AddDataFiles(const std::string& folder) {
  for (const std::string& path : FilesWith(folder, ".sst")) {
    DataFile file;
    file.path = path;
    rocksdb::SstFileReader reader(PlainOptions());
    const rocksdb::Status opened = reader.Open(path);
    if (!opened.ok()) {
      NoteDamage(path, opened.ToString());
      continue;
    }
    const std::unique_ptr<rocksdb::Iterator> rows(reader.NewIterator({}));
    rows->SeekToFirst();
    if (rows->Valid()) file.first = rows->key().ToString();
    file.bounded = rows->Valid();
    rows->SeekToLast();
    if (rows->Valid()) file.last = rows->key().ToString();
    file.bounded = file.bounded && rows->Valid();
    files_.push_back(std::move(file));
  }
}

void KvWreck::NoteDamage(const std::string& file, const std::string& why) {
  if (!damage_.emplace(file, why).second) return;
  LogError("a database's file is damaged", {{"file", file}, {"error", why}});
}

void KvWreck::Scan(std::string_view begin, std::string_view end,
                   const std::function<bool(std::string_view key, std::string_view value)>& visit) {
  std::vector<std::unique_ptr<Cursor>> cursors;
  for (const DataFile& file : files_) {
    if (file.bounded && (file.last < begin || file.first >= end)) continue;
    cursors.push_back(std::make_unique<Cursor>(this, file, begin, end));
  }
  for (bool more = true; more;) {
    const Cursor* newest = nullptr;
    for (const auto& cursor : cursors) {
      if (cursor->valid() && (newest == nullptr || cursor->key() <= newest->key())) {
        newest = cursor.get();
      }
    }
    if (newest == nullptr) break;
    const std::string key(newest->key());
    more = visit(key, newest->value());
    for (const auto& cursor : cursors) {
      if (cursor->valid() && cursor->key() == key) cursor->Next();
    }
  }
}

absl::StatusOr<int64_t> KvWreck::Copy(std::string_view begin, std::string_view end, KvStore* to) {
  KvBatch batch;
  int64_t copied = 0;
  absl::Status status;
  const auto write = [&] {
    status = to->Write(batch, Durability::kSynced);
    batch = KvBatch();
    return status.ok();
  };
  Scan(begin, end, [&](std::string_view key, std::string_view value) {
    const auto present = to->Get(key);
    if (present.ok()) return true;
    if (!absl::IsNotFound(present.status())) {
      status = present.status();
      return false;
    }
    batch.Put(std::string(key), std::string(value));
    ++copied;
    return batch.bytes() < kBatchBytes || write();
  });
  if (!status.ok() || !write()) return status;
  return copied;
}

void KvWreck::Release(std::string_view begin, std::string_view end) {
  std::erase_if(files_, [&](const DataFile& file) {
    bool wanted = !file.bounded || (file.last >= begin && file.first < end);
    // A key within says so already.
    const bool known = file.bounded && file.first >= begin;
    if (wanted && !known) wanted = Cursor(this, file, begin, end).valid();
    if (wanted || damage_.contains(file.path)) return false;
    std::error_code error;
    fs::remove(file.path, error);  // else it stays, which costs only room
    return true;
  });
}

void KvWreck::ReleaseAll() {
  std::error_code error;
  for (const DataFile& file : files_) {
    if (!damage_.contains(file.path)) fs::remove(file.path, error);
  }
  fs::remove_all(path_ + kLogsFolder, error);
  files_.clear();
}

}  // namespace sinkforge::base
