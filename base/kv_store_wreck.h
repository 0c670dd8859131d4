// KvWreck: what can still be read of a database whose files are damaged and which therefore does
// not open, or takes no writes. Every data file is read by itself, so that damage costs the block
// that it is in and nothing else.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/kv_store.h"

namespace sinkforge::base {

// DATA_LOSS: the folder holds data files, and nothing that says which of them count. Opening the
// database would make an empty one and remove them. OK otherwise, also where there is none.
absl::Status CheckDataFilesCount(const std::string& path);

// Owns the folder's files. For one thread.
class KvWreck {
 public:
  // Makes data files of the write-ahead logs, beside them. UNAVAILABLE: the disk does not let it.
  static absl::StatusOr<std::unique_ptr<KvWreck>> Open(const std::string& path);

  // Every row in [begin, end) that can be read, in order, each key once, until `visit` returns
  // false. Rows that were deleted may be there again: only a deletion in the same file counts.
  void Scan(std::string_view begin, std::string_view end,
            const std::function<bool(std::string_view key, std::string_view value)>& visit);
  // Puts the same rows into `to`, synced, but for those that are there already. Says how many. The
  // errors are those of `to`.
  absl::StatusOr<int64_t> Copy(std::string_view begin, std::string_view end, KvStore* to);
  // No other rows than those of [begin, end) are wanted any more: sound files without any are
  // removed, to make room for what they were copied to.
  void Release(std::string_view begin, std::string_view end);
  // Nothing is wanted any more: damaged files stay, everything else that is large is removed.
  void ReleaseAll();
  // What has been found so far, by file: why it cannot be read.
  const std::map<std::string, std::string>& damage() const { return damage_; }

 private:
  struct DataFile {
    std::string path;
    // Its smallest and largest key, both inclusive; without bounds where they cannot be read.
    bool bounded = false;
    std::string first;
    std::string last;
  };
  class Cursor;

  explicit KvWreck(std::string path) : path_(std::move(path)) {}
  absl::Status ConvertLogs();
  void AddDataFiles(const std::string& folder);
  void NoteDamage(const std::string& file, const std::string& why);

  const std::string path_;
  std::vector<DataFile> files_;  // the later counts where two have the same key
  std::map<std::string, std::string> damage_;
};

}  // namespace sinkforge::base
