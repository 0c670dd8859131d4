#!/usr/bin/env python3
"""How soon one sees something: from `sinkforge submit` to the first step of the quickstart's model
on an idle worker, and how far `sinkforge watch` is behind the step that it shows.

Both are of the wall clock of one machine. A step's own time is the trainer's, when it has ended the
step; it is seen when the line of `watch -o json` with it can be read.

  tests/bench/latency.py
"""

import argparse
import json
import os
import statistics
import sys
import time
from datetime import datetime

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness  # noqa: E402  (found by the line above)

JOB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "jobs",
                   "quickstart.yaml")


def seconds_of(timestamp):
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def one_run(cluster, steps):
    """Seconds from submit's start to the first step's end and to its line; and every line's lag."""
    began = time.time()
    job = cluster.ok("submit", JOB, "--set", f"train.steps={steps}").out.strip()
    watch = cluster.start_client("watch", job, "-o", "json", "--after-step", "0")
    seen = {}
    for line in watch.stdout:
        now = time.time()
        for step in json.loads(line).get("steps", []):
            seen[int(step["step"])] = (now, seconds_of(step["time"]))
    if watch.wait(timeout=60) != 0 or sorted(seen) != list(range(1, steps + 1)):
        raise AssertionError(f"{job}: watch ended with {watch.returncode}, {len(seen)} steps seen: "
                             f"{watch.stderr.read()}")
    return (seen[1][1] - began, seen[1][0] - began,
            [arrived - ended for arrived, ended in seen.values()])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    cluster = harness.Cluster()
    try:
        os.mkdir(os.path.join(cluster.data, "kjv"))
        harness.make_text(os.path.join(cluster.data, "kjv", "train.txt"), 4_000_000)
        harness.make_text(os.path.join(cluster.data, "kjv", "validation.txt"), 20_000, seed=8)
        cluster.start_coordinator()
        cluster.start_worker()
        ended, arrived, lags = [], [], []
        for _ in range(options.runs):
            run = one_run(cluster, options.steps)
            ended.append(run[0])
            arrived.append(run[1])
            lags += run[2]
        for what, values in (("submit to the first step's end", ended),
                             ("submit to its line in watch", arrived),
                             ("a step's end to its line", lags)):
            print(f"{what}: median {statistics.median(values):.2f} s, "
                  f"{min(values):.2f} to {max(values):.2f} s of {len(values)}")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
