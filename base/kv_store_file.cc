// RocksDB's writer of files that a database takes over; see kv_store_file.h.
#include "base/kv_store_file.h"

#include <rocksdb/env.h>
#include <rocksdb/sst_file_writer.h>
#include <unistd.h>

#include <utility>

#include "base/kv_store_rocks.h"

namespace sinkforge::base {

struct KvFile::Writer {
  Writer() : file(rocksdb::EnvOptions(), TableOptions()) {}
  rocksdb::SstFileWriter file;
};

absl::StatusOr<std::unique_ptr<KvFile>> KvFile::Create(const std::string& path) {
  std::unique_ptr<KvFile> file(new KvFile(path, std::make_unique<Writer>()));
  const rocksdb::Status opened = file->writer_->file.Open(path);
  if (!opened.ok()) return FromRocks(opened, "file " + path);
  return file;
}

KvFile::KvFile(const std::string& path, std::unique_ptr<Writer> writer)
    : path_(path), writer_(std::move(writer)) {}

// A store that has taken it over has moved it away.
KvFile::~KvFile() { unlink(path_.c_str()); }

absl::Status KvFile::Put(std::string_view key, std::string_view value) {
  return FromRocks(writer_->file.Put(ToSlice(key), ToSlice(value)), "file " + path_);
}

absl::Status KvFile::Finish() { return FromRocks(writer_->file.Finish(), "file " + path_); }

}  // namespace sinkforge::base
