// FormatJobFile: the inverse of ParseJobFile.
#include <charconv>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/spec_reader.h"

namespace sinkforge::jobspec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string FormatReal(double value) {
  char buffer[32];
  // The shortest decimal that reads back to the same bits.
  const auto [end, code] = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return code == std::errc() ? std::string(buffer, end) : std::string("0");
}

// Plain where no YAML reader could take the text for anything else, in double quotes otherwise.
std::string FormatText(const std::string& text) {
  bool plain = !text.empty() && text != "null" && text != "true" && text != "false";
  for (char c : text) {
    plain = plain && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '/' || c == '_' ||
                      c == '.' || c == '-');
  }
  plain = plain && absl::ascii_isalpha(static_cast<unsigned char>(text.front()));
  if (plain) return text;
  std::string quoted = "\"";
  for (char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') {
      absl::StrAppend(&quoted, "\\", std::string(1, c));
    } else if (byte < 0x20 || byte == 0x7F) {
      absl::StrAppend(&quoted, "\\x", absl::Hex(byte, absl::kZeroPad2));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string FormatScalar(const Message& message, const FieldDescriptor& field) {
  const auto* reflection = message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      if (TakesAuto(field) && reflection->GetInt32(message, &field) == 0) return "auto";
      return absl::StrCat(reflection->GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection->GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection->GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return FormatReal(reflection->GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = reflection->GetEnumValue(message, &field);
      const bool known = field.enum_type()->FindValueByNumber(number) != nullptr;
      return known && number != 0 ? ShortEnumName(*field.enum_type(), number) : std::string();
    }
    default:
      return FormatText(reflection->GetString(message, &field));
  }
}

std::string FormatTexts(const Message& message, const FieldDescriptor& field) {
  std::vector<std::string> items;
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < reflection->FieldSize(message, &field); ++i) {
    items.push_back(FormatText(reflection->GetRepeatedString(message, &field, i)));
  }
  return absl::StrCat("[", absl::StrJoin(items, ", "), "]");
}

std::string FormatRange(const Message& message) {
  const auto& range = static_cast<const v1::RangeOrValue&>(message);
  if (range.low() == range.high()) return FormatReal(range.low());
  return absl::StrCat("[", FormatReal(range.low()), ", ", FormatReal(range.high()), "]");
}

void FormatMessage(const Message& message, const std::string& indent, std::string* out) {
  const auto* reflection = message.GetReflection();
  const auto* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor& field = *type->field(i);
    if (field.is_repeated()) {
      if (reflection->FieldSize(message, &field) == 0) continue;
      absl::StrAppend(out, indent, field.name(), ": ", FormatTexts(message, field), "\n");
      continue;
    }
    if (!reflection->HasField(message, &field)) continue;
    if (field.message_type() == nullptr) {
      const std::string value = FormatScalar(message, field);
      if (value.empty()) continue;
      absl::StrAppend(out, indent, field.name(), ": ", value, "\n");
    } else if (IsRange(*field.message_type())) {
      absl::StrAppend(out, indent, field.name(), ": ",
                      FormatRange(reflection->GetMessage(message, &field)), "\n");
    } else {
      std::string below;
      FormatMessage(reflection->GetMessage(message, &field), absl::StrCat(indent, "  "), &below);
      absl::StrAppend(out, indent, field.name(), below.empty() ? ": {}\n" : ":\n", below);
    }
  }
}

}  // namespace

std::string FormatJobFile(const v1::JobSpec& spec) {
  std::string out;
  FormatMessage(spec, "", &out);
  return out;
}

}  // namespace sinkforge::jobspec
