// The log spool's table: spool_log job attempt rank sequence -> LogLine.
#include "worker/store/log_spool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace sinkforge::worker {
namespace {

constexpr char kTable[] = "spool_log";
constexpr int64_t kBytesMax = 1 << 20;  // of a request: an eighth of the largest message

base::KeyBuilder StreamRows(const RankKey& rank) {
  base::KeyBuilder rows(kTable);
  rows.Text(rank.job_id).Number(rank.attempt).Number(rank.rank);
  return rows;
}

std::string Row(const RankKey& rank, int64_t sequence) {
  return StreamRows(rank).Number(sequence).key();
}

bool ReadRow(std::string_view row, RankKey* rank, int64_t* sequence) {
  base::KeyReader reader(row);
  std::string table;
  int64_t number = 0;
  const bool ok = reader.Text(&table) && reader.Text(&rank->job_id) &&
                  reader.Number(&rank->attempt) && reader.Number(&number) &&
                  reader.Number(sequence);
  rank->rank = static_cast<int32_t>(number);
  return ok;
}

int64_t RowBytes(std::string_view row, std::string_view value) {
  return static_cast<int64_t>(row.size() + value.size());
}

}  // namespace

LogSpool::LogSpool(base::KvStore* store, LogSpoolOptions options)
    : store_(store), options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<LogSpool>> LogSpool::Open(base::KvStore* store,
                                                         LogSpoolOptions options) {
  std::unique_ptr<LogSpool> spool(new LogSpool(store, std::move(options)));
  base::MutexLock lock(&spool->mutex_);
  if (absl::Status status = spool->LoadLocked(); !status.ok()) return status;
  return spool;
}

absl::StatusOr<int64_t> LogSpool::Salvage(base::KvWreck* wreck) {
  const base::KeyBuilder table(kTable);
  base::MutexLock lock(&mutex_);
  const auto copied = wreck->Copy(table.key(), table.PrefixEnd(), store_);
  if (!copied.ok()) return copied;
  bytes_ = 0;
  for (auto& [rank, stream] : streams_) {
    stream.size = SpoolSize();
    stream.from = 0;
    stream.in_flight = 0;
  }
  if (absl::Status status = LoadLocked(); !status.ok()) return status;
  return copied;
}

absl::Status LogSpool::LoadLocked() {
  const base::KeyBuilder table(kTable);
  return store_->Scan(table.key(), table.PrefixEnd(),
                      [&](std::string_view row, std::string_view value) {
                        RankKey rank;
                        int64_t sequence = 0;
                        if (!ReadRow(row, &rank, &sequence)) return true;
                        Stream& stream = streams_[rank];
                        if (stream.size.records == 0) stream.from = sequence;
                        ++stream.size.records;
                        stream.size.bytes += RowBytes(row, value);
                        bytes_ += RowBytes(row, value);
                        return true;
                      });
}

v1::LogLine LogSpool::NoteLocked(const RankKey& rank, int64_t sequence,
                                 const Stream& stream) const {
  v1::LogLine note;
  note.set_attempt(rank.attempt);
  note.set_rank(rank.rank);
  note.set_sequence(sequence);
  *note.mutable_time() = base::ToProto(base::RealClock().Read().wall);
  note.set_stream(v1::LogLine::STREAM_STDERR);
  note.set_text(
      "[sinkforge-worker: " + std::to_string(stream.dropped) +
      " log lines of this rank were dropped up to here: the worker's spool was full while "
      "the coordinator was away, or its disk was]");
  return note;
}

void LogSpool::Append(const RankKey& rank, const std::vector<v1::LogLine>& lines) {
  if (lines.empty()) return;
  {
    base::MutexLock lock(&mutex_);
    Stream& stream = streams_[rank];
    base::KvBatch batch;
    SpoolSize added;
    const auto put = [&](const v1::LogLine& line) {
      std::string row = Row(rank, line.sequence());
      std::string value = line.SerializeAsString();
      ++added.records;
      added.bytes += RowBytes(row, value);
      batch.Put(std::move(row), std::move(value));
    };
    if (stream.refused > 0) put(NoteLocked(rank, stream.refused, stream));
    for (const v1::LogLine& line : lines) put(line);
    const absl::Status written = store_->Write(batch, base::Durability::kLogged);
    if (!written.ok()) {
      if (stream.refused == 0) {
        base::LogWarning("log lines could not be kept",
                         {{"rank", ToString(rank)}, {"error", std::string(written.message())}});
      }
      stream.refused = lines.back().sequence();
      stream.dropped += static_cast<int64_t>(lines.size());
      if (options_.on_dropped) options_.on_dropped(static_cast<int64_t>(lines.size()));
      return;
    }
    if (stream.refused > 0) stream.note = stream.refused;
    if (stream.size.records == 0) {
      stream.from = stream.refused > 0 ? stream.refused : lines.front().sequence();
    }
    stream.refused = 0;
    stream.size.records += added.records;
    stream.size.bytes += added.bytes;
    bytes_ += added.bytes;
    DropOldestLocked();
  }
  options_.on_news();
}

