// The stream of CheckpointData messages that is one rank's part of a checkpoint
// (checkpoint_service.proto): every slice is announced once, followed by its chunks in order, and
// the last message is the trailer. PartWriter makes such a stream; PartVerifier accepts one message
// after the other and finds whatever is corrupt, missing or out of order.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sinkforge/v1/checkpoint_service.pb.h"

namespace sinkforge::checkpoint {

inline constexpr int kSchemaVersion = 1;
inline constexpr int64_t kChunkBytesMax = int64_t{1} << 20;
// Far beyond any checkpoint of this version; keeps a hostile stream from growing without bound.
inline constexpr int kSlicesMax = 200'000;
inline constexpr int64_t kStateBytesMax = int64_t{4} << 20;

// Bytes of one element of the dtypes that checkpoints hold (F32, F64, BF16, I32, I64, U8); 0 for
// any other.
int64_t ElementBytes(const std::string& dtype);

// Cuts slices into chunks and gives each message to `sink`, which returns false to stop (a broken
// stream). Not thread-safe.
class PartWriter {
 public:
  using Sink = std::function<bool(const v1::CheckpointData&)>;
  explicit PartWriter(Sink sink) : sink_(std::move(sink)) {}

  // `slice.index` is filled here. `bytes` are length * element size. False: the sink stopped.
  bool AddSlice(v1::TensorSlice slice, const void* bytes);
  // The trailer; `trainer_state` is the trainer's own JSON.
  bool Finish(const std::string& trainer_state);

 private:
  Sink sink_;
  int32_t slices_ = 0;
  int64_t bytes_ = 0;
};

// Follows a stream. Every error is DATA_LOSS and names the slice and chunk, but for a schema
// version that is newer than this program's: FAILED_PRECONDITION. After an error the stream is of
// no use.
class PartVerifier {
 public:
  absl::Status Accept(const v1::CheckpointData& data);
  // OK after the trailer; DATA_LOSS: the stream ended early.
  absl::Status Complete() const;

  // Of the slice that is open, that is, announced last.
  const v1::TensorSlice& slice() const { return slice_; }
  int64_t slices() const { return slices_; }
  int64_t bytes() const { return bytes_; }  // of tensor data so far

 private:
  absl::Status AcceptSlice(const v1::TensorSlice& slice);
  absl::Status AcceptChunk(const v1::Chunk& chunk);
  absl::Status AcceptTrailer(const v1::CheckpointTrailer& trailer);

  v1::TensorSlice slice_;
  int64_t slice_bytes_left_ = 0;
  int32_t next_chunk_ = 0;
  int32_t slices_ = 0;
  int64_t bytes_ = 0;
  bool ended_ = false;
};

}  // namespace sinkforge::checkpoint
