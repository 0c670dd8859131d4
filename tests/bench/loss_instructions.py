#!/usr/bin/env python3
"""What the head-balance loss (Eq. 7 and Eq. 8) adds to a training step, in executed instructions.

A share below a percent is lost in the noise of a clock; instructions are exact. Callgrind runs the
trainer for 2 and for 4 steps, with importance and loss and with an attention that computes neither
(kernels/cpu/attention_baseline.h); the difference of the two runs is 2 steps without the start. One
thread, since waiting threads spin. Callgrind knows no AVX-512, so that the AVX2 level is counted.

Exit status 1 where a loss adds more than 0.5 %. About two minutes; build target: train_speed.
"""

import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 0.005
# The quickstart's model (deploy/jobs/quickstart.yaml), one row of its batch.
ROW = {"layers": 4, "width": 128, "heads": 8, "vocabulary": 256, "context": 256, "rows": 1,
       "optimizer": "muon", "threads": 1}


def instructions(binary, row, steps):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(binary)]
    command += [f"{key}={value}" for key, value in row.items()]
    run = subprocess.run(command, input="step\n" * steps, capture_output=True, text=True,
                         check=False)
    collected = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode != 0 or not collected:
        sys.exit(f"loss_instructions.py: {' '.join(command)} failed:\n{run.stderr}")
    return int(collected.group(1))


def of_one_step(binary, row):
    return (instructions(binary, row, 4) - instructions(binary, row, 2)) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attention", nargs="*", default=["gated", "sink", "vanilla"])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    arguments = parser.parse_args()
    binary = arguments.build / "bin" / "train_speed"
    print("| attention | loss | instructions of a step without | with | added |")
    print("|---|---|---|---|---|")
    above = False
    for attention in arguments.attention:
        row = ROW | {"attention": attention}
        without = of_one_step(binary, row | {"importance": "no"})
        for name, shared in (("Eq. 7", 0), ("Eq. 8, one shared head", 1)):
            with_loss = of_one_step(binary, row | {"loss": "cv", "shared": shared})
            added = with_loss / without - 1
            above = above or added > LIMIT
            print(f"| {attention} | {name} | {without:.0f} | {with_loss:.0f} "
                  f"| {100 * added:.3f} % |",
                  flush=True)
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
