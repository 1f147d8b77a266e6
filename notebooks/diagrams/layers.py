"""Diagrams of chapters 4 to 6: softmax's Jacobian, layer norm as projections, attention by heads."""

from __future__ import annotations

import numpy as np

import autograd as ag

from .sketch import Point, Sketch, number


def softmax_jacobian() -> Sketch:
    """Draw diag(y) − y yᵀ as its two parts, and applied to a gradient."""
    x, g = np.array([1.0, 2.0, 0.0, 1.5]), np.array([1.0, 0.0, -1.0, 0.5])
    leaf = ag.tensor(x, requires_grad=True)
    y = ag.softmax(leaf)
    y.backward(g)
    p = y.data
    sketch = Sketch(760, 300, "The Jacobian of softmax: a diagonal of the outputs less their outer product. Its "
                              "rows add up to 0, and applied to g it is y times g less the mean of g under y")
    cell, top = 34, 70

    def part(left: float, values: np.ndarray, name: str, most: float = 0.5) -> None:
        sketch.matrix(left, top, values, cell, most, 2, name)

    sketch.matrix(26, top, p[:, None], cell, 0.5, 2, "y")
    sketch.lines(43, top + 4 * cell + 20, ("adds up", "to 1"), 12, colour="soft")
    part(96, np.diag(p), "diag(y)")
    sketch.text(248, top + 74, "−", size=22)
    part(264, np.outer(p, p), "y y^T")
    sketch.text(416, top + 74, "=", size=22)
    part(432, np.diag(p) - np.outer(p, p), "Jacobian J")
    sketch.lines(164, top + 4 * cell + 20, ("a score raises", "its own output"), 12, colour="soft")
    sketch.lines(332, top + 4 * cell + 20, ("and takes from all,", "in proportion"), 12, colour="soft")
    sketch.lines(500, top + 4 * cell + 20, ("rows and columns", "add up to 0"), 12, colour="soft")
    sketch.text(586, top + 74, "·", size=22)
    sketch.matrix(598, top, g[:, None], cell, 1, 1, "g")
    sketch.text(648, top + 74, "=", size=22)
    sketch.matrix(668, top, leaf.grad[:, None], cell, 0.5, 2, "∂L/∂x", rim="backward")
    mean = number((g * p).sum(), 2)
    sketch.text(380, 282, f"without building J:  ∂L/∂x = y ⊙ (g − Σ g⊙y),  here with Σ g⊙y = {mean}", "backward")
    return sketch


