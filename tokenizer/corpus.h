// Text files as documents: a .txt file is one document, a .jsonl file has one on each line, under
// the key `text`. Files are read in blocks that threads can work on apart.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinkforge::tokenizer {

struct CorpusFile {
  enum class Kind { kText, kJsonLines };
  std::string path;
  Kind kind = Kind::kText;
  int64_t bytes = 0;
};

// Checks the names before anything is read. NOT_FOUND; INVALID_ARGUMENT: a name that ends neither
// in .txt nor in .jsonl, not a regular file, or no file at all.
absl::StatusOr<std::vector<CorpusFile>> OpenCorpus(const std::vector<std::string>& paths);

// A whole text file, without a byte order mark. INVALID_ARGUMENT: not UTF-8; names file, line and
// byte.
absl::StatusOr<std::string> ReadTextDocument(const CorpusFile& file);

// Reads a .jsonl file in blocks of whole lines, without a byte order mark. Used by one thread.
class LineBlocks {
 public:
  static absl::StatusOr<std::unique_ptr<LineBlocks>> Open(const std::string& path);
  ~LineBlocks();
  LineBlocks(const LineBlocks&) = delete;
  LineBlocks& operator=(const LineBlocks&) = delete;

  // About a megabyte of lines; empty at the end of the file. UNAVAILABLE: the system refused.
  absl::StatusOr<std::string> Next();

 private:
  LineBlocks(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
  std::string rest_;  // a line that goes on in the next block
  bool at_start_ = true;
  bool at_end_ = false;
};

// The documents of a block of .jsonl lines, one after another. Used by one thread; one that parses
// many blocks keeps its memory.
class LineParser {
 public:
  LineParser();
  ~LineParser();
  LineParser(const LineParser&) = delete;
  LineParser& operator=(const LineParser&) = delete;

  // `block` must stay; it is padded for the parser.
  void Begin(std::string* block);
  // False at the end of the block. The text is valid until the next call. Lines without anything
  // are passed over. INVALID_ARGUMENT: the line is not JSON, not UTF-8, or has no `text`.
  absl::StatusOr<bool> Next(std::string_view* text);
  // Lines read so far, the last one included.
  int64_t lines() const { return lines_; }

 private:
  struct Parser;

  std::unique_ptr<Parser> parser_;
  std::string_view rest_;
  int64_t lines_ = 0;
};

// "corpus.jsonl:17: ..." for an error of LineParser.
absl::Status AtLine(const absl::Status& status, const std::string& path, int64_t line);

}  // namespace sinkforge::tokenizer
