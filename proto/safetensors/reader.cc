// Everything in a file is checked before any of it is believed: it may come from anywhere.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "proto/safetensors/safetensors.h"

namespace sinkforge::safetensors {
namespace {

using nlohmann::json;

bool Fail(Failure* failure, const std::string& message) {
  *failure = {0, message};
  return false;
}

bool SystemFail(Failure* failure, const std::string& path) {
  const int number = errno;
  *failure = {number, path + ": cannot be read: " + std::strerror(number)};
  return false;
}

bool ReadAt(int fd, int64_t offset, int64_t count, void* to) {
  char* next = static_cast<char*>(to);
  while (count > 0) {
    const ssize_t got = pread(fd, next, static_cast<size_t>(count), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;  // the file became shorter while it was read
    if (got <= 0) return false;
    next += got;
    offset += got;
    count -= got;
  }
  return true;
}

// Parses while it refuses duplicate keys, which nlohmann_json would silently merge, and nesting
// deeper than the format's.
class HeaderParser {
 public:
  json Parse(const std::string& text) {
    json parsed = json::parse(
        text,
        [this](int depth, json::parse_event_t event, const json& value) {
          Check(depth, event, value);
          return true;
        },
        /*allow_exceptions=*/false);
    return problem_.empty() ? parsed : json(json::value_t::discarded);
  }
  const std::string& problem() const { return problem_; }

 private:
  void Check(int depth, json::parse_event_t event, const json& value) {
    constexpr int kDepthMax = 3;  // header, tensor, list of numbers
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
      if (depth >= kDepthMax && problem_.empty()) problem_ = "the header is nested too deeply";
      if (event == json::parse_event_t::object_start) keys_.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      if (!keys_.empty()) keys_.pop_back();
    } else if (event == json::parse_event_t::key && !keys_.empty()) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second && problem_.empty()) {
        problem_ = "the header has the key " + key.substr(0, 200) + " twice";
      }
    }
  }

  std::vector<std::set<std::string>> keys_;
  std::string problem_;
};

// A list of whole numbers from 0 up.
bool ReadNumbers(const json& list, std::vector<int64_t>* numbers) {
  if (!list.is_array()) return false;
  for (const json& item : list) {
    if (!item.is_number_unsigned() ||
        item.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return false;
    }
    numbers->push_back(item.get<int64_t>());
  }
  return true;
}

// Empty where the entry is right.
std::string ReadTensor(const json& entry, TensorInfo* tensor) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") ||
      !entry.contains("shape") || !entry.contains("data_offsets")) {
    return "must have dtype, shape and data_offsets and nothing else";
  }
  if (!entry["dtype"].is_string() || ElementBytes(entry["dtype"].get<std::string>()) == 0) {
    return "has an unknown dtype";
  }
  tensor->dtype = entry["dtype"].get<std::string>();
  if (!ReadNumbers(entry["shape"], &tensor->shape)) return "has an impossible shape";
  std::vector<int64_t> range;
  if (!ReadNumbers(entry["data_offsets"], &range) || range.size() != 2 || range[0] > range[1]) {
    return "has impossible data_offsets";
  }
  tensor->begin = range[0];
  tensor->end = range[1];
  if (TensorBytes(tensor->dtype, tensor->shape) != tensor->bytes()) {
    return "has data_offsets that do not fit its dtype and shape";
  }
  return "";
}

}  // namespace

std::unique_ptr<Reader> Reader::Open(const std::string& path, Failure* failure) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    SystemFail(failure, path);
    return nullptr;
  }
  std::unique_ptr<Reader> reader(new Reader(path, fd));
  if (!reader->ReadHeader(failure)) return nullptr;
  return reader;
}

Reader::~Reader() { close(fd_); }

bool Reader::ReadHeader(Failure* failure) {
  struct stat info {};
  if (fstat(fd_, &info) != 0) return SystemFail(failure, path_);
  if (!S_ISREG(info.st_mode)) return Fail(failure, path_ + ": is not a regular file");
  unsigned char length[8];
  if (info.st_size < 8) return Fail(failure, path_ + ": is too short to be a safetensors file");
  if (!ReadAt(fd_, 0, 8, length)) return SystemFail(failure, path_);
  uint64_t header_bytes = 0;
  for (unsigned i = 0; i < 8; ++i) header_bytes |= uint64_t{length[i]} << (8 * i);
  if (header_bytes > static_cast<uint64_t>(kHeaderBytesMax) ||
      static_cast<int64_t>(header_bytes) > info.st_size - 8) {
    return Fail(failure, path_ +
                             ": is not a safetensors file, or is truncated: its header would "
                             "have " +
                             std::to_string(header_bytes) + " bytes");
  }
  std::string text(static_cast<size_t>(header_bytes), '\0');
  if (!ReadAt(fd_, 8, static_cast<int64_t>(header_bytes), text.data())) {
    return SystemFail(failure, path_);
  }
  data_start_ = 8 + static_cast<int64_t>(header_bytes);
  data_bytes_ = info.st_size - data_start_;
  return ParseHeader(text, failure);
}

bool Reader::ParseHeader(const std::string& text, Failure* failure) {
  if (text.empty() || text[0] != '{') return Fail(failure, path_ + ": the header is not JSON");
  HeaderParser parser;
  const json header = parser.Parse(text);
  if (!header.is_object()) {
    return Fail(
        failure,
        path_ + ": " + (parser.problem().empty() ? "the header is not JSON" : parser.problem()));
  }
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) return Fail(failure, path_ + ": __metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) return Fail(failure, path_ + ": __metadata__ holds a non-text");
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    TensorInfo tensor;
    tensor.name = name;
    const std::string problem = ReadTensor(entry, &tensor);
    if (!problem.empty()) {
      return Fail(failure, path_ + ": tensor " + name.substr(0, 200) + " " + problem);
    }
    tensors_.push_back(std::move(tensor));
  }
  // Empty tensors come before the one that begins where they lie.
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t next = 0;
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.begin != next) {
      return Fail(failure, path_ + ": tensor " + tensor.name.substr(0, 200) +
                               " leaves a hole or overlaps another");
    }
    next = tensor.end;
  }
  if (next != data_bytes_) {
    return Fail(failure, path_ + ": has " + std::to_string(data_bytes_) +
                             " bytes of data, but its header describes " + std::to_string(next) +
                             "; it is truncated or not a safetensors file");
  }
  const auto version = metadata_.find(kSchemaVersionKey);
  if (version != metadata_.end() && version->second != std::to_string(kSchemaVersion)) {
    return Fail(failure, path_ + ": has schema version " + version->second.substr(0, 20) +
                             ", but this program knows only " + std::to_string(kSchemaVersion) +
                             "; use the version that wrote it");
  }
  return true;
}

const TensorInfo* Reader::Find(std::string_view name) const {
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

bool Reader::Read(const TensorInfo& tensor, int64_t offset, int64_t count, void* to,
                  Failure* failure) const {
  if (offset < 0 || count < 0 || offset > tensor.bytes() || count > tensor.bytes() - offset) {
    return Fail(failure, path_ + ": a read outside of tensor " + tensor.name);
  }
  if (!ReadAt(fd_, data_start_ + tensor.begin + offset, count, to)) {
    return SystemFail(failure, path_);
  }
  return true;
}

}  // namespace sinkforge::safetensors
