// The header's count is written last.
#include "tokenizer/shard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/files.h"

namespace sinkforge::tokenizer {
namespace {

constexpr size_t kHeaderBytes = 1024;
constexpr size_t kBufferBytes = size_t{4} << 20;
constexpr int64_t kNarrowVocabularyMax = 65'536;

absl::Status SystemError(const std::string& path) {
  const int error = errno;
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(absl::StrCat(message, "; free some space and try again"));
  }
  return absl::UnavailableError(message);
}

std::string Header(bool wide, int64_t tokens) {
  const int32_t start[3] = {wide ? 20240801 : 20240520, wide ? 7 : 1, static_cast<int32_t>(tokens)};
  std::string header(kHeaderBytes, '\0');
  std::memcpy(header.data(), start, sizeof(start));
  return header;
}

template <typename T>
void AppendAs(std::span<const int32_t> ids, std::string* bytes) {
  const size_t before = bytes->size();
  bytes->resize(before + ids.size() * sizeof(T));
  char* to = bytes->data() + before;
  for (const int32_t id : ids) {
    const auto value = static_cast<T>(id);
    std::memcpy(to, &value, sizeof(T));
    to += sizeof(T);
  }
}

}  // namespace

ShardWriter::ShardWriter(const Tokenizer& tokenizer, ShardOptions options)
    : options_(std::move(options)), wide_(tokenizer.vocab_size() > kNarrowVocabularyMax) {
  SINKFORGE_REQUIRE(options_.tokens_max >= 1 && options_.tokens_max <= INT32_MAX);
  nlohmann::ordered_json sidecar;
  sidecar["vocab_size"] = tokenizer.vocab_size();
  sidecar["bos_id"] = options_.bos_id;
  sidecar["tokenizer"] = tokenizer.fingerprint();
  sidecar["bytes_per_token"] = BytesPerToken(tokenizer);
  sidecar_ = sidecar.dump() + "\n";
}

ShardWriter::~ShardWriter() {
  if (fd_ >= 0) close(fd_);
}

std::string ShardWriter::PathOf(const char* suffix) const {
  char name[40];
  std::snprintf(name, sizeof(name), "/shard-%05lld%s", static_cast<long long>(shards_ - 1), suffix);
  return options_.folder + name;
}

absl::Status ShardWriter::Open() {
  ++shards_;
  const std::string path = PathOf(".bin");
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) return SystemError(path);
  tokens_ = 0;
  buffer_ = Header(wide_, 0);
  return absl::OkStatus();
}

absl::Status ShardWriter::Flush() {
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t count = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(PathOf(".bin"));
    done += static_cast<size_t>(count);
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status ShardWriter::Append(std::span<const int32_t> ids) {
  while (!ids.empty()) {
    absl::Status status = fd_ < 0 ? Open() : absl::OkStatus();
    if (!status.ok()) return status;
    const auto room = static_cast<size_t>(options_.tokens_max - tokens_);
    const std::span<const int32_t> part = ids.first(std::min(room, ids.size()));
    if (wide_) {
      AppendAs<uint32_t>(part, &buffer_);
    } else {
      AppendAs<uint16_t>(part, &buffer_);
    }
    tokens_ += static_cast<int64_t>(part.size());
    ids = ids.subspan(part.size());
    if (buffer_.size() >= kBufferBytes) status = Flush();
    if (status.ok() && tokens_ == options_.tokens_max) status = Close();
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ShardWriter::Close() {
  const absl::Status status = Flush();
  if (!status.ok()) return status;
  const std::string header = Header(wide_, tokens_);
  const bool done =
      pwrite(fd_, header.data(), header.size(), 0) == static_cast<ssize_t>(header.size()) &&
      fsync(fd_) == 0;
  if (!done) return SystemError(PathOf(".bin"));
  close(std::exchange(fd_, -1));
  return base::WriteFileDurably(PathOf(".json"), sidecar_);
}

absl::Status ShardWriter::Finish() { return fd_ < 0 ? absl::OkStatus() : Close(); }

}  // namespace sinkforge::tokenizer
