// Violation: one thing that is wrong with a job, for google.rpc.BadRequest and for people.
#pragma once

#include <string>

namespace sinkforge::jobspec {

struct Violation {
  std::string field;    // "model.heads"
  std::string message;  // what is wrong and what to do
};

}  // namespace sinkforge::jobspec
