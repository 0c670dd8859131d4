// How a trainer gets the token by which its daemon knows it: in the environment, which only the
// same user reads; everybody on the machine reads command lines.
#pragma once

namespace sinkforge {

inline constexpr char kTokenVariable[] = "SINKFORGE_TRAINER_TOKEN";

}  // namespace sinkforge
