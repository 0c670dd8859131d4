// Safetensors files: a strict reader and a writer that streams, so that neither side ever needs the
// whole file in memory.
//
// The format: a little-endian uint64 N, a JSON header of N bytes (here padded with spaces so that
// the data begin at a multiple of 8), then the data. The header maps each tensor's name to its
// dtype, shape and byte range [begin, end) in the data, and "__metadata__" to a map of strings.
// Ranges leave no hole and do not overlap.
//
// Only the standard library, POSIX and nlohmann_json: tests and tools can use it alone.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sinkforge::safetensors {

inline constexpr int64_t kHeaderBytesMax = 100'000'000;  // the format's own limit
inline constexpr int kSchemaVersion = 1;                 // of what this project writes
// "__metadata__" key that holds kSchemaVersion in decimal. Files of others do not have it.
inline constexpr char kSchemaVersionKey[] = "sinkforge_schema_version";

struct Failure {
  int error_number = 0;  // errno where the system refused, 0 where the content is wrong
  std::string message;   // names the file
};

struct TensorInfo {
  std::string name;
  std::string dtype;           // "F32", "F64", "BF16", "I32", ...
  std::vector<int64_t> shape;  // empty: a scalar
  int64_t begin = 0;           // bytes from the start of the data; the writer computes both
  int64_t end = 0;
  int64_t bytes() const { return end - begin; }
};

using Metadata = std::map<std::string, std::string>;

// Bytes of one element; 0 for a dtype that the format does not have.
int64_t ElementBytes(std::string_view dtype);
// Bytes of a whole tensor, or -1: unknown dtype, negative dimension, more than 2^62 bytes.
int64_t TensorBytes(std::string_view dtype, const std::vector<int64_t>& shape);

// Writes "<path>.partial" and gives it its name in Finish, after fsync; so that `path` is whole or
// absent whatever happens. A writer that is destroyed unfinished removes its partial file. Used by
// one thread.
class Writer {
 public:
  // Announces every tensor, in the order in which the bytes will come. Null and `failure`: the file
  // cannot be written, two tensors have one name, a shape or dtype is impossible, or the header is
  // larger than the format allows.
  static std::unique_ptr<Writer> Create(const std::string& path, std::vector<TensorInfo> tensors,
                                        const Metadata& metadata, Failure* failure);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // The next bytes of the data, in pieces of any size. False: the system refused (disk full), or
  // more bytes than announced.
  bool Append(const void* bytes, int64_t count, Failure* failure);
  // False: bytes are missing, or the system refused.
  bool Finish(Failure* failure);

 private:
  Writer(std::string path, int fd, int64_t data_bytes);
  bool WriteAll(const void* bytes, int64_t count, Failure* failure);

  std::string path_;
  int fd_;
  int64_t data_bytes_;
  int64_t written_bytes_ = 0;
};

// Checks the whole header when it opens a file; later reads cannot go outside of it. Used by one
// thread.
class Reader {
 public:
  // Null and `failure`: the file cannot be read, breaks a rule of the format, or has a newer schema
  // version than this program knows.
  static std::unique_ptr<Reader> Open(const std::string& path, Failure* failure);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // In the order of their data.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  // Null where there is no such tensor.
  const TensorInfo* Find(std::string_view name) const;
  // Reads the tensor's bytes [offset, offset + count) into `to`. False: the range is not inside the
  // tensor, or the system refused.
  bool Read(const TensorInfo& tensor, int64_t offset, int64_t count, void* to,
            Failure* failure) const;

 private:
  Reader(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  bool ReadHeader(Failure* failure);
  bool ParseHeader(const std::string& text, Failure* failure);

  std::string path_;
  int fd_;
  int64_t data_start_ = 0;
  int64_t data_bytes_ = 0;
  std::vector<TensorInfo> tensors_;
  Metadata metadata_;
};

}  // namespace sinkforge::safetensors
