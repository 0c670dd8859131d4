// same_files: whether the machines of a job's ranks have the same files. Each rank reads those of
// its own machine; with different ones they would train without an error on what nobody asked for.
#pragma once

#include <string>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/core/collective.h"
#include "worker/trainer/data_files.h"

namespace sinkforge::trainer {

// The files that one field of the job names, in the order in which they are read.
struct FieldFiles {
  std::string field;              // "data.train"
  std::vector<FileDigest> files;  // by the names that the job gives them
};

// `digests` are those of `files`. A link's target may be called differently on every machine.
FieldFiles ByGivenNames(const std::string& field, const std::vector<ResolvedFile>& files,
                        std::vector<FileDigest> digests);

// Every rank calls it at once, with the same fields. kInvalidData, on all ranks: names, sizes or
// contents differ; each rank's message names the field, its own first file that differs, and
// another rank's. kUnavailable: a rank was lost.
kernels::Status CheckSameFiles(const std::vector<FieldFiles>& fields, Collective* collective);

}  // namespace sinkforge::trainer
