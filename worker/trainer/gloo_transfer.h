// GlooTransfer: reduce-scatter and all-gather of segments over a Gloo context. Gloo's own work on
// equal parts only and keep everybody's whole buffer busy; here each rank sends each other rank
// exactly what that one needs, once: (n - 1) / n of the buffer in each direction, as few bytes as
// any algorithm, and the owner adds in the order of the ranks.
#pragma once

#include <gloo/context.h>
#include <gloo/transport/unbound_buffer.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "kernels/tensor.h"
#include "worker/trainer/core/collective.h"

namespace sinkforge::trainer {

// Used by one thread at a time, but for Abort; every rank calls the same operations in the same
// order. Gloo's exceptions pass through.
class GlooTransfer {
 public:
  void ReduceScatterSum(const std::shared_ptr<gloo::Context>& context,
                        const kernels::Tensor& tensor, std::span<const Segment> segments);
  void AllGather(const std::shared_ptr<gloo::Context>& context, const kernels::Tensor& tensor,
                 std::span<const Segment> segments);
  // Ends the operation under way, and every later one, by an exception. Thread-safe.
  void Abort() EXCLUDES_LOCK(mutex_);

 private:
  using Buffer = gloo::transport::UnboundBuffer;

  // Until that many messages have been sent and have come.
  void WaitForAll(Buffer* sends, int send_count, Buffer* receives, int receive_count)
      EXCLUDES_LOCK(mutex_);

  template <typename T>
  void SumOwned(const kernels::Tensor& tensor, std::span<const Segment> segments, int rank,
                int world_size);

  std::vector<std::byte> received_;  // of a reduce-scatter: [other ranks][own elements]
  uint32_t operations_ = 0;          // tells one operation's messages from the next one's

  base::Mutex mutex_;
  bool is_aborted_ GUARDED_BY(mutex_) = false;
  std::vector<Buffer*> waited_for_ GUARDED_BY(mutex_);  // by the operation under way
};

}  // namespace sinkforge::trainer
