"""Diagrams of chapters 8, 9, 11 and 12: replicas, recomputation, memory of a layer, faults, LoRA, Muon."""

from __future__ import annotations

import numpy as np

from autograd.view.palette import MEMORY, RUNS
from gpt.optim.muon import MARGIN, POLYNOMIALS

from .sketch import NEW, Sketch, number

_FORWARD, _BACKWARD, _AGAIN = MEMORY["value"], MEMORY["gradient"], RUNS[4]
_INPUT, _CHECKPOINT = "#b5d0ee", NEW


def replicas() -> Sketch:
    """Draw a step of data-parallel training on three replicas."""
    sketch = Sketch(760, 348, "Data-parallel training on three replicas: each computes gradients on its shard of "
                              "the batch, an all-reduce averages them, and all take the same step")
    sketch.box(20, 60, 92, 222, "batch", fill="paper")
    for i in range(3):
        top = 64 + i * 74
        middle = top + 33
        sketch.box(28, top + 6, 76, 56, "", "panel")
        sketch.text(66, middle + 4, f"shard {i}", "ink", 13)
        sketch.arrow((112, middle), (150, middle))
        sketch.box(152, top, 128, 66, f"replica {i}\nforward, backward", "panel", size=13, bold=True)
        sketch.arrow((280, middle), (332, middle), "backward")
        sketch.box(334, top + 8, 92, 50, f"gradient g_{i}", "wash-backward", "backward", 13)
        sketch.arrow((426, middle), (484, 171), "backward")
        sketch.arrow((596, 171), (640, middle), "backward")
        sketch.box(642, top + 8, 98, 50, "step with g", "panel", size=13)
    sketch.box(486, 128, 110, 86, "all-reduce\ng = mean of\ng_0, g_1, g_2", "wash-backward", "backward", 13, bold=True)
    sketch.text(66, 46, "one batch", "soft", 13)
    sketch.lines(380, 308, ("The mean over the shards is the gradient of the whole batch.",
                            "All begin with the same weights and take the same step: these stay equal to the bit."),
                 12.5, colour="soft")
    return sketch


def recomputation() -> Sketch:
    """Draw the arrays that are alive over a training step: all kept, and with four checkpoints."""
    layers = 16
    kept, recomputed = _alive(layers, layers, False), _alive(layers, 4, True)
    sketch = Sketch(760, 356, "Arrays alive over a step of 16 layers: with everything kept they grow to 16; with a "
                              "checkpoint every 4 layers to 7, for one more forward pass, 16 passes over a layer")
    width, height, bottom = 310, 186, 262
    step, unit = width / len(recomputed), height / 17
    for left, alive, title in ((50, kept, "everything kept"), (420, recomputed, "a checkpoint every 4 layers")):
        sketch.text(left + width / 2, 36, title, size=15, bold=True)
        for count in (4, 8, 12, 16):
            sketch.line([(left, bottom - count * unit), (left + width, bottom - count * unit)], "line", 1)
            sketch.text(left - 7, bottom - count * unit + 4, str(count), "soft", 12, "end")
        for i, (checkpoints, others, phase) in enumerate(alive):
            for low, count, fill in ((0, checkpoints, _CHECKPOINT), (checkpoints, others, _INPUT)):
                if count:
                    sketch.box(left + i * step, bottom - (low + count) * unit, step, count * unit, fill=fill,
                               outline="paper", round=0)
            sketch.box(left + i * step, bottom + 5, step, 10, fill=phase, outline="paper", round=0)
        sketch.line([(left, bottom - height), (left, bottom), (left + width, bottom)], "rim", 1.2)
        peak = max(checkpoints + others for checkpoints, others, _ in alive)
        sketch.line([(left, bottom - peak * unit), (left + width, bottom - peak * unit)], "ink", 1, True)
        note = f"peak {peak} arrays, {len(alive)} passes over a layer"
        sketch.text(left + width, bottom - peak * unit - 7, note, size=13, anchor="end", halo=True)
    sketch.text(50, 62, "arrays alive", "soft", 12, "start")
    sketch.text(730, 294, "time →", "soft", 12, "end")
    for x, y, colour, text in ((60, 304, _INPUT, "input of a layer"),
                               (60, 328, _CHECKPOINT, "checkpoint: input of a piece"),
                               (330, 304, _FORWARD, "forward"), (330, 328, _BACKWARD, "backward"),
                               (440, 328, _AGAIN, "forward again, from a checkpoint")):
        sketch.box(x, y, 14, 14, fill=colour, outline="paper", round=2)
        sketch.text(x + 22, y + 12, text, size=13, anchor="start")
    return sketch


