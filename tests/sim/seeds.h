// A whole simulated life from one number: faults first, then none, and what was wrong with it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace sinkforge::sim {

// Empty where every invariant held after every step and every job came to its end once the faults
// were over; else what broke first. Adds what happened to `counters` where that is not null.
std::string RunSeed(uint64_t seed, std::map<std::string, int64_t>* counters);

}  // namespace sinkforge::sim
