// data_files: from the job's paths and globs to files under the data roots, with sizes and digests
// by which a resumed run knows that its data are the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/core/dataset.h"

namespace sinkforge::trainer {

// One file as a checkpoint remembers it.
struct FileDigest {
  std::string name;  // relative to its data root, so that another worker's roots do as well
  int64_t bytes = 0;
  uint64_t xxh3 = 0;  // XXH3, 64 bits, of the content
};

inline constexpr char kWorkerRootAdvice[] = "start the worker with another --data-root";

struct ResolvedFile {
  std::string path;  // canonical
  std::string name;  // of the same, relative to its root
  // As the job names it: before links are followed, with a glob's match in the glob's place.
  std::string given;
};

enum class FilesWanted { kAny, kOne };

// Where files may lie, what the list is called in messages ("data.train"), what somebody can do
// there about a missing root, and how many files the field is for.
struct DataLocation {
  std::vector<std::string> roots;
  std::string field;
  std::string root_advice = kWorkerRootAdvice;
  FilesWanted wanted = FilesWanted::kAny;
};

// Every file that the patterns name, pattern by pattern, the matches of one in byte order. A
// relative pattern belongs to the first root with a match; an absolute one must lie inside a root.
// kNotFound: nothing matches. kFailedPrecondition: no data root exists, or a path, `..` or a
// symlink leads out of the roots (path and roots are named). kInvalidData: not a regular file, or a
// name that is not UTF-8.
kernels::Result<std::vector<ResolvedFile>> ResolveDataFiles(
    const std::vector<std::string>& patterns, const DataLocation& location);

// What to tell the user where `validation` has a file of `train`, through a link, another path or a
// glob: bits per byte then measure what was learnt by heart. Empty where it has none.
std::string DescribeOverlap(const std::vector<ResolvedFile>& train,
                            const std::vector<ResolvedFile>& validation);

// Reads each file once. kFailedPrecondition: it may not be read.
kernels::Result<std::vector<FileDigest>> DigestFiles(const std::vector<ResolvedFile>& files);

// As 16 hexadecimal digits.
std::string FingerprintText(uint64_t xxh3);

// kInvalidData names the first file that is not what the checkpoint remembers.
kernels::Status CompareDigests(const std::vector<FileDigest>& stored,
                               const std::vector<FileDigest>& now);

// The tokenizer that shards name in their sidecars; that of text is `bytes`.
struct DataTokenizer {
  std::string fingerprint;  // empty: not all of the files name one
  std::string named_by;     // the first file's sidecar; empty: it is text
};

// The sidecars "<file minus .bin>.json" {"vocab_size": V, "bos_id": B, "bytes_per_token": [...],
// "tokenizer": fingerprint} go into options.bytes_per_token and `tokenizer` where every file is a
// .bin and has one; bos_id and tokenizer may be absent. kInvalidData: a sidecar that is not of this
// form, names a larger vocabulary than the model's, or differs from another's.
kernels::Status ReadSidecars(const std::vector<ResolvedFile>& files, DatasetOptions* options,
                             DataTokenizer* tokenizer);

// The sidecars that are there, with `given` saying whose each is.
std::vector<ResolvedFile> SidecarsOf(const std::vector<ResolvedFile>& files);

// The data must have been made with the tokenizer that the job names (data.tokenizer), and training
// and validation data with one. With `bytes`, shards that name no tokenizer are believed.
// kInvalidData, or the errors of ResolveDataFiles for the tokenizer.json itself.
struct TokenizerClaim {
  std::string job_tokenizer;  // data.tokenizer
  std::vector<std::string> roots;
  DataTokenizer train;
  DataTokenizer validation;
  bool has_validation = false;
};
kernels::Status CheckTokenizer(const TokenizerClaim& claim);

}  // namespace sinkforge::trainer
