// The families, and a trained tokenizer as a tokenizer.json.
#include <nlohmann/json.hpp>

#include "tokenizer/bpe_trainer.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/split_pattern.h"
#include "tokenizer/training_family.h"

namespace sinkforge::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

Json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json PreTokenizer(const Family& family) {
  if (!family.own_split) return ByteLevel(true);
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", family.pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({split, ByteLevel(false)})}};
}

// Puts the first special token before a text.
Json PostProcessor(const std::vector<std::string>& special_tokens) {
  if (special_tokens.empty()) return ByteLevel(true);
  const std::string& bos = special_tokens[0];
  const auto special = [&](int type) -> Json {
    return Json::object({{"SpecialToken", {{"id", bos}, {"type_id", type}}}});
  };
  const auto sequence = [](const char* id, int type) -> Json {
    return Json::object({{"Sequence", {{"id", id}, {"type_id", type}}}});
  };
  Json described;
  described[bos] = {{"id", bos}, {"ids", Json::array({0})}, {"tokens", Json::array({bos})}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special(0), sequence("A", 0)})},
          {"pair", Json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)})},
          {"special_tokens", described}};
}

Json AddedTokenList(const std::vector<std::string>& special_tokens) {
  Json list = Json::array();
  for (size_t id = 0; id < special_tokens.size(); ++id) {
    list.push_back({{"id", id},
                    {"content", special_tokens[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  }
  return list;
}

}  // namespace

Family FamilyOf(PatternFamily family) {
  switch (family) {
    case PatternFamily::kGpt2:
      return {kGpt2Pattern, false, false, false};
    case PatternFamily::kQwen:
      return {kQwenPattern, true, true, false};
    case PatternFamily::kLlama3:
      break;
  }
  return {kLlama3Pattern, false, true, true};
}

std::string FormatTokenizerFile(const TrainedBpe& bpe, const TrainingOptions& options) {
  const Family family = FamilyOf(options.family);
  const size_t specials = options.special_tokens.size();
  const auto written = [&](int32_t id) {
    const std::string& token = bpe.tokens[static_cast<size_t>(id)];
    return static_cast<size_t>(id) < specials ? token : ToAlphabet(token);
  };
  Json vocab = Json::object();
  for (size_t id = 0; id < bpe.tokens.size(); ++id) {
    vocab.get_ref<Json::object_t&>().emplace_back(written(static_cast<int32_t>(id)), id);
  }
  Json merges = Json::array();
  for (const Merge& merge : bpe.merges) {
    merges.push_back(Json::array({written(merge.left), written(merge.right)}));
  }
  Json file;
  file["version"] = "1.0";
  file["truncation"] = nullptr;
  file["padding"] = nullptr;
  file["added_tokens"] = AddedTokenList(options.special_tokens);
  file["normalizer"] = family.nfc ? Json::object({{"type", "NFC"}}) : Json(nullptr);
  file["pre_tokenizer"] = PreTokenizer(family);
  file["post_processor"] = PostProcessor(options.special_tokens);
  file["decoder"] = ByteLevel(true);
  file["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", family.ignore_merges},
                   {"vocab", std::move(vocab)},
                   {"merges", std::move(merges)}};
  return file.dump(1) + "\n";
}

}  // namespace sinkforge::tokenizer
