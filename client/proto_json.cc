// ProtoJson; see proto_json.h.
#include "client/proto_json.h"

#include <google/protobuf/util/json_util.h>

#include "base/check.h"

namespace sinkforge::client {

std::string ProtoJson(const google::protobuf::Message& message, JsonLayout layout) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  options.add_whitespace = layout == JsonLayout::kPeople;
  std::string text;
  SINKFORGE_REQUIRE(google::protobuf::util::MessageToJsonString(message, &text, options).ok());
  return text;
}

}  // namespace sinkforge::client
