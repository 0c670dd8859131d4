// Lines out of bytes; see log_capture.h.
#include "worker/process/log_capture.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace sinkforge::worker {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
constexpr size_t kTailLines = 10;
constexpr size_t kTailLineBytes = 512;
constexpr std::array<std::string_view, 9> kContext = {
    "time", "severity", "component", "message", "job", "attempt", "rank", "worker", "trace_id"};

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Bytes of the valid character at the start of `text`; 0: there is none. Overlong forms, surrogates
// and code points above U+10FFFF are not valid.
size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return byte(0) == 0 ? 0 : 1;
  size_t size = 0;
  uint32_t code = 0;
  uint32_t smallest = 0;
  if ((byte(0) & 0xe0) == 0xc0) {
    size = 2, code = byte(0) & 0x1f, smallest = 0x80;
  } else if ((byte(0) & 0xf0) == 0xe0) {
    size = 3, code = byte(0) & 0x0f, smallest = 0x800;
  } else if ((byte(0) & 0xf8) == 0xf0) {
    size = 4, code = byte(0) & 0x07, smallest = 0x10000;
  } else {
    return 0;
  }
  if (text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if (!IsContinuation(text[i])) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return code >= smallest && code <= 0x10ffff && !surrogate ? size : 0;
}

// The longest beginning of at most `bytes_max` bytes that does not end within a character.
size_t CutAt(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text.size();
  size_t end = bytes_max;
  // A character has at most three continuation bytes; more of them are garbage and may be cut.
  for (int i = 0; i < 3 && end > 1 && IsContinuation(text[end]); ++i) --end;
  return IsContinuation(text[end]) ? bytes_max : end;
}

void AppendPieces(std::string_view raw, std::vector<std::string>* lines) {
  if (!raw.empty() && raw.back() == '\r') raw.remove_suffix(1);
  const std::string text = RepairUtf8(raw);
  std::string_view rest = text;
  do {
    const size_t size = CutAt(rest, kLogLineBytesMax);
    lines->emplace_back(rest.substr(0, size));
    rest.remove_prefix(size);
  } while (!rest.empty());
}

// A line that base/log.h writes, of severity INFO: looked at byte by byte, because a trainer may
// print many.
bool IsStructuredInfo(std::string_view text) {
  constexpr std::string_view kStart = R"({"time":")";
  constexpr std::string_view kSeverity = R"(","severity":"INFO",)";
  return text.substr(0, kStart.size()) == kStart &&
         text.substr(0, 80).find(kSeverity) != std::string_view::npos;
}

std::string TextOf(const nlohmann::ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// "ERROR the rank failed, reason: ..., error: ..." of a structured line; any other is itself. Whose
// line it is goes without saying where it is shown.
std::string Readable(const std::string& line) {
  if (line.empty() || line.front() != '{') return line;
  const auto json = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("severity") || !json.contains("message")) return line;
  std::string text = TextOf(json["severity"]) + " " + TextOf(json["message"]);
  for (const auto& [key, value] : json.items()) {
    const bool is_shown = std::find(kContext.begin(), kContext.end(), key) == kContext.end();
    if (is_shown) text += ", " + key + ": " + TextOf(value);
  }
  return text;
}

}  // namespace

std::string RepairUtf8(std::string_view text) {
  std::string repaired;
  repaired.reserve(text.size());
  while (!text.empty()) {
    const size_t size = CharacterBytes(text);
    if (size == 0) {
      repaired += kReplacement;
      text.remove_prefix(1);
    } else {
      repaired += text.substr(0, size);
      text.remove_prefix(size);
    }
  }
  return repaired;
}

void LineSplitter::Add(std::string_view bytes, std::vector<std::string>* lines) {
  for (;;) {
    const size_t newline = bytes.find('\n');
    partial_ += bytes.substr(0, newline);
    while (partial_.size() > kLogLineBytesMax) {
      const size_t size = CutAt(partial_, kLogLineBytesMax);
      AppendPieces(std::string_view(partial_).substr(0, size), lines);
      partial_.erase(0, size);
    }
    if (newline == std::string_view::npos) return;
    AppendPieces(partial_, lines);
    partial_.clear();
    bytes.remove_prefix(newline + 1);
  }
}

