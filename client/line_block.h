// LineBlock: lines at the bottom of a terminal that are drawn again in place.
#pragma once

#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "client/screen_size.h"

namespace sinkforge::client {

class LineBlock {
 public:
  LineBlock(std::ostream* out, ReadScreenSize screen_size)
      : out_(out), screen_size_(std::move(screen_size)) {}

  // Replaces what was drawn before.
  void Draw(std::vector<std::string> lines);
  // A line that stays, above the block.
  void Say(const std::string& line);
  // What is drawn stays, too; later lines come below it.
  void Finish();

 private:
  void Write(const std::string& above);
  // Of what was drawn: a terminal that became narrower has wrapped the lines.
  int RowsOnScreen() const;

  std::ostream* out_;
  const ReadScreenSize screen_size_;
  std::vector<std::string> lines_;
  std::vector<int> drawn_;  // columns of each line on the screen, just above the cursor
};

}  // namespace sinkforge::client
