"""Compares our tokenizers with the `tokenizers` package on many strings and on real text.

    tokenizer_fuzz.py --probe BIN/tokenizer_probe [--strings N] [--seed S] [--text FILE]...

Each of the three golden tokenizers gives every string and every line of the files the same ids in
both, or this ends with status 1 and the first string on which they differ.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from tokenizers import Tokenizer

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "tokenizer"
sys.path.insert(0, str(GOLDEN))
import strings  # noqa: E402

CHUNK = 5000


def ours(probe, path, texts):
    run = subprocess.run([probe, path], input="".join(json.dumps(text) + "\n" for text in texts),
                         capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(f"tokenizer_probe: {run.stderr}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def every_character():
    """Each code point between letters, alone and among marks: the classes of all of Unicode."""
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        c = chr(code)
        yield f"a{c}b 1{c}{c}2"
        yield f"{c}<kept> <kept>{c}"
        yield f"\uac00{c} e\u0301{c}\u0323{c}\u0301\u0334 e{c}\u3099\u05b0\u093c"


def compare(probe, texts):
    for name in ("gpt2", "llama3", "qwen"):
        path = str(GOLDEN / "data" / f"{name}.json")
        reference = Tokenizer.from_file(path)
        differing = 0
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start:start + CHUNK]
            expected = reference.encode_batch(chunk, add_special_tokens=False)
            for text, theirs, own in zip(chunk, expected, ours(probe, path, chunk)):
                if theirs.ids != own:
                    if differing == 0:
                        print(f"{name}: {text!r}\n  theirs {theirs.ids}\n  ours   {own}")
                    differing += 1
        print(f"{name}: {len(texts)} strings, {differing} differ", flush=True)
        if differing:
            raise SystemExit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probe", required=True)
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--characters", action="store_true", help="every code point as well")
    parser.add_argument("--text", action="append", default=[], help="a file of real text")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    compare(options.probe, strings.strings(options.seed, options.strings))
    if options.characters:
        compare(options.probe, list(every_character()))
    for name in options.text:
        text = pathlib.Path(name).read_text(encoding="utf-8")
        print(name)
        compare(options.probe, text.splitlines(keepends=True) + [text])


if __name__ == "__main__":
    main()
