// SplitPattern: the regular expression that cuts text into the pieces that byte-level BPE encodes
// one by one. Files write it for Oniguruma in Ruby's syntax; it runs on PCRE2's compiled code. What
// the two read differently is rewritten, or refused where no pattern of the known families needs
// it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sinkforge::tokenizer {

// The patterns of three families, as their files have them.
inline constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr char kQwenPattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Immutable; threads share one.
class SplitPattern {
 public:
  // INVALID_ARGUMENT: the pattern is wrong, may match nothing, or has a part that is not supported;
  // the message names the part.
  static absl::StatusOr<std::unique_ptr<const SplitPattern>> Compile(const std::string& pattern);
  ~SplitPattern();
  SplitPattern(const SplitPattern&) = delete;
  SplitPattern& operator=(const SplitPattern&) = delete;

  // False where the pattern looks back: a piece then depends on the text before it.
  bool memoryless() const { return memoryless_; }

 private:
  friend class Splitter;
  SplitPattern(void* code, bool memoryless) : code_(code), memoryless_(memoryless) {}

  void* code_;
  bool memoryless_;
};

// Runs a pattern; used by one thread. The pattern must outlive it.
class Splitter {
 public:
  explicit Splitter(const SplitPattern& pattern);
  ~Splitter();
  Splitter(const Splitter&) = delete;
  Splitter& operator=(const Splitter&) = delete;

  // The end of the piece that begins at `begin` < text.size(): a match, or what lies between two.
  // The text is valid UTF-8.
  size_t PieceEnd(std::string_view text, size_t begin);

 private:
  const SplitPattern& pattern_;
  void* match_;
  void* context_;
};

}  // namespace sinkforge::tokenizer
