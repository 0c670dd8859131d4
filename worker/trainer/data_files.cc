// Containment is checked on canonical paths, after every symlink: what the names look like does not
// matter.
#include "worker/trainer/data_files.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "tokenizer/unicode.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

namespace fs = std::filesystem;

std::string ListOf(const std::vector<std::string>& roots) {
  std::string list;
  for (const std::string& root : roots) list += (list.empty() ? "" : ", ") + root;
  return list.empty() ? "(none)" : list;
}

bool IsInside(const fs::path& path, const fs::path& root) {
  const auto [end, unused] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return end == root.end();
}

bool HasParentStep(const fs::path& path) {
  return std::any_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

// The root's own characters must not act as wildcards.
std::string EscapeForGlob(const std::string& path) {
  std::string escaped;
  for (char c : path) {
    if (std::strchr("*?[]\\", c) != nullptr) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::vector<std::string> Matches(const fs::path& prefix, const std::string& pattern) {
  std::error_code error;
  const fs::path literal = prefix.empty() ? fs::path(pattern) : prefix / pattern;
  // A file may have a wildcard's character in its name.
  if (fs::exists(literal, error)) return {literal.string()};
  if (pattern.find_first_of("*?[") == std::string::npos) return {};
  const std::string full =
      prefix.empty() ? pattern : EscapeForGlob(prefix.string()) + "/" + pattern;
  glob_t found{};
  std::vector<std::string> matches;
  if (glob(full.c_str(), GLOB_NOSORT, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) matches.emplace_back(found.gl_pathv[i]);
  }
  globfree(&found);
  std::sort(matches.begin(), matches.end());
  return matches;
}

// What is not ASCII as \xff.
std::string Escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    char hex[5];
    std::snprintf(hex, sizeof(hex), "\\x%02x", byte);
    escaped += byte < 0x80 ? std::string(1, c) : hex;
  }
  return escaped;
}

// Resolves patterns under canonical roots.
class Resolver {
 public:
  Resolver(const DataLocation& location) : location_(location) {
    for (const std::string& root : location.roots) {
      std::error_code error;
      const fs::path canonical = fs::canonical(root, error);
      if (!error && fs::is_directory(canonical, error)) roots_.push_back(canonical);
    }
  }

  bool has_roots() const { return !roots_.empty(); }

  Status Resolve(const std::string& pattern, std::vector<ResolvedFile>* files) const {
    if (HasParentStep(pattern)) {
      return Status(StatusCode::kFailedPrecondition,
                    location_.field + ": " + pattern +
                        ": `..` is not accepted here; name the file by its path below one of the "
                        "data roots " +
                        ListOf(location_.roots));
    }
    std::vector<std::string> matches;
    fs::path matched_root;
    if (fs::path(pattern).is_absolute()) {
      const bool inside = std::any_of(roots_.begin(), roots_.end(), [&](const fs::path& root) {
        return IsInside(fs::path(pattern).lexically_normal(), root);
      });
      if (!inside && !IsInsideNamedRoot(pattern)) return Outside(pattern, "lies");
      matches = Matches(fs::path(), pattern);
    } else {
      for (const fs::path& root : roots_) {
        matches = Matches(root, pattern);
        matched_root = root;
        if (!matches.empty()) break;
      }
    }
    if (matches.empty()) {
      return Status(StatusCode::kNotFound, location_.field + ": no file matches " + pattern +
                                               " under the data roots " + ListOf(location_.roots) +
                                               "; check the path, or " + location_.root_advice);
    }
    const bool many = matches.size() > 1;
    for (const std::string& match : matches) {
      const size_t before = files->size();
      if (Status status = Add(pattern, match, many, files); !status.ok()) return status;
      if (files->size() == before) continue;
      files->back().given =
          matched_root.empty() ? match : fs::path(match).lexically_relative(matched_root).string();
    }
    return Status();
  }

 private:
  // A root given through a symlink may be named in that form, too.
  bool IsInsideNamedRoot(const std::string& path) const {
    return std::any_of(location_.roots.begin(), location_.roots.end(), [&](const auto& root) {
      return IsInside(fs::path(path).lexically_normal(), fs::path(root).lexically_normal());
    });
  }

  Status Add(const std::string& pattern, const std::string& match, bool one_of_many,
             std::vector<ResolvedFile>* files) const {
    constexpr size_t kFilesMax = 100'000;
    std::error_code error;
    const fs::path canonical = fs::canonical(match, error);
    if (error) {
      return Status(StatusCode::kFailedPrecondition,
                    location_.field + ": " + match + ": " + error.message());
    }
    for (const fs::path& root : roots_) {
      if (!IsInside(canonical, root)) continue;
      if (!fs::is_regular_file(canonical, error)) {
        if (one_of_many) return Status();  // a folder beside the files that the glob is for
        const bool wants_one = location_.wanted == FilesWanted::kOne;
        return Status(StatusCode::kInvalidData,
                      location_.field + ": " + pattern + " is not a regular file; " +
                          (wants_one ? "name the file itself"
                                     : "name files, or a glob such as " + pattern + "/*.txt"));
      }
      if (files->size() >= kFilesMax) {
        return Status(StatusCode::kInvalidData, location_.field +
                                                    ": more than 100,000 files; "
                                                    "join them to fewer");
      }
      const std::string name = canonical.lexically_relative(root).string();
      // The checkpoint remembers names as UTF-8: it could not find such a one again.
      if (!tokenizer::IsValidUtf8(name)) {
        return Status(StatusCode::kInvalidData, location_.field + ": " + Escaped(name) +
                                                    ": its name is not UTF-8; rename the file");
      }
      files->push_back({canonical.string(), name, ""});
      return Status();
    }
    return Outside(pattern, "leads to " + canonical.string() + ",");
  }

  Status Outside(const std::string& pattern, const std::string& how) const {
    return Status(StatusCode::kFailedPrecondition,
                  location_.field + ": " + pattern + " " + how + " outside of the data roots " +
                      ListOf(location_.roots) + "; move the data there, or " +
                      location_.root_advice);
  }

  const DataLocation& location_;
  std::vector<fs::path> roots_;
};

class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

Status ReadError(const ResolvedFile& file) {
  return Status(StatusCode::kFailedPrecondition,
                "data file " + file.path + ": cannot be read: " + std::strerror(errno));
}

}  // namespace

