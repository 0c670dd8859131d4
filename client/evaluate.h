// sinkforge evaluate, which runs the trainer on a model and held-out text.
#pragma once

#include "client/command.h"

namespace sinkforge::client {

Command EvaluateCommand();

}  // namespace sinkforge::client
