#!/usr/bin/env python3
"""What checkpoints cost a run at the default interval: the share of its time that steps waited.

A job of the quickstart's size runs with a checkpoint every 100 steps; two workers, so that each
checkpoint is copied as well. The numbers are the job's own ledger, as `sinkforge show` prints it.

  tests/bench/checkpoint_stall.py
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness  # noqa: E402  (found by the line above)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=301)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    cluster = harness.Cluster()
    try:
        cluster.start_coordinator()
        cluster.start_worker("a")
        cluster.start_worker("b")
        job_id = cluster.submit(
            name="stall", model__layers=options.layers, model__width=options.width,
            data__sequence_length=128, data__validation=[], train__steps=options.steps,
            train__batch_tokens=2048, train__micro_batch=16, checkpoint__every_steps=100,
            evaluation__every_steps=0, resources__threads=2)
        job = cluster.await_state(job_id, "SUCCEEDED")
        time = job["time"]
        stall, train = time.get("checkpointStall", 0.0), time["train"]
        print(f"{job['parameters']} parameters, {options.steps} steps, {train:.1f} s of training: "
              f"steps waited {stall * 1e3:.1f} ms for checkpoints, {stall / train * 100:.3f} %")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
