#!/usr/bin/env python3
"""Reads what the parts of run.sh left in a folder, and prints their tables and, last, each demand
with its figure and whether it is met. Markdown; standard library only.

summary.py check|bench|train FOLDER
"""

import csv
import pathlib
import re
import statistics
import sys

from compare_curves import WINDOW, mean, read

PEAK_FLOPS = 989e12  # dense bfloat16 of an H100 or H200 by the datasheet, whatever the card
LENGTHS = (2048, 4096, 8192, 16384)
VARIANTS = ("vanilla", "sink", "gated")
PATHS = ("tensor_cores", "hopper")
SEQUENCE, VOCABULARY = 2048, 65536  # of the models of `bench`


class Outcomes:
    """The table of demands."""

    def __init__(self):
        self.rows = []

    def add(self, demand, figure, met):
        word = {True: "met", False: "NOT MET", None: "not run"}[met]
        self.rows.append((demand, figure, word))

    def show(self):
        table(("demand", "figure", "outcome"), self.rows)


def table(head, rows):
    print()
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")


def log_of(folder, part):
    path = folder / f"{part}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def lines_of(folder, parts, fields):
    """The CSV lines of ours and of PyTorch in the logs of some parts: those of so many fields that
    have their end, for a process may be killed while it writes one."""
    whole = re.compile(rf"(?:ours|torch|product)(?:,[-+.\w]*){{{fields - 1}}}")
    for path in sorted(folder.glob(f"{parts}.log")):
        for line in path.read_text(errors="replace").split("\n")[:-1]:
            if whole.fullmatch(line):
                yield line.split(",")


# check

CASES = r"(?m)^(?:NOT RUN.*|\d+ cases, \d+ failed|alone, .*)"
CHECKS = (
    ("conformance_others", "every op and whole models against float64", CASES),
    ("conformance_hopper", "the same on the kernels for capability 9.0", CASES),
    ("curves", "bf16's curves within the spread of seeds", r"loss of steps 181.*"),
    ("resume", "kill -9 and resume: the same bits", r"the resumed run has.*"),
    ("graphs", "CUDA graphs: the same bits", r"the run with CUDA graphs has.*"),
    ("nccl", "NCCL, world size 1", r"one rank of NCCL has.*"),
    ("nccl_two_ranks", "NCCL, two ranks on one card", r"NOT RUN.*|.* differ by .*"),
    *((f"sanitize_{tool}_{kind}", f"compute-sanitizer, {tool}, {kind}", CASES)
      for tool in ("memcheck", "racecheck", "synccheck") for kind in ("others", "hopper")),
)


def check(folder, statuses, outcomes):
    for part, demand, pattern in CHECKS:
        found = re.findall(pattern, log_of(folder, part))
        met = statuses[part] == 0 if part in statuses else None
        if any(line.startswith("NOT RUN") for line in found):
            met = None
        outcomes.add(demand, found[-1] if found else f"see {part}.log", met)


# bench

class Attention:
    """TFLOP/s of a forward, of a backward in a fixed order, and of one in any."""

    def __init__(self, fields):
        self.forward, self.fixed, self.any = (float(x) if x else None for x in fields)

    def __str__(self):
        return " / ".join("-" if x is None else f"{x:.0f}"
                          for x in (self.forward, self.fixed, self.any))


def attention(folder, outcomes):
    times = {}
    for who, what, length, dim, *rates in lines_of(folder, "attention_*", 7):
        if who == "product":
            print(f"\nProduct of two {what} x {what} matrices: {rates[0]} TFLOP/s")
            continue
        times[what, int(dim), int(length)] = Attention(rates)
    names = list(dict.fromkeys(name for name, _, _ in times))
    for dim in (64, 128):
        rows = [(name, *(str(times.get((name, dim, length), "-")) for length in LENGTHS))
                for name in names]
        table((f"heads of {dim}: TFLOP/s forward / backward / in any order",
               *map(str, LENGTHS)), rows)
    for path in PATHS:
        attention_ratios(path, times, outcomes)


def attention_ratios(path, times, outcomes):
    """The same as shares of PyTorch's: its cuDNN, whose backward has no fixed order in PyTorch, and
    for that order the better of flash and FlexAttention."""
    measures = (
        ("forward against cuDNN's", lambda t: t.forward, lambda peers: peers["cudnn"].forward),
        ("backward in a fixed order against PyTorch's best", lambda t: t.fixed,
         lambda peers: max((t.fixed for t in peers.values() if t.fixed), default=None)),
        ("backward, the better order, against cuDNN's", lambda t: max(t.fixed, t.any or 0),
         lambda peers: peers["cudnn"].any))
    for what, ours, theirs in measures:
        rows, ratios = [], []
        for variant in VARIANTS:
            for dim in (64, 128):
                cells = []
                for length in LENGTHS:
                    own = times.get((f"{variant}_{path}", dim, length))
                    peers = {name: times[name, dim, length] for name in
                             ("cudnn", "flash", "flex_sink") if (name, dim, length) in times}
                    there = theirs(peers) if own and "cudnn" in peers else None
                    cells.append(f"{ours(own) / there:.2f}" if there else "-")
                    if there:
                        ratios.append((ours(own) / there, variant, dim, length))
                rows.append((variant, str(dim), *cells))
        if ratios:
            table((f"{path}: {what}", "heads of", *map(str, LENGTHS)), rows)
        worst = "{:.2f} ({}, heads of {}, {} tokens)".format(*min(ratios)) if ratios else ""
        outcomes.add(f"attention, {path}: {what}: at least 1", worst,
                     min(ratios)[0] >= 1 if ratios else None)


