"""Tokens per second of a whole training step (forward, backward, clipping, optimizer): SinkForge's
CPU trainer and PyTorch with the same model, optimizer, batch and number of threads, in float32.

For each row, SinkForge takes turns with PyTorch eager (scaled_dot_product_attention, fused AdamW)
and then with torch.compile, each side in a process of its own; after a warm-up every pair of steps
runs in the opposite order of the one before. The figures are medians; the ratio is the median of
the pairs' ratios, so that a drift of the machine meets both sides. On a machine with other work,
`--clock processor --threads 1` compares the seconds that a processor worked instead: threads that
wait for each other's turn there make any other figure meaningless. A row is also run alone:

    tests/bench/train_speed.sh --rows d12,1024,muon,256
"""

import argparse
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
WARMUP_STEPS = 2


def all_rows():
    for depth in (4, 6, 12):
        for context in (256, 1024, 4096):
            for optimizer in ("adamw", "muon"):
                for vocabulary in (256, 65536):
                    if vocabulary == 65536 and depth == 6:
                        continue
                    yield f"d{depth},{context},{optimizer},{vocabulary}"


def parse_row(text, threads, batch_tokens):
    depth, context, optimizer, vocabulary = text.split(",")
    layers = int(depth.removeprefix("d"))
    return {
        "layers": layers,
        "width": 64 * layers,
        "heads": max(1, layers // 2),
        "context": int(context),
        "rows": max(1, batch_tokens // int(context)),
        "optimizer": optimizer,
        "vocabulary": int(vocabulary),
        "threads": threads,
    }


class Side:
    def __init__(self, command, row, environment=None):
        arguments = [f"{key}={value}" for key, value in row.items()]
        self.process = subprocess.Popen(command + arguments, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args[0]} ended with {self.process.wait()}")
        return [float(word) for word in answer.split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(ours, theirs, pairs, clock):
    """(median seconds of ours, of theirs, median of the ratios theirs / ours)."""
    column = 1 if clock == "processor" else 0
    for _ in range(WARMUP_STEPS):
        ours.ask("step")
        theirs.ask("step")
    times = []
    for pair in range(pairs):
        order = (ours, theirs) if pair % 2 == 0 else (theirs, ours)
        seconds = {side: side.ask("step")[column] for side in order}
        times.append((seconds[ours], seconds[theirs]))
    return (statistics.median(a for a, _ in times), statistics.median(b for _, b in times),
            statistics.median(b / a for a, b in times))


def measure(text, arguments):
    row = parse_row(text, arguments.threads, arguments.batch_tokens)
    tokens = row["rows"] * row["context"]
    ours_command = [str(arguments.build / "bin" / "train_speed")]
    result = {}
    for kind in arguments.against:
        ours = Side(ours_command, row)
        theirs = Side([sys.executable, str(HERE / "torch_side.py")],
                      row | {"compile": "yes" if kind == "compile" else "no"})
        try:
            seconds, their_seconds, ratio = compare(ours, theirs, arguments.pairs, arguments.clock)
            peak = ours.ask("peak")[0]
            their_peak, their_base = theirs.ask("peak")
        finally:
            ours.close()
            theirs.close()
        result[kind] = (tokens / their_seconds, ratio, their_peak, their_base)
        result["ours"] = (tokens / seconds, peak)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(all_rows()),
                        help="such as d12,1024,muon,256 (default: all)")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--against", nargs="*", default=["eager", "compile"],
                        choices=["eager", "compile"])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    arguments = parser.parse_args()
    print("| row: model, context, optimizer, vocabulary | SinkForge, tokens/s | "
          + " | ".join(f"{kind}, tokens/s | ratio" for kind in arguments.against)
          + " | SinkForge peak, MiB | "
          + " | ".join(f"{kind} peak (of it before the model), MiB" for kind in arguments.against)
          + " |")
    print("|---|---|" + "---|---|" * len(arguments.against) + "---|"
          + "---|" * len(arguments.against), flush=True)
    for text in arguments.rows:
        result = measure(text, arguments)
        speed, peak = result["ours"]
        cells = [text.replace(",", ", "), f"{speed:.0f}"]
        for kind in arguments.against:
            cells += [f"{result[kind][0]:.0f}", f"{result[kind][1]:.2f}"]
        cells.append(f"{peak:.0f}")
        cells += [f"{result[kind][2]:.0f} ({result[kind][3]:.0f})" for kind in arguments.against]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
