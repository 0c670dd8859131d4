// Tells the service manager that started this process how it is (systemd's Type=notify).
#pragma once

#include <string>

namespace sinkforge::base {

// `state`: "READY=1" once the daemon serves, "STOPPING=1" when it begins to stop. Sends one
// datagram to $NOTIFY_SOCKET; does nothing without that variable, because nobody asked. Where it
// cannot be sent, that is logged and nothing else: a daemon that serves goes on serving.
void NotifyServiceManager(const std::string& state);

}  // namespace sinkforge::base
