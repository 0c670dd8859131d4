// Every problem names the key's path and what would be right in its place.
#include "proto/jobspec/spec_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/jobspec/nearest_name.h"

namespace sinkforge::jobspec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Kind = YamlNode::Kind;

std::string Join(const std::string& path, const std::string& key) {
  return path.empty() ? key : absl::StrCat(path, ".", key);
}

// Long or multi-line texts are cut, so that a message stays one line.
std::string Quote(const std::string& text) {
  std::string shown;
  for (char c : text.substr(0, 40)) {
    shown += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return absl::StrCat("`", shown, text.size() > 40 ? "...`" : "`");
}

std::string Describe(const YamlNode& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kScalar:
      return absl::StrCat(node.quoted ? "the text " : "", Quote(node.text));
    case Kind::kSequence:
      return "a list";
    case Kind::kMap:
      return "a group of keys";
  }
  return "";
}

template <typename T>
std::optional<T> ParseWhole(const std::string& text) {
  T value{};
  const char* begin = text.data();
  const char* end = begin + text.size();
  const auto [stop, code] = std::from_chars(begin, end, value);
  if (code != std::errc() || stop != end || text.empty()) return std::nullopt;
  return value;
}

// Numbers as people write them: "0.02", "1.0e-3", "3e4", with an optional plus sign.
std::optional<double> ParseReal(const std::string& raw) {
  const std::string text = raw.size() > 1 && raw[0] == '+' ? raw.substr(1) : raw;
  // from_chars also takes "inf" and "nan", which no key wants.
  if (text.find_first_of("nN") != std::string::npos) return std::nullopt;
  const std::optional<double> value = ParseWhole<double>(text);
  if (!value || !std::isfinite(*value)) return std::nullopt;
  return value;
}

// A real number that is whole, such as 1e6, counts as a whole number where float64 is exact.
template <typename T>
std::optional<T> ParseInteger(const std::string& text) {
  if (const std::optional<T> value = ParseWhole<T>(text)) return value;
  const std::optional<double> real = ParseReal(text);
  constexpr double kExactMax = 9007199254740992.0;  // 2^53
  if (!real || *real != std::floor(*real) || std::abs(*real) > kExactMax) return std::nullopt;
  if (*real < static_cast<double>(std::numeric_limits<T>::min()) ||
      *real > static_cast<double>(std::numeric_limits<T>::max())) {
    return std::nullopt;
  }
  return static_cast<T>(*real);
}

// Short names of all values but the zero value, in the order of the proto.
std::vector<std::string> ShortNames(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0) names.push_back(ShortEnumName(type, type.value(i)->number()));
  }
  return names;
}

std::string ExpectedOf(const FieldDescriptor& field) {
  if (TakesAuto(field)) return "auto, or a whole number";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return "a whole number";
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a whole number of at least 0";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a finite number";
    case FieldDescriptor::CPPTYPE_ENUM:
      return absl::StrCat("one of ", absl::StrJoin(ShortNames(*field.enum_type()), ", "));
    default:
      return "a text";
  }
}

// "model.width" where `key` is the name of a field one level below the root, else empty.
std::string FindElsewhere(const Descriptor& type, const std::string& key) {
  const Descriptor* root = v1::JobSpec::descriptor();
  if (&type != root && root->FindFieldByName(key) != nullptr) return key;
  for (int i = 0; i < root->field_count(); ++i) {
    const FieldDescriptor* group = root->field(i);
    if (group->message_type() == nullptr || group->message_type() == &type) continue;
    if (group->message_type()->FindFieldByName(key) != nullptr) {
      return absl::StrCat(group->name(), ".", key);
    }
  }
  return "";
}

}  // namespace

bool IsRange(const Descriptor& type) { return &type == v1::RangeOrValue::descriptor(); }

bool TakesAuto(const FieldDescriptor& field) {
  return field.containing_type() == v1::TrainSpec::descriptor() &&
         field.number() == v1::TrainSpec::kMicroBatchFieldNumber;
}

