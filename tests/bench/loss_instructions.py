#!/usr/bin/env python3
"""What the head-balance loss (Eq. 7 and Eq. 8) adds to a training step, and what the gate with its
importance and their gradient add to an attention of 1024 tokens, in executed instructions. Longer
contexts have less of the latter: the gate is linear in them and the attention is not.

A share below a percent is lost in the noise of a clock, and less in instructions. Callgrind runs 1
and 2 steps, with importance and loss and with an attention that computes neither
(kernels/cpu/attention_baseline.h); the difference of the two runs is a step without the start. One
thread, since waiting threads spin. Callgrind knows no AVX-512, so that the AVX2 level is counted,
and computes fused products one by one: a step takes more than a minute. The loss's coefficient is
1e-30, so that both sides keep the same weights: an attention row whose maximum grows takes more
instructions, and other weights have other such rows.

Exit status 1 where a loss adds more than 0.5 %, or a gate more than 1 %. More than an hour; build
targets: train_speed attention_speed.
"""

import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOSS_LIMIT = 0.005
GATE_LIMIT = 0.01
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
    return instructions(binary, row, 2) - instructions(binary, row, 1)


def measure_losses(build, attentions):
    """Prints a table; whether a loss is above its limit."""
    binary = build / "bin" / "train_speed"
    print("| attention | loss | instructions of a step without | with | added |")
    print("|---|---|---|---|---|")
    above = False
    for attention in attentions:
        row = ROW | {"attention": attention}
        without = of_one_step(binary, row | {"importance": "no"})
        for name, shared in (("Eq. 7", 0), ("Eq. 8, one shared head", 1)):
            with_loss = of_one_step(binary, row | {"loss": "cv", "shared": shared,
                                                   "coefficient": "1e-30"})
            added = with_loss / without - 1
            above = above or added > LOSS_LIMIT
            print(f"| {attention} | {name} | {without:.0f} | {with_loss:.0f} "
                  f"| {100 * added:.3f} % |", flush=True)
    return above


def measure_gates(build, attentions):
    """Prints a table; whether a gate is above its limit."""
    binary = build / "bin" / "attention_speed"
    print("\n| attention | instructions of an attention without gate | with | added |")
    print("|---|---|---|---|")
    above = False
    for attention in attentions:
        row = {"tokens": 1024, "heads": 1, "head_dim": 128, "threads": 1, "attention": attention}
        without = of_one_step(binary, row | {"importance": "no"})
        with_gate = of_one_step(binary, row)
        added = with_gate / without - 1
        above = above or added > GATE_LIMIT
        print(f"| {attention} | {without:.0f} | {with_gate:.0f} | {100 * added:.3f} % |",
              flush=True)
    return above


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attention", nargs="*", default=["gated", "sink", "vanilla"])
    parser.add_argument("--only", choices=["loss", "gate"])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    arguments = parser.parse_args()
    above = False
    if arguments.only != "gate":
        above = measure_losses(arguments.build, arguments.attention)
    if arguments.only != "loss":
        above = measure_gates(arguments.build, arguments.attention) or above
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