def layer_norm() -> Sketch:
    """Draw layer norm of three numbers in space: onto the plane of mean 0, then onto a circle; and its gradient."""
    sketch = Sketch(760, 420, "Layer norm of three numbers, in space. Taking the mean away projects onto the plane "
                              "of mean 0, dividing by the standard deviation moves onto a circle in it. The "
                              "gradient loses what points along (1, 1, 1) and along the normalised vector: only the"
                              " tangent of the circle is left")
    one, depth = np.ones(3) / np.sqrt(3), np.cross(np.ones(3) / np.sqrt(3), _EAST)
    x = 1.5 * one + 1.9 * _EAST - 1.35 * depth
    c = x - x.mean()
    normal = c / c.std()
    u = normal / np.linalg.norm(normal)
    v = np.cross(one, u)
    sketch.text(190, 34, "forward: a projection, then a scale", "forward", 15, bold=True)
    sketch.text(570, 34, "backward: two directions are gone", "backward", 15, bold=True)
    sketch.line([(380, 24), (380, 396)], "line")

    def place(middle: Point, scale: float, point: np.ndarray) -> Point:
        """Position of a point of space, seen with (1, 1, 1) pointing up and the plane of mean 0 as a floor."""
        up, right, deep = point @ one, point @ _EAST, point @ depth
        return middle[0] + scale * (right + 0.25 * deep), middle[1] - scale * (0.92 * up + 0.38 * deep)

    def floor(middle: Point, scale: float) -> None:
        corners = [place(middle, scale, 2.3 * a * _EAST + 2.4 * b * depth)
                   for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        sketch.polygon(corners, "wash-forward", "rim", 1, 0.6)
        circle = [place(middle, scale, np.sqrt(3) * (np.cos(t) * u + np.sin(t) * v))
                  for t in np.linspace(0, 2 * np.pi, 90)]
        sketch.line([*circle, circle[0]], "soft", 1.3)

    middle, scale = (178.0, 250.0), 58.0
    floor(middle, scale)
    ends = {"0": 0 * x, "x": x, "c": c, "n": normal, "1": 2.6 * one}
    at = {name: place(middle, scale, value) for name, value in ends.items()}
    sketch.arrow(at["0"], at["1"], "rim", 1.4)
    sketch.text(at["1"][0] - 10, at["1"][1] + 6, "(1, 1, 1)", "soft", 12, "end")
    sketch.arrow(at["0"], at["x"], "ink", 2)
    sketch.text(at["x"][0] - 8, at["x"][1] - 4, "x", size=15, anchor="end", bold=True)
    sketch.arrow(at["x"], at["c"], "forward", 1.6, dashed=True)
    sketch.text(at["x"][0] + 8, at["x"][1] - 12, "less its mean", "forward", 13, "start")
    sketch.arrow(at["0"], at["c"], "forward", 2)
    sketch.circle(*at["n"], 4, "forward", "forward")
    sketch.text(at["n"][0] - 16, at["n"][1] + 18, "x̂", "forward", 15, "start", True)
    sketch.text(at["c"][0] + 6, at["c"][1] + 16, "c", "forward", 15, "start", True)
    sketch.lines(180, 384, ("c = x − mean(x) lies in the plane of mean 0;",
                            "x̂ = c / std(c) on a circle of radius √n in it"), 12, colour="soft")

    middle, h = (556.0, 250.0), 1.9 * one - 1.0 * u + 1.5 * v
    floor(middle, scale)
    start = place(middle, scale, normal)
    in_plane = h - (h @ one) * one
    tangent = in_plane - (in_plane @ u) * u
    came, flat, left = (place(middle, scale, normal + value) for value in (h, in_plane, tangent))
    sketch.arrow(place(middle, scale, 0 * x), start, "forward", 1.6)
    sketch.text(start[0] + 2, start[1] + 22, "x̂", "forward", 15, "middle", True)
    sketch.arrow(start, came, "ink", 2)
    sketch.text(came[0], came[1] - 10, "ĝ comes in", size=13)
    sketch.arrow(came, flat, "backward", 1.5, dashed=True, text="less its mean", aside=10)
    sketch.arrow(flat, left, "backward", 1.5, dashed=True)
    for i, line in enumerate(("less what is", "along x̂")):
        sketch.text(flat[0] + 12, flat[1] - 20 + 16 * i, line, "backward", 13, "start", halo=True)
    sketch.arrow(start, left, "backward", 2.6)
    sketch.lines(570, 384, ("What the output cannot see, the gradient does not contain:",
                            "only the tangent is left (times 1 / std)"), 12, colour="soft")
    return sketch


_EAST = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)


def soft_look_up() -> Sketch:
    """Draw one query that meets four keys: scores, a softmax, and the mean of the values with these weights."""
    sketch = Sketch(760, 262, "A soft look-up: one query meets four keys, the dot products are scores, a softmax "
                              "turns them into weights, and the result is the mean of the values with these weights")
    q, k, v = np.array([0.0, 0.0, 4.0, 0.0]), np.eye(4), np.array([10.0, 20.0, 30.0, 40.0])
    scores = k @ q / np.sqrt(4)
    p, cell, top = ag.softmax(scores), 34, 92
    sketch.matrix(100, 36, q, cell, 6, 1)
    sketch.text(90, 59, "query q", anchor="end", bold=True)
    sketch.matrix(100, top, k, cell, 2, 0)
    sketch.text(90, top + 73, "keys k", anchor="end", bold=True)
    steps = ((330, scores, 3, 1, "scores", "q · k / √d"), (462, p, 1, 2, "weights p", "softmax"),
             (594, v, 60, 0, "values v", "times, and add up"))
    for left, column, most, digits, name, arrow in steps:
        sketch.matrix(left, top, column[:, None], cell, most, digits)
        sketch.text(left + cell / 2, top - 12, name, bold=True)
        middle = top + 2 * cell
        if name == "scores":
            sketch.arrow((100 + 4 * cell + 6, middle), (left - 6, middle), "forward")
        elif name == "weights p":
            sketch.arrow((330 + cell + 6, middle), (left - 6, middle), "forward")
        else:
            sketch.text((462 + cell + left) / 2, middle + 6, "·", size=22)
        if name != "values v":
            sketch.text(left - (47 if name == "scores" else 49), middle - 10, arrow, "forward", 12.5)
    sketch.arrow((594 + cell + 6, top + 2 * cell), (682, top + 2 * cell), "forward")
    sketch.text(718, top + 2 * cell + 6, number(p @ v, 1), size=17, bold=True)
    sketch.text(380, 250, "The query fits the third key, so the third value counts most: the result is near 30.",
                "soft", 13)
    return sketch


