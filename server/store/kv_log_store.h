// LogStore on a database of its own.
//
// Keys: line <job id> <number> -> LogLine; seen <job id> <attempt> <rank> <sequence> -> nothing,
// which is how a line that is sent twice is known.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/kv_store.h"
#include "base/mutex.h"
#include "server/engine/log_store.h"
#include "server/store/job_usage.h"

namespace sinkforge::server {

class KvLogStore final : public LogStore {
 public:
  // FAILED_PRECONDITION: the schema is newer than this program, or another process has it open.
  static absl::StatusOr<std::unique_ptr<KvLogStore>> Open(const std::string& path);

  absl::Status Append(const std::vector<v1::AppendLogsRequest>& group) override;
  absl::Status Read(
      const LogSelection& selection, int64_t after,
      const std::function<bool(int64_t number, const v1::LogLine& line)>& visit) const override;
  absl::StatusOr<int64_t> TailStart(const LogSelection& selection, int64_t lines) const override;
  std::vector<JobBytes> Bytes() const override;
  absl::Status Trim(const std::string& job_id, int64_t bytes) override;
  absl::Status DeleteJob(const std::string& job_id) override;

 private:
  explicit KvLogStore(std::unique_ptr<base::KvStore> kv) : kv_(std::move(kv)) {}

  const std::unique_ptr<base::KvStore> kv_;
  // Held while a batch is written: readers need no lock.
  mutable base::Mutex mutex_;
  JobUsage usage_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::server
