// Formatting: numbers, times, names, tables.
#include "client/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "client/style.h"
#include "client/table.h"

namespace sinkforge::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(FormatTest, DurationsChangeUnitWhereTheyWouldRoundOver) {
  EXPECT_EQ(FormatDuration(milliseconds(0)), "0.0 s");
  EXPECT_EQ(FormatDuration(milliseconds(9940)), "9.9 s");
  EXPECT_EQ(FormatDuration(milliseconds(9960)), "10 s");
  EXPECT_EQ(FormatDuration(milliseconds(59'600)), "1m00s");
  EXPECT_EQ(FormatDuration(seconds(3599)), "59m59s");
  EXPECT_EQ(FormatDuration(seconds(3600)), "1h00m");
  EXPECT_EQ(FormatDuration(seconds(86'400 * 3 + 3600 * 4)), "3d04h");
  EXPECT_EQ(FormatDuration(seconds(-1)), "-");
}

TEST(FormatTest, BytesNeverShow1024OfAUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(1024 * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(int64_t{5} << 40), "5.0 TiB");
}

TEST(FormatTest, CountsKeepThreeDigits) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1310), "1.31k");
  EXPECT_EQ(FormatCount(51'234), "51.2k");
  EXPECT_EQ(FormatCount(999'900), "1.00M");
  EXPECT_EQ(FormatCount(2.1e9), "2.10B");
  EXPECT_EQ(FormatCount(std::numeric_limits<double>::infinity()), "inf");
}

TEST(FormatTest, NumbersKeepWhatMatters) {
  EXPECT_EQ(FormatNumber(2.43124), "2.4312");
  EXPECT_EQ(FormatNumber(0.000012), "1.2e-05");
  EXPECT_EQ(FormatNumber(12345.67), "12345.7");
  EXPECT_EQ(FormatNumber(0), "0");
  EXPECT_EQ(FormatNumber(std::nan("")), "nan");
  EXPECT_EQ(FormatNumber(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(std::stod(FormatExact(0.1)), 0.1);
}

TEST(FormatTest, TimesAreUniversal) {
  google::protobuf::Timestamp time;
  EXPECT_EQ(FormatTime(time), "-");
  time.set_seconds(1'700'000'000);
  EXPECT_EQ(FormatTime(time), "2023-11-14 22:13:20Z");
}

TEST(FormatTest, NamesOfEnumsAreWords) {
  EXPECT_EQ(StateName(v1::JOB_STATE_RUNNING), "running");
  EXPECT_EQ(ReasonName(v1::REASON_NOT_ENOUGH_SLOTS_EXIST), "not enough slots exist");
  EXPECT_EQ(EventKindName(v1::EVENT_KIND_CHECKPOINT_COMMITTED), "checkpoint committed");
  // A value that a newer coordinator may send.
  EXPECT_EQ(StateName(static_cast<v1::JobState>(99)), "unknown (99)");
}

TEST(FormatTest, TextFromElsewhereCannotSteerTheTerminal) {
  EXPECT_EQ(OneLine("a\033[2Jb\nc\rd"), "a [2Jb c d");
  EXPECT_EQ(OneLine("größe"), "größe");
}

TEST(FormatTest, ShortenCutsAtCodePoints) {
  EXPECT_EQ(Shorten("größer", 6), "größer");
  EXPECT_EQ(Shorten("größer", 5), "größ…");
  EXPECT_EQ(Shorten("größer", 3), "gr…");
  EXPECT_EQ(Shorten("abc", 1), "…");
  EXPECT_EQ(Shorten("abc", 0), "");
}

TEST(TableTest, AlignsColumnsAndTrimsLineEnds) {
  Table table({{"JOB"}, {"STEP", Table::Align::kRight}, {"WHY"}});
  table.AddRow({"größe-1", "7", ""});
  table.AddRow({"a", "1200", "waits"});
  EXPECT_EQ(table.Render(0),
            "JOB      STEP  WHY\n"
            "größe-1     7\n"
            "a        1200  waits\n");
}

TEST(TableTest, OnlyTheLastColumnIsCut) {
  Table table({{"JOB"}, {"WHY"}});
  table.AddRow({"d4-gated-1", "needs 4 slots, the workers have 2"});
  EXPECT_EQ(table.Render(30),
            "JOB         WHY\n"
            "d4-gated-1  needs 4 slots, th…\n");
}

TEST(TableTest, CellsCannotBreakTheirLine) {
  Table table({{"A"}, {"B"}});
  table.AddRow({"x\ny", "z\033[0m"});
  EXPECT_EQ(table.Render(0), "A    B\nx y  z [0m\n");
}

TEST(TableTest, CsvQuotesWhatItMust) {
  Table table({{"step"}, {"note"}});
  table.AddRow({"1", "a,\"b\""});
  EXPECT_EQ(table.RenderCsv(Table::CsvTitles::kShown), "step,note\n1,\"a,\"\"b\"\"\"\n");
  EXPECT_EQ(table.RenderCsv(Table::CsvTitles::kLeftOut), "1,\"a,\"\"b\"\"\"\n");
}

TEST(StyleTest, NoColourWithoutTerminalOrWithNoColorOrOnADumbOne) {
  EXPECT_EQ(ChooseColour(true, "", "xterm"), Style::Colour::kOn);
  EXPECT_EQ(ChooseColour(false, "", "xterm"), Style::Colour::kOff);
  EXPECT_EQ(ChooseColour(true, "1", "xterm"), Style::Colour::kOff);
  EXPECT_EQ(ChooseColour(true, "", "dumb"), Style::Colour::kOff);
}

}  // namespace
}  // namespace sinkforge::client