def attention() -> Sketch:
    """Draw causal attention with two heads, with numbers: scores, mask, weights, values, heads side by side."""
    rng = np.random.default_rng(5)
    T, H, d = 5, 2, 3
    q, k, v = (rng.normal(size=(H, T, d)).round(1) for _ in range(3))
    scores = q @ k.swapaxes(1, 2) / np.sqrt(d)
    weights = ag.softmax(np.where(np.tri(T, dtype=bool), scores, -np.inf))
    y = weights @ v
    sketch = Sketch(760, 452, "Causal attention with two heads on five tokens: queries times keys are scores, those"
                              " of later tokens are masked, a softmax of each row gives weights, which average the "
                              "values; the heads' outputs stand side by side")
    cell = 21
    for x, name, shape in ((46, "q", "(T, d)"), (142, "k^T", "(d, T)"), (288, "scores", "(T, T)"),
                           (424, "weights p", "(T, T)"), (570, "v", "(T, d)"), (664, "y = p v", "(T, d)")):
        width = cell * (T if "T)" in shape[-3:] else d)
        sketch.text(x + width / 2, 34, name, size=15, bold=True)
        sketch.text(x + width / 2, 52, shape, "soft", 12)
    for head in range(H):
        top = 70 + head * 146
        middle = top + T * cell / 2
        sketch.text(24, middle + 5, f"{head}", "soft", 15)
        sketch.matrix(46, top, q[head], cell, 2)
        sketch.text(125, middle + 6, "·", size=20)
        sketch.matrix(142, top + cell, k[head].T, cell, 2)
        sketch.arrow((254, middle), (282, middle), "forward", text="/ √d", aside=12, size=12)
        sketch.matrix(288, top, np.where(np.tri(T, dtype=bool), scores[head], np.nan), cell, 2)
        sketch.arrow((396, middle), (420, middle), "forward")
        sketch.matrix(424, top, np.where(np.tri(T, dtype=bool), weights[head], np.nan), cell, 1)
        sketch.text(550, middle + 6, "·", size=20)
        sketch.matrix(570, top, v[head], cell, 2)
        sketch.text(648, middle + 6, "=", size=17)
        sketch.matrix(664, top, y[head], cell, 2, rim="forward")
        for x, columns in ((46, d), (288, T), (424, T), (664, d)):
            sketch.frame(x, top + 3 * cell, columns * cell, cell, "forward", 2.2)
    sketch.text(24, 34, "head", "soft", 13)
    sketch.lines(340, 356, ("grey: later tokens,", "masked with −∞"), 12, colour="soft")
    sketch.lines(476, 356, ("softmax of each row:", "adds up to 1"), 12, colour="soft")
    sketch.lines(646, 356, ("token 3 of y: an average of v,", "with the weights of row 3"), 12, colour="soft")
    sketch.lines(170, 356, ("each token's query meets", "the key of every token"), 12, colour="soft")
    sketch.text(380, 424, "The heads' outputs stand side by side, (T, H · d), and one more matrix mixes them: "
                          "x + concat(y_0, y_1) W_o", "ink", 14)
    return sketch
