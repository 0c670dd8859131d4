"""Makes data/: small tokenizers of the three families, and strings with the ids that the
`tokenizers` package gives them. Run with tests/python_venv.sh: it needs that package.

    python generate.py data
"""

import json
import pathlib
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

import strings

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
VOCABULARY = 700
SEED = 20260203
STRINGS = 500


def split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(tokenizer, specials):
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(strings.strings(SEED + 1, 4000), trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def gpt2():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return train(tokenizer, ["<|endoftext|>"])


def llama3():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = split(LLAMA3)
    train(tokenizer, ["<|bos|>", "<|user|>"])
    # Tokens that strip spaces, that stand alone only, and one that no merge leads to.
    tokenizer.add_special_tokens([AddedToken("<kept>", single_word=True)])
    tokenizer.add_tokens([AddedToken("<wide>", lstrip=True, rstrip=True), AddedToken("LORD God")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.token_to_id("<|bos|>"))])
    return tokenizer


def qwen():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = split(QWEN)
    train(tokenizer, ["<|endoftext|>"])
    tokenizer.add_tokens([AddedToken("cafe\u0301", normalized=True)])
    return tokenizer


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    families = {"gpt2": gpt2(), "llama3": llama3(), "qwen": qwen()}
    for name, tokenizer in families.items():
        tokenizer.save(str(folder / f"{name}.json"), pretty=False)
    with open(folder / "cases.jsonl", "w", encoding="utf-8") as file:
        for text in strings.strings(SEED, STRINGS):
            case = {"text": text}
            for name, tokenizer in families.items():
                encoding = tokenizer.encode(text, add_special_tokens=False)
                case[name] = encoding.ids
                case[name + "_text"] = tokenizer.decode(encoding.ids, skip_special_tokens=False)
            if case["gpt2_text"] != text:
                raise SystemExit(f"the package does not decode what it encoded: {text!r}")
            for name in families:
                # Only qwen changes a text, by normalising it.
                if case[name + "_text"] == text:
                    del case[name + "_text"]
            file.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    main()
