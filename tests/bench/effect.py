#!/usr/bin/env python3
"""What the head-balance loss does on real text: imbalance and validation loss with and without it.

Trains the quickstart's model (deploy/jobs/quickstart.yaml) with the standalone trainer, three
seeds a setting, one run after the other, and prints a Markdown table. Runs with and without the
loss are paired by seed: same initial weights, same batches. About 24 times the time of one run; a
finished run is not made again, so the script can be stopped and started.

Claims (the last column): with the loss the imbalance is at most half of that without, and the
validation loss is at most 0.5 % higher, plus two standard errors of the paired difference.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TAIL_STEPS = 20  # One step's imbalance is noisy; the end of a run is the mean of its last steps.

# Variant: (its overrides, coefficients compared with none; the first one carries the claim).
VARIANTS = {
    "gated": (["model.attention=gated", "model.gate=head"], [1e-3, 1e-4]),
    "sink": (["model.attention=sink", "model.sink_init=[0, 8]"], [1e-2, 1e-4]),
    "vanilla": (["model.attention=vanilla"], [1e-3]),
}
CLAIMED = {("gated", 1e-3), ("sink", 1e-2)}  # Vanilla hardly collapses in so short a run.


def parse_arguments():
    state = pathlib.Path.home() / ".local" / "state" / "sinkforge" / "local"
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=pathlib.Path, default=state / "data",
                        help="has kjv/, made by quickstart.sh --prepare (%(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "effect",
                        help="where the runs are kept (%(default)s)")
    parser.add_argument("--trainer", type=pathlib.Path,
                        default=ROOT / "build" / "release" / "bin" / "sinkforge-trainer")
    parser.add_argument("--job", type=pathlib.Path,
                        default=ROOT / "deploy" / "jobs" / "quickstart.yaml")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="another setting of every run, such as train.steps=20")
    return parser.parse_args()


def train(options, variant, coefficient, seed):
    """Trains unless the run is there already; returns what it ended with."""
    overrides, _ = VARIANTS[variant]
    loss = "none" if coefficient is None else "cv"
    name = f"{variant}-{'none' if coefficient is None else format(coefficient, 'g')}-seed{seed}"
    settings = [*overrides, f"head_balance.loss={loss}",
                f"head_balance.coefficient={coefficient or 0:g}", f"train.seed={seed}",
                *options.set]
    folder = options.out / name
    record = folder / "settings.json"
    if not record.exists() or json.loads(record.read_text()) != settings:
        if folder.exists() and any(folder.iterdir()):
            sys.exit(f"{folder} holds an unfinished run or one with other settings; delete it, "
                     "or choose another folder with --out")
        print(f"training {name}", file=sys.stderr, flush=True)
        command = [options.trainer, "--job", options.job, "--work-dir", folder,
                   "--data-root", options.data_root]
        for setting in settings:
            command += ["--set", setting]
        subprocess.run([str(word) for word in command], check=True)
        record.write_text(json.dumps(settings))
    return read_run(folder / "metrics.jsonl")


def read_run(path):
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [step for step in steps if "imbalance" in step]
    tail = steps[-TAIL_STEPS:]
    heads = [statistics.fmean(values) for values in zip(*(step["importance"] for step in tail))]
    evaluations = [step["validation_bits_per_byte"] for step in steps
                   if step.get("validation_bits_per_byte") is not None]
    return {"imbalance": statistics.fmean(step["imbalance"] for step in tail),
            "smallest": min(heads), "largest": max(heads), "bits": evaluations[-1]}


def two_standard_errors(values):
    if len(values) < 2:
        return math.nan
    return 2 * statistics.stdev(values) / math.sqrt(len(values))


def verdict(variant, coefficient, ratio, difference, margin):
    if (variant, coefficient) not in CLAIMED:
        return "reported only"
    holds = ratio <= 0.5 and (math.isnan(margin) or difference <= 0.5 + margin)
    return "holds" if holds else "does not hold"


def row(variant, coefficient, runs, base):
    mean = {key: statistics.fmean(run[key] for run in runs) for key in ("imbalance", "bits")}
    cells = [variant, "none" if coefficient is None else f"{coefficient:g}",
             f"{mean['imbalance']:.4f}", f"{min(run['smallest'] for run in runs):.3f}",
             f"{max(run['largest'] for run in runs):.3f}", f"{mean['bits']:.4f}"]
    claim = ""
    if coefficient is None:
        cells += ["", "", ""]
    else:
        ratio = mean["imbalance"] / statistics.fmean(run["imbalance"] for run in base)
        differences = [100 * (run["bits"] / without["bits"] - 1)
                       for run, without in zip(runs, base)]
        difference, margin = statistics.fmean(differences), two_standard_errors(differences)
        claim = verdict(variant, coefficient, ratio, difference, margin)
        cells += [f"{ratio:.2f}", f"{difference:+.2f} ± {margin:.2f}", claim]
    return "| " + " | ".join(cells) + " |", claim


def main():
    options = parse_arguments()
    if not options.trainer.exists():
        sys.exit(f"{options.trainer}: not there; build it with `cmake --build --preset release`")
    if not (options.data_root / "kjv" / "train.txt").exists():
        sys.exit(f"{options.data_root}/kjv/train.txt: not there; make it with "
                 "`deploy/local/quickstart.sh --prepare`")
    options.out.mkdir(parents=True, exist_ok=True)
    lines, failed = [], False
    for variant in options.variants.split(","):
        base = [train(options, variant, None, seed) for seed in range(1, options.seeds + 1)]
        lines.append(row(variant, None, base, base)[0])
        for coefficient in VARIANTS[variant][1]:
            runs = [train(options, variant, coefficient, seed)
                    for seed in range(1, options.seeds + 1)]
            line, claim = row(variant, coefficient, runs, base)
            lines.append(line)
            failed = failed or claim == "does not hold"
    print(f"\nMeans over {options.seeds} seeds; smallest and largest importance over all heads and "
          "seeds;\nbits per byte over the whole validation text; difference paired by seed, "
          "± two standard errors.\n")
    print("| attention | coefficient | imbalance | smallest importance | largest importance "
          "| validation bits per byte | imbalance ratio | difference, % | claim |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
