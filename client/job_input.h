// JobInput: a job file as the user gave it, with what is needed to say which line or which --set an
// error is about.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/jobspec/job_file.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::client {

struct JobInput {
  std::string path;
  v1::JobSpec spec;  // as written: not resolved
  std::map<std::string, jobspec::Position> positions;
};

// Of --set and --grid, as a shell offers them: "name=", "model.layers=", ...
std::vector<std::string> JobKeys();

// Errors: NOT_FOUND and others of reading the file; usage errors with one line a problem.
absl::StatusOr<JobInput> ReadJobInput(const std::string& path);

// Applies the overrides in order, resolves and validates. Usage errors as above; a problem with a
// key that an override set names the override.
absl::StatusOr<v1::JobSpec> ResolveJob(const JobInput& input,
                                       const std::vector<std::string>& overrides);

// An error of the coordinator: field violations become lines as above, others stay as they are.
absl::Status ExplainViolations(const JobInput& input, const std::vector<std::string>& overrides,
                               const absl::Status& status);

}  // namespace sinkforge::client
