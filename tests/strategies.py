"""Hypothesis strategies for the arguments of ops: shapes, axes, broadcasting, index expressions and memory layouts.

Hypothesis draws (and shrinks) the structure of a call; the numbers in its arrays come from a drawn seed, since drawing
them one by one takes most of the time and finds nothing that structure does not.  A strategy gives a `Call`.
"""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import autograd as ag

MORE = int(os.environ.get("TAPEGRAD_EXAMPLES", 0))


def examples(n):
    """So many examples, the same ones each time; or TAPEGRAD_EXAMPLES of them, others each time."""
    return settings(max_examples=MORE or n, derandomize=not MORE, database=None,
                    suppress_health_check=list(HealthCheck))


# ---------------------------------------------------------------------- a call


@dataclass(frozen=True)
class Call:
    """Arguments and settings.  Floating-point arrays in `args`, at any depth, are what is differentiated."""

    args: tuple
    attrs: dict = field(default_factory=dict)

    def floats(self):
        """The arrays of floats."""
        found = []
        self.replaced(found.append)
        return found

    def replaced(self, fn):
        """The arguments with `fn` of each of those arrays in its place."""
        return map_arrays(lambda a: fn(a) if a.dtype.kind == "f" else a, self.args)

    def leaves(self):
        """The arguments with a leaf for each of those arrays, in that array's memory layout; and the leaves."""
        leaves = []

        def leaf(a):
            leaves.append(ag.tensor(a, requires_grad=True))
            buffer = a.copy(order="K")  # a copy of a reversed array is not reversed
            leaves[-1].use_buffers(buffer if buffer.strides == a.strides else a)
            return leaves[-1]

        return self.replaced(leaf), leaves

    def astype(self, dtype):
        """The same call in another precision."""
        return Call(self.replaced(lambda a: a.astype(dtype)), self.attrs)

    def __repr__(self):
        return f"Call{source((*self.args, self.attrs))}"


