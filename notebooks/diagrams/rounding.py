"""Diagrams of chapters 13 and 14: spacing of floats, orders of a sum, backing off, and looking up."""

from __future__ import annotations

import numpy as np

from autograd.view.palette import MEMORY

from .sketch import NEW, Sketch, number


def float_spacing() -> Sketch:
    """Draw the numbers of a float format with three significant bits, and how a sum is rounded to one of them."""
    sketch = Sketch(760, 234, "The numbers of a small float format with three significant bits: in each range "
                              "between two powers of two there are four, so their distance doubles with the range. "
                              "1.5 + 1 is one of them, and 1.75 + 3.5 is rounded")
    left, unit, line = 40, 84, 128

    def x(value: float) -> float:
        return left + unit * value

    sketch.line([(left, line), (left + 8.3 * unit, line)], "rim", 1.4)
    for exponent, fill in ((0, "forward"), (1, "negative"), (2, "positive")):
        low = 2.0**exponent
        sketch.line([(x(low), 62), (x(low), 56), (x(2 * low) - 4, 56), (x(2 * low) - 4, 62)], fill, 1.4)
        sketch.text((x(low) + x(2 * low)) / 2, 46, f"distance {number(low / 4, 2)}", fill, 13)
        for step, value in enumerate(_floats(low)):
            sketch.line([(x(value), line - 22), (x(value), line + (8 if step == 0 else 4))], fill, 2.4)
            if step == 0 or exponent:
                sketch.text(x(value), line + 26, number(value, 2), "ink", 13, bold=step == 0)
    sketch.line([(x(8), line - 22), (x(8), line + 8)], "ink", 2.4)
    sketch.text(x(8), line + 26, "8", size=13, bold=True)
    for low in (0.5, 0.25, 0.125):
        for value in _floats(low):
            sketch.line([(x(value), line - 10), (x(value), line + 3)], "soft", 1)
    sketch.text(x(0), line + 26, "0", size=13, bold=True)
    sketch.text(x(0.5), line - 28, "smaller ranges", "soft", 12)
    exact, stored = 1.75 + 3.5, 5.0
    sketch.circle(x(exact), line, 5, "bad", "bad")
    sketch.arrow((x(exact), line + 74), (x(exact), line + 9), "bad")
    remark = ("1.75 + 3.5 = 5.25 lies between two numbers.",
              f"The nearest, {number(stored)}, is stored: off by a quarter of their distance.")
    sketch.lines(x(exact) - 10, line + 66, remark, 13, colour="bad", anchor="end")
    sketch.lines(x(exact) + 26, line + 66, ("1.5 + 1 = 2.5 is one of the", "numbers: it is exact."), 13, colour="soft",
                 anchor="start")
    return sketch


def _floats(low: float) -> np.ndarray:
    """Return the numbers with three significant bits from a power of two to the next."""
    return low * np.arange(4, 8) / 4


def summation_orders() -> Sketch:
    """Draw the additions of eight numbers from left to right and in pairs, with the longest path marked."""
    sketch = Sketch(760, 330, "Eight numbers are added in two orders. From left to right, the first number goes "
                              "through seven roundings; in pairs, each number goes through three")
    for left, pairs, title in ((36, False, "from left to right"), (420, True, "in pairs")):
        sketch.text(left + 152, 36, title, size=15, bold=True)
        nodes = [(left + 8 + i * 42.0, 264.0) for i in range(8)]
        for i, (x, y) in enumerate(nodes):
            sketch.box(x - 15, y - 15, 30, 30, f"x_{i}", NEW if i == 0 else "panel", size=13)
        level, marked = [(x, y - 15) for x, y in nodes], 0
        while len(level) > 1:
            if pairs:
                merged = [((a[0] + b[0]) / 2, a[1] - 58) for a, b in zip(level[::2], level[1::2])]
                groups = list(zip(level[::2], level[1::2], merged))
                level = [(x, y - 11) for x, y in merged]
            else:
                a, b = level[0], level[1]
                place = (b[0] - 6, a[1] - 17)
                groups, level = [(a, b, place)], [(place[0], place[1] - 11), *level[2:]]
            for i, (a, b, (x, y)) in enumerate(groups):
                first = i == 0
                marked += first
                sketch.line([a, (x - 7, y + 9)], "bad" if first else "soft", 2.4 if first else 1.3)
                sketch.line([b, (x + 7, y + 9)], "soft", 1.3)
                sketch.circle(x, y, 11, "wash-forward", "bad" if first else "forward", 1.6)
                sketch.text(x, y + 5, "+", size=15)
        sketch.text(left + 152, 304, f"x_0 goes through {marked} additions, and each of them rounds", "bad", 13)
    sketch.line([(392, 24), (392, 312)], "line")
    return sketch


