// OpenCorpusFiles; see corpus_files.h.
#include "client/corpus_files.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sinkforge::client {

absl::StatusOr<std::vector<tokenizer::CorpusFile>> OpenCorpusFiles(
    const Session& session, const std::vector<std::string>& paths) {
  constexpr size_t kNamed = 3;
  auto files = tokenizer::OpenCorpus(paths);
  if (!files.ok()) return files.status();
  std::vector<std::string> empty;
  for (const tokenizer::CorpusFile& file : *files) {
    if (file.bytes == 0) empty.push_back(file.path);
  }
  if (empty.empty()) return files;
  const size_t count = empty.size();
  empty.resize(std::min(count, kNamed));
  const std::string names =
      absl::StrCat(absl::StrJoin(empty, ", "),
                   count > kNamed ? absl::StrCat(" and ", count - kNamed, " more") : "",
                   count == 1 ? " is empty" : " are empty");
  if (count == files->size()) {
    return absl::InvalidArgumentError(absl::StrCat(names, "; give files with text"));
  }
  session.Say(absl::StrCat("warning: ", names, "; passed over"));
  std::erase_if(*files, [](const tokenizer::CorpusFile& file) { return file.bytes == 0; });
  return files;
}

}  // namespace sinkforge::client
