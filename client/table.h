// Table: rows of text in aligned columns.
#pragma once

#include <string>
#include <vector>

namespace sinkforge::client {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // As many cells as columns. Control characters become spaces.
  void AddRow(std::vector<std::string> cells);
  size_t row_count() const { return rows_.size(); }
  // The last column is cut so that no line is wider than `width`; 0: never.
  std::string Render(int width) const;
  // RFC 4180, with the titles as first line but where the rows go on from an earlier table.
  enum class CsvTitles { kShown, kLeftOut };
  std::string RenderCsv(CsvTitles titles) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace sinkforge::client
