"""Linear algebra on the matrices in the last two axes: inverses, determinants, decompositions, norms."""

from __future__ import annotations

import itertools
import string

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core.arrays import as_floats, narrow, widen
from ..core.errors import repeated_values
from ..core.mode import current_mode
from ..core.registry import NUMPY_OVERRIDES
from ..define import composed, op
from . import reduce
from .elementwise import as_array, by_convention, not_zero, root
from .reduce import products_before


def _named(function, made):
    """Make `made` implement a NumPy function that names its results, as in `np.linalg.eigh(x).eigenvalues`."""
    names = type(function(np.eye(1)))
    NUMPY_OVERRIDES[function] = lambda *args, **how: names(*y) if type(y := made(*args, **how)) is tuple else y


def _unless(places, d, text):
    """The matrices d.  Where one of `places` (…, m, n) has no gradient, raise LinAlgError with `text(places)`; while a
    function is traced, whose numbers cannot be looked at, that matrix is NaN."""
    if not current_mode().tracing and np.any(places):
        raise np.linalg.LinAlgError(text(places))
    return np.where(np.any(places, axis=(-1, -2), keepdims=True), np.nan, d)


# ---------------------------------------------------------------------- inverses and determinants


@op(implements=np.linalg.inv)
def inv(x):
    """Inverse of the matrices in the last two axes.  y = x⁻¹"""
    return np.linalg.inv(x)

@inv.gradient("x")
def _(g, y, x):
    """∂L/∂x = −yᵀ g yᵀ"""
    return -(y.mT @ g @ y.mT)


@op(implements=np.linalg.solve)
def solve(a, b):
    """Solution of a y = b, for matrices a (…, n, n) and a vector b (n,) or matrices b (…, n, k).  y = a⁻¹ b"""
    return np.linalg.solve(a, b)


def _transposed_solve(g, a, b):
    """Return a⁻ᵀ g, with vectors as columns."""
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


@op(implements=np.linalg.det)
def det(x):
    """Determinant.  y = det x    It has derivatives of every order, at singular matrices too."""
    return np.linalg.det(x)

@det.gradient("x")
def _(g, y, x):
    """∂L/∂x = g cofactor(x), which is g y x⁻ᵀ where x has an inverse"""
    return g[..., None, None] * cofactor(x)


@op
def cofactor(x, *ds):
    """Matrix of cofactors, the gradient of the determinant; with matrices d₁ … dₖ its derivative along all of these.
    yᵢⱼ = (−1)ⁱ⁺ʲ det(x without row i and column j)

    Without ds it is det x · x⁻ᵀ, accurate however close to singular x is (Stewart 1998, On the adjugate matrix).  Where
    this does not exist, and with ds, it is Leibniz's formula in the basis of the singular vectors, with no division.
    """
    x = as_floats(x)
    value = np.linalg.det(x)
    if not ds and not np.any(np.absolute(value) < np.finfo(x.dtype).tiny):
        return value[..., None, None] * np.linalg.inv(x).mT
    outside = np.ones_like(x)
    for _ in range(2):  # columns, and then rows, to one scale by powers of two
        scale = np.exp2(np.floor(np.log2(not_zero(np.max(np.absolute(x), axis=-2, keepdims=True, initial=0)))))
        x, ds, outside = (x / scale).mT, [(d / scale).mT for d in ds], (outside * _products_without(scale, 1)).mT
    u, s, vh = np.linalg.svd(x)
    places, eye = string.ascii_letters[:len(ds) + 1], np.eye(s.shape[-1], dtype=s.dtype, like=s)
    factors = [_products_without(s, len(places)), *[u.mT @ d @ vh.mT for d in ds], eye]
    y = 0
    for order in itertools.permutations(places):
        sign = (-1) ** sum(a > b for a, b in itertools.combinations(order, 2))
        terms = ["..." + places, *[f"...{a}{b}" for a, b in zip(places[:-1], order)], order[-1] + "z"]
        y = y + sign * np.einsum(f"{','.join(terms)}->...{places[-1]}z", *factors)
    return outside * np.sign(np.linalg.det(u @ vh))[..., None, None] * (u @ y @ vh)


