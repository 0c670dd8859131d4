// JobUsage: how many bytes each job takes in a database, kept exact by a record that is written in
// the same batch as the data. Not thread-safe: its store's lock guards it.
//
// Key: use <job id> -> "<bytes> <next number>".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/kv_store.h"
#include "server/engine/job_store.h"

namespace sinkforge::server {

class JobUsage {
 public:
  struct Entry {
    int64_t bytes = 0;
    int64_t next_number = 1;  // for stores that number what they keep
  };

  // DATA_LOSS names the job.
  absl::Status Load(const base::KvStore& kv);

  Entry Of(const std::string& job_id) const;
  // To be followed by Apply once the batch is written.
  static void Put(const std::map<std::string, Entry>& changed, base::KvBatch* batch);
  void Apply(const std::map<std::string, Entry>& changed);
  static void Delete(const std::string& job_id, base::KvBatch* batch);
  void Forget(const std::string& job_id) { entries_.erase(job_id); }

  std::vector<JobBytes> Bytes() const;

 private:
  std::map<std::string, Entry> entries_;
};

}  // namespace sinkforge::server
