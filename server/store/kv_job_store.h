// JobStore on a database of its own.
//
// Keys: job <id> -> Job; event <job id> <sequence> -> Event; counter next_job_number -> decimal;
// cluster id -> the id.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/kv_store.h"
#include "base/mutex.h"
#include "server/engine/job_store.h"

namespace sinkforge::server {

class KvJobStore final : public JobStore {
 public:
  // FAILED_PRECONDITION: the schema is newer than this program, or another process has it open.
  static absl::StatusOr<std::unique_ptr<KvJobStore>> Open(const std::string& path);

  absl::StatusOr<StoredJobs> Load() const override;
  absl::Status CheckWritable() override;
  absl::Status Write(const Effects& effects) override;
  absl::StatusOr<std::vector<v1::Event>> ListEvents(const std::string& job_id,
                                                    int64_t after_sequence,
                                                    int limit) const override;
  // Made when this database was: whose jobs these are. Workers keep it with what they have of them.
  const std::string& cluster_id() const { return cluster_id_; }
  std::vector<JobBytes> EventBytes() const override;
  absl::Status TrimEvents(const std::string& job_id, int64_t bytes) override;

 private:
  explicit KvJobStore(std::unique_ptr<base::KvStore> kv) : kv_(std::move(kv)) {}
  absl::Status CountEventBytes();
  absl::Status ReadClusterId();

  const std::unique_ptr<base::KvStore> kv_;
  std::string cluster_id_;
  mutable base::Mutex mutex_;
  std::map<std::string, int64_t> event_bytes_ GUARDED_BY(mutex_);
};

}  // namespace sinkforge::server
