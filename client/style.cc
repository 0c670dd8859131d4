// Colours by the select-graphic-rendition codes that every terminal of today knows.
#include "client/style.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace sinkforge::client {

std::string Style::Wrap(const char* code, const std::string& text) const {
  if (colour_ == Colour::kOff) return text;
  return absl::StrCat("\033[", code, "m", text, "\033[0m");
}

std::string Style::State(v1::JobState state, const std::string& text) const {
  switch (state) {
    case v1::JOB_STATE_SUCCEEDED:
      return Wrap("32", text);
    case v1::JOB_STATE_FAILED:
      return Wrap("31", text);
    case v1::JOB_STATE_CANCELLED:
    case v1::JOB_STATE_PAUSED:
      return Wrap("33", text);
    case v1::JOB_STATE_RUNNING:
    case v1::JOB_STATE_STARTING:
      return Wrap("36", text);
    default:
      return text;
  }
}

std::string Style::Heat(double value, int width) const {
  // Viridis in the 256 colours that every terminal of today knows.
  static constexpr int kColours[] = {53, 54, 60, 24, 30, 36, 35, 71, 113, 149, 185, 227};
  constexpr int kCount = static_cast<int>(std::size(kColours));
  const double share = std::isfinite(value) ? std::clamp(value, 0.0, 1.0) : 0;
  if (colour_ == Colour::kOff) {
    // A binary32 0.7 is a little less than seven tenths.
    std::string cell = absl::StrCat(std::min(9, static_cast<int>(share * 10 + 1e-6)));
    cell.resize(static_cast<size_t>(width), ' ');
    return cell;
  }
  const int colour = kColours[std::min(kCount - 1, static_cast<int>(share * kCount))];
  return absl::StrCat("\033[48;5;", colour, "m", std::string(static_cast<size_t>(width), ' '),
                      "\033[0m");
}

std::string Style::Bold(const std::string& text) const { return Wrap("1", text); }
std::string Style::Dim(const std::string& text) const { return Wrap("2", text); }

Style::Colour ChooseColour(bool is_terminal, const std::string& no_color, const std::string& term) {
  if (!is_terminal || !no_color.empty() || term == "dumb") return Style::Colour::kOff;
  return Style::Colour::kOn;
}

}  // namespace sinkforge::client
