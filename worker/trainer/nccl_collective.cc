// NCCL with a communicator that never blocks: every call and every transfer is watched from here
// against a deadline, so that a rank that dies or hangs ends the others with a reason. After an
// error the communicator is aborted, which the other ranks notice.
//
// Order on the device: the backend's stream is an ordinary one, so an event on the default stream
// comes after everything that the backend was told before; the communicator's stream waits for that
// event and for nothing else, and so runs beside what the backend is told afterwards.
#include "worker/trainer/nccl_collective.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "base/clock.h"

namespace sinkforge::trainer {

using kernels::DType;
using kernels::Result;
using kernels::Status;
using kernels::StatusCode;
using kernels::Tensor;

namespace {

constexpr char kIdKey[] = "nccl-id";

// As in kernels/cuda: nothing computed after a failed call could be trusted.
void CheckCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s: %s\n", what, cudaGetErrorString(error));
  std::_Exit(26);
}

ncclDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kI32:
      break;
  }
  return ncclInt32;
}

class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds timeout)
      : end_(base::RealClock().Read().monotonic + timeout) {}
  bool passed() const { return base::RealClock().Read().monotonic > end_; }

 private:
  decltype(base::RealClock().Read().monotonic) end_;
};

class NcclCollective final : public Collective {
 public:
  explicit NcclCollective(const CollectiveOptions& options) : options_(options) {
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    CheckCuda(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming), "an event");
  }
  ~NcclCollective() override {
    // Destroying a communicator waits for the other ranks, who may be gone.
    if (communicator_ != nullptr) ncclCommAbort(communicator_);
    cudaFree(staging_);
    cudaEventDestroy(ready_);
    cudaStreamDestroy(stream_);
  }
  NcclCollective(const NcclCollective&) = delete;
  NcclCollective& operator=(const NcclCollective&) = delete;

  Status Connect(const ncclUniqueId& id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const Deadline deadline(options_.meeting_timeout);
    Take(ncclCommInitRankConfig(&communicator_, options_.world_size, id, options_.rank, &config),
         deadline);
    return status_;
  }

  int rank() const override { return options_.rank; }
  int world_size() const override { return options_.world_size; }

  Status AllReduceSum(std::span<double> values) override {
    return AllReduce(values.data(), values.size(), sizeof(double), ncclFloat64, ncclSum);
  }
  Status AllReduceMax(std::span<int64_t> values) override {
    return AllReduce(values.data(), values.size(), sizeof(int64_t), ncclInt64, ncclMax);
  }
  Status Barrier() override {
    int64_t nothing = 0;
    return AllReduceMax(std::span<int64_t>(&nothing, 1));
  }

  void BeginReduceScatterSum(const Tensor& tensor, std::span<const Segment> segments) override {
    ForEachSegment(tensor, segments, [&](void* data, size_t count, int owner) {
      return ncclReduce(data, data, count, TypeOf(tensor.dtype), ncclSum, owner, communicator_,
                        stream_);
    });
  }
  void BeginAllGather(const Tensor& tensor, std::span<const Segment> segments) override {
    ForEachSegment(tensor, segments, [&](void* data, size_t count, int owner) {
      return ncclBroadcast(data, data, count, TypeOf(tensor.dtype), owner, communicator_, stream_);
    });
  }

  Status Wait() override {
    const Deadline deadline(options_.operation_timeout);
    while (status_.ok()) {
      const cudaError_t state = cudaStreamQuery(stream_);
      if (state == cudaSuccess) break;
      if (state != cudaErrorNotReady) CheckCuda(state, "a transfer between ranks");
      Watch(deadline);
    }
    return status_;
  }

 private:
  template <typename Operation>
  void ForEachSegment(const Tensor& tensor, std::span<const Segment> segments,
                      const Operation& operation) {
    if (!status_.ok()) return;
    FollowBackend();
    const Deadline deadline(options_.operation_timeout);
    Take(ncclGroupStart(), deadline);
    for (const Segment& segment : segments) {
      if (segment.size == 0 || !status_.ok()) continue;
      char* data = static_cast<char*>(tensor.data) + segment.first * kernels::SizeOf(tensor.dtype);
      // Inside a group calls are only gathered; what is wrong with them shows at its end.
      const ncclResult_t result = operation(data, static_cast<size_t>(segment.size), segment.owner);
      if (result != ncclSuccess && result != ncclInProgress) Fail(ncclGetErrorString(result));
    }
    if (status_.ok()) Take(ncclGroupEnd(), deadline);
  }

  // By way of the device: NCCL does not reach ordinary host memory.
  Status AllReduce(void* values, size_t count, size_t size, ncclDataType_t type, ncclRedOp_t op) {
    if (!status_.ok() || count == 0) return status_;
    const size_t bytes = count * size;
    Reserve(bytes);
    CheckCuda(cudaMemcpyAsync(staging_, values, bytes, cudaMemcpyHostToDevice, stream_),
              "control values");
    Take(ncclAllReduce(staging_, staging_, count, type, op, communicator_, stream_),
         Deadline(options_.operation_timeout));
    if (Status status = Wait(); !status.ok()) return status;
    CheckCuda(cudaMemcpyAsync(values, staging_, bytes, cudaMemcpyDeviceToHost, stream_),
              "control values");
    CheckCuda(cudaStreamSynchronize(stream_), "control values");
    return status_;
  }

  void Reserve(size_t bytes) {
    if (bytes <= staging_bytes_) return;
    CheckCuda(cudaFree(staging_), "control values");
    CheckCuda(cudaMalloc(&staging_, bytes), "control values");
    staging_bytes_ = bytes;
  }

  void FollowBackend() {
    CheckCuda(cudaEventRecord(ready_, cudaStreamLegacy), "an event");
    CheckCuda(cudaStreamWaitEvent(stream_, ready_, 0), "an event");
  }

  // The result of a call; one that goes on in the background is waited for.
  void Take(ncclResult_t result, const Deadline& deadline) {
    while (status_.ok() && result == ncclInProgress) {
      Watch(deadline);
      if (!status_.ok()) return;
      ncclCommGetAsyncError(communicator_, &result);
    }
    if (status_.ok() && result != ncclSuccess) Fail(ncclGetErrorString(result));
  }

  // One look at the communicator and the time.
  void Watch(const Deadline& deadline) {
    ncclResult_t state = ncclSuccess;
    if (communicator_ != nullptr) ncclCommGetAsyncError(communicator_, &state);
    if (state != ncclSuccess && state != ncclInProgress) {
      Fail(ncclGetErrorString(state));
    } else if (deadline.passed()) {
      Fail("it did not answer in time");
    } else {
      std::this_thread::yield();
    }
  }

  void Fail(const std::string& why) {
    status_ = Status(StatusCode::kUnavailable,
                     "the connection to another rank is lost (NCCL: " + why +
                         "); the job goes on from its last checkpoint with a new attempt");
    if (communicator_ != nullptr) ncclCommAbort(communicator_);
    communicator_ = nullptr;
  }

  const CollectiveOptions options_;
  ncclComm_t communicator_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ready_ = nullptr;
  void* staging_ = nullptr;
  size_t staging_bytes_ = 0;
  Status status_;  // the first error, after which nothing is done any more
};

