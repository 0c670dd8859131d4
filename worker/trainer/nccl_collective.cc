// NCCL with a communicator that never blocks: every call and every transfer is watched from here
// against a deadline, so that a rank that dies or hangs ends the others with a reason. After an
// error the communicator is aborted, which the other ranks notice; a run that ended well finalizes
// and destroys it.
//
// Order on the device: the backend's stream is an ordinary one, so an event on the default stream
// comes after everything that the backend was told before; the communicator's stream waits for that
// event and for nothing else, and so runs beside what the backend is told afterwards.
//
// Nothing but CUDA, NCCL and headers of the standard library, so that tests/gpu builds it too.
#include "worker/trainer/nccl_collective.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "worker/trainer/core/stopwatch.h"

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
  base::LogError("a CUDA call failed",
                 {{"call", std::string(what)}, {"error", std::string(cudaGetErrorString(error))}});
  std::_Exit(kernels::kDeviceFailureExitCode);
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
  explicit Deadline(std::chrono::milliseconds timeout) : timeout_(timeout) {}
  bool passed() const { return left() < std::chrono::milliseconds(0); }
  std::chrono::milliseconds left() const {
    return std::chrono::floor<std::chrono::milliseconds>(
        timeout_ - std::chrono::duration<double>(stopwatch_.Seconds()));
  }

 private:
  std::chrono::milliseconds timeout_;
  Stopwatch stopwatch_;
};

std::string Late(std::chrono::milliseconds timeout) {
  return "another rank did not answer within " + std::to_string(timeout.count()) + " ms";
}

Status NotMet(const CollectiveOptions& options, const std::string& why) {
  return Status(StatusCode::kUnavailable, "rank " + std::to_string(options.rank) + " of " +
                                              std::to_string(options.world_size) +
                                              " could not meet the others: " + why);
}

