// What every program says of an option's value that is no number.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <type_traits>

namespace sinkforge::base {

// Refuses what is no Number. Before the option's other checks: CLI11's own messages say that a
// value could not be converted, or is in no range, but not to what.
template <typename Number>
CLI::Option* ExpectNumber(CLI::Option* option) {
  static_assert(std::is_arithmetic_v<Number>);
  return option->check([](const std::string& text) -> std::string {
    Number number{};
    if (CLI::detail::lexical_cast(text, number)) return "";
    const char* wanted = std::is_integral_v<Number> ? "a whole number" : "a number";
    return std::string("expects ") + wanted + ", not `" + text + "`";
  });
}

}  // namespace sinkforge::base
