// Colours by the select-graphic-rendition codes that every terminal of today knows.
#include "client/style.h"

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

std::string Style::Bold(const std::string& text) const { return Wrap("1", text); }
std::string Style::Dim(const std::string& text) const { return Wrap("2", text); }

Style::Colour ChooseColour(bool is_terminal, const std::string& no_color, const std::string& term) {
  if (!is_terminal || !no_color.empty() || term == "dumb") return Style::Colour::kOff;
  return Style::Colour::kOn;
}

}  // namespace sinkforge::client
