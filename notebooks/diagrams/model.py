"""Diagrams of chapter 8: examples, the residual stream, a block, the KV cache, byte-pair merges."""

from __future__ import annotations

import collections

from autograd.view.palette import FAMILIES
from gpt.data.tokenizers.bpe import BPETokenizer

from .sketch import NEW, Sketch

_LINEAR, _ATTENTION, _MLP, _NORM = (FAMILIES[name] for name in ("linear", "network", "elementwise", "shape"))


def examples() -> Sketch:
    """Draw a line of text as ids and as targets, one step to the left, and what a position may look at."""
    sketch = Sketch(760, 250, "One line of text is many examples: the targets are the ids moved by one, and the "
                              "prediction at each position may use only what stands at it and to its left")
    text, cell, left, at = "⏎the cat runs.⏎", 42, 96, 6
    names = [{" ": "␣"}.get(letter, letter) for letter in text]
    for top, row, name in ((64, names[:-1], "ids"), (146, names[1:], "targets")):
        sketch.text(left - 14, top + 22, name, size=14, anchor="end", bold=True)
        for i, letter in enumerate(row):
            fill = ("wash-forward" if i <= at else "panel") if name == "ids" else NEW if i == at else "panel"
            sketch.box(left + i * cell, top, cell, 32, letter, fill, "rim", 15, round=2)
    for i in range(len(text) - 1):
        x = left + (i + 0.5) * cell
        sketch.arrow((x, 98), (x, 144), "forward" if i == at else "rim", 2.2 if i == at else 1.2)
    sketch.text(left + (at + 0.5) * cell + 10, 125, "predict", "forward", 13, "start", halo=True)
    sketch.frame(left, 63, (at + 1) * cell, 34, "forward", 2.2)
    sketch.text(left + (at + 1) * cell / 2, 50, "what this position may look at", "forward", 13)
    sketch.text(380, 212, "14 positions, 14 predictions, 14 losses: their mean is the loss of this line.", "ink", 13.5)
    sketch.text(380, 234, "A shorter line is filled up to T positions; the targets added there are −100, not counted.",
                "soft", 12.5)
    return sketch


def residual_stream() -> Sketch:
    """Draw the stream that blocks read from and add to, and the gradient's straight way back along it."""
    sketch = Sketch(760, 300, "The residual stream: each attention and each MLP reads a normalised copy of the "
                              "stream and adds its output to it. A sum sends the gradient on unchanged, so it "
                              "reaches the embedding along a straight line too")
    stream = 196
    sketch.box(22, stream - 22, 92, 44, "embedding")
    sketch.box(640, stream - 22, 98, 44, "norm, head")
    previous = 114.0
    for i, (name, fill) in enumerate((("attention", _ATTENTION), ("MLP", _MLP)) * 2):
        left = 142 + i * 122
        plus = left + 96
        sketch.arrow((previous, stream), (plus - 11, stream), "forward", 2.4)
        sketch.arrow((left + 8, stream), (left + 8, stream - 46), "forward")
        sketch.box(left - 12, stream - 68, 40, 22, "norm", _NORM, size=12)
        sketch.arrow((left + 8, stream - 68), (left + 8, stream - 92), "forward")
        sketch.box(left - 22, stream - 130, 92, 38, name, fill)
        sketch.line([(left + 70, stream - 111), (plus, stream - 111)], "forward", 1.6)
        sketch.arrow((plus, stream - 111), (plus, stream - 11), "forward")
        sketch.circle(plus, stream, 11, "paper", "ink")
        sketch.text(plus, stream + 6, "+", size=17)
        previous = plus + 11
        if i % 2 == 0:
            sketch.text(left + 98, 36, f"block {i // 2}", "soft", 14)
            sketch.line([(left - 24, 46), (left + 206, 46)], "rim", 1.2)
    sketch.arrow((previous, stream), (639, stream), "forward", 2.4)
    sketch.arrow((640, stream + 32), (114, stream + 32), "backward", 2.4, dashed=True)
    sketch.text(377, stream + 54, "gradient: each + sends g on unchanged along the stream, "
                                   "and once more through its branch", "backward", 13)
    sketch.text(377, stream + 80, "stream (B, T, C): one vector of C numbers for each token; "
                                   "branches add to it, none overwrites it", "soft", 13)
    return sketch


def block() -> Sketch:
    """Draw a block of a GPT with the shapes along its way."""
    sketch = Sketch(760, 300, "A block of a GPT: norm, three projections, attention and an output projection are "
                              "added to the stream; then norm, a matrix to four times the width, GELU and a matrix "
                              "back are added")
    rows = (
        ("attention", 66, (("norm", 62, _NORM, "(B, T, C)"), ("c_attn", 74, _LINEAR, "(B, T, 3C)"),
                           ("q, k, v by heads", 122, _NORM, "3 × (B, H, T, C/H)"),
                           ("attention", 92, _ATTENTION, "(B, H, T, C/H)"), ("c_proj", 74, _LINEAR, "(B, T, C)"))),
        ("MLP", 196, (("norm", 62, _NORM, "(B, T, C)"), ("c_fc", 74, _LINEAR, "(B, T, 4C)"),
                      ("GELU", 74, _MLP, "(B, T, 4C)"), ("c_proj", 74, _LINEAR, "(B, T, C)"))))
    for name, top, steps in rows:
        middle = top + 17
        sketch.text(26, top - 22, name, "soft", 14, "start", True)
        sketch.arrow((24, middle), (84, middle), "forward", 2.2)
        sketch.text(34, middle - 8, "x", size=14)
        gap = (556 - sum(width for _, width, _, _ in steps)) / (len(steps) - 1)
        left = 86.0
        for i, (label, width, fill, shape) in enumerate(steps):
            sketch.box(left, top, width, 34, label, fill)
            sketch.text(left + width / 2, top + 52, shape, "soft", 11.5)
            if i + 1 < len(steps):
                sketch.arrow((left + width, middle), (left + width + gap, middle), "forward")
            left += width + gap
        left -= gap
        sketch.arrow((left, middle), (677, middle), "forward")
        sketch.circle(688, middle, 11, "paper", "ink")
        sketch.text(688, middle + 6, "+", size=17)
        sketch.arrow((699, middle), (742, middle), "forward", 2.2)
        sketch.line([(58, middle), (58, top + 66), (688, top + 66)], "forward", 2.2)
        sketch.arrow((688, top + 66), (688, middle + 11), "forward", 2.2)
    sketch.text(380, 290, "Parameters: 3C² + C² in attention, 4C² + 4C² in the MLP: 12 C² per block", "soft", 12.5)
    return sketch


