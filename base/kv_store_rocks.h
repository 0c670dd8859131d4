// What every part of sinkforge_store that uses RocksDB shares.
#pragma once

#include <rocksdb/options.h>
#include <rocksdb/slice.h>
#include <rocksdb/status.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sinkforge::base {

inline rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }

// The error as KvStore documents it; `what` is the thing that it is about, such as "database /x".
absl::Status FromRocks(const rocksdb::Status& status, const std::string& what);

// How rows are laid out in files, of the store and of KvFile.
rocksdb::Options TableOptions();

}  // namespace sinkforge::base
