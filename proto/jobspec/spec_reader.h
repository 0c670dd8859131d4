// SpecReader: fills a proto message from a YamlNode by reflection. Internal to this folder; users
// call job_file.h.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <map>
#include <string>
#include <vector>

#include "proto/jobspec/job_file.h"
#include "proto/jobspec/yaml_tree.h"

namespace sinkforge::jobspec {

class SpecReader {
 public:
  // Both outlive the reader; each call appends to them.
  SpecReader(std::vector<Problem>* problems, std::map<std::string, Position>* positions)
      : problems_(problems), positions_(positions) {}

  // `path` is the message's own: empty for the root.
  void ReadMessage(const YamlNode& node, const std::string& path,
                   google::protobuf::Message* message);
  void ReadField(const YamlNode& node, const google::protobuf::FieldDescriptor& field,
                 const std::string& path, google::protobuf::Message* message);

 private:
  void ReadTexts(const YamlNode& node, const google::protobuf::FieldDescriptor& field,
                 const std::string& path, google::protobuf::Message* message);
  void ReadRange(const YamlNode& node, const std::string& path, google::protobuf::Message* message);
  void ReadScalar(const YamlNode& node, const google::protobuf::FieldDescriptor& field,
                  const std::string& path, google::protobuf::Message* message);
  void ReadNumber(const YamlNode& node, const google::protobuf::FieldDescriptor& field,
                  const std::string& path, google::protobuf::Message* message);
  void ReadEnum(const YamlNode& node, const google::protobuf::FieldDescriptor& field,
                const std::string& path, google::protobuf::Message* message);
  void Complain(const Position& position, const std::string& path, const std::string& text);

  std::vector<Problem>* problems_;
  std::map<std::string, Position>* positions_;
};

// True where a value was forgotten. What was left open on purpose says `null`.
inline bool IsAbsent(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kNull && node.text.empty();
}
inline constexpr char kNoValue[] = "has no value; give one, or null for the default";

// True for a message that the file writes as one number or as a list of two.
bool IsRange(const google::protobuf::Descriptor& type);

// True for a whole number that the file may leave to the ranks: `auto`, which the proto has as 0.
bool TakesAuto(const google::protobuf::FieldDescriptor& field);

// "unknown key; did you mean `width`?", or with the list of valid keys where none is near.
std::string UnknownKeyMessage(const google::protobuf::Descriptor& type, const std::string& key);

}  // namespace sinkforge::jobspec
