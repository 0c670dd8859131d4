#!/usr/bin/env python3
"""How long a job stands still after `kill -9`, on this machine with a small model.

A trainer is killed N times: the time from the kill to the first step of the next attempt. A worker
is killed N times while a spare is at hand: the time from the coordinator's verdict, at the end of
the lease, to that step, and the whole time from the kill. Every time is the difference of two clock
readings of this machine, the second taken by the coordinator as it hears of the step.

  tests/bench/recovery.py --kills 50
"""

import argparse
import datetime
import os
import signal
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness  # noqa: E402  (found by the line above)

FOREVER = 1_000_000  # steps that no run of this script reaches


def seconds(text):
    """A protobuf timestamp as JSON, in seconds of the epoch."""
    head, _, fraction = text.rstrip("Z").partition(".")
    whole = datetime.datetime.fromisoformat(head + "+00:00").timestamp()
    return whole + (float("0." + fraction) if fraction else 0.0)


def newest_step(job):
    return max((int(one["step"]) for one in job.get("checkpoints", [])), default=0)


class Recovery:
    """One job, and what disturbs it."""

    def __init__(self):
        self.cluster = harness.Cluster()

    def start_job(self, name):
        self.job_id = self.cluster.submit(
            name=name, train__steps=FOREVER, train__batch_tokens=512, checkpoint__every_steps=100,
            evaluation__every_steps=0, data__validation=[])

    def ready(self, copies=0):
        """The job trains past a checkpoint of its present attempt that is held often enough."""
        def trains():
            job = self.cluster.job(self.job_id)
            good = [one for one in job.get("checkpoints", [])
                    if len(one.get("copies", [])) >= copies and not one.get("deleting")
                    and one["attempt"] == job["attempt"]]
            past = int(job.get("progress", {}).get("step", 0)) > newest_step(job) > 0
            return job["state"] == "JOB_STATE_RUNNING" and good and past and job
        return harness.wait_until(trains, "the job trains")

    def first_step(self, attempt):
        """When the coordinator heard of the first step of the attempt, or of one soon after it."""
        def trained():
            job = self.cluster.job(self.job_id)
            updated = job.get("progress", {}).get("update_time")
            if int(job["attempt"]) < attempt or job["state"] != "JOB_STATE_RUNNING" or not updated:
                return None
            # Reports of the attempt before came before this one ran.
            return seconds(updated) > seconds(job["state_time"]) and seconds(updated)
        return harness.wait_until(trained, f"attempt {attempt} trains")

    def verdict(self, attempt):
        """When the coordinator gave the attempt up."""
        ends = [seconds(event["time"]) for event in self.cluster.events(self.job_id)
                if event["kind"] == "EVENT_KIND_ATTEMPT_ENDED"
                and int(event.get("attempt", 0)) == attempt]
        return ends[0]


def report(what, times):
    print(f"{what}: median {statistics.median(times):.2f} s, worst {max(times):.2f} s "
          f"over {len(times)} kills", flush=True)


def kill_trainers(kills):
    run = Recovery()
    try:
        run.cluster.start_coordinator()
        run.cluster.start_worker()
        run.start_job("trainer-kill")
        times = []
        for _ in range(kills):
            attempt = int(run.ready()["attempt"])
            (trainer,) = run.cluster.trainers()
            killed = time.time()
            os.kill(trainer, signal.SIGKILL)
            times.append(run.first_step(attempt + 1) - killed)
        report("a trainer, kill to first step", times)
    finally:
        run.cluster.close()


def kill_workers(kills):
    run = Recovery()
    try:
        run.cluster.start_coordinator()
        for name in ("a", "b"):
            run.cluster.start_worker(name)
        run.start_job("worker-kill")
        after_lease, whole = [], []
        for _ in range(kills):
            job = run.ready(copies=1)
            attempt = int(job["attempt"])
            name = job["placement"][0]["worker"]
            killed = time.time()
            run.cluster.workers[name].kill()
            first = run.first_step(attempt + 1)
            whole.append(first - killed)
            after_lease.append(first - run.verdict(attempt))
            run.cluster.restart_worker(name)
        report("a worker with a spare, end of the lease to first step", after_lease)
        report("a worker with a spare, kill to first step", whole)
    finally:
        run.cluster.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of each kind")
    options = parser.parse_args()
    kill_trainers(options.kills)
    kill_workers(options.kills)


if __name__ == "__main__":
    main()
