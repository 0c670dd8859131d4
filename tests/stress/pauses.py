#!/usr/bin/env python3
"""Pauses a job of three ranks on three workers at random moments, again and again.

After each pause every rank has stopped at the same step, with its part of the checkpoint of that
step, and no trainer is left. At the end the curve is that of the undisturbed job, bit for bit.

  tests/stress/pauses.py --pauses 100
"""

import argparse
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness  # noqa: E402  (found by the line above)

SERIES = "loss,aux_loss,imbalance,importance"
WORKERS = ("a", "b", "c")


def submit(cluster, name, steps):
    return cluster.submit(name=name, train__steps=steps, train__batch_tokens=1536,
                          train__micro_batch=6, checkpoint__every_steps=50,
                          resources__ranks=len(WORKERS))


def pause(cluster, job_id):
    """The step that all ranks stopped at; None where the job was done before."""
    if cluster.client("pause", job_id).code != 0:
        return None
    state = harness.wait_until(
        lambda: cluster.job(job_id)["state"] in ("JOB_STATE_PAUSED", "JOB_STATE_SUCCEEDED",
                                                 "JOB_STATE_FAILED") and cluster.job(job_id),
        "the job is paused")
    assert state["state"] != "JOB_STATE_FAILED", state["message"]
    if state["state"] == "JOB_STATE_SUCCEEDED":
        return None
    harness.wait_until(lambda: not any(cluster.trainers(name) for name in WORKERS),
                       "no trainer is left")
    checkpoints = state.get("checkpoints", [])
    if not checkpoints:
        return 0  # paused before it had begun
    assert len(checkpoints[-1]["parts"]) == len(WORKERS), checkpoints[-1]
    return int(checkpoints[-1]["step"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pauses", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    cluster = harness.Cluster()
    try:
        cluster.start_coordinator()
        for name in WORKERS:
            cluster.start_worker(name)
        done, round_number = [], 0
        while len(done) < options.pauses:
            round_number += 1
            steps = 200 + 20 * min(20, options.pauses - len(done))
            job_id = submit(cluster, f"paused{round_number}", steps)
            for _ in range(min(20, options.pauses - len(done))):
                time.sleep(chance.uniform(0, 1))
                step = pause(cluster, job_id)
                if step is None:
                    break
                done.append(step)
                cluster.ok("resume", job_id)
            cluster.await_state(job_id, "SUCCEEDED")
            quiet = submit(cluster, f"quiet{round_number}", steps)
            cluster.await_state(quiet, "SUCCEEDED")
            assert cluster.history(job_id, SERIES) == cluster.history(quiet, SERIES), \
                f"{job_id} has not the curve of {quiet}"
        print(f"{len(done)} pauses of {len(WORKERS)} ranks in {round_number} jobs: every rank "
              "stopped at the same step, and the curves are the undisturbed ones", flush=True)
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