Result<ncclUniqueId> ExchangeId(const CollectiveOptions& options, RendezvousStore* store) {
  ncclUniqueId id{};
  if (options.rank == 0) {
    if (const ncclResult_t made = ncclGetUniqueId(&id); made != ncclSuccess) {
      return Status(StatusCode::kUnavailable,
                    std::string("NCCL cannot start: ") + ncclGetErrorString(made));
    }
    Status status = store->Put(kIdKey, std::string(id.internal, sizeof(id.internal)));
    if (!status.ok()) return status;
    return id;
  }
  const Result<std::string> bytes = store->Get(kIdKey, options.meeting_timeout);
  if (!bytes.ok()) return bytes.status();
  if (bytes.value().size() != sizeof(id.internal)) {
    return Status(StatusCode::kUnavailable, "rank 0 gave an NCCL identifier of another version");
  }
  std::memcpy(id.internal, bytes.value().data(), sizeof(id.internal));
  return id;
}

}  // namespace

Result<std::unique_ptr<Collective>> MakeNcclCollective(const CollectiveOptions& options,
                                                       RendezvousStore* store) {
  const Result<ncclUniqueId> id = ExchangeId(options, store);
  if (!id.ok()) return id.status();
  auto collective = std::make_unique<NcclCollective>(options);
  if (Status status = collective->Connect(id.value()); !status.ok()) return status;
  return std::unique_ptr<Collective>(std::move(collective));
}

}  // namespace sinkforge::trainer
