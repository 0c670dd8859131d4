// Adoption: what workers hold of attempts that are later than the job's own. No attempt runs before
// it is stored, so that this is only so where the coordinator's folder was restored from a backup,
// and the job went on after that. The newest checkpoint is then on the workers, and unknown here.
#pragma once

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// The worker has reported. Numbers of jobs and attempts that it knows are not given again. Where it
// has parts of a later attempt of a job, that job's attempt is over, and it starts no other for one
// lease, in which the other workers report theirs.
void NoteLaterAttempts(Call* call, const WorkerRecord& worker);

// Where that time is over: commits what is whole of later attempts and of later steps than the
// newest checkpoint, from the earliest attempt to the latest. The job goes on from the last.
void AdoptLaterAttempts(Call* call);

}  // namespace sinkforge::server
