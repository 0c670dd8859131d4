"""Strings on which tokenizers may differ, made from a seed: every kind of character, and the places
where split patterns turn (contractions, runs of spaces and digits, line ends, added tokens)."""

import random

# Blocks of code points with scripts, marks, numbers, symbols, spaces and unassigned places.
BLOCKS = [
    (0x0, 0x7F), (0x80, 0xFF), (0x100, 0x24F), (0x2B0, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
    (0x900, 0xDFF), (0xE00, 0xEFF), (0x1100, 0x13FF), (0x1680, 0x18AF), (0x1E00, 0x1FFF),
    (0x2000, 0x206F), (0x2070, 0x20CF), (0x2150, 0x218B), (0x2200, 0x23FF), (0x2460, 0x27BF),
    (0x3000, 0x30FF), (0x3200, 0x33FF), (0x4E00, 0x4FFF), (0xA640, 0xA7FF), (0xAC00, 0xAFFF),
    (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFFFD), (0x10100, 0x101FF),
    (0x10900, 0x11FFF), (0x12000, 0x123FF), (0x16A00, 0x16FFF), (0x1D000, 0x1D7FF),
    (0x1E000, 0x1EFFF), (0x1F300, 0x1FAFF), (0x20000, 0x200FF), (0x2B730, 0x2B740),
    (0x2EBF0, 0x2EE60), (0x31340, 0x323B0), (0xE0000, 0xE01FF), (0x10FF00, 0x10FFFF),
]
SPACES = " \t\n\r\v\f\x1c\x85\xa0\u1680\u180e\u2003\u2028\u2029\u200b\u202f\u205f\u3000\ufeff"
WORDS = ("the of and to in he shall unto LORD God don't I'll we've they're it's she'd I'm 'S 'LL "
         "'\u017f 'Ve naïve café cafe\u0301 Straße über groß Ελλάδα слово שלום مرحبا नमस्ते "
         "สวัสดี 你好 世界 こんにちは カタカナ 안녕 한국어 😀 👩‍👩‍👧 e\u0301\u0323 \u1e9b\u0323 ﬁ ½ ² Ⅷ ٣٤٥ "
         "x=1; return foo(bar)[0] http://a.b/c?d=e&f=g 1234567890 3.14159 1,000,000 #tag @me "
         "<|endoftext|> <|bos|> <|user|> <| |> <unk> <kept> <wide> \u212b \uac00\u11a8").split()


def character(rng):
    while True:
        low, high = rng.choice(BLOCKS)
        code = rng.randint(low, high)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def part(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(WORDS)
    if kind < 0.5:
        return " "
    if kind < 0.65:
        return "".join(rng.choice(SPACES) for _ in range(rng.choice((1, 1, 2, 3, 9))))
    if kind < 0.72:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 12)))
    if kind < 0.8:
        return "".join(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
                       for _ in range(rng.choice((1, 1, 2, 5))))
    if kind < 0.86:
        return rng.choice(("a", "ab", "é", "字", " ", "\n", "'")) * rng.randint(2, 30)
    return "".join(character(rng) for _ in range(rng.choice((1, 1, 2, 4, 12))))


def strings(seed, count):
    """`count` strings of 0 to about 200 characters, the same for the same seed."""
    rng = random.Random(seed)
    return ["".join(part(rng) for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 16, 30))))
            for _ in range(count)]
