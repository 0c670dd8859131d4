// Commits: a checkpoint of which every part is durable counts, once it is on two workers, or cannot
// be for now, or has waited long enough for that (server/adr/0005). Before, it is pending: it is
// copied, but exists for nobody else, and a restarted coordinator learns it again from the workers.
#pragma once

#include <string>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

// The worker reports a part of the last attempt that is not committed.
void TakePendingPart(Call* call, const PartKey& key, const v1::CheckpointPart& part);
// The worker has it no more.
void LosePendingPart(Call* call, const std::string& worker, const PartKey& key);

// The pending checkpoint as it would be committed, each part first where it can be read. Without
// parts where nothing of the step is pending.
v1::Checkpoint PendingCheckpoint(const State& state, const JobRecord& record, int64_t step);

// Time goes by: some have waited long enough.
void CheckCommits(Call* call);

// The coordinator stood still for so long.
void PostponeCommits(State* state, Monotonic duration);

// Commits every complete checkpoint that need not wait, or not any longer, where anything changed
// about it. After PlanCopies, which says what gets copies.
void SettleCommits(Call* call);

// The attempt is about to end: what is complete and can be read is committed with the copies that
// there are. What cannot stays pending until the next attempt starts: its holder may come back.
void CommitBeforeTheEnd(Call* call, JobRecord* record);

// Another attempt is about to start, so that what is still pending can never be committed.
void GiveUpPending(Call* call, JobRecord* record);

// Why the newest complete checkpoint is not committed yet, for people; empty where there is none.
std::string CommitWaitText(const State& state, const JobRecord& record, const base::Now& now);

}  // namespace sinkforge::server
