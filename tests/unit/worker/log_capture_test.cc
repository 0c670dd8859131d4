// A trainer's output, however odd, becomes valid and bounded log lines.
#include "worker/process/log_capture.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sinkforge::worker {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kOut = v1::LogLine::STREAM_STDOUT;
constexpr auto kErr = v1::LogLine::STREAM_STDERR;

base::Now At(milliseconds time) { return {time, std::chrono::system_clock::time_point(time)}; }

std::vector<std::string> Texts(const std::vector<v1::LogLine>& lines) {
  std::vector<std::string> texts;
  for (const v1::LogLine& line : lines) texts.push_back(line.text());
  return texts;
}

TEST(RepairUtf8Test, KeepsWhatIsValid) {
  const std::string text = "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80";
  EXPECT_EQ(RepairUtf8(text), text);
}

TEST(RepairUtf8Test, ReplacesWhatIsNot) {
  const std::string replacement = "\xef\xbf\xbd";
  EXPECT_EQ(RepairUtf8("a\xff"
                       "b"),
            "a" + replacement + "b");
  EXPECT_EQ(RepairUtf8("\xc0\x80"), replacement + replacement);                    // overlong
  EXPECT_EQ(RepairUtf8("\xed\xa0\x80"), replacement + replacement + replacement);  // surrogate
  EXPECT_EQ(RepairUtf8("\xf4\x90\x80\x80"),
            replacement + replacement + replacement + replacement);  // above U+10FFFF
  EXPECT_EQ(RepairUtf8("\xe2\x82"), replacement + replacement);      // cut short
  EXPECT_EQ(RepairUtf8(std::string("\0", 1)), replacement);
}

TEST(LogCaptureTest, JoinsPiecesOfLinesForEachStream) {
  LogCapture capture({"d4-1", 2, 3}, LogRate(), At(milliseconds(0)));
  EXPECT_TRUE(capture.Add(kOut, "half a ", At(milliseconds(1))).empty());
  EXPECT_THAT(Texts(capture.Add(kErr, "other\n", At(milliseconds(2)))), ElementsAre("other"));
  const auto lines = capture.Add(kOut, "line\r\n\nlast", At(milliseconds(3)));
  EXPECT_THAT(Texts(lines), ElementsAre("half a line", ""));
  EXPECT_EQ(lines[0].sequence(), 2);
  EXPECT_EQ(lines[0].attempt(), 2);
  EXPECT_EQ(lines[0].rank(), 3);
  EXPECT_EQ(lines[0].stream(), kOut);
  EXPECT_THAT(Texts(capture.Finish(At(milliseconds(4)))), ElementsAre("last"));
}

TEST(LogCaptureTest, CutsLongLinesBetweenCharacters) {
  LogCapture capture({"d4-1", 1, 0}, LogRate(), At(milliseconds(0)));
  std::string text;
  while (text.size() < 3 * kLogLineBytesMax) text += "\xe2\x82\xac";
  std::string joined;
  for (const std::string& piece : Texts(capture.Add(kOut, text + "\n", At(milliseconds(1))))) {
    EXPECT_LE(piece.size(), kLogLineBytesMax);
    EXPECT_EQ(RepairUtf8(piece), piece);
    joined += piece;
  }
  EXPECT_EQ(joined, text);
}

TEST(LogCaptureTest, BoundsGarbageToo) {
  LogCapture capture({"d4-1", 1, 0}, LogRate(), At(milliseconds(0)));
  const std::string garbage(3 * kLogLineBytesMax, '\x80');
  for (const std::string& piece : Texts(capture.Add(kOut, garbage, At(milliseconds(1))))) {
    EXPECT_LE(piece.size(), kLogLineBytesMax);
    EXPECT_EQ(RepairUtf8(piece), piece);
  }
}

TEST(LogCaptureTest, LeavesOutWhatIsTooFastAndSaysHowMuch) {
  const LogRate rate{.lines_per_second = 10, .bytes_per_second = 1e6, .burst_seconds = 1};
  LogCapture capture({"d4-1", 1, 0}, rate, At(milliseconds(0)));
  std::string flood;
  for (int i = 0; i < 100; ++i) flood += "line\n";
  EXPECT_EQ(capture.Add(kOut, flood, At(milliseconds(0))).size(), 10U);
  const auto later = Texts(capture.Add(kOut, "slow again\n", At(milliseconds(500))));
  ASSERT_EQ(later.size(), 2U);
  EXPECT_THAT(later[0], HasSubstr("90 lines left out"));
  EXPECT_EQ(later[1], "slow again");
}

TEST(LogCaptureTest, CountsTheLastOnesAtTheEnd) {
  const LogRate rate{.lines_per_second = 1, .bytes_per_second = 1e6, .burst_seconds = 1};
  LogCapture capture({"d4-1", 1, 0}, rate, At(milliseconds(0)));
  capture.Add(kErr, "a\nb\nc\n", At(milliseconds(0)));
  const auto last = Texts(capture.Finish(At(milliseconds(1))));
  ASSERT_EQ(last.size(), 1U);
  EXPECT_THAT(last[0], HasSubstr("2 lines left out"));
  EXPECT_THAT(capture.stderr_tail(), ElementsAre("a", "b", "c"));
}

TEST(LogCaptureTest, KeepsTheTailOfStderr) {
  LogCapture capture({"d4-1", 1, 0}, LogRate(), At(milliseconds(0)));
  for (int i = 0; i < 30; ++i) {
    capture.Add(kErr, std::to_string(i) + std::string(2000, '.') + "\n", At(milliseconds(i)));
  }
  const auto tail = capture.stderr_tail();
  ASSERT_EQ(tail.size(), 10U);
  EXPECT_THAT(tail.front(), testing::StartsWith("20."));
  EXPECT_EQ(tail.back().size(), 512U);
}

TEST(LogCaptureTest, TheTailOfAStructuredLogIsForPeople) {
  LogCapture capture({"d4-1", 1, 0}, LogRate(), At(milliseconds(0)));
  const std::string start = R"({"time":"2026-11-22T06:16:28.123Z","severity":")";
  const std::string whose = R"(","component":"trainer","message":")";
  capture.Add(kErr,
              start + "WARNING" + whose + R"(precision falls back","job":"d4-1"})" + "\n" + start +
                  "INFO" + whose + R"(progress","step":7})" + "\n" + start + "ERROR" + whose +
                  R"(the rank failed","rank":0,"error":"no \"room\"","code":3})" + "\n" +
                  "terminate called\n{not json\n",
              At(milliseconds(0)));
  EXPECT_THAT(capture.stderr_tail(),
              ElementsAre("WARNING precision falls back",
                          "ERROR the rank failed, error: no \"room\", code: 3", "terminate called",
                          "{not json"));
}

}  // namespace
}  // namespace sinkforge::worker
