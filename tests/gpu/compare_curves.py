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


# How many spreads of the float32 seeds bfloat16 may be off. Of the loss one: runs of one seed stay
# together. The imbalance that the head-balance loss leaves is noise in the gates' gradients, to
# which bfloat16 adds some of its own, on the processor too.
SPREADS = {"loss": 1, "imbalance": 2}


def compare(folder):
    """Means over windows of 20 steps and three seeds. The range of three numbers says little of how
    far seeds differ, so that a window's counts as the mean of all windows' at least."""
    status = 0
    seeds = (1, 2, 3)
    exact, mixed = ([read(folder / f"d4-{kind}-seed{seed}.csv") for seed in seeds]
                    for kind in ("float32", "mixed"))
    starts = range(0, len(exact[0]), WINDOW)
    for name, times in SPREADS.items():
        a, b = ([[mean(run[first:first + WINDOW], name) for run in runs] for first in starts]
                for runs in (exact, mixed))
        spreads = [max(window) - min(window) for window in a]
        for first, ours, theirs, spread in zip(starts, b, a, spreads):
            allowed = times * max(spread, statistics.fmean(spreads))
            off = abs(statistics.fmean(theirs) - statistics.fmean(ours))
            good = off <= allowed
            print(f"{name} of steps {first + 1} to {first + WINDOW}: float32 "
                  f"{statistics.fmean(theirs):.5f} (spread {spread:.5f}), mixed "
                  f"{statistics.fmean(ours):.5f}, off by {off:.5f} of {allowed:.5f}"
                  f"{'' if good else '  FAILED'}")
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
