"""Products and decompositions of matrices."""

from __future__ import annotations

import math
import string

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..define import composed, op
from ..methods import ANSWERS
from .elementwise import as_array, root
from .index import scatter_add

# ---------------------------------------------------------------------- products


@op(answers=(np.matmul, np.linalg.matmul))
def matmul(x, y):
    """Matrix product of the last two axes, the others broadcast; a 1-D array is a row on the left and a column
    on the right.  zᵢⱼ = Σₖ xᵢₖ yₖⱼ"""
    return np.matmul(x, y)


def _as_matrices(g, x, y):
    """`g`, `x` and `y` with the axes that matmul takes 1-D arrays to have."""
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
    """(…, n) -> (rows, n)"""
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
    takes them (letters in a string, not lists of numbers).  y = Σ over the letters not in the result of Π xs"""
    return np.einsum(_explicit(subscripts, xs)[0], *xs, optimize=optimize)


def _explicit(subscripts, xs):
    """The subscripts with a letter for every axis and the result written out, and the parts of its left side.

    `...` becomes capital letters that are free, counted from the last axis, as broadcasting does.
    """
    if not isinstance(subscripts, str):
        raise TypeError("einsum takes its subscripts as one string before the arrays")
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(xs):
        raise ValueError(f"{subscripts!r} is about {len(parts)} arrays, and there are {len(xs)}")
    free = [c for c in string.ascii_uppercase + string.ascii_lowercase if c not in subscripts]
    dots = [max(x.ndim - len(part.replace("...", "")), 0) if "..." in part else 0 for part, x in zip(parts, xs)]
    letters = "".join(free[:max(dots)])
    if not arrow:  # letters that occur once, in order
        out = "..." + "".join(sorted(c for c in set(left) - set(".,") if left.count(c) == 1))
    parts = [part.replace("...", letters[len(letters) - n:]) for part, n in zip(parts, dots)]
    out = out.replace("...", letters)
    return f"{','.join(parts)}->{out}", parts, out

@einsum.gradient("*xs")
def _(g, y, subscripts, *xs, optimize=False):
    """∂L/∂xᵢ = the sum of products of g and the other xs, by the same letters"""
    xs = [as_array(x) for x in xs]
    _, parts, out = _explicit(subscripts, xs)
    return [_einsum_gradient(g, xs, parts, out, i, optimize) for i in range(len(xs))]


def _einsum_gradient(g, xs, parts, out, i, optimize):
    lengths, letters = dict(zip(parts[i], xs[i].shape)), "".join(dict.fromkeys(parts[i]))
    operands = [(out, g), *[(part, x) for j, (part, x) in enumerate(zip(parts, xs)) if j != i]]
    reach = {c: n for part, a in operands for c, n in zip(part, a.shape)}
    # Along an axis that only x has, its gradient is everywhere the same.
    operands += [(c, np.ones_like(g, shape=(n,))) for c, n in lengths.items() if reach.get(c) != n]
    d = np.einsum(",".join(part for part, _ in operands) + "->" + letters, *[a for _, a in operands], optimize=optimize)
    broadcast = tuple(a for a, c in enumerate(letters) if lengths[c] != d.shape[a])
    d = d.sum(axis=broadcast, keepdims=True) if broadcast else d
    if letters == parts[i]:
        return d
    # Where a letter stands twice, x was read on a diagonal.
    places = {c: np.arange(n).reshape([-1 if c == other else 1 for other in letters])
              for c, n in zip(letters, d.shape)}
    return scatter_add(d, tuple(places[c] for c in parts[i]), shape=xs[i].shape)


ANSWERS[np.einsum] = lambda subscripts, *xs, **settings: einsum(subscripts, xs, **settings)


@composed(answers=(np.tensordot, np.linalg.tensordot))
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


@composed(answers=(np.outer, np.linalg.outer))
def outer(a, b):
    """All products of the elements of a and of b: aᵢ bⱼ"""
    return np.ravel(a)[:, None] * np.ravel(b)


@composed
def vdot(a, b):
    """Sum of the products of all elements."""
    return np.ravel(a) @ np.ravel(b)


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


@composed(answers=np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """Length of vectors (one axis) or Frobenius norm of matrices (two axes, or all).  y = √Σ x²

    The gradient of a zero vector's is 0.  ord=1 and np.inf give Σ|x| and max|x| of vectors.
    """
    if axis is None and ord in (None, "fro", 2) and (ord != 2 or x.ndim == 1):
        axis = tuple(range(x.ndim))
    axes = axis if isinstance(axis, tuple) else (axis,) if axis is not None else tuple(range(x.ndim))
    if ord in (1, np.inf) and len(axes) == 1:
        return np.absolute(x).sum(axis=axes, keepdims=keepdims) if ord == 1 else \
            np.absolute(x).max(axis=axes, keepdims=keepdims)
    if ord not in (None, "fro", 2) or ord == 2 and len(axes) > 1:
        raise ValueError(f"no norm of order {ord!r} over the axes {axes}: vectors have the orders None, 1, 2 and "
                         "np.inf, matrices None and 'fro'")
    return root(np.square(x).sum(axis=axes, keepdims=keepdims))


# ---------------------------------------------------------------------- square matrices


@op(answers=np.linalg.inv)
def inv(x):
    """Inverse of the matrices in the last two axes.  y = x⁻¹"""
    return np.linalg.inv(x)

@inv.gradient("x")
def _(g, y, x):
    """∂L/∂x = −yᵀ g yᵀ"""
    return -(y.mT @ g @ y.mT)


@op(answers=np.linalg.solve)
def solve(a, b):
    """Solution of a y = b, for matrices a (…, n, n) and a vector b (n,) or matrices b (…, n, k).  y = a⁻¹ b"""
    return np.linalg.solve(a, b)


def _transposed_solve(g, a, b):
    """a⁻ᵀ g, with vectors as columns"""
    return np.linalg.solve(a.mT, g[..., None] if b.ndim == 1 else g)

@solve.gradient("a")
def _(g, y, a, b):
    """∂L/∂a = −a⁻ᵀ g yᵀ"""
    return -(_transposed_solve(g, a, b) @ (y[..., None] if b.ndim == 1 else y).mT)

@solve.gradient("b")
def _(g, y, a, b):
    """∂L/∂b = a⁻ᵀ g"""
    d = _transposed_solve(g, a, b)
    return d[..., 0] if b.ndim == 1 else d


@op(answers=np.linalg.det)
def det(x):
    """Determinant.  y = det x    The gradient of a singular matrix's is refused, since it goes through x⁻¹."""
    return np.linalg.det(x)