def _products_without(s, k):
    """Return the products of all of s (…, n) but those at k places: (…, n, …, n), and 0 where two places are equal."""
    eye, apart = np.eye(s.shape[-1], dtype=s.dtype, like=s), np.ones_like(s)
    for _ in range(k - 1):
        s, apart = np.where(eye == 1, 1, s[..., None, :]), apart[..., None] * apart[..., None, :] * (1 - eye)
    return products_before(s) * products_before(s[..., ::-1])[..., ::-1] * apart

@cofactor.gradient("x")
def _(g, y, x, *ds):
    """∂L/∂x = cofactor(x, d₁, …, dₖ, g)    derivatives are symmetric in their directions"""
    return cofactor(x, [*ds, g])

@cofactor.gradient("*ds")
def _(g, y, x, *ds):
    """∂L/∂dsᵢ = cofactor(x, the other ds, g)"""
    return [cofactor(x, [*ds[:i], *ds[i + 1:], g]) for i in range(len(ds))]


@op
def slogdet(x):
    """Sign of the determinant, and logarithm of its absolute value.  y = (sign det x, ln |det x|)    If x is singular,
    they are 0 and −∞, and have no gradient: LinAlgError."""
    return tuple(np.linalg.slogdet(x))

@slogdet.gradient("x")
def _(g, y, x):
    """∂L/∂x = g₁ x⁻ᵀ"""
    return g[1][..., None, None] * np.linalg.inv(x).mT


@op
def pinv(x, rcond=None):
    """Pseudo-inverse (Moore–Penrose); singular values up to `rcond` times the largest (None: NumPy's 1e-15) count as 0.
    y = lim (xᵀx + ε)⁻¹ xᵀ, ε → 0    Where x has not full rank y jumps, and the gradient is that along changes which
    keep the rank."""
    return np.linalg.pinv(x, rcond)

@pinv.gradient("x")
def _(g, y, x, rcond=None):
    """∂L/∂x = yᵀy gᵀ (1 − y x) + (1 − x y) gᵀ y yᵀ − yᵀ g yᵀ    (Golub & Pereyra 1973)"""
    a, b = y.mT @ y @ g.mT, g.mT @ y @ y.mT
    d = a - a @ y @ x + b - x @ (y @ b) - y.mT @ g @ y.mT
    if rcond is None:
        return d
    s = np.linalg.svdvals(x)[..., None]
    limit = (rcond * np.sum(s[..., :1, :], axis=(-1, -2)))[..., None, None]
    return _unless((s > _rounding(s)) & (s <= limit), d, lambda _: (
        f"pinv: rcond={rcond} leaves out singular values other than 0, and has no gradient then: choose a smaller one, "
        "or compose it of np.linalg.svd"))


def _cutoff(x, rtol=None):
    """Return the fraction of the largest singular value that counts as 0: rtol, or for None the effect of rounding."""
    return max(x.shape[-2:]) * float(np.finfo(as_floats(x).dtype).eps) if rtol is None else rtol


NUMPY_OVERRIDES[np.linalg.pinv] = lambda x, rcond=None, hermitian=False, **rtol: pinv(
    _symmetric(x) if hermitian else x, rcond=_cutoff(x, **rtol) if rtol else rcond)


# ---------------------------------------------------------------------- decompositions


@op
def cholesky(x):
    """Cholesky factor of symmetric x (the mean of x and xᵀ is used, so that the gradient is symmetric too, as PyTorch's
    is; NumPy looks at the lower half only).  y = the lower triangle with y yᵀ = x"""
    return np.linalg.cholesky(_symmetric(x))


