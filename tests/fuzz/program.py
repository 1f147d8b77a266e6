"""A program is text: statements, and what its variant does with them (backward, ag.jvp, two losses …)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from tests.layouts import LAYOUTS
from tests.strategies import source

NAME = re.compile(r"\b[cvx]\d+\b")  # c0: a constant, v0: a value, x0: a leaf


def weights(shape, phase=1.0):
    """Fixed numbers of both signs, none of them small: what results are weighted with, and directions."""
    return (np.cos(phase + 2.0 * np.arange(math.prod(shape))) * 0.8 + 0.1).reshape(shape)


@dataclass(frozen=True)
class Statement:
    """`names = ours` here, `names = theirs` in PyTorch, by the operation of that name."""

    names: tuple[str, ...]
    ours: str
    theirs: str
    operation: str

    def uses(self):
        return set(NAME.findall(self.ours))

    def line(self, side="ours", noisy=False):
        """noisy: each value passes through a function of that name wherever it is used."""
        text = getattr(self, side)
        return f"{', '.join(self.names)} = " + (NAME.sub(r"noisy(\g<0>)", text) if noisy else text)


class Variant(NamedTuple):
    """A use of `f` (leaves -> results) and `loss` (leaves -> their weighted sum).

    `code` leaves its answer in `answer`; `leaves` are Tensors there, `arrays` their numbers.  PyTorch knows the kinds
    of answer alone.
    """

    odds: int
    kind: str
    code: str


VARIANTS = {
    "backward": Variant(4, "gradient", """
y = loss(*leaves)
y.backward()
answer = [y, *[t.grad for t in leaves]]
"""),
    "keep": Variant(1, "gradient", """
y = loss(*leaves)
y.backward(keep=True)
assert all(t._array is not None and t.grad.shape == t.shape for t in ag.tape(y) if t.op and type(t._array) is not tuple)
answer = [y, *[t.grad for t in leaves]]
"""),
    "twice": Variant(2, "gradient", """
y = loss(*leaves)
before = [(t, t.data) for t in ag.tape(y)]
y.backward()
for t, a in before:
    assert all(map(np.array_equal, a, t.data)) if type(a) is tuple else np.array_equal(a, t.data), t
y.backward()
answer = [y, *[t.grad / 2 if t.grad is not None else None for t in leaves]]
"""),
    "two losses": Variant(2, "gradient", """
parts = [(r * weights(r.shape)).sum() for r in f(*leaves)]
for part in parts:
    if part.requires_grad:
        part.backward()
answer = [sum(parts), *[t.grad for t in leaves]]
"""),
    "backward of several": Variant(1, "gradient", """
results = f(*leaves)
y = sum((r * weights(r.shape)).sum() for r in results)
for r in results:
    if r.requires_grad:
        r.backward(weights(r.shape))
answer = [y, *[t.grad for t in leaves]]
"""),
    "replay": Variant(3, "gradient", """
program = poisoned(ag.record(lambda: loss(*leaves)))
for t, a in zip(leaves, arrays):
    t.data = 0.9 * a
program()
program.backward() if program.requires_grad else None
for t, a in zip(leaves, arrays):
    t.data = a
answer = [program()]
program.backward() if program.requires_grad else None
answer += [t.grad for t in leaves]
leaves = [leaf(a) for a in arrays]
y = loss(*leaves)
y.backward() if y.requires_grad else None
for a, b in zip(answer, [y, *[t.grad for t in leaves]], strict=True):
    assert (a is None) == (b is None) and (a is None or np.array_equal(a, b)), (a, b)
"""),
    "no_grad before": Variant(2, "gradient", """
with ag.no_grad():
    constant = loss(*leaves)
plain = loss(*arrays)
y = loss(*leaves)
assert not constant.requires_grad
assert np.allclose([ag.tensor(constant).data, ag.tensor(plain).data], y.data, 1e-10, 1e-10)  # other layouts, other sums
y.backward()
answer = [y, *[t.grad for t in leaves]]
"""),
    "ag.grad": Variant(1, "gradient", """
answer = [loss(*leaves), *ag.grad(loss, tuple(range(len(arrays))))(*arrays)]
"""),
    "ag.value_and_grad": Variant(1, "gradient", """
