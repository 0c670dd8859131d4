// Lines by cursor movements that every terminal of today knows.
#include "client/line_block.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace sinkforge::client {

void LineBlock::Draw(std::vector<std::string> lines) {
  lines_ = std::move(lines);
  Write("");
}

void LineBlock::Say(const std::string& line) { Write(absl::StrCat(line, "\033[K\n")); }

void LineBlock::Finish() {
  lines_.clear();
  drawn_ = 0;
}

// One write per picture, so that it never flickers half-drawn.
void LineBlock::Write(const std::string& above) {
  std::string text;
  if (drawn_ > 0) absl::StrAppend(&text, "\033[", drawn_, "A\r");
  absl::StrAppend(&text, above);
  for (const std::string& line : lines_) absl::StrAppend(&text, line, "\033[K\n");
  // Fewer lines than before: the rest of the old picture goes.
  if (drawn_ > static_cast<int>(lines_.size())) absl::StrAppend(&text, "\033[J");
  drawn_ = static_cast<int>(lines_.size());
  *out_ << text << std::flush;
}

}  // namespace sinkforge::client
