#!/usr/bin/env python3
"""The CPU trainer against itself; build target: train_speed.

    cpu_speed.py precision   bf16 against fp32, on a processor that multiplies in bfloat16
    cpu_speed.py threads     two threads (--threads) against one
    cpu_speed.py products    the rate of a step's linear layers, forward and backward, as a share of
                             what the matrix library reaches on 2048^3

In the first two, steps of both sides take turns, each pair in the opposite order of the one before;
the figures are medians, the ratio is the median of the pairs' ratios. On a machine with other work,
`--clock processor --threads 1` counts the seconds that a processor worked; it says nothing about
threads. A row is model, context, optimizer, vocabulary, as in train_speed.py:

    tests/bench/cpu_speed.py precision --rows d12,1024,muon,256
"""

import argparse
import pathlib
import statistics
import sys

from train_speed import ROOT, Side, compare, parse_row

ROWS = ["d4,1024,adamw,256", "d4,1024,muon,256", "d6,1024,adamw,256", "d6,1024,muon,256",
        "d6,4096,adamw,256", "d12,1024,adamw,256", "d12,1024,muon,256", "d4,1024,adamw,65536"]


def compared(command, text, arguments):
    """Tokens per second of both sides and their ratio: bf16 and fp32, or many threads and one."""
    row = parse_row(text, arguments.threads, arguments.batch_tokens)
    if arguments.what == "precision":
        sides = Side(command, row | {"precision": "bf16"}), Side(command, row)
    else:
        sides = Side(command, row), Side(command, row | {"threads": 1})
    seconds, other, ratio = compare(*sides, arguments.pairs, arguments.clock)
    for side in sides:
        side.close()
    tokens = row["rows"] * row["context"]
    return f"{tokens / seconds:.0f} | {tokens / other:.0f} | {ratio:.2f}"


def products(command, text, arguments):
    row = parse_row(text, arguments.threads, arguments.batch_tokens)
    cells = []
    for precision in arguments.precisions:
        side = Side(command, row | {"precision": precision, "clock": arguments.clock})
        side.ask("step")
        rates = [side.ask("products") for _ in range(arguments.pairs)]
        side.close()
        rate, peak = (statistics.median(values) for values in zip(*rates))
        share = statistics.median(mine / most for mine, most in rates)
        cells.append(f"{precision} | {rate:.0f} | {peak:.0f} | {100 * share:.0f} %")
    return f" |\n| {text.replace(',', ', ')} | ".join(cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["precision", "threads", "products"])
    parser.add_argument("--rows", nargs="*", default=ROWS)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--precisions", nargs="*", default=["fp32"], choices=["fp32", "bf16"],
                        help="of `products`")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    arguments = parser.parse_args()
    if arguments.what == "threads" and arguments.clock == "processor":
        parser.error("threads are compared by the wall clock")
    command = [str(arguments.build / "bin" / "train_speed")]
    columns = {"precision": "bf16, tokens/s | fp32, tokens/s | ratio",
               "threads": f"{arguments.threads} threads, tokens/s | 1 thread, tokens/s | ratio",
               "products": "precision | products, GFLOP/s | 2048^3, GFLOP/s | share"}
    header = "row: model, context, optimizer, vocabulary | " + columns[arguments.what]
    print(f"| {header} |\n|{'---|' * (header.count('|') + 1)}", flush=True)
    measure = products if arguments.what == "products" else compared
    for text in arguments.rows:
        print(f"| {text.replace(',', ', ')} | {measure(command, text, arguments)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
