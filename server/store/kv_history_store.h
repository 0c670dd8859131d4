// HistoryStore on a database of its own.
//
// Keys: step <job id> <step> <attempt> -> StepRecord; start <job id> <attempt> -> AttemptStart.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/kv_store.h"
#include "base/mutex.h"
#include "server/engine/history_store.h"
#include "server/store/job_usage.h"

namespace sinkforge::server {

class KvHistoryStore final : public HistoryStore {
 public:
  // FAILED_PRECONDITION: the schema is newer than this program, or another process has it open.
  static absl::StatusOr<std::unique_ptr<KvHistoryStore>> Open(const std::string& path);

  absl::Status Append(const std::vector<v1::ReportStepsRequest>& group) override;
  absl::Status Read(const StepRange& range,
                    const std::function<bool(const v1::StepRecord&)>& visit) const override;
  absl::StatusOr<StepExtent> Extent(const StepRange& range) const override;
  absl::StatusOr<std::vector<v1::AttemptStart>> Starts(const std::string& job_id) const override;
  std::vector<JobBytes> Bytes() const override;
  absl::Status Trim(const std::string& job_id, int64_t bytes) override;
  absl::Status DeleteJob(const std::string& job_id) override;

 private:
  explicit KvHistoryStore(std::unique_ptr<base::KvStore> kv) : kv_(std::move(kv)) {}

  const std::unique_ptr<base::KvStore> kv_;
  // Held while a batch is written: readers need no lock.
  mutable base::Mutex mutex_;
  JobUsage usage_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::server
