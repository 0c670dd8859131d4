// Table rendering.
#include "client/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "client/format.h"

namespace sinkforge::client {
namespace {

constexpr int kGap = 2;            // columns of space between cells
constexpr int kLastWidthMin = 10;  // a last column narrower than this would say nothing

std::string CsvCell(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (char c : cell) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace

void Table::AddRow(std::vector<std::string> cells) {
  SINKFORGE_REQUIRE(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = OneLine(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::Render(int width) const {
  std::vector<int> widths;
  for (size_t c = 0; c < columns_.size(); ++c) {
    int widest = DisplayWidth(columns_[c].title);
    for (const auto& row : rows_) widest = std::max(widest, DisplayWidth(row[c]));
    widths.push_back(widest);
  }
  int before_last = 0;
  for (size_t c = 0; c + 1 < widths.size(); ++c) before_last += widths[c] + kGap;
  if (width > 0) {
    widths.back() = std::min(widths.back(), std::max(kLastWidthMin, width - before_last));
  }
  std::string out;
  auto add_line = [&](auto cell_of) {
    std::string line;
    for (size_t c = 0; c < columns_.size(); ++c) {
      const std::string cell = Shorten(cell_of(c), widths[c]);
      const std::string padding(static_cast<size_t>(widths[c] - DisplayWidth(cell)), ' ');
      if (c > 0) line.append(kGap, ' ');
      absl::StrAppend(&line, columns_[c].align == Align::kRight ? padding + cell : cell + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  };
  add_line([&](size_t c) { return columns_[c].title; });
  for (const auto& row : rows_) add_line([&](size_t c) { return row[c]; });
  return out;
}

std::string Table::RenderCsv(CsvTitles titles) const {
  std::string out;
  if (titles == CsvTitles::kShown) {
    for (size_t c = 0; c < columns_.size(); ++c) {
      absl::StrAppend(&out, c == 0 ? "" : ",", CsvCell(columns_[c].title));
    }
    out += "\n";
  }
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c)
      absl::StrAppend(&out, c == 0 ? "" : ",", CsvCell(row[c]));
    out += "\n";
  }
  return out;
}

}  // namespace sinkforge::client