void LogSpool::DropOldestLocked() {
  // A tenth at once, so that a full spool does not drop and note at every line.
  const int64_t goal = options_.bytes_max - options_.bytes_max / 10;
  if (bytes_ <= options_.bytes_max) return;
  while (bytes_ > goal) {
    const auto longest = std::max_element(
        streams_.begin(), streams_.end(),
        [](const auto& a, const auto& b) { return a.second.size.bytes < b.second.size.bytes; });
    const int64_t before = bytes_;
    DropFromLocked(longest->first, bytes_ - goal, &longest->second);
    if (bytes_ >= before) return;  // what is left is on its way to the coordinator
  }
}

void LogSpool::DropFromLocked(const RankKey& rank, int64_t bytes, Stream* stream) {
  base::KvBatch batch;
  SpoolSize removed;
  int64_t lines = 0;
  int64_t last = 0;
  const int64_t first = std::max(stream->from, stream->in_flight + 1);
  const absl::Status scanned = store_->Scan(Row(rank, first), StreamRows(rank).PrefixEnd(),
                                            [&](std::string_view row, std::string_view value) {
                                              RankKey key;
                                              if (!ReadRow(row, &key, &last)) return false;
                                              ++removed.records;
                                              removed.bytes += RowBytes(row, value);
                                              if (last != stream->note) ++lines;
                                              batch.Delete(std::string(row));
                                              return removed.bytes < bytes;
                                            });
  if (!scanned.ok() || lines == 0) return;
  Stream changed = *stream;
  changed.dropped += lines;
  changed.note = last;
  const std::string note_row = Row(rank, last);
  const std::string note = NoteLocked(rank, last, changed).SerializeAsString();
  batch.Put(note_row, note);
  if (!store_->Write(batch, base::Durability::kLogged).ok()) return;  // tried at the next append
  changed.size.records += 1 - removed.records;
  changed.size.bytes += RowBytes(note_row, note) - removed.bytes;
  if (first == changed.from) changed.from = last;
  bytes_ += changed.size.bytes - stream->size.bytes;
  *stream = changed;
  if (options_.on_dropped) options_.on_dropped(lines);
}

std::vector<std::string> LogSpool::Jobs() const {
  base::MutexLock lock(&mutex_);
  std::vector<std::string> jobs;
  for (const auto& [rank, stream] : streams_) {
    if (stream.size.records > 0 && (jobs.empty() || jobs.back() != rank.job_id)) {
      jobs.push_back(rank.job_id);
    }
  }
  return jobs;
}

absl::StatusOr<v1::AppendLogsRequest> LogSpool::Next(const std::string& job_id) {
  v1::AppendLogsRequest request;
  request.set_job_id(job_id);
  base::MutexLock lock(&mutex_);
  int64_t bytes = 0;
  bool readable = true;
  for (auto it = streams_.lower_bound({job_id, 0, 0});
       it != streams_.end() && it->first.job_id == job_id; ++it) {
    Stream& stream = it->second;
    stream.in_flight = 0;
    if (bytes >= kBytesMax || stream.size.records == 0) continue;
    const absl::Status scanned =
        store_->Scan(Row(it->first, stream.from), StreamRows(it->first).PrefixEnd(),
                     [&](std::string_view, std::string_view value) {
                       v1::LogLine& line = *request.add_lines();
                       readable = line.ParseFromArray(value.data(), static_cast<int>(value.size()));
                       bytes += static_cast<int64_t>(value.size());
                       stream.in_flight = line.sequence();
                       return readable && bytes < kBytesMax;
                     });
    if (!scanned.ok()) return scanned;
  }
  if (!readable) {
    return absl::DataLossError("the spool's log lines of job " + job_id + " cannot be read");
  }
  return request;
}

absl::Status LogSpool::Acknowledge(const v1::AppendLogsRequest& request) {
  base::MutexLock lock(&mutex_);
  base::KvBatch batch;
  std::map<RankKey, SpoolSize> removed;
  for (const v1::LogLine& line : request.lines()) {
    const RankKey rank{request.job_id(), line.attempt(), line.rank()};
    // After a salvage nothing is in flight: the line may be counted as one that is there.
    const auto stream = streams_.find(rank);
    if (stream == streams_.end() || line.sequence() > stream->second.in_flight) continue;
    std::string row = Row(rank, line.sequence());
    SpoolSize& size = removed[rank];
    ++size.records;
    size.bytes += RowBytes(row, line.SerializeAsString());
    batch.Delete(std::move(row));
  }
  const absl::Status deleted = store_->Write(batch, base::Durability::kLogged);
  if (!deleted.ok()) return deleted;
  for (const auto& [rank, size] : removed) {
    Stream& stream = streams_.at(rank);
    stream.size.records -= size.records;
    stream.size.bytes -= size.bytes;
    stream.from = stream.in_flight + 1;
    stream.in_flight = 0;
    bytes_ -= size.bytes;
    if (stream.size.records == 0 && stream.dropped == 0) streams_.erase(rank);
  }
  return absl::OkStatus();
}

SpoolSize LogSpool::size() const {
  base::MutexLock lock(&mutex_);
  SpoolSize size;
  for (const auto& [rank, stream] : streams_) {
    size.records += stream.size.records;
    size.bytes += stream.size.bytes;
  }
  return size;
}

}  // namespace sinkforge::worker
