"""Trains a tokenizer with ours and with the `tokenizers` package on the same text: the merges and
the vocabulary are the same, the package loads our file, and both encode alike.

    tokenizer_training.py --sinkforge BIN/sinkforge --text FILE --vocab-size N
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "tokenizer"
sys.path.insert(0, str(GOLDEN))
import generate  # noqa: E402


def theirs(family, lines, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    if family == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pattern = generate.LLAMA3 if family == "llama3" else generate.QWEN
        tokenizer.pre_tokenizer = generate.split(pattern)
    if family == "qwen":
        tokenizer.normalizer = generate.normalizers.NFC()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, special_tokens=["<|bos|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return json.loads(tokenizer.to_str())["model"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sinkforge", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--vocab-size", type=int, default=65536)
    options = parser.parse_args()
    text = pathlib.Path(options.text).read_bytes().decode("utf-8")
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "text.txt"
        source.write_text(text, encoding="utf-8", newline="")
        for family in ("gpt2", "llama3", "qwen"):
            file = str(pathlib.Path(folder) / f"{family}.json")
            subprocess.run([options.sinkforge, "tokenizer", "train", str(source), "--family",
                            family, "--vocab-size", str(options.vocab_size), "--to", file],
                           check=True, stdout=subprocess.DEVNULL)
            ours = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))["model"]
            reference = theirs(family, lines, options.vocab_size)
            if ours["merges"] != [list(merge) for merge in reference["merges"]]:
                raise SystemExit(f"{family}: the merges differ")
            if ours["vocab"] != reference["vocab"]:
                raise SystemExit(f"{family}: the vocabularies differ")
            loaded = Tokenizer.from_file(file)
            sample = text[:100_000]
            if loaded.decode(loaded.encode(sample).ids) != sample:
                raise SystemExit(f"{family}: the package does not decode what it encoded")
            print(f"{family}: {len(ours['vocab'])} tokens, {len(ours['merges'])} merges, the same",
                  flush=True)


if __name__ == "__main__":
    main()