class NcclCollective final : public Collective {
 public:
  explicit NcclCollective(const CollectiveOptions& options) : options_(options) {
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    CheckCuda(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming), "an event");
  }
  ~NcclCollective() override {
    // Not finished, so something went wrong, on this rank or another: finalizing a communicator
    // waits for the other ranks, who may be gone.
    Abort();
    cudaStreamDestroy(stream_);
    cudaEventDestroy(ready_);
    cudaFree(staging_);
  }
  NcclCollective(const NcclCollective&) = delete;
  NcclCollective& operator=(const NcclCollective&) = delete;

  Status Connect(const ncclUniqueId& id, const Deadline& deadline) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const std::string why =
        End(ncclCommInitRankConfig(&communicator_, options_.world_size, id, options_.rank, &config),
            deadline, options_.meeting_timeout);
    return why.empty() ? Status() : NotMet(options_, "NCCL: " + why);
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
      // Before the stream: what is done is done, whatever was lost since.
      const ncclResult_t state = State();
      const bool late = deadline.passed();
      const cudaError_t stream = cudaStreamQuery(stream_);
      if (stream == cudaSuccess) break;
      if (stream != cudaErrorNotReady) CheckCuda(stream, "a transfer between ranks");
      if (state != ncclSuccess) {
        Fail(ncclGetErrorString(state));
      } else if (late) {
        Fail(Late(options_.operation_timeout));
      } else {
        std::this_thread::yield();
      }
    }
    return status_;
  }

  // Finalizing waits until every rank is done with the communicator; destroying it frees what is
  // left on this one, and waits for nobody.
  void Finish() override {
    if (communicator_ == nullptr) return;
    const std::chrono::milliseconds timeout = options_.finish_timeout;
    std::string why = End(ncclCommFinalize(communicator_), Deadline(timeout), timeout);
    if (why.empty()) {
      const ncclResult_t destroyed = ncclCommDestroy(std::exchange(communicator_, nullptr));
      if (destroyed != ncclSuccess) why = ncclGetErrorString(destroyed);
    }
    if (why.empty()) return;
    Abort();
    base::LogWarning(
        "the connection to the other ranks did not end in order and was cut; the "
        "run's results are not affected",
        {{"error", "NCCL: " + why}});
  }

 private:
  template <typename Operation>
  void ForEachSegment(const Tensor& tensor, std::span<const Segment> segments,
                      const Operation& operation) {
    if (!status_.ok()) return;
    FollowBackend();
    ncclResult_t result = ncclGroupStart();
    if (result != ncclSuccess) return Fail(ncclGetErrorString(result));
    for (const Segment& segment : segments) {
      if (segment.size == 0) continue;
      char* data = static_cast<char*>(tensor.data) + segment.first * kernels::SizeOf(tensor.dtype);
      result = operation(data, static_cast<size_t>(segment.size), segment.owner);
      if (result != ncclSuccess && result != ncclInProgress) break;
    }
    // Whatever went wrong: a group that stays open would take in all that this thread calls next,
    // and a communicator cannot be aborted in it.
    const ncclResult_t ended = ncclGroupEnd();
    Take(result == ncclSuccess || result == ncclInProgress ? ended : result);
  }

  // By way of the device: NCCL does not reach ordinary host memory.
  Status AllReduce(void* values, size_t count, size_t size, ncclDataType_t type, ncclRedOp_t op) {
    if (!status_.ok() || count == 0) return status_;
    const size_t bytes = count * size;
    Reserve(bytes);
    CheckCuda(cudaMemcpyAsync(staging_, values, bytes, cudaMemcpyHostToDevice, stream_),
              "control values");
    Take(ncclAllReduce(staging_, staging_, count, type, op, communicator_, stream_));
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

  // What NCCL says of its last call and of the other ranks.
  ncclResult_t State() const {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &state);
    return asked == ncclSuccess ? state : asked;
  }

  // The result of a call, when what goes on in the background is done: empty, or what went wrong.
  std::string End(ncclResult_t result, const Deadline& deadline,
                  std::chrono::milliseconds timeout) const {
    while (result == ncclInProgress) {
      const bool late = deadline.passed();
      result = State();
      if (result == ncclInProgress && late) return Late(timeout);
      std::this_thread::yield();
    }
    return result == ncclSuccess ? "" : ncclGetErrorString(result);
  }

  // The same for an operation.
  void Take(ncclResult_t result) {
    const std::chrono::milliseconds timeout = options_.operation_timeout;
    const std::string why = End(result, Deadline(timeout), timeout);
    if (!why.empty()) Fail(why);
  }

  void Fail(const std::string& why) {
    status_ = Status(StatusCode::kUnavailable,
                     "the connection to another rank is lost (NCCL: " + why +
                         "); the job goes on from its last checkpoint with a new attempt");
    Abort();
  }

  void Abort() {
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

Result<ncclUniqueId> ExchangeId(const CollectiveOptions& options, RendezvousStore* store,
                                const Deadline& deadline) {
  ncclUniqueId id{};
  if (options.rank == 0) {
    if (const ncclResult_t made = ncclGetUniqueId(&id); made != ncclSuccess) {
      return NotMet(options, std::string("NCCL: ") + ncclGetErrorString(made));
    }
    Status status = store->Put(kIdKey, std::string(id.internal, sizeof(id.internal)));
    if (!status.ok()) return NotMet(options, status.message());
    return id;
  }
  const Result<std::string> bytes = store->Get(kIdKey, deadline.left());
  if (!bytes.ok()) return NotMet(options, bytes.status().message());
  if (bytes.value().size() != sizeof(id.internal)) {
    return NotMet(options, "rank 0 gave an NCCL identifier of " +
                               std::to_string(bytes.value().size()) + " bytes in place of " +
                               std::to_string(sizeof(id.internal)) +
                               "; run the same build of the trainer on every worker");
  }
  std::memcpy(id.internal, bytes.value().data(), sizeof(id.internal));
  return id;
}

}  // namespace

Result<std::unique_ptr<Collective>> MakeNcclCollective(const CollectiveOptions& options,
                                                       RendezvousStore* store) {
  const Deadline deadline(options.meeting_timeout);
  const Result<ncclUniqueId> id = ExchangeId(options, store, deadline);
  if (!id.ok()) return id.status();
  auto collective = std::make_unique<NcclCollective>(options);
  if (Status status = collective->Connect(id.value(), deadline); !status.ok()) return status;
  return std::unique_ptr<Collective>(std::move(collective));
}

}  // namespace sinkforge::trainer
