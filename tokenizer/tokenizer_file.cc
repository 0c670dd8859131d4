// Each part of the file has one function. What changes ids and is not known is refused; what only
// concerns special tokens around a text is passed over, since those are added elsewhere.
#include "tokenizer/tokenizer_file.h"

#include <xxhash.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tokenizer/split_pattern.h"
#include "tokenizer/unicode.h"

namespace sinkforge::tokenizer {
namespace {

using Json = nlohmann::json;

constexpr int64_t kIdMax = (int64_t{1} << 24) - 1;  // as many as model.vocab_size may be

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status Unsupported(const std::string& what) {
  return Bad(absl::StrCat(what,
                          " is not supported; what is: model BPE, normalizer none or NFC, "
                          "pre_tokenizer ByteLevel or a Sequence of Split (Regex, Isolated) and "
                          "ByteLevel"));
}

const Json& Member(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : null;
}

std::string TextOf(const Json& object, const char* key) {
  const Json& member = Member(object, key);
  return member.is_string() ? member.get<std::string>() : "";
}

bool IsTrue(const Json& object, const char* key, bool absent = false) {
  const Json& member = Member(object, key);
  return member.is_boolean() ? member.get<bool>() : absent;
}

// -1 where it is no token id.
int32_t IdOf(const Json& value) {
  if (!value.is_number_integer()) return -1;
  const auto id = value.get<int64_t>();
  return id >= 0 && id <= kIdMax ? static_cast<int32_t>(id) : -1;
}

class Parser {
 public:
  explicit Parser(BpeFile* file) : file_(*file) {}

  absl::Status Run(const Json& root) {
    if (!root.is_object() || !Member(root, "model").is_object()) {
      return Bad("it is not a tokenizer.json: there is no object with a `model`");
    }
    for (const char* key : {"truncation", "padding"}) {
      if (!Member(root, key).is_null()) return Unsupported(absl::StrCat("a `", key, "`"));
    }
    absl::Status status = Model(root["model"]);
    if (status.ok()) status = Normalizer(Member(root, "normalizer"));
    if (status.ok()) status = PreTokenizer(Member(root, "pre_tokenizer"));
    if (status.ok()) status = AddedTokenList(Member(root, "added_tokens"));
    if (status.ok()) FindBos(Member(root, "post_processor"));
    return status;
  }

 private:
  absl::Status Model(const Json& model) {
    const std::string type = TextOf(model, "type");
    // Old files have no type; theirs are told by what they hold.
    if (type != "BPE" && !(type.empty() && model.contains("merges"))) {
      return Unsupported(absl::StrCat("model `", type, "`"));
    }
    if (!Member(model, "dropout").is_null() && Member(model, "dropout") != 0.0) {
      return Unsupported("model.dropout");
    }
    if (!Member(model, "unk_token").is_null()) return Unsupported("model.unk_token");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!TextOf(model, key).empty()) return Unsupported(absl::StrCat("model.", key));
    }
    if (IsTrue(model, "byte_fallback")) return Unsupported("model.byte_fallback");
    file_.ignore_merges = IsTrue(model, "ignore_merges");
    absl::Status status = Vocab(Member(model, "vocab"));
    if (status.ok()) status = Merges(Member(model, "merges"));
    return status;
  }

