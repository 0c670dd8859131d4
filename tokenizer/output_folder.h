// OutputFolder: a folder that appears whole or not at all. It is filled under the name
// "<path>.partial" and gets its own at the end.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinkforge::tokenizer {

enum class ExistingFolder { kRefuse, kReplace };

// Whether a file's name, without its folder, is one that a writer of such folders uses. Only a
// folder of nothing else is ever removed: anything else in it is somebody's who gave the wrong
// path.
using OwnsName = std::function<bool(const std::string& name)>;

// Destroyed before Commit: what was written is removed. What a killed program left is removed by
// the next that writes to the same path.
class OutputFolder {
 public:
  // Makes the folders above `path`, too. ALREADY_EXISTS: the path is there and may not be replaced,
  // is no folder, or holds what is not owned; the same of "<path>.partial". UNAVAILABLE: another
  // program is writing it.
  static absl::StatusOr<std::unique_ptr<OutputFolder>> Create(const std::string& path,
                                                              ExistingFolder existing,
                                                              const OwnsName& owns);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const std::string& partial_path() const { return partial_; }
  // After the files in it were synced. ALREADY_EXISTS: the path has come to be meanwhile.
  absl::Status Commit();

 private:
  OutputFolder(std::string path, std::string partial, int fd, ExistingFolder existing);

  std::string path_;
  std::string partial_;
  int fd_;  // of the partial folder; holds its lock
  ExistingFolder existing_;
  bool committed_ = false;
};

}  // namespace sinkforge::tokenizer
