// sinkforge health, the one command that asks workers as well.
#pragma once

#include "client/command.h"

namespace sinkforge::client {

Command HealthCommand();

}  // namespace sinkforge::client
