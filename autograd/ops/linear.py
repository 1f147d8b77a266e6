"""Linear ops: products of vectors, matrices and tensors; convolution, and the discrete Fourier transform."""

from __future__ import annotations

import math
import operator
import string

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..core.arrays import widen
from ..core.registry import NUMPY_OVERRIDES
from ..define import composed, op
from .elementwise import as_array
from .index import scatter_add, slice_along

# ---------------------------------------------------------------------- products


@op(implements=(np.matmul, np.linalg.matmul))
def matmul(x, y):
    """Matrix product of the last two axes, the others broadcast; a 1-D array is a row on the left and a column
    on the right.  zᵢⱼ = Σₖ xᵢₖ yₖⱼ"""
    return np.matmul(x, y)


def _as_matrices(g, x, y):
    """Return `g`, `x` and `y` with the axes that matmul adds to 1-D arrays."""
    g = g[..., None] if y.ndim == 1 else g
    g = g[..., None, :] if x.ndim == 1 else g
    return g, x[None, :] if x.ndim == 1 else x, y[:, None] if y.ndim == 1 else y

@matmul.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g yᵀ"""
    g, _, y = _as_matrices(g, x, y)
    return g @ y.mT

@matmul.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = xᵀ g"""
    g, matrix, _ = _as_matrices(g, x, y)
    d = matrix.mT @ g
    return d[..., 0] if y.ndim == 1 else d


@op
def linear(x, w, b):
    """Affine map of the last axis: x (…, n), w (n, m), b (m,) or None -> (…, m).  y = x w + b

    The leading axes are one axis of rows to it, so that each product is one large matrix product.
    """
    if w.ndim != 2 or b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"w has shape {w.shape} and needs two axes; b needs shape {w.shape[1:]}, or to be None")
    y = (_rows(x) @ w).reshape(*x.shape[:-1], w.shape[1])
    return y if b is None else y + b


