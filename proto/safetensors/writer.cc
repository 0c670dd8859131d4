// Header first, then the bytes as they come.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "proto/safetensors/safetensors.h"

namespace sinkforge::safetensors {
namespace {

Failure SystemFailure(const std::string& path, const std::string& what) {
  const int number = errno;
  return {number, path + ": " + what + ": " + std::strerror(number) +
                      (number == ENOSPC ? "; free some space" : "")};
}

// Fills begin and end; false where the list cannot be a file.
bool Arrange(const std::string& path, std::vector<TensorInfo>* tensors, int64_t* data_bytes,
             Failure* failure) {
  std::set<std::string> names;
  *data_bytes = 0;
  for (TensorInfo& tensor : *tensors) {
    const int64_t bytes = TensorBytes(tensor.dtype, tensor.shape);
    if (bytes < 0 || bytes > (int64_t{1} << 62) - *data_bytes) {
      *failure = {0, path + ": tensor " + tensor.name + " has an impossible dtype or shape"};
      return false;
    }
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second) {
      *failure = {0, path + ": tensor " + tensor.name + " appears twice or has a reserved name"};
      return false;
    }
    tensor.begin = *data_bytes;
    tensor.end = *data_bytes + bytes;
    *data_bytes = tensor.end;
  }
  return true;
}

std::string MakeHeader(const std::vector<TensorInfo>& tensors, const Metadata& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const TensorInfo& tensor : tensors) {
    nlohmann::ordered_json entry;
    entry["dtype"] = tensor.dtype;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {tensor.begin, tensor.end};
    header[tensor.name] = std::move(entry);
  }
  // Bytes that are not UTF-8 must not end the program: they become U+FFFD.
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

// A new name is durable once its folder is.
bool SyncFolder(const std::string& path, Failure* failure) {
  const size_t slash = path.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool synced = false;
  if (fd >= 0) synced = fsync(fd) == 0;
  if (!synced) *failure = SystemFailure(folder, "cannot make the folder durable");
  if (fd >= 0) close(fd);
  return synced;
}

}  // namespace

std::unique_ptr<Writer> Writer::Create(const std::string& path, std::vector<TensorInfo> tensors,
                                       const Metadata& metadata, Failure* failure) {
  int64_t data_bytes = 0;
  if (!Arrange(path, &tensors, &data_bytes, failure)) return nullptr;
  const std::string header = MakeHeader(tensors, metadata);
  if (static_cast<int64_t>(header.size()) > kHeaderBytesMax) {
    *failure = {0, path + ": the header is larger than the format's 100,000,000 bytes"};
    return nullptr;
  }
  const std::string partial = path + ".partial";
  const int fd = open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) {
    *failure = SystemFailure(path, "cannot be written");
    return nullptr;
  }
  std::unique_ptr<Writer> writer(new Writer(path, fd, data_bytes));
  unsigned char length[8];
  for (unsigned i = 0; i < 8; ++i) {
    length[i] = static_cast<unsigned char>((header.size() >> (8 * i)) & 0xFFU);
  }
  if (!writer->WriteAll(length, 8, failure) ||
      !writer->WriteAll(header.data(), static_cast<int64_t>(header.size()), failure)) {
    return nullptr;
  }
  return writer;
}

Writer::Writer(std::string path, int fd, int64_t data_bytes)
    : path_(std::move(path)), fd_(fd), data_bytes_(data_bytes) {}

Writer::~Writer() {
  if (fd_ < 0) return;
  close(fd_);
  unlink((path_ + ".partial").c_str());
}

bool Writer::WriteAll(const void* bytes, int64_t count, Failure* failure) {
  const char* next = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = write(fd_, next, static_cast<size_t>(count));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      *failure = SystemFailure(path_, "cannot be written");
      return false;
    }
    next += written;
    count -= written;
  }
  return true;
}

bool Writer::Append(const void* bytes, int64_t count, Failure* failure) {
  if (count < 0 || count > data_bytes_ - written_bytes_) {
    *failure = {0, path_ + ": more bytes than the header announces"};
    return false;
  }
  if (!WriteAll(bytes, count, failure)) return false;
  written_bytes_ += count;
  return true;
}

bool Writer::Finish(Failure* failure) {
  if (written_bytes_ != data_bytes_) {
    *failure = {0, path_ + ": fewer bytes than the header announces"};
    return false;
  }
  const std::string partial = path_ + ".partial";
  if (fsync(fd_) != 0) {
    *failure = SystemFailure(path_, "cannot be made durable");
    return false;
  }
  if (rename(partial.c_str(), path_.c_str()) != 0) {
    *failure = SystemFailure(path_, "cannot be given its name");
    return false;
  }
  close(fd_);
  fd_ = -1;
  return SyncFolder(path_, failure);
}

}  // namespace sinkforge::safetensors
