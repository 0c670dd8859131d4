// Gloo reports errors by exceptions; none leaves this file. After an error the context is destroyed
// at once: only then do all other ranks notice, and not just this one's neighbours in the ring.
// What is begun runs on a thread of its own, one after the other; between Wait and the next Begin
// that thread does nothing, and the context is the caller's.
#include "worker/trainer/gloo_collective.h"

#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/common/error.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "worker/trainer/gloo_transfer.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

// Every wait has the meeting's timeout: Gloo's own default would wait 30 seconds whatever was
// asked.
class StoreAdapter final : public gloo::rendezvous::Store {
 public:
  StoreAdapter(RendezvousStore* store, std::chrono::milliseconds timeout)
      : store_(store), timeout_(timeout) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    const Status status = store_->Put(key, std::string(data.begin(), data.end()));
    if (!status.ok()) throw gloo::IoException(status.message());
  }
  std::vector<char> get(const std::string& key) override { return Get(key, timeout_); }
  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override {
    for (const std::string& key : keys) Get(key, std::min(timeout, timeout_));
  }

 private:
  std::vector<char> Get(const std::string& key, std::chrono::milliseconds timeout) {
    const Result<std::string> value = store_->Get(key, timeout);
    if (!value.ok()) throw gloo::IoException(value.status().message());
    return {value.value().begin(), value.value().end()};
  }

  RendezvousStore* store_;
  std::chrono::milliseconds timeout_;
};

class GlooCollective final : public Collective {
 public:
  GlooCollective(std::shared_ptr<gloo::Context> context, const CollectiveOptions& options)
      : context_(std::move(context)),
        rank_(options.rank),
        world_size_(options.world_size),
        thread_([this] { Run(); }) {}

  ~GlooCollective() override {
    {
      const base::MutexLock lock(&mutex_);
      ending_ = true;
      // An operation under way would wait for ranks that may never answer. The others notice by the
      // closed connections.
      transfer_.Abort();
      if (!begun_.empty() && context_ != nullptr) context_->closeConnections();
      changed_.NotifyAll();
    }
    thread_.join();
  }

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }

  Status AllReduceSum(std::span<double> values) override {
    return AllReduce(values, &gloo::sum<double>);
  }
  Status AllReduceMax(std::span<int64_t> values) override {
    return AllReduce(values, &gloo::max<int64_t>);
  }

  Status Barrier() override {
    CheckNothingBegun();
    return Guard([&] {
      gloo::BarrierOptions options(context_);
      gloo::barrier(options);
    });
  }

  void BeginReduceScatterSum(const kernels::Tensor& tensor,
                             std::span<const Segment> segments) override {
    Begin({Operation::kReduceScatterSum, tensor, segments});
  }
  void BeginAllGather(const kernels::Tensor& tensor, std::span<const Segment> segments) override {
    Begin({Operation::kAllGather, tensor, segments});
  }

  Status Wait() override {
    base::MutexLock lock(&mutex_);
    while (!begun_.empty()) changed_.Wait(&lock);
    return status_;
  }

 private:
  enum class Operation { kReduceScatterSum, kAllGather };
  struct Begun {
    Operation operation = Operation::kAllGather;
    kernels::Tensor tensor;
    std::span<const Segment> segments;
  };

  void Begin(const Begun& begun) {
    const base::MutexLock lock(&mutex_);
    begun_.push_back(begun);
    changed_.NotifyAll();
  }

  // The thread's body.
  void Run() {
    while (true) {
      Begun begun;
      {
        base::MutexLock lock(&mutex_);
        while (begun_.empty() && !ending_) changed_.Wait(&lock);
        if (ending_) return;
        begun = begun_.front();
      }
      Status status = Guard([&] {
        if (begun.operation == Operation::kAllGather) {
          transfer_.AllGather(context_, begun.tensor, begun.segments);
        } else {
          transfer_.ReduceScatterSum(context_, begun.tensor, begun.segments);
        }
      });
      const base::MutexLock lock(&mutex_);
      if (status_.ok()) status_ = std::move(status);
      begun_.pop_front();
      changed_.NotifyAll();
    }
  }

  void CheckNothingBegun() {
    const base::MutexLock lock(&mutex_);
    SINKFORGE_CHECK(begun_.empty());
  }

  template <typename T>
  Status AllReduce(std::span<T> values, void (*reduce)(void*, const void*, const void*, size_t)) {
    CheckNothingBegun();
    if (values.empty()) return Status();
    return Guard([&] {
      gloo::AllreduceOptions options(context_);
      // A ring adds in one fixed order for each element, so that every rank has the same bits.
      options.setAlgorithm(gloo::AllreduceOptions::Algorithm::RING);
      options.setOutput(values.data(), values.size());
      options.setReduceFunction(reduce);
      gloo::allreduce(options);
    });
  }

  template <typename Operation>
  Status Guard(const Operation& operation) {
    if (context_ == nullptr) return Lost("it failed before");
    try {
      operation();
      return Status();
    } catch (const std::exception& error) {
      std::shared_ptr<gloo::Context> failed;
      {
        const base::MutexLock lock(&mutex_);
        failed = std::move(context_);
      }
      return Lost(error.what());
    }
  }

  static Status Lost(const std::string& why) {
    return Status(StatusCode::kUnavailable,
                  "the connection to another rank is lost (" + why +
                      "); the job goes on from its last checkpoint with a new attempt");
  }

  // Shared because Gloo's operations take it so. Used by whoever may run an operation; it is let go
  // under the mutex because the destructor looks at it from outside.
  std::shared_ptr<gloo::Context> context_;
  const int rank_;
  const int world_size_;
  GlooTransfer transfer_;  // the thread's
  base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<Begun> begun_ GUARDED_BY(mutex_);  // the first one is under way
  Status status_ GUARDED_BY(mutex_);
  bool ending_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<Collective>> MakeGlooCollective(const CollectiveOptions& options,
                                                       RendezvousStore* store) {
  std::signal(SIGPIPE, SIG_IGN);  // Gloo writes to its sockets without MSG_NOSIGNAL
  try {
    gloo::transport::tcp::attr attributes;
    attributes.hostname = options.host;
    auto device = gloo::transport::tcp::CreateDevice(attributes);
    auto context = std::make_shared<gloo::rendezvous::Context>(options.rank, options.world_size);
    context->setTimeout(options.meeting_timeout);
    StoreAdapter adapter(store, options.meeting_timeout);
    context->connectFullMesh(adapter, device);
    auto collective = std::make_unique<GlooCollective>(context, options);
    // A rank that hangs while it connects can look connected to the others.
    if (Status status = collective->Barrier(); !status.ok()) return status;
    context->setTimeout(options.operation_timeout);
    return std::unique_ptr<Collective>(std::move(collective));
  } catch (const std::exception& error) {
    return Status(StatusCode::kUnavailable, "rank " + std::to_string(options.rank) + " of " +
                                                std::to_string(options.world_size) +
                                                " could not meet the others: " + error.what());
  }
}

}  // namespace sinkforge::trainer
