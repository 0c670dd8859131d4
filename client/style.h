// Style: colours of a terminal, or none.
#pragma once

#include <string>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::client {

class Style {
 public:
  enum class Colour { kOff, kOn };
  explicit Style(Colour colour) : colour_(colour) {}
  std::string State(v1::JobState state, const std::string& text) const;
  std::string Bold(const std::string& text) const;
  std::string Dim(const std::string& text) const;
  // A cell of `width` columns for a value from 0 to 1: dark blue to yellow, or its tenths ("0" to
  // "9") without colours.
  std::string Heat(double value, int width) const;
  Colour colour() const { return colour_; }

 private:
  std::string Wrap(const char* code, const std::string& text) const;
  Colour colour_;
};

// Off for a stream that is no terminal, for NO_COLOR (set to anything but nothing), for TERM=dumb.
Style::Colour ChooseColour(bool is_terminal, const std::string& no_color, const std::string& term);

}  // namespace sinkforge::client
