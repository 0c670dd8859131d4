// A lock on the partial folder tells a living writer from what a killed one left.
#include "tokenizer/output_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files.h"

namespace sinkforge::tokenizer {
namespace {

namespace fs = std::filesystem;

absl::Status SystemError(const std::string& path, int error) {
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  if (error == ENOENT) return absl::NotFoundError(message);
  if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(message);
  return absl::UnavailableError(message);
}

void RemoveContent(const std::string& folder) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    fs::remove_all(entry.path(), error);
  }
}

// OK where everything in the folder may be removed.
absl::Status CheckOwned(const std::string& folder, const OwnsName& owns) {
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (entry->is_regular_file(error) && !entry->is_symlink(error) && owns(name)) continue;
    return absl::AlreadyExistsError(absl::StrCat(
        folder, ": holds ", name,
        ", which is not one of the files that are written there, so that it is not replaced; give "
        "another name, or remove it yourself"));
  }
  if (error) return SystemError(folder, error.value());
  return absl::OkStatus();
}

std::string WithoutSlash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

OutputFolder::OutputFolder(std::string path, std::string partial, int fd, ExistingFolder existing)
    : path_(std::move(path)), partial_(std::move(partial)), fd_(fd), existing_(existing) {}

absl::StatusOr<std::unique_ptr<OutputFolder>> OutputFolder::Create(const std::string& given,
                                                                   ExistingFolder existing,
                                                                   const OwnsName& owns) {
  const std::string path = WithoutSlash(given);
  struct stat info {};
  if (lstat(path.c_str(), &info) == 0) {
    if (!S_ISDIR(info.st_mode)) {
      return absl::AlreadyExistsError(absl::StrCat(path, ": is no folder; give another name"));
    }
    if (existing == ExistingFolder::kRefuse) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": exists already; give another name, or --force to replace it"));
    }
    const absl::Status owned = CheckOwned(path, owns);
    if (!owned.ok()) return owned;
  }
  const fs::path parent = fs::path(path).parent_path();
  if (!parent.empty()) {
    const absl::Status made = base::MakeFolder(parent.string());
    if (!made.ok()) return made;
  }
  const std::string partial = path + ".partial";
  if (mkdir(partial.c_str(), 0777) != 0 && errno != EEXIST) return SystemError(path, errno);
  const int fd = open(partial.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return SystemError(partial, errno);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return absl::UnavailableError(
        absl::StrCat(path, ": another program is writing it; wait for it or give another name"));
  }
  const absl::Status owned = CheckOwned(partial, owns);
  if (!owned.ok()) {
    close(fd);
    return owned;
  }
  RemoveContent(partial);
  return std::unique_ptr<OutputFolder>(new OutputFolder(path, partial, fd, existing));
}

OutputFolder::~OutputFolder() {
  if (!committed_) {
    std::error_code error;
    fs::remove_all(partial_, error);
  }
  close(fd_);
}

absl::Status OutputFolder::Commit() {
  if (fsync(fd_) != 0) return SystemError(partial_, errno);
  const bool replaces = existing_ == ExistingFolder::kReplace && fs::exists(path_);
  const unsigned flags = replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  if (renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, path_.c_str(), flags) != 0) {
    if (errno == EEXIST) {
      return absl::AlreadyExistsError(absl::StrCat(path_, ": has come to be meanwhile"));
    }
    return SystemError(path_, errno);
  }
  committed_ = true;
  std::error_code error;
  if (replaces) fs::remove_all(partial_, error);
  // The name is durable when the folder around it is.
  const std::string parent = fs::path(path_).parent_path().string();
  const int parent_fd = open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_CLOEXEC);
  if (parent_fd < 0) return SystemError(parent, errno);
  const int synced = fsync(parent_fd);
  close(parent_fd);
  return synced == 0 ? absl::OkStatus() : SystemError(parent, errno);
}

}  // namespace sinkforge::tokenizer