def back_off() -> Sketch:
    """Draw Witten and Bell's mixture for one context, down to the even distribution."""
    sketch = Sketch(760, 366, "Backing off: the table of a context keeps the share n/(n + t) of the probability for "
                              "what it has seen, and hands t/(n + t) on to the table of the next shorter context, "
                              "down to the same probability for every letter")
    rows = (("“␣d”", "o 6, u 5", 11, 2), ("“d”", "␣ 6, o 6, u 5, s 3, e 2", 22, 5), ("no context", "o 24, …", 400, 22))
    for i, (context, seen, n, t) in enumerate(rows):
        top = 62 + i * 66
        share = t / (n + t)
        sketch.text(26, top + 16, context, size=15, anchor="start", bold=True)
        sketch.text(26, top + 35, f"n = {n}, t = {t}", "soft", 12.5, "start")
        width = 330.0
        kept = width * (1 - share)
        sketch.box(140, top, kept, 36, f"seen: {seen}", NEW, size=13, round=3)
        sketch.box(140 + kept, top, width - kept, 36, "", MEMORY["gradient"], round=3)
        sketch.text(484, top + 23, f"keeps {1 - share:.0%}", "ink", 13, "start")
        sketch.text(572, top + 23, f"hands on t/(n + t) = {share:.0%}", "backward", 13, "start")
        sketch.arrow((140 + (kept + width) / 2, top + 37), (140 + (kept + width) / 2, top + 65), "backward")
    sketch.text(26, 284, "1/V", size=15, anchor="start", bold=True)
    sketch.box(140, 260, 330, 36, "the same for each of the V letters", "panel", size=13, round=3)
    (p_o, shorter, _), (p_x, *_) = _mix((6, 6, 24)), _mix((0, 0, 0))
    sketch.lines(26, 328, (f"After “␣d” the letter o has the probability (6 + 2 · {shorter:.3f}) / 13 = {p_o:.3f}, "
                           f"where {shorter:.3f} is what the table of “d” says.",
                           f"x has never been seen at all, and has {p_x:.5f}: little, but not 0."), 12.5,
                 colour="ink", anchor="start")
    sketch.text(26, 34, "context", "soft", 12.5, "start")
    sketch.text(305, 34, "where the probability goes: orange stays, purple is handed on", "soft", 12.5)
    return sketch


def _mix(counts: tuple[int, int, int]) -> tuple[float, float, float]:
    """Compute p(letter | "␣d"), p(letter | "d") and p(letter) from a letter's counts in the tables of `back_off`."""
    p, found = 1 / 23, []
    for count, n, t in zip(reversed(counts), (400, 22, 11), (22, 5, 2)):
        p = (count + t * p) / (n + t)
        found.append(p)
    return found[2], found[1], found[0]


def look_up() -> Sketch:
    """Draw what a table keyed on the last letters sees of a copied row, and what attention sees."""
    row = "gkbdmacfphel"
    sketch = Sketch(760, 268, "Predicting a letter of the second copy: a table knows only the last two letters, which "
                              "were followed by something else in other rows; attention looks eleven places back, at "
                              "the letter that came after the same letter before")
    cell, left, top, at = 28, 44, 104, 16
    for i, letter in enumerate(row + row):
        unknown = i > at
        fill = NEW if i == at - 11 else "wash-forward" if i in (at - 1, at) else "panel"
        sketch.box(left + i * cell, top, cell, 32, "" if unknown else letter, fill, "rim", 14, dashed=unknown, round=2)

    def middle(i: int) -> float:
        return left + (i + 0.5) * cell

    sketch.text(middle(at + 1), top + 22, "?", "bad", 18, bold=True)
    for first, name in ((0, "first copy: random"), (12, "second copy: the same letters")):
        sketch.text(left + (first + 6) * cell, top - 66, name, "soft", 13)
        sketch.line([(left + first * cell + 3, top - 58), (left + (first + 12) * cell - 3, top - 58)], "rim", 1.2)
    sketch.arrow((middle(at), top - 3), (middle(at - 11), top - 3), "positive", 2, bend=-14)
    sketch.text((middle(at) + middle(at - 11)) / 2, top - 36, "attention looks here", "positive", 13, halo=True)
    sketch.frame(left + (at - 1) * cell, top - 1, 2 * cell, 34, "forward", 2.4)
    key, last, after = row[at - 13] + row[at - 12], row[at - 12], row[at - 11]
    sketch.lines(middle(at) - 10, top + 58, ("a table of two letters of context:",
                                            f"key “{key}”, other followers in each row"), 13, colour="forward")
    sketch.lines(middle(at - 11) + 20, top + 58, (f"the letter after the first “{last}”",
                                                  f"is “{after}”: it comes again"), 13, colour="positive")
    sketch.text(380, 244, "The place is eleven back in every row, whatever the letters are: "
                          "this can be learned once, for all rows.", "soft", 12.5)
    return sketch
