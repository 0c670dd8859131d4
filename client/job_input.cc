// Reading job files for submit and sweep.
#include "client/job_input.h"

#include <google/protobuf/descriptor.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/rpc.h"
#include "client/exit_code.h"
#include "proto/jobspec/resolve.h"
#include "proto/jobspec/yaml_tree.h"

namespace sinkforge::client {
namespace {

// The last override that sets `field` or a key above it; empty: none does.
std::string OverrideOf(const std::string& field, const std::vector<std::string>& overrides) {
  for (auto it = overrides.rbegin(); it != overrides.rend(); ++it) {
    const std::string key = it->substr(0, it->find('='));
    const bool above = field.rfind(key, 0) == 0 && field.size() > key.size() &&
                       (field[key.size()] == '.' || field[key.size()] == '[');
    if (field == key || above) return *it;
  }
  return "";
}

// `prefix`: the keys above, with a dot at the end.
void AddKeys(const google::protobuf::Descriptor& type, const std::string& prefix,
             std::vector<std::string>* keys) {
  for (int i = 0; i < type.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *type.field(i);
    const google::protobuf::Descriptor* group = field.message_type();
    // A range is one value in the file.
    if (group == nullptr || group == v1::RangeOrValue::descriptor()) {
      keys->push_back(absl::StrCat(prefix, field.name(), "="));
    } else {
      AddKeys(*group, absl::StrCat(prefix, field.name(), "."), keys);
    }
  }
}

absl::Status ViolationError(const JobInput& input, const std::vector<std::string>& overrides,
                            const std::vector<jobspec::Violation>& violations) {
  std::vector<std::string> lines;
  for (const jobspec::Violation& violation : violations) {
    const std::string assignment = OverrideOf(violation.field, overrides);
    if (assignment.empty()) {
      lines.push_back(jobspec::FormatProblems(
          input.path, jobspec::LocateViolations({violation}, input.positions)));
    } else {
      lines.push_back(
          absl::StrCat("--set ", assignment, ": ", violation.field, ": ", violation.message));
    }
  }
  return UsageError(
      absl::StrCat("the job is not valid; nothing was submitted\n", absl::StrJoin(lines, "\n")));
}

}  // namespace

std::vector<std::string> JobKeys() {
  std::vector<std::string> keys;
  AddKeys(*v1::JobSpec::descriptor(), "", &keys);
  return keys;
}

absl::StatusOr<JobInput> ReadJobInput(const std::string& path) {
  const auto text = base::ReadFile(path, static_cast<int64_t>(jobspec::kYamlBytesMax));
  if (!text.ok()) {
    return absl::Status(text.status().code(),
                        absl::StrCat("job file ", std::string(text.status().message())));
  }
  jobspec::ParsedJobFile parsed = jobspec::ParseJobFile(*text);
  if (!parsed.ok()) {
    return UsageError(absl::StrCat("the job file is not valid; nothing was submitted\n",
                                   jobspec::FormatProblems(path, parsed.problems)));
  }
  return JobInput{path, std::move(parsed.spec), std::move(parsed.positions)};
}

absl::StatusOr<v1::JobSpec> ResolveJob(const JobInput& input,
                                       const std::vector<std::string>& overrides) {
  v1::JobSpec spec = input.spec;
  for (const std::string& assignment : overrides) {
    const absl::Status status = jobspec::ApplyOverride(&spec, assignment);
    if (!status.ok()) return UsageError(std::string(status.message()));
  }
  const auto violations = jobspec::ResolveAndValidateNew(&spec);
  if (!violations.empty()) return ViolationError(input, overrides, violations);
  return spec;
}

absl::Status ExplainViolations(const JobInput& input, const std::vector<std::string>& overrides,
                               const absl::Status& status) {
  std::vector<jobspec::Violation> violations;
  for (const base::FieldViolation& violation : base::ViolationsOf(status)) {
    std::string field = violation.field;
    // The coordinator names fields of its request.
    if (field.rfind("spec.", 0) == 0) field = field.substr(5);
    violations.push_back({field, violation.message});
  }
  return violations.empty() ? status : ViolationError(input, overrides, violations);
}

}  // namespace sinkforge::client
