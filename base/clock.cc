// The one place that reads the machine's clocks, and conversions to protobuf time.
#include "base/clock.h"

namespace sinkforge::base {
namespace {
constexpr int64_t kNanosPerSecond = 1'000'000'000;

// Splits so that the nanosecond part is never negative, as protobuf's Timestamp asks.
void Split(int64_t nanos, int64_t* seconds, int32_t* rest) {
  *seconds = nanos / kNanosPerSecond;
  int64_t remainder = nanos % kNanosPerSecond;
  if (remainder < 0) {
    remainder += kNanosPerSecond;
    --*seconds;
  }
  *rest = static_cast<int32_t>(remainder);
}
}  // namespace

Now RealClock::Read() const {
  return Now{std::chrono::duration_cast<std::chrono::nanoseconds>(
                 std::chrono::steady_clock::now().time_since_epoch()),
             std::chrono::system_clock::now()};
}

google::protobuf::Timestamp ToProto(std::chrono::system_clock::time_point time) {
  int64_t seconds = 0;
  int32_t nanos = 0;
  Split(std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count(),
        &seconds, &nanos);
  google::protobuf::Timestamp result;
  result.set_seconds(seconds);
  result.set_nanos(nanos);
  return result;
}

std::chrono::system_clock::time_point FromProto(const google::protobuf::Timestamp& time) {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos())));
}

google::protobuf::Duration ToProto(std::chrono::nanoseconds duration) {
  google::protobuf::Duration result;
  // A Duration's two parts have the same sign, which is what C++'s division gives.
  result.set_seconds(duration.count() / kNanosPerSecond);
  result.set_nanos(static_cast<int32_t>(duration.count() % kNanosPerSecond));
  return result;
}

std::chrono::nanoseconds FromProto(const google::protobuf::Duration& duration) {
  return std::chrono::seconds(duration.seconds()) + std::chrono::nanoseconds(duration.nanos());
}

}  // namespace sinkforge::base
