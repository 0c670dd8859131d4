// CheckpointSpool; see checkpoint_spool.h.
#include "client/checkpoint_spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sinkforge::client {
namespace {

constexpr char kOptimizerPrefix[] = "optimizer/";
constexpr int64_t kCopyBytes = int64_t{1} << 20;

absl::Status SystemError(const std::string& path, int error) {
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(absl::StrCat(message, "; free some space and try again"));
  }
  return absl::Status(error == ENOENT ? absl::StatusCode::kNotFound : absl::StatusCode::kUnknown,
                      message);
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status FromFailure(const safetensors::Failure& failure) {
  if (failure.error_number == ENOSPC || failure.error_number == EDQUOT) {
    return absl::ResourceExhaustedError(failure.message);
  }
  return absl::UnknownError(failure.message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointSpool>> CheckpointSpool::Create(const std::string& path,
                                                                         ExportContent content) {
  std::string name = absl::StrCat(FolderOf(path), "/.sinkforge-export-XXXXXX");
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) return SystemError(FolderOf(path), errno);
  // Gone with the program, however that ends.
  unlink(name.c_str());
  return std::unique_ptr<CheckpointSpool>(new CheckpointSpool(path, fd, content));
}

CheckpointSpool::~CheckpointSpool() { close(fd_); }

void CheckpointSpool::BeginPart() {
  verifier_ = std::make_unique<checkpoint::PartVerifier>();
  keeps_slice_ = false;
}

absl::Status CheckpointSpool::Accept(const v1::CheckpointData& data) {
  const absl::Status status = verifier_->Accept(data);
  if (!status.ok()) return status;
  if (data.has_slice()) return AddSlice(data.slice());
  if (data.has_chunk() && keeps_slice_) return AppendBytes(data.chunk().data());
  if (data.has_trailer()) trainer_state_ = data.trailer().trainer_state();
  return absl::OkStatus();
}

absl::Status CheckpointSpool::CompletePart() { return verifier_->Complete(); }

absl::Status CheckpointSpool::AddSlice(const v1::TensorSlice& slice) {
  keeps_slice_ = content_ == ExportContent::kParametersAndOptimizer ||
                 slice.name().rfind(kOptimizerPrefix, 0) != 0;
  if (!keeps_slice_) return absl::OkStatus();
  const std::vector<int64_t> shape(slice.shape().begin(), slice.shape().end());
  auto [place, is_new] = tensors_.try_emplace(slice.name());
  Tensor& tensor = place->second;
  if (is_new) {
    tensor.dtype = slice.dtype();
    tensor.shape = shape;
  } else if (tensor.dtype != slice.dtype() || tensor.shape != shape) {
    return absl::DataLossError(
        absl::StrCat("tensor ", slice.name(), ": two ranks give it different shapes"));
  }
  const int64_t size = checkpoint::ElementBytes(slice.dtype());
  tensor.pieces.push_back({slice.offset() * size, slice.length() * size, bytes_});
  return absl::OkStatus();
}

absl::Status CheckpointSpool::AppendBytes(const std::string& data) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t count = pwrite(fd_, data.data() + done, data.size() - done, bytes_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(FolderOf(path_), errno);
    done += static_cast<size_t>(count);
    bytes_ += count;
  }
  return absl::OkStatus();
}

absl::Status CheckpointSpool::CopyTensor(const std::string& name, const Tensor& tensor,
                                         safetensors::Writer* writer) const {
  std::vector<Piece> pieces = tensor.pieces;
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece& a, const Piece& b) { return a.offset < b.offset; });
  std::string buffer;
  int64_t done = 0;
  for (const Piece& piece : pieces) {
    // Ranks may hold the same elements; then their bits are the same.
    const int64_t skip = done - piece.offset;
    if (skip >= piece.bytes) continue;
    if (skip < 0) break;
    for (int64_t at = skip; at < piece.bytes;) {
      buffer.resize(static_cast<size_t>(std::min(kCopyBytes, piece.bytes - at)));
      const ssize_t count = pread(fd_, buffer.data(), buffer.size(), piece.spool_offset + at);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return SystemError(FolderOf(path_), count < 0 ? errno : EIO);
      safetensors::Failure failure;
      if (!writer->Append(buffer.data(), count, &failure)) return FromFailure(failure);
      at += count;
    }
    done = piece.offset + piece.bytes;
  }
  if (done != safetensors::TensorBytes(tensor.dtype, tensor.shape)) {
    return absl::DataLossError(absl::StrCat("tensor ", name, ": no rank holds its bytes from ",
                                            done, " on; export another checkpoint"));
  }
  return absl::OkStatus();
}

absl::Status CheckpointSpool::WriteSafetensors(const safetensors::Metadata& metadata) {
  std::vector<safetensors::TensorInfo> infos;
  for (const auto& [name, tensor] : tensors_) {
    safetensors::TensorInfo info;
    info.name = name;
    info.dtype = tensor.dtype;
    info.shape = tensor.shape;
    infos.push_back(std::move(info));
  }
  safetensors::Failure failure;
  auto writer = safetensors::Writer::Create(path_, std::move(infos), metadata, &failure);
  if (writer == nullptr) return FromFailure(failure);
  for (const auto& [name, tensor] : tensors_) {
    const absl::Status status = CopyTensor(name, tensor, writer.get());
    if (!status.ok()) return status;
  }
  if (!writer->Finish(&failure)) return FromFailure(failure);
  return absl::OkStatus();
}

}  // namespace sinkforge::client
