// tokenizer_probe TOKENIZER: a JSON string a line in, its token ids as a JSON list a line out. Exit
// status 1 with a message at the first text that cannot be encoded.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "tokenizer/load.h"

int main(int argc, char** argv) {
  using namespace sinkforge::tokenizer;
  if (argc != 2) {
    std::fprintf(stderr, "Usage: tokenizer_probe TOKENIZER < STRINGS > IDS\n");
    return 2;
  }
  const auto tokenizer = LoadTokenizer(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "tokenizer_probe: %s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  const auto encoder = (*tokenizer)->MakeEncoder();
  std::ios::sync_with_stdio(false);
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto text = nlohmann::json::parse(line).get<std::string>();
    const auto ids = EncodeDocument(**tokenizer, text, encoder.get());
    if (!ids.ok()) {
      std::fprintf(stderr, "tokenizer_probe: %s\n", ids.status().ToString().c_str());
      return 1;
    }
    std::cout << nlohmann::json(*ids).dump() << "\n";
  }
  return 0;
}