Result<std::vector<ResolvedFile>> ResolveDataFiles(const std::vector<std::string>& patterns,
                                                   const DataLocation& location) {
  const Resolver resolver(location);
  if (!resolver.has_roots()) {
    return Status(StatusCode::kFailedPrecondition,
                  location.field + ": none of the data roots exists: " + ListOf(location.roots) +
                      "; create one, or " + location.root_advice);
  }
  std::vector<ResolvedFile> files;
  for (const std::string& pattern : patterns) {
    if (Status status = resolver.Resolve(pattern, &files); !status.ok()) return status;
  }
  return files;
}

std::string DescribeOverlap(const std::vector<ResolvedFile>& train,
                            const std::vector<ResolvedFile>& validation) {
  // A path that is canonical still hides hard links; these do not.
  const auto identity = [](const ResolvedFile& file) -> std::optional<std::pair<dev_t, ino_t>> {
    struct stat info {};
    if (stat(file.path.c_str(), &info) != 0) return std::nullopt;  // reading it says why
    return std::pair(info.st_dev, info.st_ino);
  };
  std::map<std::pair<dev_t, ino_t>, const ResolvedFile*> trained;
  for (const ResolvedFile& file : train) {
    if (const auto id = identity(file)) trained.emplace(*id, &file);
  }
  std::string first;
  size_t count = 0;
  for (const ResolvedFile& file : validation) {
    const auto id = identity(file);
    const auto found = id ? trained.find(*id) : trained.end();
    if (found == trained.end()) continue;
    ++count;
    if (first.empty())
      first = file.given + " is the file " + found->second->given + " of data.train";
  }
  if (count == 0) return "";
  return "data.validation: " + first +
         (count > 1 ? ", and " + std::to_string(count - 1) + " more are there as well" : "") +
         "; bits per byte of text that was trained on say nothing of other text. Hold some text "
         "back in a file of its own";
}

Result<std::vector<FileDigest>> DigestFiles(const std::vector<ResolvedFile>& files) {
  constexpr size_t kBlockBytes = size_t{1} << 20;  // large enough that read calls cost nothing
  std::vector<FileDigest> digests;
  std::vector<char> block(kBlockBytes);
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  SINKFORGE_CHECK(state != nullptr);
  for (const ResolvedFile& file : files) {
    const OpenFile opened(file.path);
    if (opened.fd() < 0) return ReadError(file);
    FileDigest digest;
    digest.name = file.name;
    XXH3_64bits_reset(state.get());
    while (true) {
      const ssize_t got = read(opened.fd(), block.data(), block.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ReadError(file);
      if (got == 0) break;
      XXH3_64bits_update(state.get(), block.data(), static_cast<size_t>(got));
      digest.bytes += got;
    }
    digest.xxh3 = XXH3_64bits_digest(state.get());
    digests.push_back(std::move(digest));
  }
  return digests;
}

std::string FingerprintText(uint64_t xxh3) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(xxh3));
  return text;
}

Status CompareDigests(const std::vector<FileDigest>& stored, const std::vector<FileDigest>& now) {
  const std::string next = "; put the old data back, or start a new job";
  for (size_t i = 0; i < std::max(stored.size(), now.size()); ++i) {
    if (i >= now.size() || i >= stored.size() || stored[i].name != now[i].name) {
      const std::string name = i < stored.size() ? stored[i].name : now[i].name;
      return Status(StatusCode::kInvalidData,
                    "data.train: the checkpoint was made with " + std::to_string(stored.size()) +
                        " files, now there are " + std::to_string(now.size()) +
                        "; the first that differs is " + name + next);
    }
    if (stored[i].bytes != now[i].bytes) {
      return Status(StatusCode::kInvalidData,
                    "data.train: " + now[i].name + " has changed since the checkpoint: it had " +
                        std::to_string(stored[i].bytes) + " bytes and has " +
                        std::to_string(now[i].bytes) + next);
    }
    if (stored[i].xxh3 != now[i].xxh3) {
      return Status(StatusCode::kInvalidData, "data.train: " + now[i].name +
                                                  " has changed since the checkpoint: its XXH3 "
                                                  "was " +
                                                  FingerprintText(stored[i].xxh3) + " and is " +
                                                  FingerprintText(now[i].xxh3) + next);
    }
  }
  return Status();
}

}  // namespace sinkforge::trainer
