// The rewriting is a walk over the pattern's characters that knows only whether it is inside of
// brackets.
#include "tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <limits>
#include <span>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "tokenizer/unicode_additions.h"

namespace sinkforge::tokenizer {
namespace {

// Unicode's White_Space. PCRE2's \s also has U+180E.
constexpr char kSpaces[] =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
absl::Status Unsupported(const std::string& part) {
  return absl::InvalidArgumentError(
      absl::StrCat("the split pattern has `", part, "`, which is not supported"));
}

// Inside of brackets: a property, and what is new in it.
std::string SetOf(const std::string& property, std::span<const CharacterRange> additions) {
  std::string set = property;
  for (const CharacterRange& range : additions) {
    absl::StrAppend(&set, "\\x{", absl::Hex(static_cast<uint32_t>(range.first)), "}-\\x{",
                    absl::Hex(static_cast<uint32_t>(range.last)), "}");
  }
  return set;
}

// Oniguruma's Ruby syntax in, PCRE2's out.
class Rewriter {
 public:
  explicit Rewriter(const std::string& pattern) : in_(pattern) {}

  absl::Status Run() {
    while (at_ < in_.size()) {
      const absl::Status status = in_[at_] == '\\' ? Escape() : bracket_ ? InBracket() : Outside();
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  const std::string& result() const { return out_; }
  bool looks_back() const { return looks_back_; }

 private:
  bool Follows(std::string_view text) const {
    return std::string_view(in_).substr(at_).starts_with(text);
  }

  void Copy(size_t characters) {
    out_.append(in_, at_, characters);
    at_ += characters;
  }

  // A set inside of brackets, or brackets of its own.
  void AddSet(const std::string& set, const char* open) {
    out_ += bracket_ ? set : absl::StrCat(open, set, "]");
  }

  absl::Status Escape() {
    if (at_ + 1 >= in_.size()) return Unsupported("\\");
    const char kind = in_[at_ + 1];
    const std::string pair = in_.substr(at_, 2);
    if (kind == 'p' || kind == 'P') return Property();
    if (kind == 's' || kind == 'S') {
      if (kind == 'S' && bracket_) return Unsupported("\\S inside of brackets");
      AddSet(kSpaces, kind == 's' ? "[" : "[^");
      at_ += 2;
      return absl::OkStatus();
    }
    const bool letter = (kind >= 'a' && kind <= 'z') || (kind >= 'A' && kind <= 'Z') ||
                        (kind >= '0' && kind <= '9');
    if (letter && std::string_view("drntfx").find(kind) == std::string_view::npos)
      return Unsupported(pair);
    Copy(2);
    return absl::OkStatus();
  }

  absl::Status Property() {
    const size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == std::string::npos) {
      return Unsupported(in_.substr(at_, 2));
    }
    const std::string name = in_.substr(at_ + 3, close - at_ - 3);
    const bool negated = in_[at_ + 1] == 'P';
    const bool extended = name == "L" || name == "N";
    if (!extended) {
      Copy(close + 1 - at_);
      return absl::OkStatus();
    }
    if (negated && bracket_) return Unsupported("\\P inside of brackets");
    AddSet(name == "L" ? SetOf("\\p{L}", kNewLetters) : SetOf("\\p{N}", kNewNumbers),
           negated ? "[^" : "[");
    at_ = close + 1;
    return absl::OkStatus();
  }

  absl::Status InBracket() {
    if (in_[at_] == '[') return Unsupported("[ inside of brackets");
    if (Follows("&&")) return Unsupported("&&");
    if (in_[at_] == ']') bracket_ = false;
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Outside() {
    // Repeats of groups would need a stack that grows with the text.
    for (const char* part : {")*", ")+", "){", "}+", "}?"}) {
      if (Follows(part)) return Unsupported(part);
    }
    for (const char* part : {"^", "$", "(?>", "(?m", "(?x", "(*"}) {
      if (Follows(part)) return Unsupported(part);
    }
    if (Follows("(?<")) looks_back_ = true;
    if (in_[at_] == '[') {
      bracket_ = true;
      Copy(Follows("[^") ? 2 : 1);
      if (at_ < in_.size() && in_[at_] == ']') return Unsupported("[]");
      return absl::OkStatus();
    }
    Copy(1);
    return absl::OkStatus();
  }

  const std::string& in_;
  std::string out_;
  size_t at_ = 0;
  bool bracket_ = false;
  bool looks_back_ = false;
};

std::string MessageOf(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const SplitPattern>> SplitPattern::Compile(
    const std::string& pattern) {
  Rewriter rewriter(pattern);
  const absl::Status status = rewriter.Run();
  if (!status.ok()) return status;
  const std::string& text = rewriter.result();
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the split pattern is not a regular expression: ", MessageOf(error)));
  }
  auto compiled =
      std::unique_ptr<const SplitPattern>(new SplitPattern(code, !rewriter.looks_back()));
  uint32_t matches_empty = 0;
  SINKFORGE_REQUIRE(pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_empty) == 0);
  if (matches_empty != 0) {
    return absl::InvalidArgumentError("the split pattern can match an empty text");
  }
  // Without compiled code (an unusual machine) the interpreter gives the same pieces.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return compiled;
}

SplitPattern::~SplitPattern() { pcre2_code_free(static_cast<pcre2_code*>(code_)); }

Splitter::Splitter(const SplitPattern& pattern)
    : pattern_(pattern),
      match_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)) {
  SINKFORGE_REQUIRE(match_ != nullptr && context_ != nullptr);
  // A long run of spaces takes as many steps as it is long; that is no reason to give up.
  pcre2_set_match_limit(static_cast<pcre2_match_context*>(context_),
                        std::numeric_limits<uint32_t>::max());
}

Splitter::~Splitter() {
  pcre2_match_data_free(static_cast<pcre2_match_data*>(match_));
  pcre2_match_context_free(static_cast<pcre2_match_context*>(context_));
}

size_t Splitter::PieceEnd(std::string_view text, size_t begin) {
  auto* match = static_cast<pcre2_match_data*>(match_);
  const int found = pcre2_match(
      static_cast<const pcre2_code*>(pattern_.code_), reinterpret_cast<PCRE2_SPTR>(text.data()),
      text.size(), begin, PCRE2_NO_UTF_CHECK, match, static_cast<pcre2_match_context*>(context_));
  if (found == PCRE2_ERROR_NOMATCH) return text.size();
  SINKFORGE_REQUIRE(found >= 0);  // Compile refuses what could need more than a fixed stack.
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match);
  return range[0] > begin ? range[0] : range[1];
}

}  // namespace sinkforge::tokenizer
