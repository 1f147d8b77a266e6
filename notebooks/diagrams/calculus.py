"""Diagrams of chapters 1, 2 and 10: chain rule, backward pass, broadcasting, gather, products, forward mode."""

from __future__ import annotations

import numpy as np

import autograd as ag

from .sketch import Point, Sketch, number


def chain_rule() -> Sketch:
    """Draw x·x·y + y with what flows along each of its arrows, forward and back."""
    x, y = ag.tensor(3.0, requires_grad=True), ag.tensor(-2.0, requires_grad=True)
    a = x * x
    b = a * y
    loss = b + y
    loss.backward(keep=True)
    sketch = Sketch(760, 330, "The chain rule on L = x x y + y: values go forward, and along each arrow back the "
                              "gradient that came in times the local slope; what meets at a number is added")

    def node(left: float, top: float, name: str, t: ag.Tensor, fill: str = "panel") -> None:
        sketch.box(left, top, 104, 62, fill=fill)
        sketch.text(left + 52, top + 18, name, bold=True)
        sketch.text(left + 52, top + 36, f"value {number(t.data.item())}", "forward", 13)
        sketch.text(left + 52, top + 53, f"gradient {number(t.grad.item())}", "backward", 13)

    def edge(start: Point, end: Point, sent: str, bend: float = 0, aside: float = 12) -> None:
        sketch.arrow(start, end, "forward", bend=bend)
        sketch.arrow(_moved(end, start, 9), _moved(start, end, 9), "backward", bend=-bend, text=sent,
                     aside=aside, dashed=True)

    node(28, 62, "x", x)
    node(28, 222, "y", y)
    node(250, 62, "a = x · x", a)
    node(452, 110, "b = a · y", b)
    node(632, 190, "L = b + y", loss, "wash-forward")
    edge((132, 80), (250, 80), "g · x = −6", 14, -22)
    edge((132, 110), (250, 110), "g · x = −6", -14, 20)
    edge((354, 92), (452, 130), "g · y = −2", 0, -30)
    edge((556, 150), (632, 204), "g = 1", 0, -20)
    edge((132, 240), (452, 156), "g · a = 9", 0, 22)
    edge((132, 264), (632, 232), "g = 1", 0, 22)
    sketch.text(80, 50, "−6 + −6 = −12", "backward", 12)
    sketch.text(80, 302, "9 + 1 = 10", "backward", 12)
    sketch.text(684, 272, "starts with g = 1", "backward", 12)
    sketch.line([(236, 300), (266, 300)], "forward", 2)
    sketch.text(274, 304, "values, forward", "forward", 12, "start")
    sketch.line([(396, 300), (426, 300)], "backward", 2, dashed=True)
    sketch.text(434, 304, "gradients, back: what came in (g) times the local slope", "backward", 12, "start")
    return sketch


def _moved(point: Point, towards: Point, by: float) -> Point:
    """Return a point beside an arrow's end, to the side on which the way back runs."""
    x, y = towards[0] - point[0], towards[1] - point[1]
    length = float(np.hypot(x, y))
    side = by * (1 if point[0] > towards[0] else -1)
    return point[0] + side * y / length, point[1] - side * x / length


def topological_order() -> Sketch:
    """Draw three ways to go back over b = a + a, c = b + b: along each path, each node on first sight, newest first."""
    sketch = Sketch(760, 320, "Three orders for the backward pass of b = a + a, c = b + b. Along every path: right,"
                              " but seven visits. Each node when first met: b passes on half of its gradient. "
                              "Newest first: three visits, and every sum is complete")
    once = ("visit 1", "visit 2", "visit 3")
    panels = (("along every path", ("7 visits: right, but doubled", "by each further line"),
               ("visit 1", "visits 2–3", "visits 4–7"), (1, 2, 4), "ink"),
              ("each on first sight", ("b passes on 1 before its", "second 1 has come: wrong"), once, (1, 2, 2), "bad"),
              ("newest first", ("3 visits, each with its", "sum complete: right"), once, (1, 2, 4), "forward"))
    for i, (title, remark, visits, gradients, colour) in enumerate(panels):
        left = 20 + i * 246
        sketch.text(left + 114, 34, title, bold=True, size=15)
        for level, (name, seen, gradient) in enumerate(zip(("c = b + b", "b = a + a", "a"), visits, gradients)):
            top = 54 + level * 74
            sketch.box(left + 34, top, 86, 36, name)
            wrong = colour == "bad" and level == 2
            ink = "bad" if wrong else "backward"
            sketch.text(left + 128, top + 15, f"gradient {gradient}", ink, 13, "start", wrong)
            sketch.text(left + 128, top + 32, seen, "soft", 12, "start")
            if level:
                for side in (-1, 1):
                    late = colour == "bad" and level == 1 and side == 1
                    sketch.arrow((left + 77 + side * 14, top - 38), (left + 77 + side * 14, top - 1),
                                 "bad" if late else "backward", bend=side * 5, dashed=late, text="late" if late else "",
                                 aside=4, size=12)
        sketch.lines(left + 114, 268, remark, colour=colour)
    for x in (254, 500):
        sketch.line([(x, 24), (x, 296)], "line")
    return sketch