y, grads = ag.value_and_grad(lambda xs: loss(*xs))(arrays)
answer = [y, *grads]
"""),
    "ag.vjp": Variant(2, "gradient", """
results, pullback = ag.vjp(f, *arrays)
grads = pullback(tuple(weights(r.shape) for r in results))
assert all(map(np.array_equal, grads, pullback(tuple(weights(r.shape) for r in results))))
answer = [sum((r * weights(r.shape)).sum() for r in results), *grads]
"""),
    "create_graph": Variant(3, "hvp", """
y = loss(*leaves)
y.backward(create_graph=True)
firsts = [t.grad for t in leaves]
for t in leaves:
    t.grad = None
s = sum((g * weights(g.shape, 2)).sum() for g in firsts if g is not None)
if isinstance(s, ag.Tensor) and s.requires_grad:
    s.backward()
answer = [y, *firsts, *[t.grad for t in leaves]]
"""),
    "ag.grad of ag.grad": Variant(1, "hvp", """
def slope(xs):
    return sum((g * weights(g.shape, 2)).sum() for g in ag.grad(lambda ys: loss(*ys))(xs))
y, firsts = ag.value_and_grad(lambda xs: loss(*xs))(arrays)
answer = [y, *firsts, *ag.grad(slope)(arrays)]
"""),
    "ag.hvp": Variant(1, "hvp", """
y, firsts = ag.value_and_grad(lambda xs: loss(*xs))(arrays)
answer = [y, *firsts, *ag.hvp(lambda xs: loss(*xs), arrays, [weights(a.shape, 2) for a in arrays])]
"""),
    "a dict that is written into": Variant(1, "gradient", """
given = dict(zip("abcdef", arrays))
def writing(p):
    for name in list(p):
        p[name] = 1.0 * p[name]
    p["loss"] = loss(*p.values())
    return p["loss"]
y, grads = ag.value_and_grad(writing)(given)
assert list(grads) == list(given) and all(a is b for a, b in zip(given.values(), arrays, strict=True))
answer = [y, *grads.values()]
"""),
    "nested containers": Variant(1, "gradient", """
half = len(arrays) // 2
def inner(tree):
    results = list(f(*tree["x"][0], *tree["x"][1]["rest"]))
    tree.clear()
    return {"r": results, "none": None}
results, pullback = ag.vjp(inner, {"x": (arrays[:half], {"rest": tuple(arrays[half:])})})
first, rest = pullback({"r": [weights(r.shape) for r in results["r"]], "none": None})[0]["x"]
answer = [sum((r * weights(r.shape)).sum() for r in results["r"]), *first, *rest["rest"]]
"""),
    "ag.jvp of ag.grad": Variant(1, "hvp", """
y, firsts = ag.value_and_grad(lambda xs: loss(*xs))(arrays)
directions = [weights(a.shape, 2) for a in arrays]
answer = [y, *firsts, *ag.jvp(ag.grad(lambda xs: loss(*xs)), (arrays,), (directions,))[1]]
"""),
    "ag.grad of ag.jvp": Variant(1, "hvp", """
y, firsts = ag.value_and_grad(lambda xs: loss(*xs))(arrays)
directions = tuple(weights(a.shape, 2) for a in arrays)
answer = [y, *firsts, *ag.grad(lambda xs: ag.jvp(loss, tuple(xs), directions)[1])(arrays)]
"""),
    "ag.vjp of ag.vjp": Variant(1, "hvp", """
firsts, pullback = ag.vjp(lambda *xs: ag.vjp(loss, *xs)[1](1.0), *arrays)
answer = [loss(*leaves), *firsts, *pullback(tuple(weights(a.shape, 2) for a in arrays))]
"""),
    "ag.hessian": Variant(1, "hvp", """
ends = np.cumsum([a.size for a in arrays])[:-1]
def of_vector(v):
    return loss(*[part.reshape(a.shape) for part, a in zip(np.split(v, ends), arrays)])
y, firsts = ag.value_and_grad(lambda xs: loss(*xs))(arrays)
vector = np.concatenate([a.reshape(-1) for a in arrays])
directions = np.concatenate([weights(a.shape, 2).reshape(-1) for a in arrays])
seconds = np.split(ag.hessian(of_vector)(vector) @ directions, ends)
answer = [y, *firsts, *[s.reshape(a.shape) for s, a in zip(seconds, arrays)]]
"""),
    "ag.jvp": Variant(2, "jvp", """
