#!/usr/bin/env python3
"""How fast the CPU trains one job with micro-batches of different sizes, and with how much memory.

The same step is divided into micro-batches of 1, 2, 4 ... rows. The sizes take turns, each in a
process of its own; the median step of each turn counts, without its first steps, as a ratio to that
of the whole step in one micro-batch in the same round. Prints the medians of the rounds.

  tests/bench/micro_batch_speed.py --rounds 3
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TRAINER = os.path.join(os.environ.get("SINKFORGE_BUILD_DIR", os.path.join(ROOT, "build/release")),
                       "bin/sinkforge-trainer")
WARMUP_STEPS = 2


def run(folder, rows, options):
    """(seconds of the median step, peak resident MiB)"""
    work = os.path.join(folder, "work")
    shutil.rmtree(work, ignore_errors=True)
    job = {
        "name": "speed", "model": {"preset": options.preset, "attention": "gated"},
        "head_balance": {"loss": "cv"},
        "data": {"train": ["train.txt"], "sequence_length": options.sequence},
        "train": {"steps": options.steps, "micro_batch": rows,
                  "batch_tokens": options.rows * options.sequence},
        "checkpoint": {"every_steps": 0}, "resources": {"threads": options.threads},
    }
    path = os.path.join(folder, "job.yaml")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(job, file)  # JSON is YAML
    process = subprocess.Popen([TRAINER, "train", "--job", path, "--work-dir", work],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{TRAINER} failed with micro-batches of {rows} rows:\n{error}")
    with open(os.path.join(work, "metrics.jsonl"), encoding="utf-8") as file:
        seconds = [json.loads(line)["step_seconds"] for line in file][WARMUP_STEPS:]
    return statistics.median(seconds), usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="of each turn")
    parser.add_argument("--preset", default="d4")
    parser.add_argument("--sequence", type=int, default=256)
    parser.add_argument("--rows", type=int, default=32, help="of a step, a power of two")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    sizes = [2 ** power for power in range(options.rows.bit_length())]
    rates, ratios, peaks = ({rows: [] for rows in sizes} for _ in range(3))
    folder = tempfile.mkdtemp(prefix="micro-batch-")
    try:
        with open(os.path.join(folder, "train.txt"), "w", encoding="utf-8") as file:
            file.write("A sink is a gate, and heads are experts. " * 30_000)
        for _ in range(options.rounds):
            seconds = {}
            for rows in sizes:
                seconds[rows], peak = run(folder, rows, options)
                peaks[rows].append(peak)
            for rows in sizes:
                rates[rows].append(options.rows * options.sequence / seconds[rows])
                ratios[rows].append(seconds[sizes[-1]] / seconds[rows])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("| rows of a micro-batch | tokens/s | against the whole step | peak, MiB |\n"
          "|---|---|---|---|")
    for rows in sizes:
        print(f"| {rows} | {statistics.median(rates[rows]):.0f} | "
              f"{statistics.median(ratios[rows]):.2f} | {statistics.median(peaks[rows]):.0f} |")


if __name__ == "__main__":
    main()