class Steps:
    """A case of step_bench, or PyTorch's."""

    def __init__(self, what, fields):
        self.what = what
        self.depth = int(re.match(r"d(\d+)", what).group(1))
        self.parameters, tokens, self.seconds, self.peak_gib = (float(x) for x in fields[:4])
        self.cost_percent = [float(x) for x in fields[4:] if x]  # median, low, high
        self.tokens_per_second = tokens / self.seconds

    def utilisation_percent(self):
        """Model FLOP utilisation of the family whose width is 64 a layer: 6 FLOP a parameter and
        token without the embedding, and attention's 12 L H d T, not halved for being causal."""
        width = 64 * self.depth
        flop = 6 * (self.parameters - VOCABULARY * width) + 12 * self.depth * width * SEQUENCE
        return 100 * flop * self.tokens_per_second / PEAK_FLOPS

    def cost(self):
        if not self.cost_percent:
            return ""
        return "{:+.2f} % [{:+.2f}, {:+.2f}]".format(*self.cost_percent)


def models(folder, outcomes):
    runs = {who + what: Steps(what, fields)
            for who, what, *fields in lines_of(folder, "steps_*", 9)}
    rows = []
    for key, run in runs.items():
        of_family = run.depth > 4
        rows.append((key.removesuffix(run.what), run.what, f"{run.tokens_per_second:.0f}",
                     f"{run.utilisation_percent():.1f}" if of_family else "",
                     f"{1e3 * run.seconds:.2f}", run.cost(), f"{run.peak_gib:.2f}"))
    table(("who", "what", "tokens/s", "MFU, %", "step, ms", "against without_loss [95 %]",
           "peak, GiB"), rows)
    for depth in (12, 20):
        torch = runs.get(f"torchd{depth}")
        for path in PATHS:
            name = f"oursd{depth}_{path}_with_loss"
            if name not in runs:
                outcomes.add(f"d{depth}, {path}", "", None)
                continue
            best = min((runs[name], runs.get(f"{name}_graphs", runs[name])),
                       key=lambda run: run.seconds)
            compare(f"d{depth}, {path}", runs[name], best, torch, outcomes)


def compare(name, plain, best, torch, outcomes):
    outcomes.add(f"{name}: a step with the loss takes at most 0.5 % more", plain.cost(),
                 plain.cost_percent[2] <= 0.5)
    if torch:
        ratio = best.tokens_per_second / torch.tokens_per_second
        outcomes.add(f"{name}: at least 1.2 times PyTorch's tokens a second", f"{ratio:.2f}",
                     ratio >= 1.2)
        outcomes.add(f"{name}: no more memory than PyTorch",
                     f"{best.peak_gib:.2f} of {torch.peak_gib:.2f} GiB",
                     best.peak_gib <= torch.peak_gib)
    else:
        outcomes.add(f"{name}: against PyTorch", "", None)
    share = best.utilisation_percent()
    if best.depth == 20:
        outcomes.add(f"{name}: at least 55 % MFU", f"{share:.1f} %", share >= 55)


def bench(folder, _, outcomes):
    attention(folder, outcomes)
    models(folder, outcomes)


# train

def train(folder, statuses, outcomes):
    runs = {path.name.removesuffix("-curve.csv"): read(path)
            for path in sorted(folder.glob("d12-*-curve.csv"))}
    rows = []
    for name, curve in runs.items():
        outcomes.add(f"{name}: a real run", f"{len(curve)} steps", statuses.get(name) == 0)
        if not curve:
            continue
        last = curve[-WINDOW:]
        validation = re.findall(r"validation loss ([\d.]+)", log_of(folder, name))
        rows.append((name, str(len(curve)), f"{sum(row['seconds'] for row in curve):.0f}",
                     f"{mean(last, 'loss'):.4f}", validation[-1] if validation else "-",
                     f"{mean(last, 'imbalance'):.4f}", f"{mean(last, 'smallest'):.4f}",
                     f"{mean(last, 'largest'):.4f}",
                     f"{1e3 * statistics.median(row['seconds'] for row in curve):.2f}"))
    table(("run", "steps", "seconds", "loss", "validation loss", "imbalance",
           "smallest importance", "largest importance", "step, ms"), rows)
    for name in ("loss", "imbalance"):
        show_curves(name, runs)


def show_curves(name, runs):
    """Means over up to 20 steps that end at the steps of the head."""
    longest = max((len(curve) for curve in runs.values()), default=0)
    ends = sorted({max(1, longest * i // 12) for i in range(1, 13)}) if longest else []
    rows = [(run, *(f"{mean(curve[max(0, end - WINDOW):end], name):.4f}"
                    if end <= len(curve) else "-" for end in ends))
            for run, curve in runs.items()]
    table((f"{name}, at step", *map(str, ends)), rows)


def main(arguments):
    which = {"check": check, "bench": bench, "train": train}
    if len(arguments) != 2 or arguments[0] not in which:
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(arguments[1])
    with open(folder / "parts.csv", newline="") as file:
        parts = list(csv.reader(file))
    card = (folder / "card.csv").read_text().strip().splitlines()
    print(f"# {arguments[0]} on {card[-1] if card else 'an unknown card'}")
    outcomes = Outcomes()
    which[arguments[0]](folder, {name: int(status) for name, status, _ in parts}, outcomes)
    table(("part", "exit status", "seconds"), parts)
    print()
    for name, _, _ in parts:
        for line in re.findall(r"^NOT RUN .*", log_of(folder, name), re.MULTILINE):
            print(f"- {name}: {line}")
    outcomes.show()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
