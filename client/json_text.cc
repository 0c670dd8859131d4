// JsonText; see json_text.h.
#include "client/json_text.h"

#include <nlohmann/json.hpp>

namespace sinkforge::client {

std::string JsonText(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sinkforge::client
