// Lines by cursor movements that every terminal of today knows.
#include "client/line_block.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/format.h"

namespace sinkforge::client {
namespace {

// Columns of a line; colours ("\033[1m") take none.
int ColumnsOf(const std::string& line) {
  std::string plain;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\033') {
      plain += line[i];
      continue;
    }
    i = std::min(line.find('m', i), line.size());
  }
  return DisplayWidth(plain);
}

}  // namespace

void LineBlock::Draw(std::vector<std::string> lines) {
  lines_ = std::move(lines);
  Write("");
}

void LineBlock::Say(const std::string& line) { Write(absl::StrCat(line, "\033[K\n")); }

void LineBlock::Finish() {
  lines_.clear();
  drawn_.clear();
}

int LineBlock::RowsOnScreen() const {
  const int width = std::max(1, screen_size_().width);
  int rows = 0;
  for (const int columns : drawn_) rows += std::max(1, (columns + width - 1) / width);
  return rows;
}

// One write per picture, so that it never flickers half-drawn.
void LineBlock::Write(const std::string& above) {
  std::string text;
  const int rows = RowsOnScreen();
  if (rows > 0) absl::StrAppend(&text, "\033[", rows, "A\r");
  absl::StrAppend(&text, above);
  for (const std::string& line : lines_) absl::StrAppend(&text, line, "\033[K\n");
  // Fewer lines than before: the rest of the old picture goes.
  if (rows > static_cast<int>(lines_.size())) absl::StrAppend(&text, "\033[J");
  drawn_.clear();
  for (const std::string& line : lines_) drawn_.push_back(ColumnsOf(line));
  *out_ << text << std::flush;
}

}  // namespace sinkforge::client
