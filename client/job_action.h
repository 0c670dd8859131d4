// JobActionCommand: what cancel, pause, resume and delete have in common.
#pragma once

#include <functional>
#include <string>

#include "client/command.h"
#include "client/session.h"

namespace sinkforge::client {

// The command takes job ids and does `act` to each; it goes on after an error, prints each, and
// returns the first one's exit code.
Command JobActionCommand(
    const std::string& name, const std::string& summary, const std::string& examples,
    std::function<absl::Status(Session& session, const std::string& job_id)> act);

// Prints the job that an action returned: its id and state, or JSON.
void PrintActedJob(const Session& session, const v1::Job& job);

}  // namespace sinkforge::client