def _symmetric(x):
    """Return (x + xᵀ) / 2.  Raises LinAlgError unless the matrices are square: others might broadcast."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError(f"x has shape {x.shape}, and its last two axes have to be of one length")
    x = as_floats(x)
    return (x + x.mT) / 2

@cholesky.gradient("x")
def _(g, y, x):
    """∂L/∂x = (s + sᵀ) / 2, s = y⁻ᵀ Φ(yᵀ g) y⁻¹, Φ the lower triangle with half of the diagonal    (Murray 2016)"""
    z = y.mT @ g
    s = np.linalg.solve(y.mT, (np.tril(z) + np.tril(z, -1)) / 2)
    s = np.linalg.solve(y.mT, s.mT)
    return (s + s.mT) / 2


def _rounding(w):
    """Return a bound of the rounding error in each column of w (…, m, n): (…, 1, n)."""
    return 8 * float(np.finfo(w.dtype).eps) * np.sum(np.absolute(w), axis=-2, keepdims=True)


def _reciprocal_gaps(name, w, g):
    """Return 1 / (wⱼ − wᵢ), and 0 where these are equal.  Raises LinAlgError if their vectors, columns of g, have a
    gradient."""
    gaps, used = w[..., None, :] - w[..., None], np.any(g != 0, axis=-2)
    equal = np.absolute(gaps) <= _rounding(w[..., None])
    clash = np.tril(equal & (used[..., None] | used[..., None, :]), -1)
    return _unless(clash, np.where(equal, 0, 1 / np.where(equal, 1, gaps)), lambda at: repeated_values(name, w, at))


@op
def eigh(x, UPLO="L"):
    """Eigenvalues w, ascending, and eigenvectors, the columns of v, of symmetric x.  y = (w, v), x = v w vᵀ

    The mean of x and xᵀ is used, as by cholesky, so that both values of UPLO give the same.  The signs of the vectors
    are LAPACK's, and constant around x.  Equal eigenvalues have a gradient if the loss treats them alike, but their
    vectors are one choice of many: a gradient other than 0 that arrives at these is a LinAlgError.
    """
    return tuple(np.linalg.eigh(_symmetric(x), UPLO))

@eigh.gradient("x")
def _(g, y, x, UPLO="L"):
    """∂L/∂x = (s + sᵀ) / 2, s = v (g₀ on the diagonal + f ⊙ vᵀ g₁) vᵀ, fᵢⱼ = 1 / (wⱼ − wᵢ), fᵢᵢ = 0"""
    w, v = y
    s = (v * g[0][..., None, :] + v @ (v.mT @ g[1] * _reciprocal_gaps("eigh", w, g[1]))) @ v.mT
    return (s + s.mT) / 2


@composed(implements=np.linalg.eigvalsh)
def eigvalsh(x, UPLO="L"):
    """Eigenvalues of symmetric x in ascending order: those of `eigh`."""
    return eigh(x, UPLO=UPLO)[0]


@op
def svd(x, full_matrices=True):
    """Singular values s, descending, and vectors, the columns of u and the rows of vh.  y = (u, s, vh), x = u s vh

    The signs of the vectors are LAPACK's, and constant around x.  Equal singular values have a gradient if the loss
    treats them alike, and one at 0 has gradient 0, as |x| does; but one that arrives at the vectors of either is a
    LinAlgError, and so is one by which of many bases full_matrices=True has added to u or vh.
    """
    return tuple(np.linalg.svd(x, full_matrices))

@svd.gradient("x")
def _(g, y, x, full_matrices=True):
    """∂L/∂x = u (½ (a + b) / (sⱼ − sᵢ) + ½ (a − b) / (sⱼ + sᵢ) + g₁ on the diagonal) vᵀ + (1 − u uᵀ) g₀ s⁻¹ vᵀ +
    u s⁻¹ g₂ (1 − v vᵀ), where a = uᵀ g₀ − g₀ᵀ u, b = vᵀ g₂ᵀ − g₂ v    (Townsend 2016)"""
    s, n = y[1], y[1].shape[-1]
    u, v = y[0][..., :n], y[2].mT[..., :n]
    gu, gv = _of_first(n, "svd", y[0], g[0]), _of_first(n, "svd", y[2].mT, g[2].mT)
    both = np.concatenate([gu, gv], axis=-2)
    f = _reciprocal_gaps("svd", np.concatenate([s, -s], axis=-1), np.concatenate([both, both], axis=-1))
    minus, plus = f[..., :n, :n], f[..., n:, :n]
    half = np.linalg.diagonal(plus)[..., None, :]  # 1 / 2s, or 0
    values = g[1][..., None, :] * by_convention(np.sign(half), half == 0, s[..., None, :])
    a, b = u.mT @ gu, v.mT @ gv
    turn_u, turn_v = a - a.mT, b - b.mT
    inner = ((turn_u + turn_v) * minus + (turn_u - turn_v) * plus) / 2
    left = u @ inner + u * values + (gu - u @ a) * (2 * half)
    return left @ v.mT + u @ ((gv - v @ b) * (2 * half)).mT


def _of_first(n, name, q, g):
    """Return the gradient of the first n of orthonormal columns q, from that of all: the others are an arbitrary
    basis."""
    first, rest, turn = q[..., :n], q[..., n:], q[..., n:].mT @ g[..., n:]
    return _unless(turn - turn.mT > _rounding(np.sum(np.absolute(g), axis=-1, keepdims=True)),
                   g[..., :n] - rest @ (g[..., n:].mT @ first), lambda _: (
        f"{name}: the last {rest.shape[-1]} vectors are one basis of many, and the loss is by which: leave them out "
        "(full_matrices=False, or mode=\"reduced\"), or use their projector v @ v.T, which is the same for all"))


@composed(implements=np.linalg.svdvals)
def svdvals(x):
    """Singular values in descending order: those of `svd`."""
    return svd(x, full_matrices=False)[1]


def _numpy_svd(x, full_matrices=True, compute_uv=True, hermitian=False):
    if hermitian:
        w, v = eigh(x)
        order = np.argsort(np.absolute(w), axis=-1)[..., ::-1]
        w, v = np.take_along_axis(w, order, axis=-1), np.take_along_axis(v, order[..., None, :], axis=-1)
        y = v, np.absolute(w), (v * np.sign(w)[..., None, :]).mT
    else:
        y = svd(x, full_matrices=full_matrices and compute_uv)
    return y if compute_uv else y[1]


@op
def qr(x, mode="reduced"):
    """Orthonormal columns q and an upper triangle r.  y = (q, r), x = q r    Mode "complete" makes q square, as `svd`
    does.  Where the first columns of x, up to the number of its rows, depend on one another, there is no gradient:
    LinAlgError."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"mode is \"reduced\", \"complete\" or, for r alone, \"r\", not {mode!r}")
    return tuple(np.linalg.qr(x, mode))