def _rows(x):
    """Return x as rows: (…, n) -> (rows, n)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])

@linear.gradient("x")
def _(g, y, x, w, b):
    """∂L/∂x = g wᵀ"""
    return (_rows(g) @ w.mT).reshape(x.shape)

@linear.gradient("w")
def _(g, y, x, w, b):
    """∂L/∂w = xᵀ g, summed over all rows"""
    return _rows(x).mT @ _rows(g)

@linear.gradient("b")
def _(g, y, x, w, b):
    """∂L/∂b = g, summed over all rows"""
    return g


@op
def einsum(subscripts, *xs, optimize=False):
    """Sum of products by index letters: `"ij,jk->ik"`, with `...`, repeated letters and the implicit result, as NumPy
    takes them (np.einsum also takes lists of numbers: `np.einsum(x, [0, 1], y, [1, 2])`).
    y = Σ over the letters not in the result of Π xs"""
    y = np.einsum(explicit_subscripts(subscripts, xs)[0], *[widen(x) for x in xs], optimize=optimize)
    return y.astype(np.float16) if np.result_type(*xs) == np.float16 else y


def explicit_subscripts(subscripts, xs):
    """Return the subscripts with a letter for every axis and the result written out, the terms of its left side, and
    its right side.

    `...` becomes capital letters that are free, counted from the last axis, as broadcasting does.
    """
    if not isinstance(subscripts, str):
        raise TypeError("the subscripts are one string before the arrays")
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(xs):
        raise ValueError(f"{subscripts!r} is about {len(terms)} arrays, and there are {len(xs)}")
    free = [c for c in string.ascii_uppercase + string.ascii_lowercase if c not in subscripts]
    dots = [max(np.ndim(x) - len(term.replace("...", "")), 0) if "..." in term else 0 for term, x in zip(terms, xs)]
    letters = "".join(free[:max(dots)])
    if not arrow:  # letters that occur once, in order
        out = "..." + "".join(sorted(c for c in set(left) - set(".,") if left.count(c) == 1))
    terms = [term.replace("...", letters[len(letters) - n:]) for term, n in zip(terms, dots)]
    out = out.replace("...", letters)
    return f"{','.join(terms)}->{out}", terms, out

@einsum.gradient("*xs")
def _(g, y, subscripts, *xs, optimize=False):
    """∂L/∂xᵢ = the sum of products of g and the other xs, by the same letters"""
    xs = [as_array(x) for x in xs]
    _, terms, out = explicit_subscripts(subscripts, xs)
    return [_einsum_gradient(g, xs, terms, out, i, optimize) for i in range(len(xs))]


def _einsum_gradient(g, xs, terms, out, i, optimize):
    """Contract g and the other operands to the letters of operand i, each letter once."""
    letters, lengths = "".join(dict.fromkeys(terms[i])), dict(zip(terms[i], xs[i].shape))
    operands = [(out, g), *[(term, widen(x)) for j, (term, x) in enumerate(zip(terms, xs)) if j != i]]
    operands += _ones_for_missing_axes(g, lengths, operands)
    d = np.einsum(",".join(term for term, _ in operands) + "->" + letters, *[a for _, a in operands], optimize=optimize)
    d = _sum_broadcast_axes(d, lengths.values())
    if letters == terms[i]:
        return d
    return _scatter_diagonal(d, letters, terms[i], xs[i].shape)


def _ones_for_missing_axes(g, lengths, operands):
    """Return operands of ones for the axes that only x has: along these its gradient is everywhere the same."""
    reach = {c: n for term, a in operands for c, n in zip(term, a.shape)}
    return [(c, np.ones_like(g, shape=(n,))) for c, n in lengths.items() if reach.get(c) != n]


def _sum_broadcast_axes(d, lengths):
    """Sum over the axes along which x, of these lengths, was broadcast."""
    broadcast = tuple(axis for axis, n in enumerate(lengths) if n != d.shape[axis])
    return d.sum(axis=broadcast, keepdims=True) if broadcast else d


def _scatter_diagonal(d, letters, term, shape):
    """Scatter d into zeros of `shape`, where a letter stands twice in `term`: x was read on a diagonal."""
    places = {c: np.arange(n).reshape([-1 if c == other else 1 for other in letters])
              for c, n in zip(letters, d.shape)}
    return scatter_add(d, tuple(places[c] for c in term), shape=shape)


def _numpy_einsum(*operands, **options):
    """Call einsum in both of NumPy's forms: subscripts and then arrays; or arrays, each followed by a list of the
    numbers of its axes, and perhaps the list of those of the result."""
    if isinstance(operands[0], str):
        return einsum(operands[0], operands[1:], **options)
    letters, n = string.ascii_uppercase + string.ascii_lowercase, len(operands) // 2
    terms = ["".join("..." if i is ... else letters[i] for i in axes) for axes in (*operands[1::2], *operands[2 * n:])]
    return einsum("->".join([",".join(terms[:n]), *terms[n:]]), operands[:2 * n:2], **options)


NUMPY_OVERRIDES[np.einsum] = _numpy_einsum


@composed(implements=(np.tensordot, np.linalg.tensordot))
def tensordot(a, b, axes=2):
    """Sum of products over pairs of axes: the last `axes` of a with the first of b, or (those of a, those of b)."""
    a, b = as_array(a), as_array(b)
    of_a, of_b = (range(a.ndim - axes, a.ndim), range(axes)) if np.ndim(axes) == 0 else axes
    of_a, of_b = normalize_axis_tuple(of_a, a.ndim), normalize_axis_tuple(of_b, b.ndim)
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ValueError(f"the axes {of_a} of shape {a.shape} and {of_b} of shape {b.shape} do not match")
    rest_a, rest_b = ([i for i in range(x.ndim) if i not in of] for x, of in ((a, of_a), (b, of_b)))
    left, right = [a.shape[i] for i in rest_a], [b.shape[i] for i in rest_b]
    n = math.prod(a.shape[i] for i in of_a)
    rows = a.transpose((*rest_a, *of_a)).reshape((math.prod(left), n))
    columns = b.transpose((*of_b, *rest_b)).reshape((n, math.prod(right)))
    return (rows @ columns).reshape((*left, *right))


@composed(implements=np.linalg.tensorsolve)
def tensorsolve(a, b, axes=None):
    """The y for which tensordot(a, y, y.ndim) = b, after the given axes of a have been moved to its end."""
    a, b = as_array(a), as_array(b)
    a = a if axes is None else np.moveaxis(a, axes, range(-len(axes), 0))
    shape = a.shape[b.ndim:]
    return np.linalg.solve(a.reshape(b.size, math.prod(shape)), np.ravel(b)).reshape(shape)


@composed(implements=np.linalg.tensorinv)
def tensorinv(a, ind=2):
    """Inverse of a as a map from its other axes to its first `ind` ones.  tensordot(y, a, ind) = 1"""
    if ind <= 0:
        raise ValueError(f"ind={ind}: the first axes of a are counted by a number above 0")
    first, others = a.shape[:ind], a.shape[ind:]
    return np.linalg.inv(a.reshape(math.prod(first), math.prod(others))).reshape(others + first)


@composed
def dot(a, b):
    """Product of numbers, vectors or matrices: the last axis of a with the last but one of b (or its only one)."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    a, b = as_array(a), as_array(b)
    return a @ b if b.ndim <= 2 else tensordot(a, b, (-1, -2))