void LineSplitter::Finish(std::vector<std::string>* lines) {
  if (!partial_.empty()) AppendPieces(partial_, lines);
  partial_.clear();
}

LogCapture::LogCapture(const RankKey& rank, const LogRate& rate, const base::Now& now)
    : rank_(rank),
      rate_(rate),
      lines_allowed_(rate.lines_per_second * rate.burst_seconds),
      bytes_allowed_(rate.bytes_per_second * rate.burst_seconds),
      filled_(now.monotonic) {}

bool LogCapture::Spend(double bytes, const base::Now& now) {
  const double seconds = std::chrono::duration<double>(now.monotonic - filled_).count();
  filled_ = now.monotonic;
  lines_allowed_ = std::min(lines_allowed_ + seconds * rate_.lines_per_second,
                            rate_.lines_per_second * rate_.burst_seconds);
  bytes_allowed_ = std::min(bytes_allowed_ + seconds * rate_.bytes_per_second,
                            rate_.bytes_per_second * rate_.burst_seconds);
  if (lines_allowed_ < 1 || bytes_allowed_ < bytes) return false;
  lines_allowed_ -= 1;
  bytes_allowed_ -= bytes;
  return true;
}

void LogCapture::Push(v1::LogLine::Stream stream, std::string text, const base::Now& now,
                      std::vector<v1::LogLine>* lines) {
  v1::LogLine& line = lines->emplace_back();
  line.set_attempt(rank_.attempt);
  line.set_rank(rank_.rank);
  line.set_sequence(++sequence_);
  *line.mutable_time() = base::ToProto(now.wall);
  line.set_stream(stream);
  line.set_text(std::move(text));
}

void LogCapture::NoteLeftOut(const base::Now& now, std::vector<v1::LogLine>* lines) {
  if (left_out_ == 0) return;
  Push(v1::LogLine::STREAM_STDERR,
       "[sinkforge-worker: " + std::to_string(left_out_) +
           " lines left out here: the trainer printed faster than " +
           std::to_string(static_cast<int64_t>(rate_.lines_per_second)) + " lines or " +
           std::to_string(static_cast<int64_t>(rate_.bytes_per_second)) + " bytes a second]",
       now, lines);
  left_out_ = 0;
}

void LogCapture::Emit(v1::LogLine::Stream stream, const std::vector<std::string>& texts,
                      const base::Now& now, std::vector<v1::LogLine>* lines) {
  for (const std::string& text : texts) {
    if (stream == v1::LogLine::STREAM_STDERR) {
      if (!IsStructuredInfo(text)) tail_.push_back(text);
      if (tail_.size() > kTailLines) tail_.pop_front();
    }
    if (!Spend(static_cast<double>(text.size()), now)) {
      ++left_out_;
      continue;
    }
    NoteLeftOut(now, lines);
    Push(stream, text, now, lines);
  }
}

std::vector<std::string> LogCapture::stderr_tail() const {
  std::vector<std::string> lines;
  for (const std::string& line : tail_) {
    const std::string text = Readable(line);
    lines.push_back(text.substr(0, CutAt(text, kTailLineBytes)));
  }
  return lines;
}

std::vector<v1::LogLine> LogCapture::Add(v1::LogLine::Stream stream, std::string_view bytes,
                                         const base::Now& now) {
  std::vector<std::string> texts;
  (stream == v1::LogLine::STREAM_STDERR ? stderr_ : stdout_).Add(bytes, &texts);
  std::vector<v1::LogLine> lines;
  Emit(stream, texts, now, &lines);
  return lines;
}

std::vector<v1::LogLine> LogCapture::Finish(const base::Now& now) {
  std::vector<v1::LogLine> lines;
  std::vector<std::string> texts;
  stdout_.Finish(&texts);
  Emit(v1::LogLine::STREAM_STDOUT, texts, now, &lines);
  texts.clear();
  stderr_.Finish(&texts);
  Emit(v1::LogLine::STREAM_STDERR, texts, now, &lines);
  NoteLeftOut(now, &lines);
  return lines;
}

}  // namespace sinkforge::worker