@qr.gradient("x")
def _(g, y, x, mode="reduced"):
    """∂L/∂x = (g₀ + q Φ(r g₁ᵀ − g₀ᵀ q)) r⁻ᵀ, Φ the lower triangle mirrored at the diagonal    (Walter & Lehmann 2018)
    With more columns than rows m, those from the m-th on are x₂ = q r₂: g₀ gets x₂ g₁ᵀ as well, and ∂L/∂x₂ = q g₁."""
    n = min(x.shape[-2:])
    q, r, gr = y[0][..., :n], y[1][..., :n, :n], g[1][..., :n, :]
    gq = _of_first(n, "qr", y[0], g[0]) + x[..., n:] @ gr[..., n:].mT
    z = r @ gr[..., :n].mT - gq.mT @ q
    z = _unless(np.absolute(np.linalg.diagonal(r))[..., None, :] <= _rounding(r), z, lambda _: (
        f"qr: the first {n} columns of x depend on one another, and have no gradient"))
    first = np.linalg.solve(r, (gq + q @ (np.tril(z) + np.tril(z, -1).mT)).mT).mT
    return np.concatenate([first, q @ gr[..., n:]], axis=-1)


def _refuse_complex(*args, **options):
    raise TypeError("np.linalg.eig and eigvals give complex numbers, which are not supported: use eigh or eigvalsh of "
                    "symmetric matrices, np.trace or np.linalg.det of all eigenvalues, t.data for no gradient at all")


NUMPY_OVERRIDES[np.linalg.eig] = NUMPY_OVERRIDES[np.linalg.eigvals] = _refuse_complex
NUMPY_OVERRIDES[np.linalg.cholesky] = lambda x, *, upper=False: cholesky(x).mT if upper else cholesky(x)
_named(np.linalg.slogdet, slogdet)
_named(np.linalg.eigh, eigh)
_named(np.linalg.svd, _numpy_svd)
_named(np.linalg.qr, lambda x, mode="reduced": qr(x)[1] if mode == "r" else qr(x, mode))
op(np.linalg.matrix_rank, differentiable=False, implements=np.linalg.matrix_rank)


# ---------------------------------------------------------------------- norms