y, slope = ag.jvp(loss, tuple(arrays), tuple(weights(a.shape, 2) for a in arrays))
answer = [y, slope]
"""),
    "float32": Variant(2, "float32", """
y = loss(*leaves)
assert y.dtype == np.float32, y
y.backward()
assert all(t.grad is None or t.grad.dtype == np.float32 for t in leaves)
answer = [y, *[t.grad for t in leaves]]
"""),
}


@dataclass(frozen=True)
class Program:
    """Statements on leaves and constants, and what is done with the results."""

    seed: int
    leaves: dict[str, np.ndarray]
    constants: dict[str, np.ndarray]
    statements: tuple[Statement, ...]
    results: tuple[str, ...]
    variant: str = "backward"
    part: tuple[int, int] | None = None  # the statements from .. to that are checkpointed
    layouts: dict[str, str] = field(default_factory=dict)  # leaves and constants that lie in memory in some other way

    def laid_out(self, name, a):
        """The array of that name as it lies in memory."""
        return LAYOUTS[self.layouts[name]](a) if name in self.layouts else a

    @property
    def kind(self):
        return VARIANTS[self.variant].kind

    def used(self):
        """Without the statements, leaves and constants that the results do not need."""
        needed, kept = set(self.results), []
        for i, s in reversed(list(enumerate(self.statements))):
            if needed & set(s.names):
                needed |= s.uses()
                kept.insert(0, i)
        part = self.part and tuple(sum(i < end for i in kept) for end in self.part)
        return replace(self, statements=tuple(self.statements[i] for i in kept), part=part,
                       leaves={name: a for name, a in self.leaves.items() if name in needed},
                       constants={name: a for name, a in self.constants.items() if name in needed})

    def functions(self, side="ours", noisy=False):
        """`f` and `loss` as text."""
        names = ", ".join(self.leaves)
        lines = self._lines() if side == "ours" and not noisy else [s.line(side, noisy) for s in self.statements]
        return "\n".join([f"def f({names}):", *[f"    {line}" for line in lines],
                          f"    return {', '.join(self.results)},", "", f"def loss({names}):",
                          f"    return sum((r * weights(r.shape)).sum() for r in f({names}))", ""])

    def _lines(self):
        """The statements, some of them in a function that is checkpointed."""
        lines = [s.line() for s in self.statements]
        first, last = self.part or (0, 0)
        if first == last:
            return lines
        inner = self.statements[first:last]
        made = {name for s in inner for name in s.names}
        later = set(self.results).union(*[s.uses() for s in self.statements[last:]])
        given = ", ".join(sorted({name for s in inner for name in s.uses() if name[0] != "c"} - made))
        out = "".join(f"{name}, " for name in sorted(made & later)) or "()"
        return [*lines[:first], "@ag.checkpoint", f"def part({given}):", *[f"    {line}" for line in lines[first:last]],
                f"    return {out}", f"{out} = part({given})", *lines[last:]]

    def source(self):
        """A script of its own."""
        dtype = ".astype(np.float32)" if self.variant == "float32" else ""
        texts = {name: f"{source(a)}{dtype if a.dtype.kind == 'f' else ''}"
                 for name, a in (self.leaves | self.constants).items()}
        arrays = [f"{name} = " + (f"{self.layouts[name]}({text})" if name in self.layouts else text)
                  for name, text in texts.items()]
        return "\n".join([
            f"# seed {self.seed}: {self.variant}" + (", a part of it checkpointed" if self.part else ""),
            "import numpy as np", "import autograd as ag",
            "from tests.layouts import backwards, columns_first, leaf, strided, turned, unaligned",
            "from tests.replaying import poisoned", "",
            "def weights(shape, phase=1.0):",
            "    w = np.cos(phase + 2.0 * np.arange(np.prod(shape, dtype=int))) * 0.8 + 0.1",
            f"    return w.reshape(shape){dtype}", "",
            *arrays, "", self.functions(), f"arrays = [{', '.join(self.leaves)}]",
            "leaves = [leaf(a) for a in arrays]",
            VARIANTS[self.variant].code.strip(), "print(*answer, sep='\\n')", ""])
