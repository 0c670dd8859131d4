// The size of a terminal, which its user changes while something is drawn on it.
#pragma once

#include <functional>

namespace sinkforge::client {

struct ScreenSize {
  int width = 80;   // columns
  int height = 24;  // lines
};

// Asked before each drawing.
using ReadScreenSize = std::function<ScreenSize()>;

}  // namespace sinkforge::client
