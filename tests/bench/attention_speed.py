"""Attention forward and backward at long contexts: SinkForge's CPU kernel against PyTorch's flash
attention on the processor, and what the gate, the importance and their gradient cost.

The sides are processes that take turns, every pair in the opposite order of the one before; the
ratios are medians of the pairs' ratios.
"""

import argparse
import pathlib
import statistics
import sys

from train_speed import ROOT, Side

HERE = pathlib.Path(__file__).resolve().parent


def paired(first, second, pairs):
    """Lists of (forward, backward) seconds of both sides, after one step each to warm up."""
    sides = (first, second)
    for side in sides:
        side.ask("step")
    times = {side: [] for side in sides}
    for pair in range(pairs):
        for side in sides if pair % 2 == 0 else sides[::-1]:
            times[side].append(side.ask("step"))
    return times[first], times[second]


def median_ratio(numerators, denominators):
    return statistics.median(sum(n) / sum(d) for n, d in zip(numerators, denominators))


def against_torch(binary, row, pairs):
    ours = Side([binary], row)
    theirs = Side([sys.executable, str(HERE / "attention_torch_side.py")], row)
    mine, other = paired(ours, theirs, pairs)
    tokens, width = row["tokens"], row["heads"] * row["head_dim"]
    flops = 7 * tokens * tokens * width  # causal: half of 4 T^2 d forward, 2.5 times that backward
    cells = [f"{tokens}"]
    for times in (mine, other):
        cells += [f"{statistics.median(t[0] for t in times):.3f} + "
                  f"{statistics.median(t[1] for t in times):.3f}",
                  f"{flops / statistics.median(sum(t) for t in times) / 1e9:.0f}"]
    cells.append(f"{median_ratio(other, mine):.2f}")
    cells += [f"{side.ask('peak')[0]:.0f}" for side in (ours, theirs)]
    ours.close()
    theirs.close()
    print("| " + " | ".join(cells) + " |", flush=True)


def gate_cost(binary, row, attention, pairs):
    row = row | {"attention": attention}
    with_gate = Side([binary], row | {"importance": "yes"})
    without = Side([binary], row | {"importance": "no"})
    mine, other = paired(with_gate, without, pairs)
    with_gate.close()
    without.close()
    print(f"| {attention} | {row['tokens']} | {median_ratio(mine, other):.4f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="*", default=[8192, 32768])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["torch", "gate"])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    arguments = parser.parse_args()
    binary = str(arguments.build / "bin" / "attention_speed")
    row = {"heads": 2, "head_dim": 128, "threads": arguments.threads}
    if arguments.only != "gate":
        print("| tokens | SinkForge, s forward + backward | GFLOP/s | PyTorch, s | GFLOP/s | ratio "
              "| SinkForge peak, MiB | PyTorch peak, MiB |\n|---|---|---|---|---|---|---|---|")
        for tokens in arguments.tokens:
            against_torch(binary, row | {"tokens": tokens}, arguments.pairs)
    if arguments.only != "torch":
        print("\n| attention | tokens | with importance and its gradient / without |")
        print("|---|---|---|")
        for attention in ("vanilla", "sink", "gated"):
            gate_cost(binary, row | {"tokens": 4096}, attention, 4 * arguments.pairs)


if __name__ == "__main__":
    main()
