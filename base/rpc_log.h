// What gRPC itself has to say, in our programs' own way.
#pragma once

namespace sinkforge::base {

// Errors become lines of the log, as many as LogLimit lets through. For daemons.
void LogGrpcErrors();

// Nothing is printed: the status of a call says why it failed. For programs that speak to people.
void SilenceGrpc();

// While it lives, this thread's errors are not logged: the caller reports them itself.
class QuietGrpc {
 public:
  QuietGrpc();
  ~QuietGrpc();
  QuietGrpc(const QuietGrpc&) = delete;
  QuietGrpc& operator=(const QuietGrpc&) = delete;
};

}  // namespace sinkforge::base
