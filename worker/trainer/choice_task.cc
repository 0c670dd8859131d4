// One parser per form of an item.
#include "worker/trainer/choice_task.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "tokenizer/unicode.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;
using nlohmann::json;

namespace {

constexpr size_t kLineBytesMax = size_t{1} << 20;  // the longest of the known tasks have 10 KB

Status Bad(const std::string& message) { return Status(StatusCode::kInvalidData, message); }

Status ReadText(const json& item, const char* key, std::string* text) {
  const auto found = item.find(key);
  if (found == item.end()) return Bad("has no `" + std::string(key) + "`");
  if (!found->is_string()) return Bad("its `" + std::string(key) + "` is not a string");
  *text = found->get<std::string>();
  return Status();
}

Status ReadTexts(const json& item, const char* key, std::vector<std::string>* texts) {
  const std::string name = "its `" + std::string(key) + "`";
  const json& list = item.at(key);
  if (!list.is_array()) return Bad(name + " is not a list of strings");
  for (const json& text : list) {
    if (!text.is_string()) return Bad(name + " is not a list of strings");
    texts->push_back(text.get<std::string>());
  }
  if (texts->size() < 2) {
    return Bad(name + " has " + std::to_string(texts->size()) +
               (texts->size() == 1 ? " entry" : " entries") + "; to choose takes two at least");
  }
  return Status();
}

// Some copies of HellaSwag have the label as text.
Status ReadGold(const json& item, const char* key, size_t options, int64_t* gold) {
  const std::string name = "its `" + std::string(key) + "`";
  const auto found = item.find(key);
  if (found == item.end()) return Bad("has no `" + std::string(key) + "`");
  json value = *found;
  if (value.is_string()) value = json::parse(value.get<std::string>(), nullptr, false);
  const std::string range = "a number from 0 to " + std::to_string(options - 1);
  if (!value.is_number_integer()) return Bad(name + " is not " + range);
  *gold = value.get<int64_t>();
  if (*gold >= 0 && *gold < static_cast<int64_t>(options)) return Status();
  return Bad(name + " is " + value.dump() + ", not " + range);
}

// One context, several continuations.
Status ReadChoices(const json& object, const char* context_key, const char* choices_key,
                   ChoiceItem* item) {
  std::string context;
  if (Status status = ReadText(object, context_key, &context); !status.ok()) return status;
  std::vector<std::string> choices;
  if (Status status = ReadTexts(object, choices_key, &choices); !status.ok()) return status;
  for (std::string& choice : choices) {
    if (choice.empty()) return Bad("one of its `" + std::string(choices_key) + "` is empty");
    item->options.push_back({context, std::move(choice)});
  }
  return Status();
}

Status ReadSchema(const json& object, ChoiceItem* item) {
  std::string continuation;
  if (Status status = ReadText(object, "continuation", &continuation); !status.ok()) return status;
  if (continuation.empty()) return Bad("its `continuation` is empty");
  std::vector<std::string> contexts;
  if (Status status = ReadTexts(object, "context_options", &contexts); !status.ok()) return status;
  for (std::string& context : contexts) item->options.push_back({std::move(context), continuation});
  return Status();
}

Status ReadItem(const std::string& line, ChoiceItem* item) {
  const size_t invalid = tokenizer::FirstInvalidUtf8(line);
  if (invalid < line.size()) {
    return Bad("byte " + std::to_string(invalid + 1) + " of the line is not UTF-8");
  }
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) return Bad("not a JSON document");
  if (!object.is_object()) return Bad("not a JSON object");
  const bool hellaswag = object.contains("endings");
  Status status;
  if (hellaswag) {
    status = ReadChoices(object, "ctx", "endings", item);
  } else if (object.contains("context_options")) {
    status = ReadSchema(object, item);
  } else if (object.contains("choices")) {
    status = ReadChoices(object, "query", "choices", item);
  } else {
    status =
        Bad("has none of the keys `choices`, `context_options` and `endings` that an item of "
            "a task has one of");
  }
  if (!status.ok()) return status;
  return ReadGold(object, hellaswag ? "label" : "gold", item->options.size(), &item->gold);
}

bool IsBlank(const std::string& line) {
  return line.find_first_not_of(" \t\r\n") == std::string::npos;
}

}  // namespace

Result<std::vector<ChoiceItem>> ReadChoiceTask(const std::string& path,
                                               std::optional<int64_t> items_max) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return Status(StatusCode::kNotFound, path + ": there is no such file");
  }
  if (std::filesystem::is_directory(path, error)) {
    return Bad(path + ": is a folder; name a .jsonl file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return Status(StatusCode::kFailedPrecondition,
                  path + ": cannot be read: " + std::strerror(errno));
  }
  std::vector<ChoiceItem> items;
  std::vector<char> buffer(kLineBytesMax + 1);
  for (int64_t number = 1; !items_max || static_cast<int64_t>(items.size()) < *items_max;
       ++number) {
    file.getline(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    const std::string at = path + ":" + std::to_string(number) + ": ";
    const bool is_cut = file.fail() && file.gcount() > 0;
    if (is_cut) return Bad(at + "the line is longer than 1 MiB; an item is one line");
    if (file.fail()) break;
    std::string line(buffer.data(), static_cast<size_t>(file.gcount()) - (file.eof() ? 0 : 1));
    if (number == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (IsBlank(line)) continue;
    ChoiceItem item;
    item.line = number;
    if (const Status status = ReadItem(line, &item); !status.ok()) {
      return Bad(at + status.message() + "; correct or remove the line");
    }
    items.push_back(std::move(item));
  }
  if (items.empty()) return Bad(path + ": holds no items; an item is a line of JSON");
  return items;
}

}  // namespace sinkforge::trainer
