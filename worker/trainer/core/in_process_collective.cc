// InProcessCollective: every rank shows its buffer, all meet, each rank reduces its own part of the
// positions over all buffers in rank order and writes the result where it belongs, all meet again.
// What is begun is done in Wait and no earlier, so that a caller who takes a result too soon does
// not find it.
#include "worker/trainer/core/in_process_collective.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>

#include "worker/trainer/core/rank_order_sum.h"

namespace sinkforge::trainer {

using kernels::DType;
using kernels::Status;
using kernels::StatusCode;

namespace {

enum class Operation { kNone, kSumF64, kMaxI64, kBarrier, kReduceScatter, kAllGather };

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

  Status AllReduceSum(std::span<double> values) override {
    return Reduce(values, Operation::kSumF64, Sum());
  }
  Status AllReduceMax(std::span<int64_t> values) override {
    return Reduce(values, Operation::kMaxI64, Max());
  }
  Status Barrier() override { return Reduce(std::span<int64_t>(), Operation::kBarrier, Max()); }

  void BeginReduceScatterSum(const kernels::Tensor& tensor,
                             std::span<const Segment> segments) override {
    SINKFORGE_CHECK(tensor.dtype == DType::kF32 || tensor.dtype == DType::kF64);
    begun_.push_back({Operation::kReduceScatter, tensor, segments});
  }
  void BeginAllGather(const kernels::Tensor& tensor, std::span<const Segment> segments) override {
    begun_.push_back({Operation::kAllGather, tensor, segments});
  }

  Status Wait() override {
    const std::vector<Begun> begun = std::exchange(begun_, {});
    for (const Begun& one : begun) {
      if (!Do(one)) return Lost();
    }
    return Status();
  }

 private:
  struct Begun {
    Operation operation = Operation::kNone;
    kernels::Tensor tensor;
    std::span<const Segment> segments;
  };

  // False: a rank was lost.
  bool Do(const Begun& begun) {
    if (!ShowAndMeet(
            {begun.operation, begun.tensor.data, static_cast<size_t>(begun.tensor.bytes())})) {
      return false;
    }
    for (const Segment& segment : begun.segments) {
      const bool mine = segment.owner == rank_;
      if (begun.operation == Operation::kAllGather) {
        if (!mine) Fetch(begun.tensor, segment);
      } else if (mine) {
        begun.tensor.dtype == DType::kF64 ? SumSegment<double>(segment)
                                          : SumSegment<float>(segment);
      }
    }
    return meeting_->Meet();
  }

  // Only this rank touches its own segment of any buffer.
  template <typename T>
  void SumSegment(const Segment& segment) {
    std::vector<const T*> sources;
    for (const Contribution& one : meeting_->contributions) {
      sources.push_back(static_cast<const T*>(one.data) + segment.first);
    }
    T* own = static_cast<T*>(meeting_->contributions[static_cast<size_t>(rank_)].data);
    SumInRankOrder<T>(sources, static_cast<size_t>(segment.size), own + segment.first);
  }

  void Fetch(const kernels::Tensor& tensor, const Segment& segment) {
    const int64_t element = kernels::SizeOf(tensor.dtype);
    const auto* from = static_cast<const std::byte*>(
        meeting_->contributions[static_cast<size_t>(segment.owner)].data);
    std::memcpy(tensor.as<std::byte>() + segment.first * element, from + segment.first * element,
                static_cast<size_t>(segment.size * element));
  }

  // Shows the other ranks what this one wants. False: a rank was lost.
  bool ShowAndMeet(const Contribution& mine) {
    if (meeting_->lost()) return false;
    std::vector<Contribution>& all = meeting_->contributions;
    all[static_cast<size_t>(rank_)] = mine;
    if (!meeting_->Meet()) return false;
    for (const Contribution& one : all) {
      SINKFORGE_CHECK(one.operation == mine.operation && one.size == mine.size);
    }
    return true;
  }

  Status Lost() const {
    return Status(StatusCode::kUnavailable, "rank " + std::to_string(rank_) +
                                                ": another rank was lost; start the ranks anew");
  }

  template <typename T, typename Op>
  Status Reduce(std::span<T> values, Operation operation, Op op) {
    SINKFORGE_CHECK(begun_.empty());
    if (!ShowAndMeet({operation, values.data(), values.size()})) return Lost();
    const std::vector<Contribution>& all = meeting_->contributions;
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
  std::vector<Begun> begun_;
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
