// What a rank's report means: the fault it names, and what of it becomes progress and events.
#pragma once

#include <string>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// Of an ENDED rank; UNSPECIFIED where it ended as asked. A reason that no rank can end with counts
// as a crash. A kill that nobody asked for is the worker's shutdown while it drains, else a crash.
v1::Reason FaultOf(const v1::RankStatus& status, bool worker_drains);
// Names the rank and its worker.
std::string FaultText(const v1::RankStatus& status, const std::string& worker);

// The same of a rank that its worker holds up.
std::string HeldText(const v1::RankStatus& status, const std::string& worker);

// Progress (rank 0), warnings and the restored step, each event once an attempt.
void NoteReport(Call* call, JobRecord* record, const v1::RankStatus& status);

}  // namespace sinkforge::server
