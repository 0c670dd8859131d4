// The job file: YAML whose schema is the proto message JobSpec, read and written by reflection, so
// that a field that is added to the proto is a key of the file at once.
//
// Keys are the fields' names; enum values are written in short lower-case form (`vanilla`, `cv`);
// `sink_init` takes a number or `[low, high]`; a list of texts may be a single text; `null` is the
// default, nothing a mistake; `train.micro_batch` takes `auto`. A number in quotes is a text.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/jobspec/violation.h"
#include "proto/jobspec/yaml_tree.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::jobspec {

struct Problem {
  Position position;
  std::string path;  // "model.widht"; empty: the file as a whole
  std::string message;
};

struct ParsedJobFile {
  v1::JobSpec spec;  // what could be read, also where there are problems
  std::vector<Problem> problems;
  std::map<std::string, Position> positions;  // of every key that the file sets, by path
  bool ok() const { return problems.empty(); }
};

// Reads syntax and types only; Resolve and Validate do the rest. Finds all problems, not only the
// first (a YAML syntax error ends the reading). Never fails otherwise, whatever `text` holds.
ParsedJobFile ParseJobFile(const std::string& text);

// Gives each violation the position of its key, or of the nearest key above it that the file sets.
std::vector<Problem> LocateViolations(const std::vector<Violation>& violations,
                                      const std::map<std::string, Position>& positions);

// One line a problem: "job.yaml:3:10: model.widht: unknown key; did you mean `width`?".
std::string FormatProblems(const std::string& file_name, const std::vector<Problem>& problems);

// Sets one value as `--set` takes it: "model.width=128", "model.sink_init=[0, 8]",
// "init.from=null". Setting one of train.{steps,tokens,tokens_per_parameter} clears the other two.
// INVALID_ARGUMENT: no `=`, unknown key (the nearest is named), wrong type.
absl::Status ApplyOverride(v1::JobSpec* spec, const std::string& assignment);

// YAML that ParseJobFile reads back to the same spec, for every spec that Validate accepts. An
// unspecified or unknown enum value is left out.
std::string FormatJobFile(const v1::JobSpec& spec);

// Reads the file, applies the overrides in order, resolves and validates. NOT_FOUND or
// PERMISSION_DENIED (the file); INVALID_ARGUMENT: one line for each problem, with file, line and
// path.
absl::StatusOr<v1::JobSpec> LoadJob(const std::string& path,
                                    const std::vector<std::string>& overrides);

// The value as job files write it: "gated" for ATTENTION_VARIANT_GATED; the number for a value that
// this version does not know.
std::string ShortEnumName(const google::protobuf::EnumDescriptor& type, int number);

}  // namespace sinkforge::jobspec
