// MappedFile: open, check, map.
#include "worker/trainer/core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

// Closes the descriptor on every way out; the mapping outlives it.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Status FromErrno(const std::string& path, int error) {
  const std::string reason = std::generic_category().message(error);
  if (error == ENOENT || error == ENOTDIR) {
    return Status(StatusCode::kNotFound,
                  path + ": " + reason + "; check data.train and data.validation");
  }
  return Status(StatusCode::kFailedPrecondition,
                path + ": " + reason + "; make the file readable for the trainer");
}

}  // namespace

Result<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return FromErrno(path, errno);
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return FromErrno(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return Status(StatusCode::kInvalidData, path + ": not a regular file; name a data file");
  }
  if (info.st_size == 0) {
    return Status(StatusCode::kInvalidData, path + ": the file is empty; give it text or tokens");
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* memory = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return FromErrno(path, errno);
  return std::unique_ptr<MappedFile>(
      new MappedFile(static_cast<const std::byte*>(memory), info.st_size));
}

MappedFile::~MappedFile() { munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_)); }

}  // namespace sinkforge::trainer
