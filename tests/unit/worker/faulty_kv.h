// FaultyKv: a store in front of another one, whose writes can be made to fail as on a full disk.
#pragma once

#include <string>

#include "base/kv_store.h"

namespace sinkforge::worker {

class FaultyKv final : public base::KvStore {
 public:
  explicit FaultyKv(base::KvStore* inner) : inner_(inner) {}

  enum class Disk { kGood, kFull };
  void SetDisk(Disk disk) { disk_ = disk; }
  // So many more writes succeed, then the disk is full.
  void FillAfter(int writes) { writes_left_ = writes; }

  absl::StatusOr<std::string> Get(std::string_view key) const override { return inner_->Get(key); }
  absl::Status Scan(
      std::string_view begin, std::string_view end,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    return inner_->Scan(begin, end, visit);
  }
  absl::Status ScanBackwards(
      std::string_view begin, std::string_view end,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    return inner_->ScanBackwards(begin, end, visit);
  }
  absl::Status Ingest(const base::KvFile& file) override {
    return TakesWrite() ? inner_->Ingest(file) : Full();
  }
  absl::Status RemoveRange(std::string_view begin, std::string_view end) override {
    return TakesWrite() ? inner_->RemoveRange(begin, end) : Full();
  }
  int64_t ApproximateBytes(std::string_view begin, std::string_view end) const override {
    return inner_->ApproximateBytes(begin, end);
  }

 protected:
  absl::Status DoWrite(const base::KvBatch& batch, base::Durability durability) override {
    return TakesWrite() ? inner_->Write(batch, durability) : Full();
  }

 private:
  bool TakesWrite() {
    if (writes_left_ >= 0 && writes_left_-- == 0) disk_ = Disk::kFull;
    return disk_ == Disk::kGood;
  }
  static absl::Status Full() { return absl::ResourceExhaustedError("database: no space left"); }

  base::KvStore* const inner_;
  Disk disk_ = Disk::kGood;
  int writes_left_ = -1;
};

}  // namespace sinkforge::worker
