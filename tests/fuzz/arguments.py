"""Draws of arguments: functions of a Builder that return a map from names to the texts that fill them.

They raise Unfit where none of the values there are will do.
"""

from __future__ import annotations

import math
from string import ascii_letters

import numpy as np

from tests.fuzz.builder import GAP, MOST_ELEMENTS, Unfit, apart, broadcasts

# ---------------------------------------------------------------------- values


def one(fits=lambda x: True, **more):
    """An x that fits; `more` is drawn from the Builder and this array."""
    def draw(p):
        x = p.pick(fits)
        return {"x": x, **{name: make(p, p.array(x)) for name, make in more.items()}}
    return draw


def axes(least):
    return lambda x: x.ndim >= least


def fitting(fits):
    """A second value, of which `fits` holds with the first."""
    return lambda p, x: p.pick(lambda y: fits(x, y))


def one_of(*items):
    return lambda p, x: p.choose(items)


def pair(fits=lambda x, y: True):
    """x and y that broadcast, in either order."""
    def draw(p):
        fields = one(y=fitting(lambda x, y: broadcasts(x, y) and fits(x, y)))(p)
        return fields if p.chance(0.5) else {"x": fields["y"], "y": fields["x"]}
    return draw


def alike(fits=lambda x, y: True, **more):
    """x and y of one shape."""
    return one(y=fitting(lambda x, y: x.shape == y.shape and fits(x, y)), **more)


def two(p):
    """x and y, one of which may be a number."""
    if p.chance(0.8):
        return pair()(p)
    args = [p.pick(), round(float(p.rng.normal()) + 0.01, 2)]
    return dict(zip("xy", args if p.chance(0.5) else args[::-1]))


def choices(p):
    """x and y, and two conditions of their common shape, of which c may have fewer axes."""
    fields = pair()(p)
    shape = np.broadcast_shapes(*map(p.shape, fields.values()))
    return {**fields, "c": p.mask(*shape[p.integer(0, len(shape) + 1):]), "d": p.mask(*shape)}


def by_sign(p):
    """x and y, and z away from 0."""
    fields = pair()(p)
    return {**fields, "z": p.pick(lambda z: apart(z, 0) and broadcasts(z, *map(p.array, fields.values())))}


away = one(lambda x: apart(x, 0))
both_away = pair(lambda x, y: apart(x, 0) and apart(y, 0))
limits = one(lambda x: apart(x, -0.31) and apart(x, 0.73))
powers = one(n=one_of(2, 3, 2.0, 1, 0))
any_two = one(y=fitting(lambda x, y: x.size * y.size <= MOST_ELEMENTS))
# x / (1.3 + tanh y) away from whole numbers
remainders = one(y=fitting(lambda x, y: broadcasts(x, y) and apart(q := x / (1.3 + np.tanh(y)), np.rint(q))))


# ---------------------------------------------------------------------- reductions, and what works along an axis


