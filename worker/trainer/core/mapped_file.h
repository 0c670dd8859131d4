// MappedFile: a file's bytes, mapped read-only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/status.h"

namespace sinkforge::trainer {

class MappedFile {
 public:
  // kNotFound; kInvalidData: not a regular file, or empty; kFailedPrecondition: it may not be read.
  static kernels::Result<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  MappedFile(const std::byte* data, int64_t size) : data_(data), size_(size) {}

  const std::byte* data_;
  int64_t size_;
};

}  // namespace sinkforge::trainer