@composed
def inner(a, b):
    """Sum of products over the last axes."""
    return a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else tensordot(a, b, (-1, -1))


@composed(implements=(np.outer, np.linalg.outer))
def outer(a, b):
    """All products of the elements of a and of b: aᵢ bⱼ"""
    return np.ravel(as_array(a))[:, None] * np.ravel(as_array(b))


@composed
def vdot(a, b):
    """Sum of the products of all elements."""
    return np.ravel(as_array(a)) @ np.ravel(as_array(b))


@composed
def kron(a, b):
    """Kronecker product: a block matrix of aᵢⱼ b"""
    a, b = as_array(a), as_array(b)
    n = max(a.ndim, b.ndim)
    rows, columns = ((1,) * (n - x.ndim) + x.shape for x in (a, b))
    blocks = a.reshape(tuple(k for m in rows for k in (m, 1))) * b.reshape(tuple(k for m in columns for k in (1, m)))
    return blocks.reshape(tuple(m * k for m, k in zip(rows, columns)))


@composed
def trace(a, offset=0, axis1=0, axis2=1):
    """Sum of the diagonal."""
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


NUMPY_OVERRIDES[np.linalg.trace] = lambda x, *, offset=0, **dtype: np.trace(x, offset, -2, -1, **dtype)
NUMPY_OVERRIDES[np.linalg.diagonal] = lambda x, *, offset=0: np.diagonal(x, offset, -2, -1)
NUMPY_OVERRIDES[np.matrix_transpose] = NUMPY_OVERRIDES[np.linalg.matrix_transpose] = lambda x: x.mT


@composed(implements=(np.vecdot, np.linalg.vecdot))
def vecdot(x, y, axis=-1):
    """Sum of the products along `axis`, the others broadcast.  zᵢ = Σₖ xᵢₖ yᵢₖ"""
    x, y = (np.moveaxis(as_array(a), axis, -1) for a in (x, y))
    return (x[..., None, :] @ y[..., None])[..., 0, 0]


@composed
def matvec(x, y):
    """Matrices (…, m, n) times vectors (…, n), the leading axes broadcast.  zᵢ = Σₖ xᵢₖ yₖ"""
    return vecmat(y, as_array(x).mT)


@composed
def vecmat(x, y):
    """Vectors (…, n) times matrices (…, n, m), the leading axes broadcast.  zⱼ = Σₖ xₖ yₖⱼ"""
    return (as_array(x)[..., None, :] @ as_array(y))[..., 0, :]


