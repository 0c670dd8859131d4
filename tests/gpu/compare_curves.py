#!/usr/bin/env python3
"""Reads the curves that gpu_train writes. Standard library only.

compare_curves.py FOLDER                 the mixed precision's curves lie within the spread of the
                                         float32 seeds: exit status 0
compare_curves.py --same CURVE CURVE     two curves are one but for rounding: exit status 0
compare_curves.py --steps CURVE SECONDS  how many such steps are made in so many seconds
"""

import csv
import pathlib
import statistics
import sys

WINDOW = 20


def read(path):
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()}
                for row in csv.DictReader(file) if row["step"] != "step"]


def mean(rows, name):
    return statistics.fmean(row[name] for row in rows)


def compare(folder):
    """Means over windows of 20 steps: mixed may be off the float32 seeds' mean by as much as those
    differ among themselves, and by 1% where they hardly differ."""
    status = 0
    seeds = (1, 2, 3)
    exact, mixed = ([read(folder / f"d4-{kind}-seed{seed}.csv") for seed in seeds]
                    for kind in ("float32", "mixed"))
    for name in ("loss", "imbalance"):
        for first in range(0, len(exact[0]), WINDOW):
            a, b = ([mean(run[first:first + WINDOW], name) for run in runs]
                    for runs in (exact, mixed))
            spread = max(a) - min(a)
            off = abs(statistics.fmean(a) - statistics.fmean(b))
            good = off <= max(spread, 0.01 * abs(statistics.fmean(a)))
            print(f"{name} of steps {first + 1} to {first + WINDOW}: float32 "
                  f"{statistics.fmean(a):.5f} (spread {spread:.5f}), mixed "
                  f"{statistics.fmean(b):.5f}{'' if good else '  FAILED'}")
            status |= not good
    return status


def same(one, other):
    """Float32 sums in another order make losses differ by some 1e-7 at first; a wrong sum or row
    would show at once."""
    a, b = (read(path) for path in (one, other))
    worst = max(abs(x["loss"] - y["loss"]) / x["loss"] for x, y in zip(a, b))
    print(f"{len(a)} and {len(b)} steps, losses differ by {worst:.1e} of theirs at most")
    return not (len(a) == len(b) and worst <= 1e-3)


def steps(curve, seconds):
    # The first steps load kernels.
    print(int(seconds / statistics.median(row["seconds"] for row in read(curve)[5:])))
    return 0


def main(arguments):
    if len(arguments) == 1:
        return compare(pathlib.Path(arguments[0]))
    if len(arguments) == 3 and arguments[0] == "--same":
        return same(*arguments[1:])
    if len(arguments) == 3 and arguments[0] == "--steps":
        return steps(arguments[1], float(arguments[2]))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