std::string ShortEnumName(const EnumDescriptor& type, int number) {
  const auto* value = type.FindValueByNumber(number);
  if (value == nullptr) return absl::StrCat(number);
  // "ATTENTION_VARIANT_UNSPECIFIED" without its last word is the prefix of every value.
  const std::string zero = type.FindValueByNumber(0)->name();
  const std::string prefix = zero.substr(0, zero.size() - std::string("UNSPECIFIED").size());
  return absl::AsciiStrToLower(value->name().substr(prefix.size()));
}

std::string UnknownKeyMessage(const Descriptor& type, const std::string& key) {
  const std::string elsewhere = FindElsewhere(type, key);
  if (!elsewhere.empty()) {
    return absl::StrCat("unknown key; did you mean `", elsewhere, "`?");
  }
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  const std::string nearest = NearestName(names, key);
  if (!nearest.empty()) return absl::StrCat("unknown key; did you mean `", nearest, "`?");
  std::sort(names.begin(), names.end());
  return absl::StrCat("unknown key; valid keys are ", absl::StrJoin(names, ", "));
}

void SpecReader::Complain(const Position& position, const std::string& path,
                          const std::string& text) {
  problems_->push_back({position, path, text});
}

void SpecReader::ReadMessage(const YamlNode& node, const std::string& path, Message* message) {
  const Descriptor& type = *message->GetDescriptor();
  if (node.kind == Kind::kNull) return;
  if (node.kind != Kind::kMap) {
    Complain(node.position, path,
             absl::StrCat("expects keys such as `", type.field(0)->name(), ": ...`, but got ",
                          Describe(node)));
    return;
  }
  std::map<std::string, Position> seen;
  for (const YamlNode::Entry& entry : node.entries) {
    const std::string key_path = Join(path, entry.key);
    const FieldDescriptor* field = type.FindFieldByName(entry.key);
    if (field == nullptr) {
      Complain(entry.position, Join(path, entry.key.substr(0, 64)),
               UnknownKeyMessage(type, entry.key));
      continue;
    }
    const auto [first, inserted] = seen.emplace(entry.key, entry.position);
    if (!inserted) {
      Complain(entry.position, key_path,
               absl::StrCat("duplicate key; it is set at line ", first->second.line,
                            " already; remove one of the two"));
      continue;
    }
    positions_->emplace(key_path, entry.position);
    if (IsAbsent(entry.value)) {
      Complain(entry.position, key_path, kNoValue);
      continue;
    }
    ReadField(entry.value, *field, key_path, message);
  }
}

void SpecReader::ReadField(const YamlNode& node, const FieldDescriptor& field,
                           const std::string& path, Message* message) {
  const auto* reflection = message->GetReflection();
  if (node.kind == Kind::kNull) {
    reflection->ClearField(message, &field);
    return;
  }
  if (field.is_repeated()) {
    ReadTexts(node, field, path, message);
  } else if (field.message_type() == nullptr) {
    ReadScalar(node, field, path, message);
  } else if (IsRange(*field.message_type())) {
    ReadRange(node, path, reflection->MutableMessage(message, &field));
  } else {
    ReadMessage(node, path, reflection->MutableMessage(message, &field));
  }
}

void SpecReader::ReadTexts(const YamlNode& node, const FieldDescriptor& field,
                           const std::string& path, Message* message) {
  const auto* reflection = message->GetReflection();
  reflection->ClearField(message, &field);
  if (node.kind == Kind::kScalar) {
    reflection->AddString(message, &field, node.text);
    return;
  }
  if (node.kind != Kind::kSequence) {
    Complain(node.position, path,
             absl::StrCat("expects a text or a list of texts, but got ", Describe(node)));
    return;
  }
  for (size_t i = 0; i < node.items.size(); ++i) {
    const YamlNode& item = node.items[i];
    if (item.kind == Kind::kScalar) {
      reflection->AddString(message, &field, item.text);
    } else {
      Complain(item.position, absl::StrCat(path, "[", i, "]"),
               absl::StrCat("expects a text, but got ", Describe(item)));
    }
  }
}

