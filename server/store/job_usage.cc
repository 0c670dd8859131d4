// Bytes by job; see job_usage.h.
#include "server/store/job_usage.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sinkforge::server {
namespace {

base::KeyBuilder Table() { return base::KeyBuilder("use"); }

bool Parse(const std::string& value, JobUsage::Entry* entry) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(value, absl::MaxSplits(' ', 1));
  return absl::SimpleAtoi(parts.first, &entry->bytes) &&
         absl::SimpleAtoi(parts.second, &entry->next_number);
}

}  // namespace

absl::Status JobUsage::Load(const base::KvStore& kv) {
  std::string unreadable;
  const absl::Status scanned = kv.Scan(
      Table().key(), Table().PrefixEnd(), [&](std::string_view key, std::string_view value) {
        base::KeyReader reader(key);
        std::string table;
        std::string job_id;
        Entry entry;
        if (!reader.Text(&table) || !reader.Text(&job_id) || !Parse(std::string(value), &entry)) {
          unreadable = job_id;
          return false;
        }
        entries_[job_id] = entry;
        return true;
      });
  if (!scanned.ok()) return scanned;
  if (unreadable.empty()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("job ", unreadable, ": its usage record cannot be read; ",
                                          "restore the data directory from a backup"));
}

JobUsage::Entry JobUsage::Of(const std::string& job_id) const {
  const auto found = entries_.find(job_id);
  return found == entries_.end() ? Entry() : found->second;
}

void JobUsage::Put(const std::map<std::string, Entry>& changed, base::KvBatch* batch) {
  for (const auto& [job_id, entry] : changed) {
    batch->Put(Table().Text(job_id).key(), absl::StrCat(entry.bytes, " ", entry.next_number));
  }
}

void JobUsage::Apply(const std::map<std::string, Entry>& changed) {
  for (const auto& [job_id, entry] : changed) entries_[job_id] = entry;
}

void JobUsage::Delete(const std::string& job_id, base::KvBatch* batch) {
  batch->Delete(Table().Text(job_id).key());
}

std::vector<JobBytes> JobUsage::Bytes() const {
  std::vector<JobBytes> all;
  for (const auto& [job_id, entry] : entries_) {
    if (entry.bytes > 0) all.push_back({job_id, entry.bytes});
  }
  return all;
}

}  // namespace sinkforge::server
