// Gloo reports errors by exceptions; none leaves this file. After an error the context is destroyed
// at once: only then do all other ranks notice, and not just this one's neighbours in the ring.
#include "worker/trainer/gloo_collective.h"

#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/common/error.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

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
      : context_(std::move(context)), rank_(options.rank), world_size_(options.world_size) {}

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }

  Status AllReduceSum(std::span<float> values) override {
    return AllReduce(values, &gloo::sum<float>);
  }
  Status AllReduceSum(std::span<double> values) override {
    return AllReduce(values, &gloo::sum<double>);
  }
  Status AllReduceMax(std::span<int64_t> values) override {
    return AllReduce(values, &gloo::max<int64_t>);
  }

  Status Barrier() override {
    return Guard([&] {
      gloo::BarrierOptions options(context_);
      gloo::barrier(options);
    });
  }

 private:
  template <typename T>
  Status AllReduce(std::span<T> values, void (*reduce)(void*, const void*, const void*, size_t)) {
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
      context_.reset();
      return Lost(error.what());
    }
  }

  static Status Lost(const std::string& why) {
    return Status(StatusCode::kUnavailable,
                  "the connection to another rank is lost (" + why +
                      "); the job goes on from its last checkpoint with a new attempt");
  }

  std::shared_ptr<gloo::Context> context_;  // shared because Gloo's operations take it so
  const int rank_;
  const int world_size_;
};

}  // namespace

Result<std::unique_ptr<Collective>> MakeGlooCollective(const CollectiveOptions& options,
                                                       RendezvousStore* store) {
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