def broadcasting() -> Sketch:
    """Draw (3, 1) + (4,): both are stretched forward, and added up over the same axes on the way back."""
    x, b = np.array([[1.0], [-2.0], [0.5]]), np.array([2.0, 0.0, -1.0, 1.0])
    g = np.array([[1.0, -0.5, 0.5, 0.0], [0.5, 1.0, -1.0, 0.5], [-0.5, 0.5, 1.0, 1.0]])
    leaves = [ag.tensor(value, requires_grad=True) for value in (x, b)]
    (leaves[0] + leaves[1]).backward(g)
    dx, db = (leaf.grad for leaf in leaves)
    sketch = Sketch(760, 444, "Broadcasting: a column of shape (3, 1) and a row of shape (4,) are stretched to (3, "
                              "4) and added. Back, the gradient is summed over each axis that was stretched")
    cell = 30
    sketch.text(24, 34, "forward: stretch", "forward", 15, "start", True)
    sketch.matrix(40, 76, x, cell, 3, name="x (3, 1)")
    for row in range(3):
        sketch.arrow((74, 91 + row * cell), (128, 91 + row * cell), "forward", 1.2)
    sketch.matrix(134, 76, np.repeat(x, 4, 1), cell, 3, rim="forward")
    sketch.text(278, 127, "+", size=22)
    sketch.matrix(302, 76, np.repeat(b[None], 3, 0), cell, 3, rim="forward")
    sketch.text(446, 127, "=", size=22)
    sketch.matrix(470, 76, x + b, cell, 3, name="y (3, 4)")
    sketch.matrix(302, 180, b, cell, 3)
    sketch.text(292, 200, "b (4,)", anchor="end")
    for column in range(4):
        sketch.arrow((317 + column * cell, 179), (317 + column * cell, 169), "forward", 1.1)
    sketch.line([(20, 226), (740, 226)], "line")
    sketch.text(24, 252, "backward: add up over the axes that were stretched", "backward", 15, "start", True)
    sketch.matrix(302, 284, g, cell, 3, name="g (3, 4) comes in", rim="backward")
    sketch.matrix(134, 284, dx, cell, 3, name="∂L/∂x (3, 1)")
    for row in range(3):
        sketch.arrow((298, 299 + row * cell), (168, 299 + row * cell), "backward", 1.2)
    sketch.text(232, 392, "summed along axis 1", "soft", 12)
    for column in range(4):
        sketch.arrow((317 + column * cell, 375), (317 + column * cell, 391), "backward", 1.1)
    sketch.matrix(302, 392, db, cell, 3)
    sketch.text(430, 412, "∂L/∂b (4,)", anchor="start")
    sketch.text(520, 412, "summed along axis 0", "soft", 12, "start")
    return sketch


def gather() -> Sketch:
    """Draw rows that are taken from a table by index, and their gradients added up in the rows they came from."""
    sketch = Sketch(760, 300, "Gather and scatter-add: forward, the rows 1, 3 and 1 are copied out of a table; back, "
                              "the gradient of each copy is added to the row that it came from, so row 1 gets two")
    table = np.array([[0.5, -1.0], [2.0, 1.0], [-0.5, 0.0], [1.0, -2.0]])
    ids, g, cell, top = [1, 3, 1], np.array([[1.0, 1.0], [10.0, 10.0], [100.0, 100.0]]), 38, 78
    leaf = ag.tensor(table, requires_grad=True)
    leaf[ids].backward(g)
    for left, forward in ((64, True), (446, False)):
        sketch.text(left + 118, 34, "forward: gather" if forward else "backward: scatter-add",
                    "forward" if forward else "backward", 15, bold=True)
        values = table if forward else leaf.grad
        sketch.matrix(left, top, values, cell, 2.5 if forward else 120, 1, "table" if forward else "∂L/∂table",
                      "rim" if forward else "backward")
        sketch.matrix(left + 172, top + 19, table[ids] if forward else g, cell, 2.5 if forward else 120, 1,
                      "table[[1, 3, 1]]" if forward else "g comes in")
        for row in range(4):
            sketch.text(left - 10, top + (row + 0.62) * cell, str(row), "soft", 13, "end")
        for copy, row in enumerate(ids):
            ends = ((left + 78, top + (row + 0.5) * cell), (left + 170, top + 19 + (copy + 0.5) * cell))
            sketch.arrow(*(ends if forward else ends[::-1]), "forward" if forward else "backward", dashed=not forward)
    sketch.text(182, 262, "row 1 is taken twice, rows 0 and 2 never", "soft", 12.5)
    sketch.text(564, 262, "row 1 gets 1 + 100, rows 0 and 2 get nothing", "backward", 12.5)
    sketch.line([(382, 24), (382, 280)], "line")
    return sketch