@composed(implements=(np.cross, np.linalg.cross))
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Cross product of vectors of 3 numbers along the given axes, the others broadcast: orthogonal to both, as long as
    the area between them.  A vector of 2 numbers has 0 for its third; of two of these only the third of the result is
    returned."""
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    a, b = np.moveaxis(as_array(a), axisa, -1), np.moveaxis(as_array(b), axisb, -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3}:
        raise ValueError(f"vectors of {a.shape[-1]} and {b.shape[-1]} numbers: a cross product is that of vectors of 3")
    flat = a.shape[-1] == b.shape[-1] == 2
    a, b = (x if x.shape[-1] == 3 else np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)]) for x in (a, b))
    y = a[..., [1, 2, 0]] * b[..., [2, 0, 1]] - a[..., [2, 0, 1]] * b[..., [1, 2, 0]]
    return y[..., 2] if flat else np.moveaxis(y, -1, axisc)


@composed(implements=np.linalg.matrix_power)
def matrix_power(x, n):
    """Product of n factors x (of −n factors x⁻¹, if n is negative), by repeated squaring.  y = xⁿ"""
    n, y = operator.index(n), None
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"x has shape {x.shape}: only square matrices, in the last two axes, have powers")
    x = np.linalg.inv(x) if n < 0 else x
    for i, bit in enumerate(reversed(f"{abs(n):b}")):
        x = x @ x if i else x
        if bit == "1":
            y = x if y is None else y @ x
    return np.tril(np.triu(x ** 0)) if y is None else y


@composed(implements=np.linalg.multi_dot)
def multi_dot(arrays):
    """Product of several matrices, in an order that takes few multiplications; the first and the last may be 1-D."""
    arrays = [as_array(a) for a in arrays]
    if len(arrays) < 2 or not {arrays[0].ndim, arrays[-1].ndim} <= {1, 2}:
        raise ValueError(f"arrays of the shapes {[a.shape for a in arrays]}: a product is that of two or more matrices")
    terms = [string.ascii_letters[i:i + 2] for i in range(len(arrays))]
    terms[0] = terms[0][2 - arrays[0].ndim:]
    terms[-1] = terms[-1][:arrays[-1].ndim]
    return einsum(f"{','.join(terms)}->{terms[0][:-1]}{terms[-1][1:]}", arrays, optimize=True)


# ---------------------------------------------------------------------- convolution and the Fourier transform


@op
def convolve(a, v, mode="full"):
    """Convolution of two 1-D arrays.  yₖ = Σᵢ aᵢ vₖ₋ᵢ    mode: "full" is every k for which there is a term; "same"
    are as many in the middle as the longer array has elements; "valid" those with all terms of the shorter one."""
    return np.convolve(a, v, mode)


def _correlate_full(g, a, v):
    """Return Σₖ gₖ vₖ₋ᵢ for each i of a; the terms that the mode left out of g, half of them in front, are 0."""
    v = np.zeros_like(g, shape=(1,)) + v  # which may be a number, and of Python's
    n = a.size + v.size - 1
    before = (n - g.size) // 2
    return np.convolve(np.pad(g, (before, 0)), v[::-1])[v.size - 1:][:a.size]

@convolve.gradient("a")
def _(g, y, a, v, mode="full"):
    """∂L/∂aᵢ = Σₖ gₖ vₖ₋ᵢ"""
    return _correlate_full(g, a, v)

@convolve.gradient("v")
def _(g, y, a, v, mode="full"):
    """∂L/∂vⱼ = Σₖ gₖ aₖ₋ⱼ"""
    return _correlate_full(g, v, a)


@composed
def correlate(a, v, mode="valid"):
    """Cross-correlation of two 1-D arrays.  yₖ = Σᵢ aᵢ₊ₖ vᵢ, for the k of `mode` as in convolve."""
    a, v = as_array(a), as_array(v)
    return np.convolve(v, a[::-1], mode)[::-1] if a.size < v.size else np.convolve(a, v[::-1], mode)


@op
def dft(re, im, n=None, axis=-1, norm=None):
    """Discrete Fourier transform of complex numbers re + i im (im None: 0), two arrays of one shape, cut to n along
    `axis` or filled up with zeros.  y = Σⱼ (reⱼ + i imⱼ) exp(−2πi jk / n)    The pair of its parts; norm as NumPy's."""
    z = np.fft.fft(re if im is None else re + 1j * im, n, axis, norm)
    return np.real(z).copy(), np.imag(z).copy()

@dft.gradient("re", "im")
def _(g, y, re, im, n=None, axis=-1, norm=None):
    """∂L/∂re = the real part of Σₖ (g₀ + i g₁) exp(2πi jk / n)
    ∂L/∂im = its imaginary part    which is the transform, with the parts exchanged before and after"""
    d_im, d_re = dft(g[1], g[0], None, axis, norm)
    return fit_length(d_re, re.shape[axis], axis), fit_length(d_im, re.shape[axis], axis)


def fit_length(x, n, axis):
    """Return x cut to n elements along `axis`, or padded with zeros."""
    axis, missing = normalize_axis_index(axis, x.ndim), n - x.shape[axis]
    if missing <= 0:
        return x if missing == 0 else x[slice_along(axis, n)]
    zeros = np.zeros_like(x, shape=(*x.shape[:axis], missing, *x.shape[axis + 1:]))
    return np.concatenate([x, zeros], axis=axis)
