// Time as an argument: what the pure parts take as `now`, and the one place that reads the
// machine's clocks.
#pragma once

#include <chrono>

#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace sinkforge::base {

// Leases, back-offs and time-outs count on `monotonic`, which no clock change can move; what people
// read is `wall`.
struct Now {
  std::chrono::nanoseconds monotonic{0};
  std::chrono::system_clock::time_point wall;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Now Read() const = 0;
};

class RealClock final : public Clock {
 public:
  Now Read() const override;
};

google::protobuf::Timestamp ToProto(std::chrono::system_clock::time_point time);
std::chrono::system_clock::time_point FromProto(const google::protobuf::Timestamp& time);
google::protobuf::Duration ToProto(std::chrono::nanoseconds duration);
std::chrono::nanoseconds FromProto(const google::protobuf::Duration& duration);

}  // namespace sinkforge::base
