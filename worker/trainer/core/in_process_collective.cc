// InProcessCollective: every rank shows its buffer, all meet, each rank reduces its own part of the
// positions over all buffers in rank order and writes the result into all of them, all meet again.
// So the result is the same bits on every rank.
#include "worker/trainer/core/in_process_collective.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

namespace sinkforge::trainer {

using kernels::Status;
using kernels::StatusCode;

namespace {

enum class Operation { kNone, kSumF32, kSumF64, kMaxI64, kBarrier };

// What a rank wants, so that ranks that disagree are found.
struct Contribution {
  Operation operation = Operation::kNone;
  void* data = nullptr;
  size_t size = 0;
};

// Where the ranks meet. Shared by all of them: the last one out frees it. The mutex guards the
// members below it; a contribution is written before a meeting and read after it.
class Meeting {
 public:
  explicit Meeting(int world_size) : contributions(static_cast<size_t>(world_size)) {}

  // Returns when every rank has come; false: a rank was lost.
  bool Meet() {
    std::unique_lock lock(mutex_);
    const int64_t turn = turn_;
    if (++waiting_ == static_cast<int>(contributions.size())) {
      waiting_ = 0;
      ++turn_;
      all_here_.notify_all();
      return true;
    }
    all_here_.wait(lock, [&] { return turn_ != turn || lost_; });
    // A rank that leaves after this meeting is complete does not spoil it.
    return turn_ != turn;
  }

  bool lost() {
    const std::lock_guard lock(mutex_);
    return lost_;
  }

  void Leave() {
    const std::lock_guard lock(mutex_);
    lost_ = true;
    all_here_.notify_all();
  }

  std::vector<Contribution> contributions;

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  int waiting_ = 0;
  int64_t turn_ = 0;
  bool lost_ = false;
};

struct Sum {
  template <typename T>
  T operator()(T a, T b) const {
    return a + b;
  }
};

struct Max {
  template <typename T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};

class InProcessCollective final : public Collective {
 public:
  InProcessCollective(std::shared_ptr<Meeting> meeting, int rank)
      : meeting_(std::move(meeting)), rank_(rank) {}
  ~InProcessCollective() override { meeting_->Leave(); }

  int rank() const override { return rank_; }
  int world_size() const override { return static_cast<int>(meeting_->contributions.size()); }

  Status AllReduceSum(std::span<float> values) override {
    return Reduce(values, Operation::kSumF32, Sum());
  }
  Status AllReduceSum(std::span<double> values) override {
    return Reduce(values, Operation::kSumF64, Sum());
  }
  Status AllReduceMax(std::span<int64_t> values) override {
    return Reduce(values, Operation::kMaxI64, Max());
  }
  Status Barrier() override { return Reduce(std::span<int64_t>(), Operation::kBarrier, Max()); }

 private:
  Status Lost() const {
    return Status(StatusCode::kUnavailable, "rank " + std::to_string(rank_) +
                                                ": another rank was lost; start the ranks anew");
  }

  template <typename T, typename Op>
  Status Reduce(std::span<T> values, Operation operation, Op op) {
    std::vector<Contribution>& all = meeting_->contributions;
    if (meeting_->lost()) return Lost();
    all[static_cast<size_t>(rank_)] = {operation, values.data(), values.size()};
    if (!meeting_->Meet()) return Lost();
    for (const Contribution& one : all) {
      SINKFORGE_CHECK(one.operation == operation && one.size == values.size());
    }
    const size_t world = all.size();
    const auto rank = static_cast<size_t>(rank_);
    const size_t end = values.size() * (rank + 1) / world;
    for (size_t i = values.size() * rank / world; i < end; ++i) {
      T result = static_cast<T*>(all[0].data)[i];
      for (size_t r = 1; r < world; ++r) result = op(result, static_cast<T*>(all[r].data)[i]);
      for (size_t r = 0; r < world; ++r) static_cast<T*>(all[r].data)[i] = result;
    }
    return meeting_->Meet() ? Status() : Lost();
  }

  std::shared_ptr<Meeting> meeting_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Collective>> MakeInProcessCollectives(int world_size) {
  SINKFORGE_CHECK(world_size >= 1);
  auto meeting = std::make_shared<Meeting>(world_size);
  std::vector<std::unique_ptr<Collective>> collectives;
  for (int rank = 0; rank < world_size; ++rank) {
    collectives.push_back(std::make_unique<InProcessCollective>(meeting, rank));
  }
  return collectives;
}

}  // namespace sinkforge::trainer
