// Copies: every part of a complete checkpoint shall be on two workers, or on all where there are
// fewer. The coordinator names what to fetch in the desired states; a copy counts when its worker
// reports it. A worker that finds a part corrupt drops it, so that a repair is the same thing: the
// copy counts in its place, and the part is fetched anew.
#pragma once

#include <string>
#include <vector>

#include "server/state/call.h"
#include "server/state/model.h"

namespace sinkforge::server {

inline constexpr int kCheckpointHolders = 2;

// Some part of the checkpoint is on one worker only.
bool IsThin(const v1::Checkpoint& checkpoint);

// The worker is there, and what it holds can be read.
bool IsServing(const State& state, const std::string& worker);
// And it is not being stopped.
bool Stays(const State& state, const std::string& worker);
// It is not there, but the coordinator has just been started, and it may come back.
bool IsExpected(const State& state, const std::string& worker);
// The last moment at which a worker that is there has reported.
Monotonic LatelyOf(const Call& call);
// The worker is there: it has been heard of since then. One that was killed has its lease for some
// time.
bool IsHeard(const WorkerRecord& worker, Monotonic since);
// Every part is on some worker that serves.
bool IsReadable(const State& state, const v1::Checkpoint& checkpoint);
// Some worker is to fetch a part that is on one worker only.
bool IsBeingCopied(const State& state, const v1::Checkpoint& checkpoint);
// A worker that alone has a part has said goodbye.
bool HasHolderThatLeft(const State& state, const v1::Checkpoint& checkpoint);
// Workers that have the part of a checkpoint, committed or to be committed.
std::vector<std::string> HoldersOfPart(const State& state, const PartKey& key);

// The job has a checkpoint whose copies are to be looked at.
void NoteThin(Call* call, const JobRecord& record);
// The same for every checkpoint of which the worker holds a part: it came, went or drains.
void NoteThinOf(Call* call, const std::string& worker);

// The worker may be gone, which is to copy: another one is looked for.
void NoteCopier(Call* call, const WorkerRecord& worker);
// The room on the worker's disk may have become too small for what it is to copy, or enough for
// what it could not.
void NoteDisk(Call* call, WorkerRecord* worker);

// The worker reports a part of a committed checkpoint that is not known to be there: it counts as a
// copy from now on.
void TakeCopy(Call* call, const std::string& worker, const PartKey& key,
              const v1::CheckpointPart& part);

// The worker came or went. Of all that it holds, what is first to be read on a worker that is away
// or about to leave is read first where it stays, so that no job waits for a holder that it does
// not need.
void PreferHoldersThatStay(Call* call, const std::string& worker);

// The worker has fetched the part, if it was to.
void EndCopy(State* state, WorkerRecord* worker, const PartKey& key);
// The worker need not fetch what is deleted by now, nor anything when it takes no work any more.
void ForgetCopies(State* state, WorkerRecord* worker);

// Hands out what is to be fetched, where anything changed since the last time.
void PlanCopies(Call* call);

}  // namespace sinkforge::server