@composed(implements=np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """Length of vectors (one axis), norm of matrices (two axes).  y = √Σ x² without ord, of all elements without axis

    Vectors: any number p, (Σ |x|ᵖ)¹ᐟᵖ; np.inf and -np.inf, the largest and smallest |x|; 0, how many are not 0, as a
    constant.  Matrices: "fro", √Σ x²; 1 and -1, the largest and smallest column sum of |x|; np.inf and -np.inf, row
    sum; 2 and -2, singular value; "nuc", their sum.  The gradient of a zero vector's is 0, and so is that of an element
    or a singular value at 0 where there is a corner.  Raises ValueError for another order.
    """
    x = as_array(x)
    axes = tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)
    if axis == ():
        raise ValueError("a norm is over one axis, or two, and not over axis=()")
    if ord is None or len(axes) == 1 and not isinstance(ord, str) or len(axes) == 2 and ord in ("fro", "f"):
        return _vector_norm(x, 2 if ord in (None, "fro", "f") else ord, axes, keepdims)
    if len(axes) != 2 or ord not in ("nuc", 1, -1, 2, -2, np.inf, -np.inf):
        raise ValueError(f"there is no norm of order {ord!r} over the axes {axes}: of vectors (one axis) it is a "
                         "number, of matrices (two axes) 1, -1, 2, -2, np.inf, -np.inf, 'fro' or 'nuc'")
    if ord in (2, -2, "nuc"):
        s = svdvals(np.moveaxis(x, axes, (-2, -1)))
        y = np.sum(s, axis=-1) if ord == "nuc" else _extreme(s, ord, -1)
    else:
        summed, left = axes if abs(ord) == 1 else axes[::-1]
        y = _extreme(_vector_norm(x, 1, summed), ord, left - (summed < left))
    return np.expand_dims(y, axes) if keepdims else y


def _extreme(x, order, axis, keepdims=False):
    """Return the largest of numbers that are not negative (0 of none), or for a negative order the smallest."""
    return (reduce.min if order < 0 else reduce.max if x.size else reduce.sum)(x, axis, keepdims=keepdims)


def _vector_norm(x, p, axes, keepdims=False):
    return narrow(_wide_norm(widen(as_floats(x)), p, {"axis": axes, "keepdims": keepdims}), x)


def _wide_norm(x, p, how):
    if p in (np.inf, -np.inf):
        return _extreme(np.absolute(x), p, **how)
    if p in (0, 1):
        return np.sum(np.absolute(x) if p else (x != 0).astype(x.dtype), **how)
    if p == 2:
        return root(np.sum(np.square(x), **how))
    powers = np.where(x == 0, 0 if p > 0 else np.inf, np.absolute(not_zero(x)) ** p)
    total = np.sum(powers, axis=how["axis"], keepdims=True)
    y = np.where(total == 0, 0 if p > 0 else np.inf, not_zero(total) ** (1 / p))
    # Vectors of zeros have gradient 0 by convention, and for p < 2 elements of 0 too: as root, which has no second one.
    corner = x == 0 if p < 2 else total == 0
    return np.sum(y, **how) + np.sum(np.where(corner, root(np.where(corner, np.square(x), 1)), 0), **how)


NUMPY_OVERRIDES[np.linalg.matrix_norm] = lambda x, *, keepdims=False, ord="fro": norm(x, ord, (-2, -1), keepdims)
NUMPY_OVERRIDES[np.linalg.vector_norm] = lambda x, *, axis=None, keepdims=False, ord=2: _vector_norm(
    x, ord, tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim), keepdims)


@composed(implements=np.linalg.cond)
def cond(x, p=None):
    """Condition number.  y = norm(x, p) · norm(x⁻¹, p); by the singular values for None, 2 and -2"""
    if p not in (None, 2, -2):
        return norm(x, p, (-2, -1)) * norm(inv(x), p, (-2, -1))
    s = svdvals(x)
    return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]


@composed(implements=np.linalg.lstsq)
def lstsq(a, b, rcond=None):
    """Least squares: (y, sums, rank of a, singular values of a), for a (m, n) and b (m,) or (m, k).  y = pinv(a) b, the
    shortest of all y with the least Σ (b − a y)²; these sums, one for each column, are there if m > n = the rank.
    Singular values up to rcond times the largest (None: what rounding may leave) count as 0."""
    a, b, s = as_array(a), as_array(b), svdvals(a)
    rcond = _cutoff(a, rcond if rcond is None or rcond >= 0 else float(np.finfo(s.dtype).eps))
    y, rank = pinv(a, rcond=rcond) @ b, np.sum(s > rcond * s[:1])
    sums = np.atleast_1d(np.sum(np.square(b - a @ y), axis=0))
    return y, sums if a.shape[0] > a.shape[1] == rank else sums[:0], rank, s