  absl::Status Vocab(const Json& vocab) {
    if (!vocab.is_object()) return Bad("model.vocab is not an object of tokens and ids");
    std::unordered_map<int32_t, const std::string*> owners;
    for (const auto& [token, value] : vocab.items()) {
      const int32_t id = IdOf(value);
      if (id < 0) return Bad(absl::StrCat("model.vocab: `", token, "` has no possible id"));
      file_.vocab.emplace(token, id);
    }
    for (const auto& [token, id] : file_.vocab) {
      const auto [place, is_new] = owners.try_emplace(id, &token);
      if (!is_new) {
        return Bad(absl::StrCat("model.vocab: `", token, "` and `", *place->second,
                                "` have one id, ", id));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Merges(const Json& merges) {
    if (!merges.is_array()) return Bad("model.merges is not a list");
    file_.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const std::string place = absl::StrCat("model.merges[", i, "]");
      std::string left;
      std::string right;
      if (!SplitMerge(merges[i], &left, &right)) {
        return Bad(absl::StrCat(place, " is not a pair of tokens"));
      }
      Merge merge;
      for (const auto& [text, id] : {std::pair<std::string, int32_t*>{left, &merge.left},
                                     {right, &merge.right},
                                     {left + right, &merge.merged}}) {
        const auto found = file_.vocab.find(text);
        if (found == file_.vocab.end()) {
          return Bad(absl::StrCat(place, ": `", text, "` is not in model.vocab"));
        }
        *id = found->second;
      }
      file_.merges.push_back(merge);
    }
    return absl::OkStatus();
  }

  // "a b", or ["a", "b"] in newer files.
  static bool SplitMerge(const Json& merge, std::string* left, std::string* right) {
    if (merge.is_array()) {
      if (merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) return false;
      *left = merge[0].get<std::string>();
      *right = merge[1].get<std::string>();
      return true;
    }
    if (!merge.is_string()) return false;
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) return false;
    *left = text.substr(0, space);
    *right = text.substr(space + 1);
    return true;
  }

  absl::Status Normalizer(const Json& normalizer) {
    if (normalizer.is_null()) return absl::OkStatus();
    const std::string type = TextOf(normalizer, "type");
    if (type == "NFC") {
      file_.nfc = true;
      return absl::OkStatus();
    }
    const Json& parts = Member(normalizer, "normalizers");
    if (type != "Sequence" || !parts.is_array()) {
      return Unsupported(absl::StrCat("normalizer `", type, "`"));
    }
    for (const Json& part : parts) {
      const absl::Status status = Normalizer(part);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status PreTokenizer(const Json& pre_tokenizer) {
    const std::string type = TextOf(pre_tokenizer, "type");
    if (type == "ByteLevel") {
      file_.add_prefix_space = IsTrue(pre_tokenizer, "add_prefix_space", /*absent=*/true);
      if (IsTrue(pre_tokenizer, "use_regex", /*absent=*/true)) file_.split_pattern = kGpt2Pattern;
      return absl::OkStatus();
    }
    const Json& parts = Member(pre_tokenizer, "pretokenizers");
    if (type != "Sequence" || !parts.is_array() || parts.size() != 2 ||
        TextOf(parts[0], "type") != "Split" || TextOf(parts[1], "type") != "ByteLevel") {
      return Unsupported(absl::StrCat("pre_tokenizer `", type.empty() ? "none" : type, "`",
                                      type == "Sequence" ? " of these parts" : ""));
    }
    if (IsTrue(parts[1], "use_regex", true) || IsTrue(parts[1], "add_prefix_space", true)) {
      return Unsupported("ByteLevel with use_regex or add_prefix_space behind a Split");
    }
    return Split(parts[0]);
  }

  absl::Status Split(const Json& split) {
    const std::string behavior = TextOf(split, "behavior");
    const bool inverted = IsTrue(split, "invert");
    if (behavior != "Isolated" || inverted) {
      return Unsupported(
          absl::StrCat("Split with behavior `", behavior, "`", inverted ? ", inverted" : ""));
    }
    const Json& regex = Member(Member(split, "pattern"), "Regex");
    if (!regex.is_string()) return Unsupported("Split by a text that is no Regex");
    file_.split_pattern = regex.get<std::string>();
    return absl::OkStatus();
  }

  absl::Status AddedTokenList(const Json& list) {
    if (list.is_null()) return absl::OkStatus();
    if (!list.is_array()) return Bad("added_tokens is not a list");
    std::unordered_map<int32_t, std::string> names;
    for (const auto& [token, id] : file_.vocab) names.emplace(id, token);
    for (const Json& item : list) {
      AddedToken token;
      token.id = IdOf(Member(item, "id"));
      token.content = TextOf(item, "content");
      if (token.id < 0 || token.content.empty()) {
        return Bad("added_tokens: an item has no id or no content");
      }
      const auto known = file_.vocab.find(token.content);
      const auto [owner, is_new] = names.try_emplace(token.id, token.content);
      if (owner->second != token.content ||
          (known != file_.vocab.end() && known->second != token.id)) {
        return Bad(absl::StrCat("added_tokens: `", token.content, "` has id ", token.id,
                                ", but model.vocab says otherwise"));
      }
      token.special = IsTrue(item, "special");
      token.single_word = IsTrue(item, "single_word");
      token.lstrip = IsTrue(item, "lstrip");
      token.rstrip = IsTrue(item, "rstrip");
      token.normalized = IsTrue(item, "normalized", !token.special);
      file_.added_tokens.push_back(std::move(token));
    }
    return absl::OkStatus();
  }

  // What a template puts before a single text, else a special token by the names in use.
  void FindBos(const Json& post_processor) {
    const Json& parts = Member(post_processor, "processors");
    if (parts.is_array()) {
      for (const Json& part : parts) FromTemplate(part);
    } else {
      FromTemplate(post_processor);
    }
    for (const char* name : {"<|bos|>", "<|begin_of_text|>", "<|endoftext|>", "<s>"}) {
      for (const AddedToken& token : file_.added_tokens) {
        const bool fits = token.special && token.content == name;
        if (fits && !file_.bos_id.has_value()) file_.bos_id = token.id;
      }
    }
  }

  void FromTemplate(const Json& processor) {
    const Json& single = Member(processor, "single");
    if (!single.is_array() || single.empty()) return;
    const std::string name = TextOf(Member(single[0], "SpecialToken"), "id");
    for (const AddedToken& token : file_.added_tokens) {
      if (!name.empty() && token.content == name) file_.bos_id = token.id;
    }
  }

  BpeFile& file_;
};

}  // namespace

std::string FingerprintOf(uint64_t xxh3) {
  char text[24];
  std::snprintf(text, sizeof(text), "xxh3:%016llx", static_cast<unsigned long long>(xxh3));
  return text;
}

absl::StatusOr<BpeFile> ParseTokenizerFile(const std::string& json) {
  const Json root = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return Bad("it is not JSON; get the file again");
  BpeFile file;
  const absl::Status status = Parser(&file).Run(root);
  if (!status.ok()) return status;
  file.fingerprint = FingerprintOf(XXH3_64bits(json.data(), json.size()));
  return file;
}

}  // namespace sinkforge::tokenizer
