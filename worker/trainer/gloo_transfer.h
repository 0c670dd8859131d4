// GlooTransfer: reduce-scatter and all-gather of segments over a Gloo context. Gloo's own work on
// equal parts only and keep everybody's whole buffer busy; here each rank sends each other rank
// exactly what that one needs, once: (n - 1) / n of the buffer in each direction, as few bytes as
// any algorithm, and the owner adds in the order of the ranks.
#pragma once

#include <gloo/context.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "worker/trainer/core/collective.h"

namespace sinkforge::trainer {

// Used by one thread at a time; every rank calls the same operations in the same order. Gloo's
// exceptions pass through.
class GlooTransfer {
 public:
  void ReduceScatterSum(const std::shared_ptr<gloo::Context>& context,
                        const kernels::Tensor& tensor, std::span<const Segment> segments);
  void AllGather(const std::shared_ptr<gloo::Context>& context, const kernels::Tensor& tensor,
                 std::span<const Segment> segments);

 private:
  template <typename T>
  void SumOwned(const kernels::Tensor& tensor, std::span<const Segment> segments, int rank,
                int world_size);

  std::vector<std::byte> received_;  // of a reduce-scatter: [other ranks][own elements]
  uint32_t operations_ = 0;          // tells one operation's messages from the next one's
};

}  // namespace sinkforge::trainer
