// Collective: what the core needs of the other ranks. Implementations: SoloCollective (one rank),
// InProcessCollective (threads of one process, for tests); outside the core, GlooCollective (TCP)
// and NcclCollective (GPUs). All pass one conformance suite. Every rank calls the same operations
// in the same order with the same sizes and segments.
//
// There are two kinds of operations. Small control values lie in host memory and are exchanged at
// once. Tensors lie in the memory of the backend, which may be a device's; their operations are
// begun, run beside whatever the caller does next, and are waited for together:
//
//   collective->BeginReduceScatterSum(bucket, segments);   // while the backward goes on
//   ...
//   status = collective->Wait();
//
// An operation sees what the backend was told to do before it was begun, and what the backend is
// told after Wait sees its result; a device's collective orders this on the device's streams.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/status.h"
#include "kernels/tensor.h"

namespace sinkforge::trainer {

// Elements [first, first + size) of a flat tensor, which belong to the rank `owner`.
struct Segment {
  int64_t first = 0;
  int64_t size = 0;
  int owner = 0;
};

class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  // Control values: the results are the same bits on every rank. Not between a Begin and its Wait.
  // kUnavailable: a rank was lost; the collective is of no more use.
  virtual kernels::Status AllReduceSum(std::span<double> values) = 0;
  virtual kernels::Status AllReduceMax(std::span<int64_t> values) = 0;
  virtual kernels::Status Barrier() = 0;

  // `segments` lie in ascending order inside the tensor without overlap, and any number of them may
  // have one owner. Tensor and segments must stay as they are until Wait, but for what lies outside
  // the segments. Errors are Wait's.
  //
  // Each segment becomes, on its owner, the sum over the ranks: the same bits whenever the same
  // ranks add the same numbers. What it holds on other ranks afterwards is undefined. kF32, kF64.
  virtual void BeginReduceScatterSum(const kernels::Tensor& tensor,
                                     std::span<const Segment> segments) = 0;
  // Each segment becomes on every rank what it is on its owner. Any type.
  virtual void BeginAllGather(const kernels::Tensor& tensor, std::span<const Segment> segments) = 0;
  // All that was begun is done. kUnavailable: a rank was lost; the tensors' contents are undefined
  // and the collective is of no more use.
  virtual kernels::Status Wait() = 0;

  // The last call of every rank of a run that ended well, or that all agreed to end: ends the
  // connections in order, where there is an order. Waits for the other ranks for a while, and says
  // in the log what went wrong: the run's results are there already. A collective that goes without
  // it lets go at once, and the other ranks may hear of a loss.
  virtual void Finish() {}
};

}  // namespace sinkforge::trainer