def _alive(layers: int, every: int, again: bool) -> list[tuple[int, int, str]]:
    """Simulate a step in pieces of `every` layers: after each pass over a layer, how many inputs of pieces and other
    inputs of layers are alive, and the colour of the pass.  `again` frees a piece's inner inputs and recomputes them,
    as `ag.checkpoint` does."""
    inner: set[int] = set()
    history = []
    for layer in range(layers):
        if layer % every:
            inner = (set() if again else inner) | {layer}
        elif again:
            inner = set()
        history.append((layer // every + 1 if again else 0, len(inner) + (not again), _FORWARD))
    inner = set() if again else inner
    for piece in reversed(range(layers // every)):
        inside = range(piece * every, (piece + 1) * every)
        for layer in inside if again else ():
            inner |= {layer} if layer % every else set()
            history.append((piece + 1, len(inner), _AGAIN))
        for layer in reversed(inside):
            history.append((piece + 1 if again else 0, len(inner) + (not again), _BACKWARD))
            inner.discard(layer)
    return history


def kept_arrays() -> Sketch:
    """Draw the arrays that the tape keeps for one layer of a GPT, as bars in units of C."""
    sketch = Sketch(760, 330, "What the tape keeps for each token in one layer of a GPT, in units of C: 16 that a rule "
                              "needs, 2 outputs of branches, and 10 that norms, attention and gelu save")
    arrays = (("x", 1, 0, 0), ("norm", 1, 1, 0), ("q, k, v", 3, 0, 0), ("attention", 1, 4, 0), ("c_proj", 0, 0, 1),
              ("x′", 1, 0, 0), ("norm", 1, 1, 0), ("c_fc", 4, 0, 0), ("gelu", 4, 4, 0), ("c_proj", 0, 0, 1))
    bottom, unit = 240, 21
    sketch.line([(54, bottom), (742, bottom)], "rim", 1.2)
    for height in (0, 4, 8):
        sketch.line([(54, bottom - height * unit), (742, bottom - height * unit)], "line", 1)
        sketch.text(46, bottom - height * unit + 4, f"{height} C" if height else "0", "soft", 12, "end")
    for i, (name, value, saved, seen) in enumerate(arrays):
        left, top = 66 + i * 68, float(bottom)
        for size, fill, dashed in ((value, MEMORY["value"], False), (saved, MEMORY["saved"], False),
                                   (seen, "paper", True)):
            if size:
                top -= size * unit
                sketch.box(left, top, 44, size * unit, str(size), fill, "paper" if not dashed else "soft", 13, dashed,
                           round=2)
        sketch.text(left + 22, bottom + 20, name, size=13)
    for first, last, name in ((0, 4, "attention and its norm"), (5, 9, "MLP and its norm")):
        sketch.line([(66 + first * 68, bottom + 32), (66 + last * 68 + 44, bottom + 32)], "rim", 1.2)
        sketch.text(66 + (first + last) * 34 + 22, bottom + 50, name, "soft", 13)
    for x, fill, text in ((54, MEMORY["value"], "values that a rule needs: 16"),
                          (280, MEMORY["saved"], "saved by the op for its rule: 10"),
                          (520, "paper", "values for you to look at: 2")):
        sketch.box(x, 22, 14, 14, fill=fill, outline="paper" if fill != "paper" else "soft", dashed=fill == "paper",
                   round=2)
        sketch.text(x + 22, 34, text, size=13, anchor="start")
    sketch.text(398, 316, "together 28 C per token and layer; the weights of attention are H T = 4 C", "soft", 12.5)
    return sketch


def residual_faults() -> Sketch:
    """Draw a residual block three times: as it should be, cut, and with its shortcut counted twice."""
    sketch = Sketch(760, 324, "A residual block three times, with the gradient's paths back: as it should be, through "
                              "the block and past it; cut, past it only; counted twice, past it two times")
    for i, (title, code, colour) in enumerate((
            ("healthy", "h + tanh(h w + b)", "forward"), ("cut", "h + tanh(h.data w + b)", "bad"),
            ("counted twice", "h + (h + tanh(h w + b))", "bad"))):
        left, line = 24 + i * 248, 214
        sketch.text(left + 108, 36, title, colour, 15, bold=True)
        sketch.text(left + 108, 57, code, "soft", 12.5)
        sketch.circle(left + 16, line, 15, "panel")
        sketch.text(left + 16, line + 5, "h")
        sketch.box(left + 72, line - 106, 76, 40, "tanh(…)", "#f6ebb8")
        sketch.circle(left + 188, line, 13, "paper", "ink")
        sketch.text(left + 188, line + 6, "+", size=17)
        broken = title == "cut"
        sketch.arrow((left + 22, line - 14), (left + 72, line - 84), "forward")
        sketch.arrow((left + 148, line - 84), (left + 184, line - 13), "forward")
        sketch.arrow((left + 31, line), (left + 175, line), "forward")
        sketch.arrow((left + 172, line - 12), (left + 136, line - 65), "backward", dashed=True)
        if broken:
            sketch.line([(left + 90, line - 65), (left + 72, line - 44)], "backward", 1.6, dashed=True)
            sketch.text(left + 68, line - 32, "✕", "bad", 20, bold=True, halo=True)
        else:
            sketch.arrow((left + 84, line - 65), (left + 34, line - 8), "backward", dashed=True)
        sketch.arrow((left + 172, line + 10), (left + 32, line + 10), "backward", dashed=True)
        if title == "counted twice":
            sketch.line([(left + 16, line + 15), (left + 16, line + 40), (left + 188, line + 40)], "forward", 1.6)
            sketch.arrow((left + 188, line + 40), (left + 188, line + 13), "forward")
            around = [(left + 197, line + 11), (left + 197, line + 49), (left + 7, line + 49)]
            sketch.line(around, "backward", 1.6, dashed=True)
            sketch.arrow((left + 7, line + 49), (left + 7, line + 14), "backward", dashed=True)
        paths = {"healthy": "2 contributions", "cut": "1 contribution", "counted twice": "3 contributions"}[title]
        sketch.text(left + 108, line + 74, f"gradient of h: {paths}", "backward", 13)
    sketch.line([(252, 24), (252, 290)], "line")
    sketch.line([(500, 24), (500, 290)], "line")
    sketch.text(380, 310, "green: values forward; purple, dashed: gradients back", "soft", 12.5)
    return sketch


def changed_leaf() -> Sketch:
    """Draw a write between the forward and the backward pass of w w, and the gradient that it spoils."""
    sketch = Sketch(760, 196, "A write between the passes of L = w w: the forward pass reads w = 3, then w becomes 5, "
                              "and the backward pass sends 2 times 5 instead of 2 times 3")
    for i, (title, first, second, fill, ink) in enumerate((
            ("forward", "reads w = 3", "L = w · w = 9", "wash-forward", "forward"),
            ("write", "w becomes 5", "in the same array", "panel", "bad"),
            ("backward", "reads w = 5", "sends 2 · 5 = 10", "wash-backward", "backward"))):
        left = 42 + i * 246
        sketch.box(left, 54, 184, 72, fill=fill, outline=ink)
        sketch.text(left + 92, 40, title, ink, 15, bold=True)
        sketch.text(left + 92, 84, first)
        sketch.text(left + 92, 108, second)
        if i:
            sketch.arrow((left - 62, 90), (left, 90))
    sketch.text(626, 148, "but the slope at w = 3 is 6", "bad", 13)
    sketch.text(380, 178, "The engine counts the versions of a leaf, and refuses a backward pass that would read "
                          "another one.", "soft", 12.5)
    return sketch


def lora() -> Sketch:
    """Draw a matrix that stays, and the product of two thin ones that is learned beside it."""
    sketch = Sketch(760, 300, "LoRA: the input goes through the matrix W, which stays as it is, and beside it through "
                              "two thin matrices A and B, which are learned; both results are added")
    sketch.box(24, 128, 74, 44, "x")
    sketch.text(61, 190, "(T, n_{in})", "soft", 12)
    sketch.box(220, 44, 150, 100, "W", "#b5d0ee", size=18)
    sketch.text(295, 36, "stays as it is: n_{in} × n_{out}", "soft", 12.5)
    sketch.box(190, 180, 34, 84, "A", NEW, size=16)
    sketch.text(207, 282, "n_{in} × r", "soft", 12.5)
    sketch.box(330, 205, 110, 32, "B", NEW, size=16)
    sketch.text(385, 256, "r × n_{out}, zero at first", "soft", 12.5)
    sketch.arrow((98, 142), (220, 94), "forward")
    sketch.arrow((98, 160), (190, 222), "forward")
    sketch.arrow((224, 222), (330, 222), "forward", text="r numbers", aside=10)
    sketch.arrow((440, 222), (520, 163), "forward", text="times α/r", aside=-10)
    sketch.arrow((370, 94), (520, 143), "forward")
    sketch.circle(532, 153, 13, "paper", "ink")
    sketch.text(532, 159, "+", size=17)
    sketch.arrow((545, 153), (580, 153), "forward")
    sketch.box(582, 131, 150, 44, "y = x W + c x A B", size=14)
    sketch.text(657, 193, "(T, n_{out}), c = α/r", "soft", 12)
    sketch.lines(636, 236, ("With n = 768 and r = 8:", "W has 589,824 numbers,", "A and B have 12,288: 2 %"), 13,
                 colour="ink")
    return sketch


def muon_step() -> Sketch:
    """Draw what Muon does to a gradient: an ellipse becomes nearly a circle, and rare directions count like others."""
    sketch = Sketch(760, 316, "Muon's step for a matrix: three polynomials keep the singular directions of the "
                              "gradient and bring its singular values into a band around 1, so that rare "
                              "directions are learned nearly as fast as frequent ones")
    turn = np.array([[0.94, -0.34], [0.34, 0.94]])
    angles = np.linspace(0, 2 * np.pi, 73)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    sizes = np.array([1, 0.25]) / np.hypot(1, 0.25) / MARGIN
    for i, (title, (large, small)) in enumerate((("gradient", sizes), ("step", _orthogonalized(sizes)))):
        (x, y), scale = (112 + i * 216, 150), 64
        sketch.text(x, 36, title, size=15, bold=True)
        sketch.line([(x + scale * px, y - scale * py) for px, py in circle.T], "rim", 1.2, True)
        shape = turn @ np.diag((large, small)) @ circle
        sketch.polygon([(x + scale * px, y - scale * py) for px, py in shape.T], NEW, "positive", 1.6, 0.45)
        for size, (px, py) in zip((large, small), turn.T):
            sketch.arrow((x, y), (x + scale * size * px, y - scale * size * py), "ink", 1.6)
        sketch.text(x, 252, f"singular values {number(large, 2)} and {number(small, 2)}", "soft", 12.5)
    sketch.arrow((192, 150), (246, 150), text="Muon", aside=10)
    many = np.geomspace(1, 0.01, 10)
    many /= np.linalg.norm(many) * MARGIN
    left, bottom, unit = 456, 226, 82
    sketch.text(left + 138, 36, "ten singular values", size=15, bold=True)
    sketch.line([(left, bottom - 164), (left, bottom), (left + 276, bottom)], "rim", 1.2)
    sketch.line([(left, bottom - unit), (left + 276, bottom - unit)], "rim", 1, True)
    sketch.text(left - 8, bottom - unit + 4, "1", "soft", 12, "end")
    for i, (before, after) in enumerate(zip(many, _orthogonalized(many))):
        for x, value, fill in ((8, before, "rim"), (18, after, NEW)):
            sketch.box(left + x + i * 27, bottom - unit * value, 10, unit * value, fill=fill, outline="paper", round=0)
    for x, fill, text in ((left + 30, "rim", "of the gradient"), (left + 154, NEW, "of the step")):
        sketch.box(x, 242, 12, 12, fill=fill, outline="paper", round=2)
        sketch.text(x + 18, 252, text, size=12.5, anchor="start")
    sketch.text(380, 290, "Three times X ← a X + b (X X^T) X + c (X X^T)^2 X: each singular value σ becomes "
                          "a σ + b σ^3 + c σ^5, its directions stay.", "soft", 12.5)
    return sketch


def _orthogonalized(sizes: np.ndarray) -> np.ndarray:
    """Map singular values as Muon's three polynomials do."""
    for a, b, c in POLYNOMIALS:
        sizes = a * sizes + b * sizes**3 + c * sizes**5
    return sizes
