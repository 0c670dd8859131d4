// Runs seeds of the simulator: sim_run FIRST LAST. Prints each seed that breaks an invariant and
// exits with 1. sim_run --find FIRST LAST is for mutants: it exits with 0 at the first such seed,
// and with 1 where there is none.
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "seeds.h"

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool finds = !arguments.empty() && arguments[0] == "--find";
  if (finds) arguments.erase(arguments.begin());
  if (arguments.size() != 2) {
    std::cerr << "usage: sim_run [--find] FIRST LAST\n";
    return 2;
  }
  const uint64_t first = std::strtoull(arguments[0].c_str(), nullptr, 10);
  const uint64_t last = std::strtoull(arguments[1].c_str(), nullptr, 10);
  uint64_t broken = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    const std::string violation = sinkforge::sim::RunSeed(seed, nullptr);
    if (violation.empty()) continue;
    ++broken;
    std::cout << "seed " << seed << ": " << violation << std::endl;
    if (finds) return 0;
  }
  std::cout << "seeds " << first << " to " << last << ": " << broken << " broke an invariant"
            << std::endl;
  return finds || broken > 0 ? 1 : 0;
}
