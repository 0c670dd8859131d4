// Signals of a daemon: block SIGTERM and SIGINT before any thread starts, then wait for one in
// main.
#pragma once

namespace sinkforge::base {

// Also ignores SIGPIPE. First thing in main.
void BlockTerminationSignals();
// Returns the signal's number.
int WaitForTermination();

}  // namespace sinkforge::base
