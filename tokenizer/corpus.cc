// simdjson checks a whole line, its UTF-8 included, before it gives the text.
#include "tokenizer/corpus.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;  // long enough that threads hardly wait for one

bool EndsWith(const std::string& path, std::string_view end) {
  return std::string_view(path).ends_with(end);
}

// Some editors put this character before a text, of which it is no part.
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

void RemoveByteOrderMark(std::string* text) {
  if (text->starts_with(kByteOrderMark)) text->erase(0, kByteOrderMark.size());
}

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

absl::StatusOr<std::vector<CorpusFile>> OpenCorpus(const std::vector<std::string>& paths) {
  if (paths.empty()) return absl::InvalidArgumentError("no files are given; name .txt or .jsonl");
  std::vector<CorpusFile> files;
  for (const std::string& path : paths) {
    CorpusFile file;
    file.path = path;
    if (EndsWith(path, ".jsonl")) {
      file.kind = CorpusFile::Kind::kJsonLines;
    } else if (!EndsWith(path, ".txt")) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": its name ends neither in .txt (a file is a document) nor in .jsonl (a line is ",
          "one, its text under the key `text`); rename or convert it"));
    }
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) {
      const int error = errno;
      const std::string message = absl::StrCat(path, ": ", std::strerror(error));
      return error == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
    }
    if (!S_ISREG(info.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file; name files"));
    }
    file.bytes = info.st_size;
    files.push_back(std::move(file));
  }
  return files;
}

absl::StatusOr<std::string> ReadTextDocument(const CorpusFile& file) {
  auto text = base::ReadFile(file.path, std::numeric_limits<int64_t>::max());
  if (!text.ok()) return text;
  if (IsValidUtf8(*text)) {
    RemoveByteOrderMark(&*text);
    return text;
  }
  const size_t at = FirstInvalidUtf8(*text);
  const std::string_view before = std::string_view(*text).substr(0, at);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return absl::InvalidArgumentError(absl::StrCat(file.path, ":", line, ": byte ",
                                                 at - line_start + 1,
                                                 " of the line is not UTF-8; convert the file"));
}

absl::StatusOr<std::unique_ptr<LineBlocks>> LineBlocks::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(errno)));
  return std::unique_ptr<LineBlocks>(new LineBlocks(path, fd));
}

LineBlocks::~LineBlocks() { close(fd_); }

absl::StatusOr<std::string> LineBlocks::Next() {
  std::string block = std::exchange(rest_, {});
  size_t searched = 0;  // no line end before
  size_t line_end = std::string::npos;
  while (!at_end_ && (block.size() < kBlockBytes || line_end == std::string::npos)) {
    const size_t before = block.size();
    block.resize(before + kBlockBytes);
    const ssize_t count = read(fd_, block.data() + before, kBlockBytes);
    if (count < 0 && errno != EINTR) {
      return absl::UnavailableError(absl::StrCat(path_, ": ", std::strerror(errno)));
    }
    block.resize(before + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    at_end_ = count == 0;
    const size_t found = std::string_view(block).substr(searched).rfind('\n');
    if (found != std::string_view::npos) line_end = searched + found;
    searched = block.size();
  }
  if (!at_end_) {
    rest_ = block.substr(line_end + 1);
    block.resize(line_end + 1);
  }
  if (at_start_) RemoveByteOrderMark(&block);
  at_start_ = false;
  return block;
}

struct LineParser::Parser {
  simdjson::dom::parser json;
};

LineParser::LineParser() : parser_(std::make_unique<Parser>()) {}
LineParser::~LineParser() = default;

void LineParser::Begin(std::string* block) {
  const size_t size = block->size();
  block->resize(size + simdjson::SIMDJSON_PADDING);
  rest_ = std::string_view(*block).substr(0, size);
  lines_ = 0;
}

absl::StatusOr<bool> LineParser::Next(std::string_view* text) {
  while (!rest_.empty()) {
    const std::string_view line = rest_.substr(0, rest_.find('\n'));
    rest_.remove_prefix(std::min(line.size() + 1, rest_.size()));
    ++lines_;
    if (IsBlank(line)) continue;
    simdjson::dom::element document;
    const auto error = parser_->json.parse(line.data(), line.size(), false).get(document);
    if (error != simdjson::SUCCESS) {
      return absl::InvalidArgumentError(
          error == simdjson::UTF8_ERROR
              ? absl::StrCat("byte ", FirstInvalidUtf8(line) + 1, " of the line is not UTF-8")
              : absl::StrCat("not a JSON document: ", simdjson::error_message(error)));
    }
    if (!document.is_object()) return absl::InvalidArgumentError("not a JSON object");
    simdjson::dom::element member;
    if (document["text"].get(member) != simdjson::SUCCESS) {
      return absl::InvalidArgumentError("the object has no key `text`");
    }
    std::string_view value;
    if (member.get(value) != simdjson::SUCCESS) {
      return absl::InvalidArgumentError("its `text` is not a string");
    }
    *text = value;
    return true;
  }
  return false;
}

absl::Status AtLine(const absl::Status& status, const std::string& path, int64_t line) {
  return absl::Status(status.code(),
                      absl::StrCat(path, ":", line, ": ", std::string(status.message()),
                                   "; correct or remove the line"));
}

}  // namespace sinkforge::tokenizer
