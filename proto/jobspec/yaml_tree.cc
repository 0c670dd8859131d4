// The tree is built from yaml-cpp's event stream, so that a limit stops the parser where it is
// exceeded and no alias is ever expanded.
#include "proto/jobspec/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <cstdint>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace sinkforge::jobspec {
namespace {

Position ToPosition(const YAML::Mark& mark) {
  // A null mark has negative fields.
  return Position{mark.line < 0 ? 1 : mark.line + 1, mark.column < 0 ? 1 : mark.column + 1};
}

// The length of the valid UTF-8 sequence that starts at `at`, or 0.
size_t Utf8SequenceLength(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  if (lead < 0x80) return 1;
  size_t length = 0;
  uint32_t code = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    code = lead & 0x1FU;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    code = lead & 0x0FU;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    code = lead & 0x07U;
  } else {
    return 0;
  }
  if (at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0U) != 0x80U) return 0;
    code = (code << 6U) | (byte(at + i) & 0x3FU);
  }
  if (length == 3 && (code < 0x800 || (code >= 0xD800 && code <= 0xDFFF))) return 0;
  if (length == 4 && (code < 0x10000 || code > 0x10FFFF)) return 0;
  return length;
}

// yaml-cpp guesses UTF-16 and UTF-32 and takes some control characters for the end of the text, so
// that only plain UTF-8 text may reach it.
bool IsPlainText(const std::string& text, YamlError* error) {
  Position position{1, 1};
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const bool control =
        (byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t') || byte == 0x7F;
    const size_t length = control ? 0 : Utf8SequenceLength(text, i);
    if (length == 0) {
      error->position = position;
      error->message = absl::StrCat("byte 0x", absl::Hex(byte, absl::kZeroPad2),
                                    " is not UTF-8 text; save the job file as UTF-8");
      return false;
    }
    if (byte == '\n') {
      ++position.line;
      position.column = 1;
    } else {
      ++position.column;
    }
    i += length;
  }
  return true;
}

// Builds the tree. A limit that is exceeded leaves as yaml-cpp's own exception, which is how its
// parser is stopped.
class TreeBuilder : public YAML::EventHandler {
 public:
  // `text` is what the parser reads.
  TreeBuilder(const std::string& text, YamlNode* root) : text_(text), root_(root) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { RefuseAnchor(mark); }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    CheckAnchor(mark, anchor);
    YamlNode node;
    node.position = ToPosition(mark);
    if (SaysNull(mark)) node.text = "null";
    Add(mark, std::move(node));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { RefuseAnchor(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckAnchor(mark, anchor);
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.position = ToPosition(mark);
    node.text = value;
    node.quoted = tag == "!";
    Add(mark, std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, anchor, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Frame {
    YamlNode node;
    bool has_key = false;  // kMap: the next node is the value of `key`
    std::string key;
    Position key_position;
  };

  [[noreturn]] static void RefuseAnchor(const YAML::Mark& mark) {
    throw YAML::ParserException(
        mark,
        "anchors (&) and aliases (*) are not allowed in job files; write the value out, or "
        "put a text that starts with * or & in quotes");
  }
  static void CheckAnchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) RefuseAnchor(mark);
  }

  void Open(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
    CheckAnchor(mark, anchor);
    if (static_cast<int>(stack_.size()) >= kYamlDepthMax) {
      throw YAML::ParserException(mark,
                                  absl::StrCat("nested deeper than ", kYamlDepthMax, " levels"));
    }
    Frame frame;
    frame.node.kind = kind;
    frame.node.position = ToPosition(mark);
    stack_.push_back(std::move(frame));
  }

  void Close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    Add(YAML::Mark::null_mark(), std::move(node));
  }

  void Add(const YAML::Mark& mark, YamlNode node) {
    if (++nodes_ > kYamlNodesMax) {
      throw YAML::ParserException(mark, absl::StrCat("more than ", kYamlNodesMax, " values"));
    }
    if (stack_.empty()) {
      *root_ = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.node.kind == YamlNode::Kind::kSequence) {
      frame.node.items.push_back(std::move(node));
    } else if (frame.has_key) {
      frame.node.entries.push_back({std::move(frame.key), frame.key_position, std::move(node)});
      frame.has_key = false;
    } else {
      SetKey(&frame, mark, node);
    }
  }

  static void SetKey(Frame* frame, const YAML::Mark& mark, const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kScalar) {
      YAML::Mark where = mark;
      where.line = node.position.line - 1;
      where.column = node.position.column - 1;
      throw YAML::ParserException(where, "a key must be a plain word");
    }
    frame->has_key = true;
    frame->key = node.text;
    frame->key_position = node.position;
  }

  // The parser reports both as null. Where nothing stands, the mark is that of what comes next: a
  // key or the end of a list, never one of these words.
  bool SaysNull(const YAML::Mark& mark) const {
    constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";  // the parser does not count it
    const size_t skipped = absl::StartsWith(text_, kByteOrderMark) ? kByteOrderMark.size() : 0;
    if (mark.pos < 0 || static_cast<size_t>(mark.pos) + skipped >= text_.size()) return false;
    const absl::string_view rest = absl::string_view(text_).substr(mark.pos + skipped);
    return rest.front() == '~' || absl::StartsWithIgnoreCase(rest, "null");
  }

  const std::string& text_;
  YamlNode* root_;
  std::vector<Frame> stack_;
  int nodes_ = 0;
};

}  // namespace

bool ParseYaml(const std::string& text, YamlNode* root, YamlError* error) {
  *root = YamlNode();
  root->position = Position{1, 1};
  if (text.size() > kYamlBytesMax) {
    *error = {Position{1, 1},
              absl::StrCat("the text has ", text.size(), " bytes, more than ", kYamlBytesMax,
                           "; a job file names its data, it does "
                           "not hold it")};
    return false;
  }
  if (!IsPlainText(text, error)) return false;
  std::istringstream stream(text);
  TreeBuilder builder(text, root);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return true;
    YamlNode second;
    TreeBuilder second_builder(text, &second);
    if (parser.HandleNextDocument(second_builder)) {
      *error = {second.position, "a second document begins here; a job file is one document"};
      return false;
    }
  } catch (const YAML::Exception& exception) {
    *error = {ToPosition(exception.mark), exception.msg};
    return false;
  }
  return true;
}

}  // namespace sinkforge::jobspec
