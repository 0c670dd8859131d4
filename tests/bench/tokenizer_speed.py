"""`sinkforge tokenize` and the `tokenizers` package from a .jsonl file to token ids on disk, with
the same tokenizer and the same number of threads.

    $(tests/python_venv.sh tests/fuzz/requirements.txt) tests/bench/tokenizer_speed.py \\
        --sinkforge build/release/bin/sinkforge --text FILE [--threads N] [--runs N] \\
        [--megabytes N] [--clock wall|processor]

The text's lines become documents of about 4 kB, repeated to that many megabytes (64); the
tokenizers are trained on it (vocabulary 32,768). Runs alternate; each ratio is theirs / ours of one
pair, and the table has the medians. Ours is the whole process; theirs begins when Python has
imported the package and loaded the tokenizer, reads the lines, encodes them in batches and writes
the ids. `--clock processor` counts the seconds that processors worked on either, which other work
on the machine changes little.
"""

import argparse
import array
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

DOCUMENT_BYTES = 4000
BATCH = 1000


def make_documents(text, path, bytes_wanted):
    lines, document, size = [], [], 0
    for line in text.splitlines(keepends=True):
        document.append(line)
        size += len(line)
        if size >= DOCUMENT_BYTES:
            lines.append(json.dumps({"text": "".join(document)}, ensure_ascii=False))
            document, size = [], 0
    once = "\n".join(lines) + "\n"
    repeats = bytes_wanted // len(once.encode()) + 1
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(repeats):
            file.write(once)
    return os.path.getsize(path)


class Stopwatch:
    """Seconds of a clock, or those that processors worked for this process and its children."""

    def __init__(self, clock):
        self.clock = clock
        self.start = self.now()

    def now(self):
        if self.clock == "wall":
            return time.monotonic()
        own, ended = (resource.getrusage(who)
                      for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime

    def seconds(self):
        return self.now() - self.start


def theirs(options, tokenizer, path, folder):
    watch = Stopwatch(options.clock)
    ids = array.array("H")
    with open(path, encoding="utf-8") as file, open(folder / "theirs.bin", "wb") as out:
        batch = []

        def flush():
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                ids.append(0)
                ids.extend(encoding.ids)
            batch.clear()
        for line in file:
            batch.append(json.loads(line)["text"])
            if len(batch) == BATCH:
                flush()
        flush()
        ids.tofile(out)
    return watch.seconds(), ids


def ours(options, path, folder, file):
    watch = Stopwatch(options.clock)
    subprocess.run([options.sinkforge, "tokenize", path, "--tokenizer", file, "--to",
                    str(folder / "ours"), "--threads", str(options.threads), "--force"],
                   check=True, capture_output=True)
    seconds = watch.seconds()
    ids = array.array("H")
    ids.frombytes((folder / "ours" / "shard-00000.bin").read_bytes()[1024:])
    return seconds, ids


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sinkforge", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if options.threads > 1 else "false"
    from tokenizers import Tokenizer  # reads the environment
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path = str(folder / "text.jsonl")
        size = make_documents(pathlib.Path(options.text).read_text(encoding="utf-8"), path,
                              options.megabytes * 1_000_000)
        print("| family | threads | ours, MB/s | theirs, MB/s | theirs / ours, time |")
        print("|---|---|---|---|---|")
        for family in ("gpt2", "llama3", "qwen"):
            file = str(folder / f"{family}.json")
            subprocess.run([options.sinkforge, "tokenizer", "train", options.text, "--family",
                            family, "--vocab-size", "32768", "--to", file], check=True,
                           capture_output=True)
            tokenizer = Tokenizer.from_file(file)
            rows = []
            for _ in range(options.runs + 1):  # the first warms up
                our_seconds, our_ids = ours(options, path, folder, file)
                their_seconds, their_ids = theirs(options, tokenizer, path, folder)
                if our_ids != their_ids:
                    sys.exit(f"{family}: the ids differ")
                rows.append((our_seconds, their_seconds))
            rows = rows[1:]
            median = [statistics.median(row[i] for row in rows) for i in (0, 1)]
            ratio = statistics.median(row[1] / row[0] for row in rows)
            print(f"| {family} | {options.threads} | {size / median[0] / 1e6:.1f} | "
                  f"{size / median[1] / 1e6:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
