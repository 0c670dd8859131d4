// LineBlock: lines at the bottom of a terminal that are drawn again in place.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace sinkforge::client {

class LineBlock {
 public:
  explicit LineBlock(std::ostream* out) : out_(out) {}

  // Replaces what was drawn before.
  void Draw(std::vector<std::string> lines);
  // A line that stays, above the block.
  void Say(const std::string& line);
  // What is drawn stays, too; later lines come below it.
  void Finish();

 private:
  void Write(const std::string& above);

  std::ostream* out_;
  std::vector<std::string> lines_;
  int drawn_ = 0;  // lines on the screen, just above the cursor
};

}  // namespace sinkforge::client