void SpecReader::ReadRange(const YamlNode& node, const std::string& path, Message* message) {
  auto* range = static_cast<v1::RangeOrValue*>(message);
  const auto number = [](const YamlNode& item) -> std::optional<double> {
    if (item.kind != Kind::kScalar || item.quoted) return std::nullopt;
    return ParseReal(item.text);
  };
  if (const std::optional<double> value = number(node)) {
    range->set_low(*value);
    range->set_high(*value);
    return;
  }
  if (node.kind == Kind::kSequence && node.items.size() == 2) {
    const std::optional<double> low = number(node.items[0]);
    const std::optional<double> high = number(node.items[1]);
    if (low && high) {
      range->set_low(*low);
      range->set_high(*high);
      return;
    }
  }
  Complain(node.position, path,
           absl::StrCat("expects a finite number, or a list of two such as `[0, 8]`, but got ",
                        node.kind == Kind::kSequence ? "another list" : Describe(node)));
}

void SpecReader::ReadScalar(const YamlNode& node, const FieldDescriptor& field,
                            const std::string& path, Message* message) {
  if (node.kind != Kind::kScalar) {
    Complain(node.position, path,
             absl::StrCat("expects ", ExpectedOf(field), ", but got ", Describe(node)));
    return;
  }
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      message->GetReflection()->SetString(message, &field, node.text);
      return;
    case FieldDescriptor::CPPTYPE_ENUM:
      ReadEnum(node, field, path, message);
      return;
    default:
      ReadNumber(node, field, path, message);
      return;
  }
}

void SpecReader::ReadNumber(const YamlNode& node, const FieldDescriptor& field,
                            const std::string& path, Message* message) {
  const auto* reflection = message->GetReflection();
  // A word may be in quotes, as those of enums.
  bool read = TakesAuto(field) && node.text == "auto";
  if (read) {
    reflection->SetInt32(message, &field, 0);
  } else if (!node.quoted) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        if (const auto value = ParseInteger<int32_t>(node.text);
            value && !(TakesAuto(field) && *value == 0)) {
          reflection->SetInt32(message, &field, *value);
          read = true;
        }
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        if (const auto value = ParseInteger<int64_t>(node.text)) {
          reflection->SetInt64(message, &field, *value);
          read = true;
        }
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        if (const auto value = ParseInteger<uint64_t>(node.text)) {
          reflection->SetUInt64(message, &field, *value);
          read = true;
        }
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        if (const auto value = ParseReal(node.text)) {
          reflection->SetDouble(message, &field, *value);
          read = true;
        }
        break;
      default:
        break;
    }
  }
  if (read) return;
  const std::optional<double> real = node.quoted ? std::nullopt : ParseReal(node.text);
  const bool too_large = field.cpp_type() == FieldDescriptor::CPPTYPE_INT32 && real &&
                         *real > std::numeric_limits<int32_t>::max();
  const bool meant_auto = TakesAuto(field) && !real && !NearestName({"auto"}, node.text).empty();
  const bool too_small = TakesAuto(field) && !node.quoted && ParseInteger<int32_t>(node.text) == 0;
  Complain(node.position, path,
           absl::StrCat("expects ", ExpectedOf(field),
                        too_large   ? " of at most 2147483647"
                        : too_small ? " of at least 1"
                                    : "",
                        ", but got ", Describe(node),
                        meant_auto    ? "; did you mean `auto`?"
                        : node.quoted ? "; remove the quotes"
                                      : ""));
}

void SpecReader::ReadEnum(const YamlNode& node, const FieldDescriptor& field,
                          const std::string& path, Message* message) {
  const EnumDescriptor& type = *field.enum_type();
  for (int i = 0; i < type.value_count(); ++i) {
    const int number = type.value(i)->number();
    if (number == 0 || ShortEnumName(type, number) != node.text) continue;
    message->GetReflection()->SetEnumValue(message, &field, number);
    return;
  }
  const std::string nearest = NearestName(ShortNames(type), node.text);
  Complain(node.position, path,
           absl::StrCat("expects ", ExpectedOf(field), ", but got ", Describe(node),
                        nearest.empty() ? "" : absl::StrCat("; did you mean `", nearest, "`?")));
}

}  // namespace sinkforge::jobspec