def kv_cache() -> Sketch:
    """Draw the rows of scores that are computed for a token with and without a cache of keys and values."""
    sketch = Sketch(760, 330, "Reading one more token: without a cache all queries, keys and values are computed "
                              "again; with one, a single query meets the keys that are kept, and one key and value "
                              "are added")
    tokens, cell = ("to", "be", "or", "not", "to", "be"), 27
    for left, cached in ((66, False), (438, True)):
        sketch.text(left + 128, 34, "with a KV cache" if cached else "without a cache", size=15, bold=True)
        top = 92
        for i, token in enumerate(tokens):
            new = not cached or i == 5
            sketch.text(left - 8, top + (i + 0.65) * cell, token, "ink" if new else "rim", 13, "end")
            sketch.text(left + (i + 0.5) * cell, top - 10, token, "ink", 13)
            for j in range(6):
                fill = "panel" if j > i else NEW if new else "paper"
                sketch.box(left + j * cell, top + i * cell, cell, cell, fill=fill, outline="line", round=0)
        sketch.text(left + 81, top - 30, "keys", "soft", 12)
        sketch.text(left - 8, top - 10, "queries", "soft", 12, "end")
        sketch.frame(left, top + 5 * cell, 6 * cell, cell, "forward", 2.4)
        for x, name in ((190, "K"), (226, "V")):
            for i in range(6):
                fill = NEW if not cached or i == 5 else "wash-forward"
                sketch.box(left + x, top + i * cell, 24, cell, fill=fill, outline="rim", round=0)
            sketch.text(left + x + 12, top - 10, name, bold=True)
        lines = (("6 queries, keys and values are computed,", "21 scores; 5 rows of them are thrown away")
                 if not cached else
                 ("1 query, key and value are computed, 6 scores;", "5 keys and values (green) are kept from before"))
        sketch.lines(left + 118, 282, lines, 12.5, colour="soft")
    sketch.line([(384, 24), (384, 306)], "line")
    return sketch


def byte_pair_merges() -> Sketch:
    """Draw the first merges of byte-pair encoding on a small text, each with the count that decided it."""
    words = {"lower": 3, "lowest": 2, "newest": 4, "widest": 3, "wider": 2}
    spelled = {word: list(word) for word in words}
    text = "".join(f"{word}\n" * times for word, times in words.items())
    merges = BPETokenizer.learn(text, 256 + 4).to_json()["tokenizer"]["model"]["merges"]
    steps = []
    for first, second in merges:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for word, times in words.items():
            for pair in zip(spelled[word], spelled[word][1:]):
                pairs[pair] += times
        count = pairs[first, second]
        assert count == max(pairs.values())
        for word, symbols in spelled.items():
            spelled[word] = _merged(symbols, (first, second))
        ties = sum(n == count for n in pairs.values()) - 1
        steps.append(((first, second), count, ties, {word: list(symbols) for word, symbols in spelled.items()}))
    sketch = Sketch(760, 356, "Byte-pair encoding: the pair of neighbours that is most frequent becomes a token, "
                              "again and again; words that share endings come to share tokens")
    columns = [("the words", "and how often", {word: list(word) for word in words}),
               *((f"“{a}” + “{b}”", f"{count} times" + (f", tied with {ties} other pairs" * bool(ties)), after)
                 for (a, b), count, ties, after in steps)]
    for i, (title, remark, spelling) in enumerate(columns):
        left = 40 + i * 144
        sketch.text(left + 54, 38, title, bold=bool(i), size=14)
        sketch.text(left + 54, 58, remark, "soft", 12)
        newest = "".join(steps[i - 1][0]) if i else None
        for row, (word, symbols) in enumerate(spelling.items()):
            x, top = float(left), 78 + row * 46
            if not i:
                sketch.text(left - 8, top + 21, f"{words[word]}×", "soft", 13, "end")
            for symbol in symbols:
                width = 8 + 9.0 * len(symbol)
                fill = NEW if symbol == newest else "wash-forward" if len(symbol) > 1 else "panel"
                sketch.box(x, top, width, 30, symbol, fill, size=14, round=4)
                x += width + 2
        if i:
            sketch.arrow((left - 30, 150), (left - 8, 150), "soft")
    sketch.text(380, 330, "The most frequent pair is merged; of a tie, the one whose tokens have the smaller numbers. "
                          "Orange: new. Green: merged before.", "soft", 12.5)
    return sketch


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of a pair of neighbours, from the left."""
    found: list[str] = []
    for symbol in symbols:
        if found and (found[-1], symbol) == pair:
            found[-1] += symbol
        else:
            found.append(symbol)
    return found