@det.gradient("x")
def _(g, y, x):
    """∂L/∂x = g y x⁻ᵀ"""
    return (g * y)[..., None, None] * np.linalg.inv(x).mT


@op(answers=np.linalg.slogdet)
def slogdet(x):
    """Sign of the determinant and logarithm of its absolute value.  y = (sign det x, ln |det x|)"""
    return tuple(np.linalg.slogdet(x))

@slogdet.gradient("x")
def _(g, y, x):
    """∂L/∂x = g₁ x⁻ᵀ"""
    return g[1][..., None, None] * np.linalg.inv(x).mT


@op(answers=np.linalg.cholesky)
def cholesky(x):
    """Cholesky factor of symmetric x (the mean of x and xᵀ is used, so that the gradient is symmetric too, as PyTorch's
    is; NumPy looks at the lower half only).  y = the lower triangle with y yᵀ = x"""
    return np.linalg.cholesky((x + x.mT) / 2)

@cholesky.gradient("x")
def _(g, y, x):
    """∂L/∂x = (s + sᵀ) / 2, s = y⁻ᵀ Φ(yᵀ g) y⁻¹, Φ the lower triangle with half of the diagonal    (Murray 2016)"""
    z = y.mT @ g
    s = np.linalg.solve(y.mT, (np.tril(z) + np.tril(z, -1)) / 2)
    s = np.linalg.solve(y.mT, s.mT)
    return (s + s.mT) / 2
