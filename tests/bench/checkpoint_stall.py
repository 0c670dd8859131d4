#!/usr/bin/env python3
"""What checkpoints cost a run at the default interval: the share of its time that steps waited.

The trainer runs alone with a checkpoint every 100 steps and reports with each step how long it
waited for checkpoints since the step before.

  tests/bench/checkpoint_stall.py
"""

import argparse
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness  # noqa: E402  (found by the line above)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=301)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    cluster = harness.Cluster()  # for its folder and text; no daemon is started
    try:
        job = cluster.write_job(
            name="stall", model__layers=options.layers, model__width=options.width,
            data__sequence_length=128, data__validation=[], train__steps=options.steps,
            train__batch_tokens=2048, train__micro_batch=16, checkpoint__every_steps=100,
            evaluation__every_steps=0, resources__threads=2)
        run = cluster.path("run")
        subprocess.run([os.path.join(harness.BIN, "sinkforge-trainer"), "--job", job, "--work-dir",
                        run, "--data-root", cluster.data], check=True, stderr=subprocess.DEVNULL)
        with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as lines:
            steps = [json.loads(line) for line in lines]
        stall = sum(step["checkpoint_stall_seconds"] for step in steps)
        train = sum(step["step_seconds"] for step in steps)
        print(f"width {options.width}, {options.layers} layers, {len(steps)} steps of "
              f"{train / len(steps) * 1e3:.1f} ms: steps waited {stall * 1e3:.2f} ms for "
              f"checkpoints, {stall / train * 100:.3f} % of the time")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
