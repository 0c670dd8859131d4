// CheckpointSpool: puts the slices of a checkpoint's parts, which come in any order and from
// several workers, into a file without a name, and then writes them as one safetensors file. Memory
// stays bounded by a chunk whatever the model's size.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/checkpoint_format/checkpoint_stream.h"
#include "proto/safetensors/safetensors.h"
#include "sinkforge/v1/checkpoint_service.pb.h"

namespace sinkforge::client {

enum class ExportContent { kParameters, kParametersAndOptimizer };

class CheckpointSpool {
 public:
  // The spool lies in the folder of `path`, so that its disk is known to have the room. Errors name
  // the folder.
  static absl::StatusOr<std::unique_ptr<CheckpointSpool>> Create(const std::string& path,
                                                                 ExportContent content);
  ~CheckpointSpool();
  CheckpointSpool(const CheckpointSpool&) = delete;
  CheckpointSpool& operator=(const CheckpointSpool&) = delete;

  // A part is begun, then each of its messages accepted, then completed. DATA_LOSS names the slice
  // or chunk; RESOURCE_EXHAUSTED: the disk is full.
  void BeginPart();
  absl::Status Accept(const v1::CheckpointData& data);
  absl::Status CompletePart();

  int64_t bytes() const { return bytes_; }  // received, of what is exported
  int64_t tensor_count() const { return static_cast<int64_t>(tensors_.size()); }
  // Of the last trailer.
  const std::string& trainer_state() const { return trainer_state_; }

  // DATA_LOSS: a tensor has a hole; names it.
  absl::Status WriteSafetensors(const safetensors::Metadata& metadata);

 private:
  struct Piece {
    int64_t offset = 0;  // bytes, in the tensor
    int64_t bytes = 0;
    int64_t spool_offset = 0;
  };
  struct Tensor {
    std::string dtype;
    std::vector<int64_t> shape;
    std::vector<Piece> pieces;
  };

  CheckpointSpool(std::string path, int fd, ExportContent content)
      : path_(std::move(path)), fd_(fd), content_(content) {}
  absl::Status AddSlice(const v1::TensorSlice& slice);
  absl::Status AppendBytes(const std::string& data);
  absl::Status CopyTensor(const std::string& name, const Tensor& tensor,
                          safetensors::Writer* writer) const;

  std::string path_;
  int fd_;
  ExportContent content_;
  std::unique_ptr<checkpoint::PartVerifier> verifier_;
  std::map<std::string, Tensor> tensors_;
  bool keeps_slice_ = false;  // the open slice is exported
  int64_t bytes_ = 0;
  std::string trainer_state_;
};

}  // namespace sinkforge::client
