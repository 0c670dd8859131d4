// YamlTree: a YAML document as a small tree whose every node knows its line and column. It exists
// because a job file comes from anywhere: size, depth and number of nodes are bounded while the
// text is read, and anchors and aliases (with which a few lines can stand for gigabytes) are
// refused.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace sinkforge::jobspec {

// Counted from 1. Line 0: not from a file.
struct Position {
  int line = 0;
  int column = 0;
};

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  struct Entry;

  Kind kind = Kind::kNull;
  Position position;
  std::string text;             // kScalar; of kNull `null`, or empty where nothing stands
  bool quoted = false;          // kScalar: written in quotes, therefore never a number
  std::vector<YamlNode> items;  // kSequence
  std::vector<Entry> entries;   // kMap, in the file's order, duplicates included
};

struct YamlNode::Entry {
  std::string key;
  Position position;
  YamlNode value;
};

// What is wrong with a document as a whole, and where.
struct YamlError {
  Position position;
  std::string message;
};

inline constexpr size_t kYamlBytesMax = size_t{1} << 20;  // a job file is a few kilobytes
inline constexpr int kYamlDepthMax = 16;                  // the deepest valid job file has 4 levels
inline constexpr int kYamlNodesMax = 100'000;             // room for long lists of data files

// Reads one document. An empty text is a null node. Returns false and fills `error` where the text
// is not UTF-8 text, not YAML, has more than one document, or exceeds a limit above.
bool ParseYaml(const std::string& text, YamlNode* root, YamlError* error);

}  // namespace sinkforge::jobspec
