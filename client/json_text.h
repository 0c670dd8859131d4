// JSON documents of the client's own, as text.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace sinkforge::client {

// With line breaks for people, and one at the end. Names of files need not be UTF-8, which JSON has
// to be: bytes that are not become U+FFFD.
std::string JsonText(const nlohmann::ordered_json& json);

}  // namespace sinkforge::client
