// The name that somebody most likely meant: of a key, or of a command.
#pragma once

#include <string>
#include <vector>

namespace sinkforge::jobspec {

// Levenshtein's distance, for names of at most 64 characters (longer ones count as far away).
int EditDistance(const std::string& a, const std::string& b);

// The first of the nearest names, or "" where all are further than two edits, or than a third of
// the characters of a long one.
std::string NearestName(const std::vector<std::string>& names, const std::string& given);

}  // namespace sinkforge::jobspec