def rows(a, axis):
    """`a` with `axis` (an axis, several, or None: all) as the first of two."""
    axes = tuple(range(a.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    n = math.prod(a.shape[i] for i in axes)
    return np.moveaxis(a, axes, range(len(axes))).reshape(n, a.size // n if n else 0)


def filled(least):
    return lambda rows: len(rows) >= least


def distinct(rows):
    """Return True if rounding cannot change the order of the elements."""
    return len(rows) > 0 and bool(np.all(np.diff(np.sort(rows, axis=0), axis=0) > GAP / 4))


def distinct_and_some(rows):
    """`distinct`, and not empty: NumPy's median along several axes of an array without elements raises."""
    return rows.size > 0 and distinct(rows)


def spread(rows):
    """Return True unless the variance is small."""
    return len(rows) > 1 and bool(np.all(np.var(rows, axis=0) > GAP))


def long(rows):
    """Return True unless the squares sum to nearly nothing."""
    return bool(np.all(np.sum(rows * rows, axis=0) > GAP))


def reduced(fits=lambda rows: True):
    """x, one or two axes of it or None, and whether they are kept; `fits` judges the elements along the axes."""
    def draw(p):
        x = p.pick()
        n = len(p.shape(x))
        axes = p.rng.choice(n, min(p.choose((0, 1, 2), (3, 6, 2)), n), replace=False).tolist()
        axes = tuple(i - n if p.chance(0.3) else i for i in axes)
        axis = None if not axes else axes[0] if len(axes) == 1 else axes
        if not fits(rows(p.array(x), axis)):
            raise Unfit
        return {"x": x, "axis": axis, "keep": p.chance(0.4)}
    return draw


def along(least=0, flat=False, **more):
    """x and an axis of at least so many elements, or None for all in order if `flat`; `more` is drawn from the
    Builder and the number of these elements."""
    def draw(p):
        x = p.pick(lambda a: a.ndim > 0 and min(a.shape) >= least)
        axis = None if flat and p.chance(0.3) else p.axis(x)
        n = p.array(x).size if axis is None else p.shape(x)[axis]
        return {"x": x, "axis": axis, **{name: make(p, n) for name, make in more.items()}}
    return draw


def in_order(p):
    """x and an axis along which its elements lie apart, and a place there."""
    fields = along(1, k=lambda p, n: p.integer(0, n))(p)
    if not distinct(rows(p.array(fields["x"]), fields["axis"])):
        raise Unfit
    return fields


def places(p, n, odds=(6, 2, 1, 1)):
    """Places along an axis of n elements, some of them perhaps twice."""
    return p.constant(p.rng.integers(-n, n, p.choose(((3,), (2, 2), (0,), ()), odds)))


def an_axis(p, x):
    return p.integer(-x.ndim, x.ndim)


def cuts(p, n):
    return sorted(p.rng.integers(0, n + 1, p.integer(1, 3)).tolist())


def two_axes(p):
    """x, two of its axes and a small number."""
    x = p.pick(axes(2))
    i, j = p.rng.choice(len(p.shape(x)), 2, replace=False)
    return {"x": x, "i": i, "j": j, "k": p.integer(-1, 2)}


def table(x):
    """Return True if the rows of x are at least two variables, not nearly equal, of several observations."""
    return x.ndim == 2 and x.shape[0] > 1 and x.shape[1] > 2 and spread(x.T)


def between_points(p):
    """x apart from 1-D coordinates c, and values f there."""
    c = np.array([-0.9, -0.2, 0.43])
    x = p.pick(lambda x: apart(x[..., None], c))
    return {"x": x, "c": p.constant(c), "f": p.of_shape(3)}


signals = one(lambda x: x.ndim == 1 and x.size, y=fitting(lambda x, y: y.ndim == 1 and y.size > 0),
              mode=one_of("full", "same", "valid"))
complex_numbers = alike(lambda x, y: x.ndim and x.size, axis=lambda p, x: p.integer(0, x.ndim),
                        n=lambda p, x: p.integer(1, 6))
weighted = along(1, w=lambda p, n: p.of_shape(n))


# ---------------------------------------------------------------------- products


def stacks(a, b):
    """Return True if the axes before the matrices broadcast."""
    return broadcasts(np.empty(a.shape[:-2]), np.empty(b.shape[:-2]))


def products(p):
    """Matrices, vectors and stacks of them."""
    x = p.pick(axes(1))
    n = p.shape(x)[-1]
    if p.chance(0.4):
        return {"x": x, "y": p.leaf((n, p.integer(1, 4)) if p.chance(0.8) else (n,))}
    return {"x": x, "y": p.pick(lambda b: b.ndim > 0 and b.shape[max(b.ndim - 2, 0)] == n and stacks(p.array(x), b))}


def affine(p):
    """x, and matrices w and u and perhaps a bias that fit."""
    x, m = p.pick(axes(1)), p.integer(1, 4)
    w, u = (p.of_shape(p.shape(x)[-1], m) for _ in range(2))
    return {"x": x, "w": w, "u": u, "b": p.of_shape(m) if p.chance(0.7) else None}


def contractions(p):
    """einsum of one to three arrays: for each length there are two letters; a diagonal now and then."""
    xs = [p.pick(lambda x: x.ndim < 4 and max(x.shape, default=0) < 26) for _ in range(p.integer(1, 4))]
    parts = ["".join(ascii_letters[2 * n + p.integer(0, 2)] for n in p.shape(x)) for x in xs]
    letters = sorted(set("".join(parts)))
    if any(len(set(part)) < len(part) for part in parts) and p.chance(0.7) or \
            math.prod(ascii_letters.index(c) // 2 for c in letters) > 4096:
        raise Unfit
    out = "".join(c for c in p.rng.permutation(letters).tolist() if p.chance(0.6))
    return {"s": f"'{','.join(parts)}->{out}'", "xs": ", ".join(xs)}


def pairs_of_axes(p):
    """x and y with a common length in axes i and j."""
    x = p.pick(axes(1))
    i = p.integer(0, len(p.shape(x)))
    y = p.pick(lambda y: p.shape(x)[i] in y.shape)
    return {"x": x, "y": y, "i": i, "j": p.shape(y).index(p.shape(x)[i])}


def square(**more):
    """A stack of square matrices, their size and the identity, to make regular ones of."""
    return one(lambda x: x.ndim > 1 and x.shape[-1] == x.shape[-2] and x.size, n=lambda p, x: x.shape[-1],
               eye=lambda p, x: p.constant(np.eye(x.shape[-1])), **more)


def separated(fits=lambda x: True, **more):
    """Square matrices, their size, the identity, and a diagonal that keeps singular values and eigenvalues apart."""
    return one(lambda x: x.ndim > 1 and x.shape[-1] == x.shape[-2] and x.size and fits(x), n=lambda p, x: x.shape[-1],
               eye=lambda p, x: p.constant(np.eye(x.shape[-1])),
               ramp=lambda p, x: p.constant(np.diag(np.arange(1.0, x.shape[-1] + 1))), **more)


single = separated(lambda x: x.ndim == 2, b=fitting(lambda x, b: b.shape == x.shape[:1]))
chains = one(lambda x: x.ndim == 2, y=fitting(lambda x, y: y.ndim == 2 and y.shape[0] == x.shape[1]),
             z=fitting(lambda x, z: z.ndim == 1 and z.shape[0] == x.shape[0]))
vectors = one(axes(1), y=fitting(lambda x, y: x.shape == y.shape))
threes = one(lambda x: x.ndim and x.shape[-1] == 3, y=fitting(lambda x, y: x.shape == y.shape))
rows_and_matrices = one(axes(2), y=fitting(lambda x, y: y.ndim > 0 and y.shape[-1] == x.shape[-1]
                                           and broadcasts(np.empty(y.shape[:-1]), np.empty(x.shape[:-2]))))
stacked = one(axes(2), y=fitting(lambda x, y: y.ndim > 1 and y.shape[-2] == x.shape[-1] and stacks(x, y)))
inners = one(axes(1), y=fitting(lambda x, y: y.ndim > 0 and y.shape[-1] == x.shape[-1]))
systems = square(b=fitting(lambda x, b: b.shape == x.shape[-1:] or b.ndim > 1 and b.shape[-2] == x.shape[-1]
                           and stacks(x, b)))


# ---------------------------------------------------------------------- shapes


def reshapes(p):
    x = p.pick()
    n, shape = p.array(x).size, []
    if n == 0:
        return {"x": x, "shape": (p.integer(0, 3), 0)}
    while n > 1 and len(shape) < 3:
        shape.append(p.choose([k for k in range(1, n + 1) if n % k == 0]))
        n //= shape[-1]
    if p.chance(0.4):
        return {"x": x, "shape": (*shape, -1)}
    return {"x": x, "shape": (*shape, n) if n > 1 or p.chance(0.3) else tuple(shape)}


def joined(p):
    """Two or three arrays that can be joined along an axis."""
    x = p.pick(axes(1))
    axis = p.axis(x)
    like = np.delete(p.shape(x), axis).tolist()
    fits = [name for name, y in p.values.items()
            if y.ndim == len(like) + 1 and np.delete(y.shape, axis).tolist() == like]
    return {"xs": ", ".join([x, *p.rng.choice(fits, p.integer(1, 3))]), "axis": axis}


def same_shape(p):
    """Two or three arrays of one shape, a place for a new axis, and integers that choose among the arrays."""
    x = p.pick(lambda x: x.size <= MOST_ELEMENTS // 3)
    fits = [name for name, y in p.values.items() if y.shape == p.shape(x)]
    xs = [x, *p.rng.choice(fits, p.integer(1, 3))]
    return {"xs": ", ".join(p.rng.permutation(xs)), "axis": p.axis(x, 1), "ids": p.numbers(len(xs), *p.shape(x))}


orders = one(axes=lambda p, x: tuple(p.rng.permutation(x.ndim).tolist()))
broader = one(lambda x: x.size <= MOST_ELEMENTS // 3, shape=lambda p, x: (
    *(2,) * p.chance(0.5), *[3 if n == 1 and p.chance(0.7) else n for n in x.shape]))
new_axis = one(axis=lambda p, x: p.integer(-x.ndim - 1, x.ndim + 1))
ones_axis = one(lambda x: 1 in x.shape, axis=lambda p, x: x.shape.index(1))
tiles = one(lambda x: x.size <= 16, reps=lambda p, x: tuple(p.integer(1, 3) for _ in range(p.integer(1, 4))))
borders = one(lambda x: x.ndim and x.size, mode=one_of("edge", "symmetric", "wrap"), value=one_of(0, 0.5),
              widths=lambda p, x: [(p.integer(0, 3), p.integer(0, 2)) for _ in x.shape])
diagonals = one(lambda x: x.ndim in (1, 2) and max(x.shape) < 6, k=one_of(-1, 0, 1))
grid = one(lambda x: x.ndim == 1, y=fitting(lambda x, y: y.ndim == 1), indexing=one_of("xy", "ij"))


# ---------------------------------------------------------------------- places


def index(p):
    """A basic index: numbers, slices with steps of either sign, None and `...`."""
    x = p.pick(axes(1))
    parts = []
    for n in p.shape(x)[:p.integer(1, len(p.shape(x)) + 1)]:
        kind = p.choose(("number" if n else ":", f"{p.integer(0, 2)}:{p.choose(('', -1, n))}", ":", "::2", "::-1"),
                        (3, 3, 2, 2, 1))
        parts.append(str(p.integer(-n, n)) if kind == "number" else kind)
    if p.chance(0.2):
        parts.insert(p.integer(0, len(parts) + 1), "None")
    if p.chance(0.2):
        parts.append("...")
    return {"x": x, "at": ", ".join(parts)}


def fancy(p):
    """An integer array that may name a place twice, alone or behind slices."""
    x = p.pick(lambda a: a.ndim > 0 and a.size)
    axis = p.integer(0, len(p.shape(x)))
    return {"x": x, "at": ":, " * axis + places(p, p.shape(x)[axis])}


def fancy_two(p):
    """Two integer arrays, side by side or with a slice between them."""
    x = p.pick(lambda a: a.ndim > 1 and a.size)
    shape = p.shape(x)
    if len(shape) > 2 and p.chance(0.4):
        return {"x": x, "at": f"{p.numbers(shape[0], 3)}, :, {p.numbers(shape[2], 3)}"}
    return {"x": x, "at": f"{p.numbers(shape[0], 2, 1)}, {p.numbers(shape[1], 3)}"}


def row_places(p):
    """For each row along an axis places of its own, and values for them; none is named twice."""
    fields = along(1)(p)
    shape, axis = p.shape(fields["x"]), fields["axis"]
    ids = np.argsort(p.rng.random(shape), axis=axis).take(range(min(shape[axis], p.integer(1, 3))), axis)
    return {**fields, "ids": p.constant(ids), "v": p.of_shape(*ids.shape)}


def new_rows(p):
    x = p.pick(lambda a: a.ndim > 0 and a.shape[0] > 1)
    ids = p.rng.permutation(p.shape(x)[0])[:p.integer(1, p.shape(x)[0])]
    return {"x": x, "ids": p.constant(ids), "v": p.of_shape(len(ids), *p.shape(x)[1:])}


masked = one(axes(1), at=lambda p, x: p.mask(*x.shape[:p.integer(1, x.ndim + 1)]))
scattered = one(lambda x: x.ndim and x.size, ids=lambda p, x: p.numbers(4, len(x)),
                shape=lambda p, x: (4, *x.shape[1:]))
lookups = one(lambda x: x.ndim == 2 and x.size, ids=lambda p, x: p.numbers(len(x), *p.choose(((3,), (2, 2), ()))))


# ---------------------------------------------------------------------- networks


def heads(p):
    """q, k and v for attention, with what masks them."""
    q = p.pick(lambda a: a.ndim > 1 and a.size)
    t, d = p.shape(q)[-2:]

    def fits(b, axis, n):
        return b.ndim > 1 and b.size > 0 and b.shape[axis] == n and stacks(b, p.array(q)) and (
            b.ndim < 3 or len(p.shape(q)) < 3 or b.shape[-3] == p.shape(q)[-3])
    k = p.pick(lambda b: fits(b, -1, d)) if p.chance(0.7) else p.leaf((p.integer(1, 4), d))
    s = p.shape(k)[-2]
    v = p.pick(lambda b: fits(b, -2, s) and stacks(b, p.array(k))) if p.chance(0.7) else p.leaf((s, p.integer(1, 4)))
    mask = p.choose((lambda *_: None, p.mask, p.of_shape), (2, 1, 1))(t, s)
    return {"q": q, "k": k, "v": v, "mask": mask, "causal": p.chance(0.4) and s >= t, "scale": p.choose((None, 0.3))}


def classes(p, x):
    ids = p.rng.integers(x.shape[-1], size=x.shape[:-1])
    if ids.size > 1 and p.chance(0.3):
        ids.flat[0] = -100
    return p.constant(ids)


def perhaps_a_row(p, x):
    return p.of_shape(x.shape[-1]) if p.chance(0.7) else None


reductions = one_of("mean", "sum", "none")
classified = one(lambda x: x.ndim and x.size, ids=classes, s=one_of(0.0, 0.1), r=reductions)
normed = one(lambda x: x.ndim and x.shape[-1] > 1, w=perhaps_a_row, b=perhaps_a_row)
targets = alike(lambda x, y: x.size, r=reductions)
# Where the two are equal, the divergence has its minimum, and finite differences see only noise.
divergences = alike(lambda x, y: x.ndim and x.size and not np.allclose(x, y, atol=GAP), axis=an_axis, r=reductions)
