#!/usr/bin/env python3
"""Reads the curves that gpu_train writes. Standard library only.

compare_curves.py FOLDER                 the mixed precision's curves lie within the spread of the
                                         float32 seeds: exit status 0
compare_curves.py --speed FOLDER NAME DEPTH VOCABULARY ROWS SEQUENCE
                                         a CSV line of the run NAME: tokens a second (the median
                                         step's), model FLOP utilisation, peak memory
compare_curves.py --ends FOLDER          a table of the last 20 steps of every *-curve.csv
"""

import csv
import pathlib
import re
import statistics
import sys

LAST = 20
PEAK_FLOPS = 989e12  # dense bfloat16 of an H100 or H200 by the datasheet, whatever the card


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
        for first in range(0, len(exact[0]), LAST):
            a, b = ([mean(run[first:first + LAST], name) for run in runs]
                    for runs in (exact, mixed))
            spread = max(a) - min(a)
            off = abs(statistics.fmean(a) - statistics.fmean(b))
            good = off <= max(spread, 0.01 * abs(statistics.fmean(a)))
            print(f"{name} of steps {first + 1} to {first + LAST}: float32 "
                  f"{statistics.fmean(a):.5f} (spread {spread:.5f}), mixed "
                  f"{statistics.fmean(b):.5f}{'' if good else '  FAILED'}")
            status |= not good
    return status


def utilisation_percent(tokens_per_second, parameters, depth, vocabulary, sequence):
    """Model FLOP utilisation of the family whose width is 64 a layer: 6 FLOP a parameter and token
    without the embedding, and attention's 12 L H d T, not halved for being causal."""
    width = 64 * depth
    flop = 6 * (parameters - vocabulary * width) + 12 * depth * width * sequence
    return 100 * flop * tokens_per_second / PEAK_FLOPS


def speed(folder, name, depth, vocabulary, rows, sequence):
    seconds = statistics.median(row["seconds"] for row in read(folder / f"{name}.csv")[3:])
    log = (folder / f"{name}.log").read_text()
    parameters = int(re.search(r"^(\d+) parameters$", log, re.MULTILINE).group(1))
    peak = re.search(r"^peak GiB: (.+)$", log, re.MULTILINE).group(1)
    tokens = rows * sequence / seconds
    share = utilisation_percent(tokens, parameters, depth, vocabulary, sequence)
    print(f"ours,{name},{tokens:.0f},{share:.1f},{peak}")
    return 0


def ends(folder):
    print("run,steps,loss,imbalance,smallest,largest,seconds_per_step")
    for path in sorted(folder.glob("*-curve.csv")):
        rows = read(path)
        last = rows[-LAST:]
        print(f"{path.name.removesuffix('-curve.csv')},{len(rows)},{mean(last, 'loss'):.4f},"
              f"{mean(last, 'imbalance'):.4f},{mean(last, 'smallest'):.4f},"
              f"{mean(last, 'largest'):.4f},"
              f"{statistics.median(row['seconds'] for row in rows):.4f}")
    return 0


def main(arguments):
    if len(arguments) == 1:
        return compare(pathlib.Path(arguments[0]))
    if len(arguments) == 7 and arguments[0] == "--speed":
        return speed(pathlib.Path(arguments[1]), arguments[2], *map(int, arguments[3:]))
    if len(arguments) == 2 and arguments[0] == "--ends":
        return ends(pathlib.Path(arguments[1]))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
