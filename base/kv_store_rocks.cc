// Errors and file format; see kv_store_rocks.h.
#include "base/kv_store_rocks.h"

#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

namespace sinkforge::base {

absl::Status FromRocks(const rocksdb::Status& status, const std::string& what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = what + ": " + status.ToString();
  if (status.IsNotFound()) return absl::NotFoundError(message);
  // A data file that is not there any more is damage like any other.
  if (status.IsCorruption() || status.IsPathNotFound()) return absl::DataLossError(message);
  if (status.IsNoSpace()) {
    return absl::ResourceExhaustedError(message + "; free some space on that disk");
  }
  return absl::UnavailableError(message);
}

rocksdb::Options TableOptions() {
  rocksdb::Options rocks;
  rocksdb::BlockBasedTableOptions table;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.block_cache = rocksdb::NewLRUCache(16 << 20);
  rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return rocks;
}

}  // namespace sinkforge::base
