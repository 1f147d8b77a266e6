"""Diagrams of chapters 8 and 12: examples, the whole model, its residual stream, a block, the KV cache, byte-pair
merges, and a conversation with its loss mask."""

from __future__ import annotations

import collections

from autograd.view.palette import FAMILIES
from gpt.chat.records import Message
from gpt.chat.turns import Turns, TurnTokenizer
from gpt.data.tokenizers.bpe import BPETokenizer
from gpt.data.tokenizers.char import CharTokenizer

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


def whole_model() -> Sketch:
    """Draw a GPT from ids to logits with the shape after each step; the table E is used at both ends."""
    sketch = Sketch(760, 330, "A whole GPT: ids (B, T) select rows of the table E, positions P are added, N blocks "
                              "each with attention and MLP keep the shape (B, T, C), and after a norm the same table "
                              "E, transposed, makes logits (B, T, V)")
    middle = 138
    sketch.box(18, middle - 20, 60, 40, "ids")
    sketch.box(112, middle - 20, 74, 40, "E[ids]", _LINEAR)
    sketch.box(196, middle - 96, 62, 32, "P", _LINEAR)
    sketch.text(266, middle - 76, "(T, C)", "soft", 12, "start")
    sketch.circle(227, middle, 11, "paper", "ink")
    sketch.text(227, middle + 6, "+", size=17)
    for start, end in ((78, 112), (186, 216), (238, 284), (388, 402), (506, 538), (586, 612), (672, 698)):
        sketch.arrow((start, middle), (end, middle), "forward", 2.2)
    sketch.arrow((227, middle - 64), (227, middle - 11), "forward", 2.2)
    for left, name in ((284, "block 0"), (402, "block N − 1")):
        sketch.box(left, middle - 46, 104, 92, "", "paper")
        sketch.text(left + 52, middle - 54, name, size=13)
        sketch.box(left + 10, middle - 38, 84, 32, "attention", _ATTENTION, size=13)
        sketch.box(left + 10, middle + 6, 84, 32, "MLP", _MLP, size=13)
    sketch.text(395, middle - 76, "… N blocks …", "soft", 13)
    sketch.box(538, middle - 20, 48, 40, "norm", _NORM)
    sketch.box(612, middle - 20, 60, 40, "E^T", _LINEAR)
    sketch.text(702, middle + 5, "logits", size=14, anchor="start")
    for x, shape in ((48, "(B, T)"), (149, "(B, T, C)"), (395, "(B, T, C) all the way"), (562, "(B, T, C)"),
                     (714, "(B, T, V)")):
        sketch.text(x, middle + 66, shape, "soft", 12.5)
    sketch.text(250, middle + 24, "x_0", size=13)
    sketch.text(522, middle + 24, "x_N", size=13)
    sketch.line([(149, middle + 76), (149, middle + 106), (642, middle + 106), (642, middle + 20)], "ink", 1.3, True)
    sketch.text(395, middle + 99, "one table E (V, C), used twice: a row for each token", size=13, halo=True)
    sketch.lines(380, 284, ("In the chapter V = 23 characters, T = 36 positions, C = 48 numbers, N = 2 blocks.",
                            "The V logits at position t are the scores for the token at t + 1."), 13, colour="soft")
    return sketch


def chat_template() -> Sketch:
    """Draw a conversation as ids and targets: the tokens that mark turns, and the loss mask on the question."""
    question, answer = "the cow runs. who runs?", "the cow."
    tokenizer = TurnTokenizer(CharTokenizer(question + answer))
    messages = [Message("user", question), Message("assistant", answer)]
    [(tokens, mask)] = Turns(tokenizer).examples([messages])
    marks = {tokenizer.user: "U", tokenizer.assistant: "A", tokenizer.end: "E"}
    letters = [marks.get(token) or {" ": "␣"}.get(text := tokenizer.decode(token), text) for token in tokens]
    sketch = Sketch(760, 262, "A conversation in the chat template: a token before the question, one before the "
                              "answer, one after it. The targets are the next tokens, and only those of the answer "
                              "and its end count; all others are −100")
    cell, left = 20.2, 80
    for top, name in ((76, "ids"), (140, "targets")):
        sketch.text(left - 10, top + 20, name, size=14, anchor="end", bold=True)
        for i in range(len(tokens) - 1):
            token, letter, counts = ((tokens[i], letters[i], True) if name == "ids" else
                                     (tokens[i + 1], letters[i + 1], mask[i + 1]))
            fill = "wash-backward" if token in marks else NEW if name == "targets" else "paper"
            if counts:
                sketch.box(left + i * cell, top, cell, 30, letter, fill, "rim", 13, round=2)
    first = mask.index(True) - 1
    sketch.box(left, 140, first * cell, 30, "−100 at each: the question is not learned", size=13, round=2)
    for i in range(first, len(tokens) - 1):
        sketch.arrow((left + (i + 0.5) * cell, 107), (left + (i + 0.5) * cell, 139), "forward")
    sketch.text(left + (first + (len(tokens) - 1 - first) / 2) * cell, 190, "the loss is the mean of these", "ink", 13)
    for start, end, text in ((0, first, "what the user says"), (first, len(tokens) - 1, "what the model says")):
        sketch.text(left + (start + end) * cell / 2, 50, text, "soft", 13)
        sketch.line([(left + start * cell + 3, 62), (left + end * cell - 3, 62)], "rim", 1.4)
    sketch.text(380, 222, "U, A, E: three tokens of the template, <|user|>, <|assistant|> and <|end|>", size=13)
    sketch.text(380, 244, "A window of 64 positions is filled with as many whole conversations as fit.", "soft", 13)
    return sketch


def residual_stream() -> Sketch:
    """Draw the stream that blocks read from and add to, and the gradient's straight way back along it."""
    sketch = Sketch(760, 300, "The residual stream: each attention and each MLP reads a normalised copy of the "
                              "stream and adds its output to it. A sum sends the gradient on unchanged, so it "
                              "reaches the embedding along a straight line too")
    stream = 196
    sketch.box(22, stream - 22, 92, 44, "embedding")
    sketch.box(640, stream - 22, 98, 44, "norm, E^T")
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
