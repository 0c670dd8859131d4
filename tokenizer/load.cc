// Errors get the file's name here, so that the parsers need not know it.
#include "tokenizer/load.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/byte_tokenizer.h"
#include "tokenizer/tokenizer_file.h"

namespace sinkforge::tokenizer {
namespace {

constexpr int64_t kFileBytesMax = int64_t{256} << 20;  // 20 times the largest one in use

}  // namespace

std::string TokenizerPath(const std::string& name) {
  std::error_code error;
  return std::filesystem::is_directory(name, error) ? absl::StrCat(name, "/tokenizer.json") : name;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(const std::string& name) {
  if (name == kBytesName) return MakeByteTokenizer();
  const std::string path = TokenizerPath(name);
  const auto content = base::ReadFile(path, kFileBytesMax);
  if (!content.ok()) {
    return absl::Status(content.status().code(),
                        absl::StrCat("tokenizer: ", std::string(content.status().message()),
                                     "; give `bytes` or a tokenizer.json"));
  }
  auto file = ParseTokenizerFile(*content);
  absl::Status status = file.status();
  if (file.ok()) {
    auto tokenizer = MakeBpeTokenizer(*std::move(file));
    if (tokenizer.ok()) return tokenizer;
    status = tokenizer.status();
  }
  return absl::Status(status.code(),
                      absl::StrCat("tokenizer ", path, ": ", std::string(status.message())));
}

}  // namespace sinkforge::tokenizer