def map_arrays(fn, tree):
    """`fn` of each NumPy array in nested lists and tuples."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_arrays(fn, branch) for branch in tree)
    return fn(tree) if isinstance(tree, np.ndarray) else tree


def outputs(y):
    """The results of a function that gives one or several."""
    return list(y) if isinstance(y, (tuple, list)) else [y]


def floating(ys):
    """Return those of several results that can have a gradient."""
    return [y for y in ys if "float" in str(y.dtype)]


def source(a):
    """Python that makes `a` again where numpy is np: every digit, and the strides of the views below."""
    if isinstance(a, np.ndarray):
        return _array_source(a)
    if isinstance(a, (list, tuple)):
        items = ", ".join(map(source, a))
        return f"[{items}]" if isinstance(a, list) else f"({items}{',' * (len(a) == 1)})"
    if isinstance(a, dict):
        return "{" + ", ".join(f"{key!r}: {source(value)}" for key, value in a.items()) + "}"
    if isinstance(a, (float, np.floating)) and not math.isfinite(a):
        return f"np.{'nan' if a != a else 'inf'}" if not a < 0 else "-np.inf"
    if isinstance(a, type):
        return f"np.{a.__name__}" if issubclass(a, np.generic) else a.__name__
    return repr(a.item() if isinstance(a, np.generic) else a)


def _array_source(a):
    dtype = "" if a.dtype in (np.float64, np.int64, bool) else f", np.{a.dtype}"
    if a.size == 0:
        return f"np.zeros({a.shape}, np.{a.dtype})"
    if a.flags.c_contiguous:
        return f"np.array({source(a.tolist())}{dtype})"
    if a.flags.f_contiguous:
        return f"{_array_source(a.T)}.T"
    if all(s < 0 for s, n in zip(a.strides, a.shape) if n > 1):
        return f"{_array_source(a[_BACKWARDS * a.ndim].copy())}[{', '.join(['::-1'] * a.ndim)}]"
    return f"np.repeat({_array_source(a.copy())}, 2, -1)[..., ::2]"


# ---------------------------------------------------------------------- numbers


def normal(rng, shape):
    return rng.normal(size=shape)


def between(low, high):
    return lambda rng, shape: rng.uniform(low, high, shape)


def nonzero(low=0.5, high=2.0):
    """Numbers of both signs, away from 0."""
    return lambda rng, shape: rng.uniform(low, high, shape) * rng.choice([-1.0, 1.0], shape)


def whole(rng, shape):
    """Whole numbers as floats, many of them equal."""
    return rng.integers(-2, 3, shape).astype(float)


def between_whole(rng, shape):
    """Numbers away from whole ones."""
    return rng.integers(-3, 3, shape) + rng.uniform(0.2, 0.8, shape)


def signs(rng, shape):
    return rng.choice([-1.0, 1.0], shape)


def apart(rng, shape):
    """Numbers of both signs, each 0.2 from the others and 0.1 from 0."""
    n = math.prod(shape)
    return np.reshape((rng.permutation(n) - n // 2 + 0.5) * 0.2, shape)


def shifted(values, by):
    """Numbers that meet none of `values`."""
    return lambda rng, shape: values(rng, shape) + by


def spread(rng, shape):
    """Numbers of many magnitudes."""
    return rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3, shape)


def wild(rng, shape):
    """Numbers with NaN and infinities among them."""
    return np.where(rng.random(shape) < 0.4, rng.choice([np.nan, np.inf, -np.inf], shape), rng.normal(size=shape))


def probabilities(rng, shape):
    """Positive numbers of sum 1 along the last axis."""
    p = rng.uniform(0.1, 1, shape)
    return p / p.sum(axis=-1, keepdims=True)


def integers(high, low=0):
    return lambda rng, shape: rng.integers(low, high, shape)


def booleans(rng, shape):
    return rng.random(shape) < 0.6


def symmetric_positive(rng, shape):
    """Symmetric matrices with eigenvalues above 1."""
    a = rng.normal(size=shape)
    return a @ a.mT + np.eye(shape[-1])


def spread_singular(rng, shape):
    """Matrices whose singular values are 1, 2, 3 …"""
    u, s, vh = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return (u * np.arange(s.shape[-1], 0.0, -1)) @ vh


def spread_symmetric(rng, shape):
    """Symmetric matrices whose eigenvalues are −0.5, 1, 2.5 …"""
    v = np.linalg.qr(rng.normal(size=shape)).Q
    a = (v * (1.5 * np.arange(shape[-1]) - 0.5)) @ v.mT
    return (a + a.mT) / 2


def invertible(rng, shape):
    """Matrices of no symmetry, far from singular."""
    return 0.3 * rng.normal(size=shape) + 2 * np.eye(shape[-1])


# ---------------------------------------------------------------------- arrays


_BACKWARDS = (slice(None, None, -1),)
LAYOUTS = ("C", "F", "backwards", "strided")
generators = st.shared(st.integers(0, 2**32 - 1).map(np.random.default_rng), key="numbers")  # one for a whole call
sides = st.sampled_from([2, 3, 1, 0])


def in_layout(a, layout):
    """The same numbers in an array of other strides."""
    if a.ndim == 0 or a.size == 0 or layout == "C":
        return a
    if layout == "F":
        return np.asfortranarray(a)
    if layout == "backwards":
        back = _BACKWARDS * a.ndim
        return a[back].copy()[back]
    return np.repeat(a, 2, -1)[..., ::2]


@st.composite
def shapes(draw, least=0, most=3, min_side=0):
    """Shapes of `least` to `most` axes."""
    return tuple(max(n, min_side) for n in draw(st.lists(sides, min_size=least, max_size=most)))


@st.composite
def arrays(draw, shape=None, values=normal):
    """An array of `shape` (a tuple, or a strategy) in any layout."""
    shape = draw(shape if shape is not None else shapes()) if not isinstance(shape, tuple) else shape
    a = np.asarray(values(draw(generators), shape))
    return in_layout(a, draw(st.sampled_from(LAYOUTS)))


@st.composite
def broadcasting(draw, n=2, most=3):
    """`n` shapes that broadcast together."""
    whole = draw(shapes(most=most))
    made = []
    for _ in range(n):
        kept = whole[draw(st.integers(0, len(whole))):] if draw(st.booleans()) else whole
        ones = draw(st.lists(st.booleans(), min_size=len(kept), max_size=len(kept))) if draw(st.booleans()) else ()
        made.append(tuple(1 if i < len(ones) and ones[i] else m for i, m in enumerate(kept)))
    return made


def axis(ndim):
    """One of `ndim` axes, from either end."""
    return st.integers(-ndim, ndim - 1)


@st.composite
def some_axes(draw, ndim, some=True):
    """One axis, several, or None: all; with `some=False` not several."""
    if ndim == 0 or draw(st.integers(0, 3)) == 0:
        return None
    if not some or draw(st.booleans()):
        return draw(axis(ndim))
    several = draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim))
    return tuple(a - ndim if draw(st.booleans()) else a for a in several)


def settled(settings):
    """Some of these settings, each of a strategy."""
    return st.fixed_dictionaries({}, optional=settings)


# ---------------------------------------------------------------------- calls of a kind


@st.composite
def calls(draw, *args, **settings):
    """Arguments that do not depend on one another; settings that may be left out."""
    return Call(tuple(draw(a) for a in args), draw(settled(settings)))


def one(values=normal, least=0, most=3, min_side=0, **settings):
    """An op of one array."""
    return calls(arrays(shapes(least, most, min_side), values), **settings)


@st.composite
def elementwise(draw, *values, numbers=True, **settings):
    """An op of several arrays that broadcast; one of them may be a Python number."""
    made = draw(broadcasting(len(values)))
    args = [draw(arrays(shape, make)) for shape, make in zip(made, values)]
    if numbers and len(args) > 1 and draw(st.integers(0, 7)) == 0:
        i = draw(st.integers(0, len(args) - 1))
        args[i] = values[i](draw(generators), ()).item() if args[i].dtype.kind == "f" else args[i]
    return Call(tuple(args), draw(settled(settings)))


two = functools.partial(elementwise, normal, normal)


@st.composite
def reductions(draw, values=normal, some=True, none=True, least=0, keepdims=True, **settings):
    """A reduction, whose reduced axes have at least `least` elements each.  none: perhaps over no axis at all."""
    ndim = draw(st.integers(int(not none), 3))
    along = draw(some_axes(ndim, some))
    along = None if along == () and not none else along
    attrs = draw(settled({"keepdims": st.booleans(), **settings} if keepdims else settings))
    if along is not None or draw(st.booleans()):
        attrs["axis"] = along
    return Call((draw(arrays(_long_enough(draw, ndim, along, least), values)),), attrs)


@st.composite
def along_axis(draw, values=normal, default=True, least=0, flat=False, several=False, **settings):
    """An op that works along one axis: the last one (`default`), a drawn one, or all flattened (`flat`)."""
    ndim = draw(st.integers(0 if flat else 1, 3))
    attrs = draw(settled(settings))
    chosen = -1
    if ndim == 0 or flat and draw(st.integers(0, 3)) == 0:
        chosen = attrs["axis"] = None
    elif not default or draw(st.booleans()):
        chosen = attrs["axis"] = draw(axis(ndim))
    if several and ndim > 1 and draw(st.integers(0, 4)) == 0:
        chosen = attrs["axis"] = (0, -1)
    return Call((draw(arrays(_long_enough(draw, ndim, chosen, least), values)),), attrs)


def _long_enough(draw, ndim, axis, least):
    """A shape whose axes `axis` have at least `least` elements each."""
    those = range(ndim) if axis is None else {a % ndim for a in (axis if isinstance(axis, tuple) else (axis,))}
    return tuple(max(draw(sides), least if i in those else 0) for i in range(ndim))


@st.composite
def from_array(draw, make, shape=None, values=normal, **settings):
    """An array, and what is made from it: `make(draw, x)` gives further arguments as a tuple, or settings as a dict."""
    x = draw(arrays(shape if shape is not None else shapes(), values))
    made, attrs = make(draw, x), draw(settled(settings))
    return Call((x,), {**attrs, **made}) if isinstance(made, dict) else Call((x, *made), attrs)


def ordered(q):
    """An array whose order is safe, one of its axes or None, and the place q in that order."""
    made = from_array(lambda d, x: {"axis": d(st.none() | axis(x.ndim))}, shapes(1, min_side=1), apart,
                      keepdims=st.booleans())
    return made.map(lambda call: Call((*call.args, q), call.attrs))


def increasing(rng, shape):
    return np.cumsum(rng.uniform(0.3, 1, shape))


def one_dimensional(**settings):
    """Two arrays with one axis, which is not empty."""
    return calls(arrays(shapes(1, 1, 1)), arrays(shapes(1, 1, 1)), **settings)


@st.composite
def complex_pairs(draw, least=1, real=False, together=False, axes=False):
    """The real and the imaginary parts of complex numbers, as one argument or as two; or `real` ones.  At least `least`
    along each axis, and the lengths and axes of a Fourier transform: of one, or of all `axes`."""
    shape = draw(shapes(1, min_side=least))
    made = tuple(draw(arrays(shape)) for _ in range(1 if real else 2))
    length = st.integers(1, 5)
    attrs = draw(settled({"norm": st.sampled_from([None, "ortho", "forward", "backward"])}))
    if draw(st.booleans()):
        along = draw(st.permutations(range(len(shape))))
        attrs |= {"axes": tuple(along)} if axes else {"axis": along[0]}
        if draw(st.booleans()):
            attrs |= {"s": tuple(draw(length) for _ in along)} if axes else {"n": draw(length)}
    return Call((made,) if together else made, attrs)


# ---------------------------------------------------------------------- matrices


@st.composite
def products(draw):
    """Two arrays that can be multiplied as matrices."""
    n, m, k = draw(sides), draw(sides), draw(sides)
    batch = draw(broadcasting(2, most=2))
    left, right = (*batch[0], n, k), (*batch[1], k, m)
    which = draw(st.integers(0, 5))
    return Call((draw(arrays((k,) if which == 0 else left)), draw(arrays((k,) if which in (0, 1) else right))))


@st.composite
def square(draw, values=invertible):
    """A stack of square matrices."""
    n = draw(st.integers(1, 3))
    return Call((draw(arrays((*draw(shapes(most=2)), n, n), values)),))


@st.composite
def rectangular(draw, values=spread_singular, least=1, **settings):
    """A stack of matrices of any shape from `least` rows and columns."""
    shape = (*draw(shapes(most=1)), draw(st.integers(least, 3)), draw(st.integers(least, 3)))
    return Call((draw(arrays(shape, values)),), draw(settled(settings)))


@st.composite
def along_square(draw):
    """A square matrix that has an inverse, and none or one of any other numbers as its direction."""
    x = draw(arrays((*draw(shapes(most=2)), 3, 3), invertible))
    return Call((x, [draw(arrays(x.shape))] if draw(st.booleans()) else []))


@st.composite
def chains(draw):
    """Two to four matrices that can be multiplied, of which the first and the last may be 1-D."""
    sizes = [draw(sides) for _ in range(draw(st.integers(3, 5)))]
    made = [list(pair) for pair in zip(sizes, sizes[1:])]
    made[0] = made[0][draw(st.integers(0, 1)):]
    made[-1] = made[-1][:draw(st.integers(1, 2))]
    return Call(([draw(arrays(tuple(shape))) for shape in made],))


@st.composite
def fitted(draw):
    """A matrix of full rank, and right-hand sides of as many rows: columns, or one vector."""
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    b = draw(arrays((m,) if draw(st.booleans()) else (m, draw(sides))))
    return Call((draw(arrays((m, n), spread_singular)), b))


@st.composite
def tensors(draw, right=True):
    """A tensor whose first axes have as many elements as its last ones, and a right-hand side for it."""
    shape = draw(st.sampled_from([((2, 3), (6,)), ((2,), (2,)), ((2, 2), (4, 1)), ((4,), (2, 2))]))
    n = math.prod(shape[0])
    a = in_layout(invertible(draw(generators), (n, n)).reshape(shape[0] + shape[1]), draw(st.sampled_from(LAYOUTS)))
    return Call((a, draw(arrays(shape[0])))) if right else Call((a, len(shape[0])))


@st.composite
def matrices_and_vectors(draw, vector_first=False):
    """Matrices, and vectors of their rows' length (or, first, of their columns'), in stacks that broadcast."""
    n, m, batch = draw(sides), draw(sides), draw(broadcasting(2, most=2))
    matrix, vector = draw(arrays((*batch[0], n, m))), draw(arrays((*batch[1], n if vector_first else m)))
    return Call((vector, matrix) if vector_first else (matrix, vector))


@st.composite
def vectors(draw, n=None, **settings):
    """Two stacks of vectors of the same length, along the last axis, that broadcast."""
    n, batch = n or draw(sides), draw(broadcasting(2, most=2))
    return Call(tuple(draw(arrays((*shape, n))) for shape in batch), draw(settled(settings)))


@st.composite
def systems(draw, values=invertible):
    """A stack of square matrices, and right-hand sides: columns, or one vector."""
    n = draw(st.integers(1, 3))
    if draw(st.booleans()):
        return Call((draw(arrays((n, n), values)), draw(arrays((n,)))))
    batch = draw(broadcasting(2, most=2))
    return Call((draw(arrays((*batch[0], n, n), values)), draw(arrays((*batch[1], n, draw(sides))))))


@st.composite
def affine(draw):
    """x, w, b of a linear map; b may be None."""
    n, m = draw(sides), draw(sides)
    b = draw(arrays((m,))) if draw(st.booleans()) else None
    return Call((draw(arrays((*draw(shapes(most=2)), n))), draw(arrays((n, m))), b))


@st.composite
def einsums(draw):
    """Subscripts over the axes i, j, k, and the arrays for them."""
    lengths = {letter: draw(sides) for letter in "ijk"}
    written = draw(st.sampled_from(["ij,jk->ik", "i,i->", "ij->ji", "ij->", "ij,ij->i", "i,j->ij", "ijk,jk->i", "ii->i",
                                    "ij,j->i", "ij,jk,k->i", "...i,...i->...", "...ij->...ji", "ij,jk"]))
    inputs = written.split("->")[0].replace("...", "k").split(",")
    return Call((written, [draw(arrays(tuple(lengths[c] for c in term))) for term in inputs]))


@st.composite
def dots(draw):
    """Two arrays of which the last axis of one meets the last but one (or only one) of the other, or a number."""
    k, a, b = draw(sides), draw(shapes(most=2)), draw(shapes(most=2))
    if draw(st.integers(0, 4)) == 0:
        return Call((draw(arrays(a)), draw(arrays(()))))
    return Call((draw(arrays((*a, k))), draw(arrays((*b[:-1], k, *b[-1:])))))


@st.composite
def inners(draw):
    """Two arrays with the same last axis."""
    k = draw(sides)
    return Call((draw(arrays((*draw(shapes(most=2)), k))), draw(arrays((*draw(shapes(most=2)), k)))))


@st.composite
def alike(draw, *values, n=2, least=0, **settings):
    """Arrays of one shape: `n` of normal numbers, or one of each `values`."""
    shape = draw(shapes(least))
    return Call(tuple(draw(arrays(shape, make)) for make in values or [normal] * n), draw(settled(settings)))


@st.composite
def contractions(draw):
    """Two arrays and the axes that tensordot sums over."""
    kept, summed = draw(shapes(most=1)), draw(shapes(most=2))
    other = draw(shapes(most=1))
    if draw(st.booleans()):
        return Call((draw(arrays(kept + summed)), draw(arrays(summed + other))), {"axes": len(summed)})
    left, right = list(range(len(kept), len(kept + summed))), list(range(len(summed)))
    order = draw(st.permutations(range(len(summed))))  # the same pairs, in any order
    return Call((draw(arrays(kept + summed)), draw(arrays(summed + other))),
                {"axes": ([left[i] for i in order], [right[i] for i in order])})


# ---------------------------------------------------------------------- shapes and indices


@st.composite
def reshapes(draw):
    """An array and another shape for it, perhaps with a −1."""
    x = draw(arrays())
    factors = [n for n in draw(st.permutations(x.shape)) if n != 1] + [1] * draw(st.integers(0, 1))
    if len(factors) > 1 and draw(st.booleans()):
        factors = [factors[0] * factors[1], *factors[2:]]
    if x.size and factors and draw(st.booleans()):
        factors[draw(st.integers(0, len(factors) - 1))] = -1
    return Call((x, tuple(factors)))


@st.composite
def broadcasts(draw):
    """An array, and a shape that it broadcasts to."""
    small, large = draw(broadcasting())
    return Call((draw(arrays(small)), np.broadcast_shapes(small, large)))


@st.composite
def pieces(draw, least=1, same=False, attr="axis", flat=False):
    """A list of arrays that fit along an axis (`same`: of one shape)."""
    shape, n = draw(shapes(0 if same else 1, 3)), draw(st.integers(least, 3))
    along = draw(axis(len(shape) + same))
    attrs = {} if attr is None or along == 0 and draw(st.booleans()) else {attr: along}
    if flat and draw(st.integers(0, 4)) == 0:  # of any shapes, flattened
        return Call(([draw(arrays()) for _ in range(n)],), {attr: None})
    made = []
    for _ in range(n):
        own = list(shape)
        if not same:
            own[along % len(shape)] = draw(sides)
        made.append(draw(arrays(tuple(own))))
    return Call((made,), attrs)


@st.composite
def sections(draw, least=1, uneven=False, along=None):
    """An array, and where to split it: a number of equal parts, or places."""
    shape = list(draw(shapes(least, 3)))
    chosen = draw(axis(len(shape))) if along is None else along
    attrs = {} if along is not None or chosen == 0 and draw(st.booleans()) else {"axis": chosen}
    if draw(st.booleans()):
        parts = draw(st.integers(1, 3))
        shape[chosen] = parts * draw(st.integers(0, 2)) + (draw(st.integers(0, 2)) if uneven else 0)
        return Call((draw(arrays(tuple(shape))), parts), attrs)
    shape[chosen] = draw(st.integers(0, 4))
    return Call((draw(arrays(tuple(shape))), sorted(draw(st.lists(st.integers(0, 5), max_size=3)))), attrs)


@st.composite
def basic_index(draw, n):
    """A number (if there is an element) or a slice of an axis of length n."""
    if n and draw(st.booleans()):
        return draw(st.integers(-n, n - 1))
    ends = st.none() | st.integers(-n - 1, n + 1)
    return slice(draw(ends), draw(ends), draw(st.sampled_from([None, 1, 2, -1, -2])))


@st.composite
def indices(draw, shape):
    """An index expression: numbers, slices, `...`, None, integer and boolean arrays, in any mixture."""
    rng = draw(generators)
    if draw(st.integers(0, 7)) == 0:
        return (booleans(rng, shape),)
    common = draw(shapes(most=2))  # integer arrays broadcast to this
    axes = list(shape[:draw(st.integers(0, len(shape)))])
    made, masked = [], False
    for n in axes:
        kind = draw(st.sampled_from(["basic", "basic", "integers", "booleans"]))
        if kind == "integers" and n:
            own = common if draw(st.booleans()) else tuple(1 if draw(st.booleans()) else m for m in common)
            made.append(rng.integers(-n, n, own))
        elif kind == "booleans" and not masked and not any(isinstance(i, np.ndarray) for i in made):
            masked = True
            made.append(booleans(rng, (n,)))
            common = ()  # a mask counts as an array of its own length; the others broadcast with that
        else:
            made.append(draw(basic_index(n)))
    if draw(st.integers(0, 3)) == 0:
        made.insert(draw(st.integers(0, len(made))), None)
    if draw(st.integers(0, 3)) == 0:
        # as many axes as the ellipsis leaves out come from the front: what follows it indexes the last ones
        made = [..., *made] if len(axes) == len(shape) else [*made, ...]
    return tuple(made)


@st.composite
def indexed(draw):
    """An array and an index expression for it."""
    x = draw(arrays())
    return Call((x, draw(indices(x.shape))))


@st.composite
def scattered(draw):
    """Draw a call of scatter_add: an array of the shape that an index into `shape` selects, and that index."""
    shape = draw(shapes())
    index = draw(indices(shape))
    return Call((draw(arrays(np.zeros(shape)[index].shape)), index), {"shape": shape})


@st.composite
def replaced_elements(draw):
    """An array, an index expression for it, and new values for what is there."""
    x = draw(arrays())
    index = draw(indices(x.shape))
    v = draw(arrays(x[index].shape)) if draw(st.booleans()) else draw(arrays(()))
    return Call((x, v, index))


@st.composite
def taken(draw):
    """An array, and integer places along an axis (None: of all elements)."""
    x = draw(arrays(shapes(least=1, min_side=1)))
    chosen = draw(st.none() | axis(x.ndim))
    n = x.size if chosen is None else x.shape[chosen]
    return Call((x, draw(arrays(shapes(most=2), integers(n, -n)))), {} if chosen is None else {"axis": chosen})


@st.composite
def taken_along(draw, values=False):
    """An array, and for each of its rows integer places along an axis; and `values` for these, no place named twice."""
    x = draw(arrays(shapes(least=1, min_side=1)))
    chosen = draw(axis(x.ndim))
    n = x.shape[chosen]
    if not values:
        shape = list(x.shape)
        shape[chosen] = draw(st.integers(0, 3))
        return Call((x, draw(arrays(tuple(shape), integers(n, -n)))), {"axis": chosen})
    places = np.argsort(draw(arrays(x.shape)), axis=chosen)
    places = places[(slice(None),) * (chosen % x.ndim) + (slice(draw(st.integers(0, n))),)]
    return Call((x, places, draw(arrays(places.shape))), {"axis": chosen})


@st.composite
def compressed(draw):
    """Truths about the places along an axis (None: about all elements), and an array."""
    x = draw(arrays(shapes(least=1)))
    chosen = draw(st.none() | axis(x.ndim))
    n = x.size if chosen is None else x.shape[chosen]
    return Call((draw(arrays((n,), booleans)), x), {} if chosen is None else {"axis": chosen})


@st.composite
def selected(draw, n=2):
    """Conditions, and a choice for each, that broadcast; and a default."""
    shape = draw(shapes())
    conditions = [draw(arrays(shape, booleans)) for _ in range(n)]
    choices = [draw(arrays(shape if draw(st.booleans()) else ())) for _ in range(n)]
    return Call((conditions, choices), draw(settled({"default": st.sampled_from([0.0, 1.5])})))


@st.composite
def chosen(draw, n=3):
    """Numbers of choices, and the choices, that broadcast."""
    shape = draw(shapes())
    choices = [draw(arrays(shape if draw(st.booleans()) else ())) for _ in range(n)]
    return Call((draw(arrays(shape, integers(n))), choices))


@st.composite
def lookups(draw):
    """Ids, and a table with a row for each."""
    n = draw(st.integers(1, 3))
    return Call((draw(arrays(shapes(), integers(n))), draw(arrays((n, draw(sides))))))


# ---------------------------------------------------------------------- networks


@st.composite
def classified(draw):
    """Logits, targets and the settings of a loss; a mean has something to be of."""
    n, reduction = draw(st.integers(1, 4)), draw(st.sampled_from(["mean", "sum", "none"]))
    shape = draw(shapes(most=2, min_side=int(reduction == "mean")))
    targets = draw(arrays(shape, integers(n)))
    ignored = draw(st.sampled_from([-100, -1]))
    if targets.ndim and targets.shape[0] > 1 and draw(st.booleans()):
        targets = targets.copy()
        targets[0] = ignored
    attrs = draw(settled({"label_smoothing": st.sampled_from([0.0, 0.1, 1.0])}))
    attrs |= {"ignore_index": ignored} if ignored != -100 else {}
    attrs |= {"reduction": reduction} if reduction != "mean" or draw(st.booleans()) else {}
    return Call((draw(arrays((*shape, n))), targets), attrs)


@st.composite
def gated(draw):
    """x (…, n), and two matrices (n, m)."""
    n, m = draw(sides), draw(sides)
    return Call((draw(arrays((*draw(shapes(most=2)), n))), draw(arrays((n, m))), draw(arrays((n, m)))))


@st.composite
def rotated(draw):
    """x (…, T, d), d even, and angles (T, d/2)."""
    t, d = draw(sides), draw(st.sampled_from([2, 4]))
    return Call((draw(arrays((*draw(shapes(most=2)), t, d))), draw(arrays((t, d // 2)))))


@st.composite
def convolved(draw):
    """x (…, T, C), and K taps (K, C), of which there may be more than T."""
    t, c = draw(sides), draw(sides)
    return Call((draw(arrays((*draw(shapes(most=2)), t, c))), draw(arrays((draw(st.integers(1, 4)), c)))))


@st.composite
def averaged(draw):
    """An array, an axis or None, and weights: as many as elements, or along the axis."""
    x = draw(arrays(shapes(min_side=1)))
    chosen = draw(some_axes(x.ndim, some=False))
    shape = (x.shape[chosen],) if chosen is not None and draw(st.booleans()) else x.shape
    return Call((x, chosen, draw(arrays(shape, between(0.5, 2)))))


@st.composite
def normalized(draw, bias=True):
    """x, weight (and bias) of a normalization over the last axis, of 3 or 4 elements: the gradient of x has no part
    along x and along 1, so that of two nothing is left."""
    n = draw(st.integers(3, 4))
    optional = [draw(arrays((n,))) if draw(st.booleans()) else None for _ in range(1 + bias)]
    attrs = draw(settled({"eps": st.sampled_from([1e-5, 0.1])}))
    return Call((draw(arrays((*draw(shapes(most=2)), n))), *optional), attrs)


@st.composite
def attended(draw):
    """q, k, v and what they may see: each query at least one key.  Several heads of q may share one of k and v."""
    t, s, d, e = (draw(st.integers(1, 3)) for _ in range(4))
    causal = draw(st.booleans())
    s = max(s, t) if causal else s  # the first of t queries sees s − t + 1 keys
    batches = draw(broadcasting(3, most=2)) if draw(st.integers(0, 3)) else [(4,), (2,), (2,)]
    q, k, v = (draw(arrays((*batch, *end))) for batch, end in zip(batches, [(t, d), (s, d), (s, e)]))
    args = (q, k, v)
    kind = draw(st.sampled_from(["no mask", "boolean", "added"]))
    if kind != "no mask":
        shape = draw(st.sampled_from([(t, s), (1, s), (s,)]))
        mask = draw(arrays(shape, booleans if kind == "boolean" else normal))
        if kind == "boolean":
            mask = mask.copy()
            mask[..., 0] = True  # a key that every query sees, causal or not
        args = (*args, mask)
    attrs = draw(settled({"scale": st.sampled_from([0.3, 1.0])}))
    return Call(args, attrs | ({"causal": True} if causal else {}))
