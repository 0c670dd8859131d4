// Writing and verifying a part; see checkpoint_stream.h.
#include "proto/checkpoint_format/checkpoint_stream.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/checkpoint_format/crc32c.h"

namespace sinkforge::checkpoint {
namespace {

absl::Status Corrupt(const std::string& message) {
  return absl::DataLossError(absl::StrCat("checkpoint part: ", message));
}

// Elements of the whole tensor, or -1: a negative dimension, or more than 2^50 elements.
int64_t Elements(const v1::TensorSlice& slice) {
  constexpr int64_t kElementsMax = int64_t{1} << 50;
  int64_t elements = 1;
  for (int64_t dim : slice.shape()) {
    if (dim < 0 || (dim > 0 && elements > kElementsMax / dim)) return -1;
    elements *= dim;
  }
  return elements;
}

}  // namespace

int64_t ElementBytes(const std::string& dtype) {
  if (dtype == "F32" || dtype == "I32") return 4;
  if (dtype == "F64" || dtype == "I64") return 8;
  if (dtype == "BF16") return 2;
  return dtype == "U8" ? 1 : 0;
}

bool PartWriter::AddSlice(v1::TensorSlice slice, const void* bytes) {
  slice.set_index(slices_++);
  int64_t left = slice.length() * ElementBytes(slice.dtype());
  bytes_ += left;
  v1::CheckpointData announced;
  *announced.mutable_slice() = std::move(slice);
  if (!sink_(announced)) return false;
  const char* next = static_cast<const char*>(bytes);
  v1::CheckpointData data;
  for (int32_t index = 0; left > 0; ++index) {
    const int64_t count = std::min(left, kChunkBytesMax);
    v1::Chunk* chunk = data.mutable_chunk();
    chunk->set_slice(slices_ - 1);
    chunk->set_index(index);
    chunk->set_data(next, static_cast<size_t>(count));
    chunk->set_crc32c(Crc32c(next, static_cast<size_t>(count)));
    if (!sink_(data)) return false;
    next += count;
    left -= count;
  }
  return true;
}

bool PartWriter::Finish(const std::string& trainer_state) {
  v1::CheckpointData data;
  v1::CheckpointTrailer* trailer = data.mutable_trailer();
  trailer->set_schema_version(kSchemaVersion);
  trailer->set_bytes(bytes_);
  trailer->set_trainer_state(trainer_state);
  return sink_(data);
}

absl::Status PartVerifier::Accept(const v1::CheckpointData& data) {
  if (ended_) return Corrupt("a message follows the trailer");
  switch (data.kind_case()) {
    case v1::CheckpointData::kSlice:
      return AcceptSlice(data.slice());
    case v1::CheckpointData::kChunk:
      return AcceptChunk(data.chunk());
    case v1::CheckpointData::kTrailer:
      return AcceptTrailer(data.trailer());
    case v1::CheckpointData::KIND_NOT_SET:
      break;
  }
  return Corrupt("an empty message");
}

absl::Status PartVerifier::AcceptSlice(const v1::TensorSlice& slice) {
  if (slice_bytes_left_ > 0) {
    return Corrupt(
        absl::StrCat("tensor ", slice_.name(), " ends ", slice_bytes_left_, " bytes early"));
  }
  if (slice.index() != slices_ || slices_ >= kSlicesMax) {
    return Corrupt(absl::StrCat("slice ", slice.index(), " (", slice.name(), ") where slice ",
                                slices_, " belongs"));
  }
  const int64_t elements = Elements(slice);
  const int64_t element_bytes = ElementBytes(slice.dtype());
  const bool inside = slice.offset() >= 0 && slice.length() >= 0 && slice.offset() <= elements &&
                      slice.length() <= elements - slice.offset();
  if (slice.name().empty() || element_bytes == 0 || elements < 0 || !inside) {
    return Corrupt(
        absl::StrCat("tensor ", slice.name(), " has an impossible dtype, shape, offset or length"));
  }
  slice_ = slice;
  slice_bytes_left_ = slice.length() * element_bytes;
  next_chunk_ = 0;
  ++slices_;
  return absl::OkStatus();
}

absl::Status PartVerifier::AcceptChunk(const v1::Chunk& chunk) {
  const std::string name =
      absl::StrCat("chunk ", chunk.index(), " of slice ", chunk.slice(), " (", slice_.name(), ")");
  if (slices_ == 0 || chunk.slice() != slices_ - 1 || chunk.index() != next_chunk_) {
    return Corrupt(absl::StrCat(name, " is out of order"));
  }
  const auto bytes = static_cast<int64_t>(chunk.data().size());
  if (bytes == 0 || bytes > kChunkBytesMax || bytes > slice_bytes_left_) {
    return Corrupt(absl::StrCat(name, " has an impossible size of ", bytes, " bytes"));
  }
  if (Crc32c(chunk.data().data(), chunk.data().size()) != chunk.crc32c()) {
    return Corrupt(absl::StrCat(name, " is corrupt: its CRC32C differs"));
  }
  slice_bytes_left_ -= bytes;
  bytes_ += bytes;
  ++next_chunk_;
  return absl::OkStatus();
}

absl::Status PartVerifier::AcceptTrailer(const v1::CheckpointTrailer& trailer) {
  if (trailer.schema_version() > kSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "checkpoint part: schema version ", trailer.schema_version(), " is newer than ",
        kSchemaVersion, ", the newest that this program knows; use the version that wrote it"));
  }
  if (trailer.schema_version() < 1) return Corrupt("the trailer has no schema version");
  if (slice_bytes_left_ > 0) {
    return Corrupt(
        absl::StrCat("tensor ", slice_.name(), " ends ", slice_bytes_left_, " bytes early"));
  }
  if (trailer.bytes() != bytes_) {
    return Corrupt(absl::StrCat("has ", bytes_, " bytes where its trailer says ", trailer.bytes()));
  }
  if (static_cast<int64_t>(trailer.trainer_state().size()) > kStateBytesMax) {
    return Corrupt("the trailer's state is too large");
  }
  ended_ = true;
  return absl::OkStatus();
}

absl::Status PartVerifier::Complete() const {
  if (ended_) return absl::OkStatus();
  return Corrupt("the stream ended before its trailer");
}

}  // namespace sinkforge::checkpoint
