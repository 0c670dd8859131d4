// ShardPlan: how ZeRO-1 divides a model among the ranks. Every rank holds all parameters and
// gradients; the optimizer state of a parameter, and with it the update, belongs to its owners.
//
//   * A matrix that Muon updates is one rank's, whole, because Newton-Schulz needs all of it. The
//     matrices are handed out by falling cost, each to the rank with the least so far.
//   * Every other parameter is cut into equal parts, one for each rank.
//
// Gradients are exchanged in buckets: runs of neighbouring parameters, in the order in which the
// backward is done with them (from the last layer to the embedding), so that a bucket is on its way
// while the layers before it are still computed.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"
#include "worker/trainer/core/collective.h"
#include "worker/trainer/core/config.h"
#include "worker/trainer/core/parameters.h"
#include "worker/trainer/core/share.h"

namespace sinkforge::trainer {

struct ShardOptions {
  OptimizerKind kind = OptimizerKind::kMuon;
  int rank = 0;
  int world_size = 1;
  // A bucket is closed at the first parameter that makes it at least so large: large enough that a
  // message's latency does not count, small enough that the last one is soon done.
  int64_t bucket_bytes_min = int64_t{4} << 20;
};

// Floating point operations of Newton-Schulz's five iterations on a [rows, columns] matrix.
double NewtonSchulzCost(int64_t rows, int64_t columns);

// Made once; the parameters must outlive it. The same on every rank, but for what is `rank`'s own.
class ShardPlan {
 public:
  struct Bucket {
    size_t first_parameter = 0;
    size_t end_parameter = 0;
    kernels::Tensor gradients;  // flat, the gaps between parameters included
    kernels::Tensor values;     // the same elements of the parameters
    std::vector<Segment> segments;
  };

  ShardPlan(const ParameterSet& parameters, const ShardOptions& options);

  // The part of the flattened parameter whose optimizer state this rank holds; perhaps empty.
  Share owned(size_t parameter) const;
  // In the order in which the backward completes them.
  const std::vector<Bucket>& buckets() const { return buckets_; }
  // All gradients that this rank owns, as few flat runs; what lies between is zero.
  const std::vector<kernels::Tensor>& owned_gradients() const { return owned_gradients_; }

 private:
  void AssignOwners(const ParameterSet& parameters);
  void MakeBuckets(const ParameterSet& parameters);
  Bucket MakeBucket(const ParameterSet& parameters, size_t first, size_t end) const;
  void FindOwnedGradients(const ParameterSet& parameters);

  ShardOptions options_;
  std::vector<std::vector<Segment>> owners_;  // of each parameter, in its own elements
  std::vector<Bucket> buckets_;
  std::vector<kernels::Tensor> owned_gradients_;
};

}  // namespace sinkforge::trainer
