// The one table of legal moves between job states.
#pragma once

#include <array>
#include <cstdint>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server {

// A set of states, as bits.
using JobStates = uint32_t;

constexpr JobStates Bit(v1::JobState state) { return JobStates{1} << static_cast<int>(state); }

// Indexed by the state that is left. FAILED to QUEUED and PAUSED to QUEUED are the user's alone
// (Coordinator::Resume); QUEUED to FAILED is a deadline's alone. Every success goes through
// RUNNING, however short the job.
inline constexpr std::array<JobStates, v1::JobState_ARRAYSIZE> kJobMoves = {
    /* UNSPECIFIED */ Bit(v1::JOB_STATE_QUEUED),
    /* QUEUED */ Bit(v1::JOB_STATE_STARTING) | Bit(v1::JOB_STATE_PAUSED) |
        Bit(v1::JOB_STATE_FAILED) | Bit(v1::JOB_STATE_CANCELLED),
    /* STARTING */ Bit(v1::JOB_STATE_RUNNING) | Bit(v1::JOB_STATE_QUEUED) |
        Bit(v1::JOB_STATE_PAUSED) | Bit(v1::JOB_STATE_FAILED) | Bit(v1::JOB_STATE_CANCELLED),
    /* RUNNING */ Bit(v1::JOB_STATE_SUCCEEDED) | Bit(v1::JOB_STATE_QUEUED) |
        Bit(v1::JOB_STATE_PAUSED) | Bit(v1::JOB_STATE_FAILED) | Bit(v1::JOB_STATE_CANCELLED),
    /* PAUSED */ Bit(v1::JOB_STATE_QUEUED) | Bit(v1::JOB_STATE_CANCELLED),
    /* SUCCEEDED */ 0,
    /* FAILED */ Bit(v1::JOB_STATE_QUEUED),
    /* CANCELLED */ 0,
};

constexpr bool CanMove(v1::JobState from, v1::JobState to) {
  return (kJobMoves[static_cast<size_t>(from)] & Bit(to)) != 0;
}

constexpr bool IsFinal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

constexpr bool HasAttempt(v1::JobState state) {
  return state == v1::JOB_STATE_STARTING || state == v1::JOB_STATE_RUNNING;
}

static_assert(v1::JobState_ARRAYSIZE == 8, "a new state needs its row");
static_assert(CanMove(v1::JOB_STATE_QUEUED, v1::JOB_STATE_STARTING));
static_assert(!CanMove(v1::JOB_STATE_QUEUED, v1::JOB_STATE_RUNNING));
static_assert(!CanMove(v1::JOB_STATE_STARTING, v1::JOB_STATE_SUCCEEDED));
static_assert(!CanMove(v1::JOB_STATE_RUNNING, v1::JOB_STATE_STARTING));
static_assert(!CanMove(v1::JOB_STATE_PAUSED, v1::JOB_STATE_STARTING));
static_assert(CanMove(v1::JOB_STATE_FAILED, v1::JOB_STATE_QUEUED));
static_assert(kJobMoves[v1::JOB_STATE_SUCCEEDED] == 0 && kJobMoves[v1::JOB_STATE_CANCELLED] == 0,
              "success and cancellation are for ever");

}  // namespace sinkforge::server
