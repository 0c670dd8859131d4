// Reading a job file and its overrides; writing is in job_file_writer.cc.
#include "proto/jobspec/job_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "proto/jobspec/resolve.h"
#include "proto/jobspec/spec_reader.h"

namespace sinkforge::jobspec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A text goes in as it stands: `data.train=*.bin` must not be read as a YAML alias. Only a list and
// `null` have a meaning of their own.
bool TakesRawText(const FieldDescriptor& field, const std::string& value) {
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_STRING) return false;
  if (value.empty() || value == "null" || value == "~") return false;
  return value.front() != '[' && value.front() != '"' && value.front() != '\'';
}

// The three ways to say how long to train exclude one another; the last one given wins.
void ClearOtherLengths(const std::string& path, v1::JobSpec* spec) {
  v1::TrainSpec* train = spec->mutable_train();
  if (path == "train.steps") {
    train->clear_tokens();
    train->clear_tokens_per_parameter();
  } else if (path == "train.tokens") {
    train->clear_steps();
    train->clear_tokens_per_parameter();
  } else if (path == "train.tokens_per_parameter") {
    train->clear_steps();
    train->clear_tokens();
  }
}

// A preset stands for all dimensions of the model; those of the file would make it another one.
void ClearPresetDimensions(const std::string& path, v1::JobSpec* spec) {
  if (path != "model.preset") return;
  v1::ModelSpec* model = spec->mutable_model();
  model->clear_layers();
  model->clear_width();
  model->clear_heads();
  model->clear_mlp_width();
}

absl::Status OverrideError(const std::string& path, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat("--set ", path.substr(0, 100), ": ", message));
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  const int error = errno;
  if (!file) {
    const std::string text = absl::StrCat("job file ", path, ": ", std::strerror(error),
                                          "; give the path of a YAML file");
    if (error == EACCES) return absl::PermissionDeniedError(text);
    return absl::NotFoundError(text);
  }
  // One byte beyond the limit is enough for ParseJobFile to refuse the file.
  std::string text(kYamlBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof())) {
    return absl::InvalidArgumentError(
        absl::StrCat("job file ", path, ": it cannot be read; is it a regular file?"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

}  // namespace

ParsedJobFile ParseJobFile(const std::string& text) {
  ParsedJobFile parsed;
  YamlNode root;
  YamlError error;
  if (!ParseYaml(text, &root, &error)) {
    parsed.problems.push_back({error.position, "", error.message});
    return parsed;
  }
  SpecReader(&parsed.problems, &parsed.positions).ReadMessage(root, "", &parsed.spec);
  return parsed;
}

std::vector<Problem> LocateViolations(const std::vector<Violation>& violations,
                                      const std::map<std::string, Position>& positions) {
  std::vector<Problem> problems;
  for (const Violation& violation : violations) {
    std::string path = violation.field;
    auto found = positions.find(path);
    while (found == positions.end() && !path.empty()) {
      const size_t cut = path.find_last_of(".[");
      path = cut == std::string::npos ? "" : path.substr(0, cut);
      found = positions.find(path);
    }
    const Position position = found == positions.end() ? Position{1, 1} : found->second;
    problems.push_back({position, violation.field, violation.message});
  }
  return problems;
}

std::string FormatProblems(const std::string& file_name, const std::vector<Problem>& problems) {
  std::vector<std::string> lines;
  for (const Problem& problem : problems) {
    std::string line =
        absl::StrCat(file_name, ":", problem.position.line, ":", problem.position.column, ": ");
    if (!problem.path.empty()) absl::StrAppend(&line, problem.path, ": ");
    absl::StrAppend(&line, problem.message);
    lines.push_back(std::move(line));
  }
  return absl::StrJoin(lines, "\n");
}

absl::Status ApplyOverride(v1::JobSpec* spec, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos) {
    return OverrideError(assignment, "expects key=value, such as model.width=128");
  }
  const std::string path = assignment.substr(0, equals);
  const std::string value = assignment.substr(equals + 1);
  // Such as of a shell variable that is not set.
  if (!path.empty() && absl::StripAsciiWhitespace(value).empty()) {
    return OverrideError(path, kNoValue);
  }
  v1::JobSpec changed = *spec;
  Message* message = &changed;
  const FieldDescriptor* field = nullptr;
  const std::vector<std::string> keys = absl::StrSplit(path, '.');
  for (size_t i = 0; i < keys.size(); ++i) {
    field = message->GetDescriptor()->FindFieldByName(keys[i]);
    if (field == nullptr) {
      return OverrideError(path, UnknownKeyMessage(*message->GetDescriptor(), keys[i]));
    }
    if (i + 1 == keys.size()) break;
    if (field->message_type() == nullptr || IsRange(*field->message_type())) {
      return OverrideError(path, absl::StrCat("`", keys[i], "` has no keys below it"));
    }
    message = message->GetReflection()->MutableMessage(message, field);
  }
  YamlNode node;
  if (TakesRawText(*field, value)) {
    node.kind = YamlNode::Kind::kScalar;
    node.text = value;
  } else {
    YamlError error;
    if (!ParseYaml(value, &node, &error)) return OverrideError(path, error.message);
    if (IsAbsent(node)) return OverrideError(path, kNoValue);
  }
  std::vector<Problem> problems;
  std::map<std::string, Position> positions;
  SpecReader(&problems, &positions).ReadField(node, *field, path, message);
  if (!problems.empty()) return OverrideError(problems[0].path, problems[0].message);
  if (node.kind != YamlNode::Kind::kNull) {
    ClearOtherLengths(path, &changed);
    ClearPresetDimensions(path, &changed);
  }
  *spec = std::move(changed);
  return absl::OkStatus();
}

absl::StatusOr<v1::JobSpec> LoadJob(const std::string& path,
                                    const std::vector<std::string>& overrides) {
  absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return text.status();
  ParsedJobFile parsed = ParseJobFile(*text);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(FormatProblems(path, parsed.problems));
  }
  for (const std::string& assignment : overrides) {
    absl::Status status = ApplyOverride(&parsed.spec, assignment);
    if (!status.ok()) return status;
  }
  const std::vector<Violation> violations = ResolveAndValidateNew(&parsed.spec);
  if (!violations.empty()) {
    return absl::InvalidArgumentError(
        FormatProblems(path, LocateViolations(violations, parsed.positions)));
  }
  return std::move(parsed.spec);
}

}  // namespace sinkforge::jobspec
