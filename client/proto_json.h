// Messages of the wire as JSON: fields are named as in the .proto files, and those that are 0 or
// empty are there as well, so that scripts find what they read.
#pragma once

#include <google/protobuf/message.h>

#include <string>

namespace sinkforge::client {

// With line breaks for people, or one line.
enum class JsonLayout { kPeople, kLine };

std::string ProtoJson(const google::protobuf::Message& message, JsonLayout layout);

}  // namespace sinkforge::client
