// Messages go straight between any two ranks; Gloo's own threads move them.
#include "worker/trainer/gloo_transfer.h"

#include <gloo/common/error.h>
#include <gloo/transport/unbound_buffer.h>
#include <gloo/types.h>

#include <algorithm>

#include "worker/trainer/core/rank_order_sum.h"

namespace sinkforge::trainer {

namespace {

// Not one of the prefixes that Gloo's own collectives use.
constexpr uint8_t kSlotPrefix = 0x40;

struct Bytes {
  size_t first = 0;
  size_t size = 0;
};

Bytes BytesOf(const kernels::Tensor& tensor, const Segment& segment) {
  const auto element = static_cast<size_t>(kernels::SizeOf(tensor.dtype));
  return {static_cast<size_t>(segment.first) * element,
          static_cast<size_t>(segment.size) * element};
}

int64_t OwnedElements(std::span<const Segment> segments, int rank) {
  int64_t owned = 0;
  for (const Segment& segment : segments) owned += segment.owner == rank ? segment.size : 0;
  return owned;
}

}  // namespace

void GlooTransfer::Abort() {
  const base::MutexLock lock(&mutex_);
  is_aborted_ = true;
  // Who is only about to wait is told as well: the buffer remembers it.
  for (Buffer* buffer : waited_for_) {
    buffer->abortWaitRecv();
    buffer->abortWaitSend();
  }
}

// The wait throws when a message is late; false is an abort.
void GlooTransfer::WaitForAll(Buffer* sends, int send_count, Buffer* receives, int receive_count) {
  {
    const base::MutexLock lock(&mutex_);
    if (is_aborted_) throw gloo::IoException("it was given up");
    waited_for_ = {sends, receives};
  }
  // Also where a wait throws.
  const std::shared_ptr<void> done(nullptr, [this](void*) {
    const base::MutexLock lock(&mutex_);
    waited_for_.clear();
  });
  bool all = true;
  for (int i = 0; all && i < receive_count; ++i) all = receives->waitRecv();
  for (int i = 0; all && i < send_count; ++i) all = sends->waitSend();
  if (!all) throw gloo::IoException("it was given up");
}

template <typename T>
void GlooTransfer::SumOwned(const kernels::Tensor& tensor, std::span<const Segment> segments,
                            int rank, int world_size) {
  const auto* received = reinterpret_cast<const T*>(received_.data());
  const int64_t owned = OwnedElements(segments, rank);
  std::vector<const T*> sources(static_cast<size_t>(world_size));
  int64_t done = 0;
  for (const Segment& segment : segments) {
    if (segment.owner != rank) continue;
    T* own = tensor.as<T>() + segment.first;
    for (size_t other = 0, slot = 0; other < sources.size(); ++other) {
      sources[other] = static_cast<int>(other) == rank
                           ? own
                           : received + static_cast<int64_t>(slot++) * owned + done;
    }
    SumInRankOrder<T>(sources, static_cast<size_t>(segment.size), own);
    done += segment.size;
  }
}

void GlooTransfer::ReduceScatterSum(const std::shared_ptr<gloo::Context>& context,
                                    const kernels::Tensor& tensor,
                                    std::span<const Segment> segments) {
  SINKFORGE_CHECK(tensor.dtype == kernels::DType::kF32 || tensor.dtype == kernels::DType::kF64);
  const auto slot = gloo::Slot::build(kSlotPrefix, operations_++);
  const int rank = context->rank;
  const auto others = static_cast<size_t>(context->size - 1);
  const size_t owned_bytes = BytesOf(tensor, {0, OwnedElements(segments, rank), rank}).size;
  received_.resize(std::max(received_.size(), others * owned_bytes));
  const auto receives = context->createUnboundBuffer(received_.data(), received_.size());
  const auto sends = context->createUnboundBuffer(tensor.data, static_cast<size_t>(tensor.bytes()));
  int receive_count = 0;
  int send_count = 0;
  size_t done = 0;
  for (const Segment& segment : segments) {
    const Bytes bytes = BytesOf(tensor, segment);
    if (bytes.size == 0) continue;
    if (segment.owner != rank) {
      sends->send(segment.owner, slot, bytes.first, bytes.size);
      ++send_count;
      continue;
    }
    for (int other = 0, place = 0; other < context->size; ++other) {
      if (other == rank) continue;
      receives->recv(other, slot, static_cast<size_t>(place++) * owned_bytes + done, bytes.size);
      ++receive_count;
    }
    done += bytes.size;
  }
  WaitForAll(sends.get(), send_count, receives.get(), receive_count);
  if (tensor.dtype == kernels::DType::kF64) {
    SumOwned<double>(tensor, segments, rank, context->size);
  } else {
    SumOwned<float>(tensor, segments, rank, context->size);
  }
}

void GlooTransfer::AllGather(const std::shared_ptr<gloo::Context>& context,
                             const kernels::Tensor& tensor, std::span<const Segment> segments) {
  const auto slot = gloo::Slot::build(kSlotPrefix, operations_++);
  const auto buffer =
      context->createUnboundBuffer(tensor.data, static_cast<size_t>(tensor.bytes()));
  int receive_count = 0;
  int send_count = 0;
  for (const Segment& segment : segments) {
    const Bytes bytes = BytesOf(tensor, segment);
    if (bytes.size == 0) continue;
    if (segment.owner != context->rank) {
      buffer->recv(segment.owner, slot, bytes.first, bytes.size);
      ++receive_count;
      continue;
    }
    for (int other = 0; other < context->size; ++other) {
      if (other == context->rank) continue;
      buffer->send(other, slot, bytes.first, bytes.size);
      ++send_count;
    }
  }
  WaitForAll(buffer.get(), send_count, buffer.get(), receive_count);
}

}  // namespace sinkforge::trainer