def matrix_product() -> Sketch:
    """Draw z = x y and its two gradients, each with the row and the column that make one of its numbers."""
    rng = np.random.default_rng(50)
    x, y, g = (rng.integers(-2, 3, shape).astype(float) for shape in ((3, 2), (2, 4), (3, 4)))
    sketch = Sketch(760, 420, "A matrix product z = x y and its gradients g y-transposed and x-transposed g: in "
                              "each, the row and the column that make one number are framed")
    cell = 28

    def product(left: float, top: float, a: np.ndarray, b: np.ndarray, names: tuple[str, str, str], at: tuple[int, int],
                colour: str, shapes: str) -> None:
        (m, k), n = a.shape, b.shape[1]
        below, right = top + k * cell + 14, left + k * cell + 14
        sketch.matrix(right, top, b, cell, 8, 0)
        sketch.matrix(left, below, a, cell, 8, 0)
        sketch.matrix(right, below, a @ b, cell, 8, 0, rim=colour)
        sketch.text(right + n * cell + 8, top + k * cell / 2 + 5, names[1], anchor="start")
        sketch.text(left + k * cell / 2, below + m * cell + 18, names[0])
        sketch.text(right + n * cell / 2, below + m * cell + 18, names[2], colour, bold=True)
        sketch.frame(left, below + at[0] * cell, k * cell, cell, colour, 2.5)
        sketch.frame(right + at[1] * cell, top, cell, k * cell, colour, 2.5)
        sketch.frame(right + at[1] * cell, below + at[0] * cell, cell, cell, colour, 2.5)
        sketch.text(left + (k + n) * cell / 2 + 7, below + m * cell + 40, shapes, "soft", 12)

    sketch.text(124, 34, "forward", "forward", 15, bold=True)
    sketch.text(510, 34, "backward", "backward", 15, bold=True)
    product(30, 78, x, y, ("x", "y", "z = x y"), (1, 2), "forward", "(3, 2)(2, 4) → (3, 4)")
    product(282, 78, g, y.T, ("g", "y^T", "∂L/∂x = g y^T"), (1, 0), "backward", "(3, 4)(4, 2) → (3, 2)")
    product(528, 78, x.T, g, ("x^T", "g", "∂L/∂y = x^T g"), (0, 2), "backward", "(2, 3)(3, 4) → (2, 4)")
    sketch.line([(258, 24), (258, 330)], "line")
    sketch.lines(380, 362, ("*x_{ab}* is used in row *a* of *z*, with the slopes of row *b* of *y*: "
                            "its gradient is row *a* of *g* times row *b* of *y*.",
                            "*y_{ab}* is used in column *b* of *z*, with the slopes of column *a* of *x*: "
                            "column *a* of *x* times column *b* of *g*."),
                 colour="soft")
    return sketch


def forward_mode() -> Sketch:
    """Draw a row and a column of a Jacobian, and the two backward passes that combine its columns."""
    def spiral(x):
        r, angle = np.exp(x[0]), 3 * x[1]
        return np.stack([r * np.cos(angle), r * np.sin(angle), r])

    x, t = np.array([0.2, 0.5]), np.array([1.0, -1.0])
    jacobian = ag.jacobian(spiral)(x)
    sketch = Sketch(760, 300, "A Jacobian of three outputs and two inputs. One backward pass gives a row of it, "
                              "forward mode a column. A backward pass through the backward pass, with t coming in, "
                              "gives J t")
    cell = 52
    sketch.text(136, 36, "the Jacobian J of spiral", size=15, bold=True)
    sketch.matrix(84, 84, jacobian, cell, 6, 3)
    for j in range(2):
        sketch.text(84 + (j + 0.5) * cell, 74, f"x_{j}", "soft", 13)
    for i in range(3):
        sketch.text(70, 84 + (i + 0.5) * cell + 5, f"y_{i}", "soft", 13)
    sketch.frame(84, 84 + cell, 2 * cell, cell, "backward", 3)
    sketch.frame(84 + cell, 84, cell, 3 * cell, "forward", 3)
    sketch.lines(136, 262, ("a row: a backward pass",), colour="backward")
    sketch.lines(136, 282, ("a column: forward mode",), colour="forward")
    sketch.line([(268, 24), (268, 276)], "line")
    for top, title, came, middle, out, ink in (
            (84, "backward pass: linear in g", "g (3,)", "pull", "q = J^{T} g (2,)", "backward"),
            (190, "backward pass through it, from q to g", "t (2,)", "pull_again", "J t (3,)", "forward")):
        sketch.text(514, top - 18, title, ink, 13)
        sketch.box(296, top, 84, 46, came)
        sketch.box(440, top, 112, 46, middle, "#f6ebb8")
        sketch.box(612, top, 124, 46, out)
        sketch.arrow((380, top + 23), (440, top + 23), ink)
        sketch.arrow((552, top + 23), (612, top + 23), ink)
    shown = ", ".join(number(value, 3) for value in jacobian @ t)
    sketch.text(514, 266, f"t = (1, −1): J t = first column − second column = ({shown})", "soft", 12.5)
    return sketch
