"""np.linalg: the values are NumPy's in whatever form they are asked for; where no gradient exists, that is said."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

import autograd as ag

inf = np.inf


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def matrix(*values, seed=0):
    """A matrix with these singular values, and with these eigenvalues a symmetric one."""
    q, p = np.linalg.qr(normal(2, len(values), len(values), seed=seed)).Q
    return (q * values) @ p, (q * values) @ q.T


def tried(f, *args):
    """Return the result of f, or the error that it raises."""
    try:
        return f(*args)
    except (ValueError, TypeError, IndexError) as error:  # np.linalg.LinAlgError is a ValueError
        return error


def assert_numpys(f, *args):
    """`f` gives of Tensors what it gives of arrays, or refuses both."""
    expected = tried(f, *args)
    is_float = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in args]
    got = tried(f, *[ag.tensor(a, requires_grad=True) if yes else a for a, yes in zip(args, is_float)])
    if isinstance(expected, Exception):
        assert isinstance(got, Exception) or not NORMS_OF_NOTHING and "zero-size" in str(expected)
        return
    assert not isinstance(got, Exception), got
    assert type(got) is type(expected) or not isinstance(expected, tuple)
    several = isinstance(expected, tuple)
    for y, z in zip(got if several else [got], expected if several else [expected], strict=True):
        assert isinstance(y, ag.Tensor) and y.shape == np.shape(z)
        np.testing.assert_allclose(y.data, z, rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------------- norms

NORMS_OF_NOTHING = not isinstance(tried(np.linalg.norm, np.zeros((0, 2)), inf), Exception)  # in later versions of NumPy
SHAPES = [(), (3,), (2, 3), (2, 3, 2), (0,), (0, 2), (2, 0), (0, 0), (2, 0, 3), (1, 1)]
ORDERS = [None, 0, 1, 2, 3, -1, -2, 0.5, 2.5, -0.5, inf, -inf, "fro", "nuc", "f", "max"]
AXES = [None, 0, -1, (0, 1), (1, 0), (-1, 0), (0,), (0, 0), 5]


@pytest.mark.slow_but_every(3)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", SHAPES)
def test_norms_are_numpys(shape, rng):
    some = np.asarray(rng.normal(size=shape))
    arrays = [some, np.where(some > 0.5, 0, some), np.zeros(shape)]
    for x, order, axis, keepdims in itertools.product(arrays, ORDERS, AXES, [False, True]):
        assert_numpys(lambda x: np.linalg.norm(x, order, axis, keepdims), x)  # noqa: B023
        if order is not None and not isinstance(order, str):
            assert_numpys(lambda x: np.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=order), x)  # noqa: B023
        assert_numpys(lambda x: np.linalg.matrix_norm(x, ord=order, keepdims=keepdims), x)  # noqa: B023


def test_a_norm_of_no_order_says_which_there_are():
    with pytest.raises(ValueError, match=r"order 3 over the axes \(0, 1\).* matrices \(two axes\) 1, -1, 2, -2"):
        np.linalg.norm(ag.tensor(np.eye(2)), 3)
    with pytest.raises(ValueError, match=r"order 'fro' over the axes \(0,\).* vectors \(one axis\) it is a number"):
        np.linalg.norm(ag.tensor(np.ones(2)), "fro")


def test_how_many_are_not_zero_is_a_constant():
    x = ag.tensor([0.0, -2.0, 3.0], requires_grad=True)
    y = np.linalg.norm(x, 0)
    assert y.item() == 2 and not y.requires_grad


def test_norms_of_integers_are_numbers():
    for order in (None, 1, inf, 3, -1):
        assert np.linalg.norm(ag.tensor([[1, -2], [3, 4]]), order, 0).dtype == float


@pytest.mark.parametrize("order, gradient", [
    ("nuc", np.eye(3)[:2]), (2, [[1, 0, 0], [0, 0, 0]]), (-2, np.zeros((2, 3)))])
def test_singular_values_at_0_have_a_corner_and_gradient_0(order, gradient):
    x = np.diag([3.0, 2.0, 0.0])[:2] if order == "nuc" else np.diag([3.0, 0.0, 0.0])[:2]
    np.testing.assert_allclose(ag.grad(lambda x: np.linalg.norm(x, order))(x), gradient, atol=1e-15)


def test_the_nuclear_norm_of_what_has_not_full_rank():
    """u vᵀ by the singular vectors that there are, whichever others LAPACK has chosen."""
    x, _ = matrix(3.0, 2.0, 0.0)
    u, _, vh = np.linalg.svd(x)
    np.testing.assert_allclose(ag.grad(lambda x: np.linalg.norm(x, "nuc"))(x), u[:, :2] @ vh[:2], atol=1e-14)
    np.testing.assert_array_equal(ag.grad(lambda x: np.linalg.norm(x, "nuc"))(np.zeros((2, 3))), np.zeros((2, 3)))


# ---------------------------------------------------------------------- NumPy's signatures

FORMS = {
    "svd": [np.linalg.svd, np.linalg.svdvals, lambda x: np.linalg.svd(x, full_matrices=False),
            lambda x: np.linalg.svd(x, compute_uv=False), lambda x: np.linalg.svd(x, False, False)],
    "pinv": [np.linalg.pinv, lambda x: np.linalg.pinv(x, 0.5), lambda x: np.linalg.pinv(x, rtol=0.5),
             lambda x: np.linalg.pinv(x, rtol=None)],
    "qr": [np.linalg.qr, lambda x: np.linalg.qr(x, "complete"), lambda x: np.linalg.qr(x, mode="r")],
    "cond": [np.linalg.cond, *[lambda x, p=p: np.linalg.cond(x, p) for p in (2, -2)]],
    "rank": [np.linalg.matrix_rank, lambda x: np.linalg.matrix_rank(x, rtol=0.9),
             lambda x: np.linalg.matrix_rank(x, 2.0)],
    "parts": [np.linalg.trace, np.linalg.diagonal, lambda x: np.linalg.trace(x, offset=1), np.matrix_transpose,
              lambda x: np.linalg.diagonal(x, offset=-1), np.linalg.matrix_transpose],
    "square": [np.linalg.det, np.linalg.slogdet, np.linalg.inv, lambda x: np.linalg.cond(x, 1),
               lambda x: np.linalg.cond(x, "fro"), lambda x: np.linalg.cond(x, inf),
               *[lambda x, n=n: np.linalg.matrix_power(x, n) for n in (0, 1, 2, 3, 5, 8, -1, -3, 0.5)]],
}
SYMMETRIC = [np.linalg.eigh, lambda x: np.linalg.eigh(x, "U"), lambda x: np.linalg.eigh(x, "X"), np.linalg.eigvalsh,
             lambda x: np.linalg.eigvalsh(x, UPLO="u"), lambda x: np.linalg.svd(x, hermitian=True),
             lambda x: np.linalg.svd(x, hermitian=True, compute_uv=False), np.linalg.cholesky,
             lambda x: np.linalg.pinv(x, hermitian=True), lambda x: np.linalg.cholesky(x, upper=True)]


@pytest.mark.parametrize("shape", [(3, 3), (2, 3), (3, 2), (2, 3, 3), (2, 2, 4), (1, 1), (0, 2, 2), (0, 3), (3, 0),
                                   (3,)])
@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_numpys(name, shape, rng):
    for f in FORMS[name]:
        assert_numpys(f, rng.normal(size=shape))


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3), (1, 1), (0, 2, 2)])
def test_each_form_of_symmetric_matrices_is_numpys(shape, rng):
    x = rng.normal(size=shape)
    for f in SYMMETRIC:
        assert_numpys(f, x @ x.mT + np.eye(shape[-1]))
        assert_numpys(f, (x + x.mT) / 2)  # with eigenvalues of both signs, which cholesky refuses


@pytest.mark.parametrize("f", [
    lambda x: np.linalg.svd(x, hermitian=True)[0] ** 2, lambda x: np.linalg.svd(x, hermitian=True, compute_uv=False),
    lambda x: np.linalg.pinv(x, hermitian=True), lambda x: np.linalg.qr(x, "r"), np.linalg.trace, np.linalg.diagonal,
    lambda x: np.linalg.trace(x, offset=1), np.linalg.matrix_transpose, np.linalg.matrix_norm,
    lambda x: np.linalg.vector_norm(x, axis=(0, 1), ord=3), lambda x: np.linalg.cond(x, p=1)])
def test_gradients_of_other_forms(f):
    ag.check_grads(f, matrix(3.0, -2.0, 1.0)[1])


def test_results_have_numpys_names():
    x = ag.tensor(matrix(2.0, 1.0)[1], requires_grad=True)
    assert np.linalg.eigh(x).eigenvalues.shape == np.linalg.svd(x).S.shape == (2,)
    assert np.linalg.qr(x).R.requires_grad and np.linalg.slogdet(x).logabsdet.requires_grad


@pytest.mark.parametrize("a, b", [((4, 2), (4,)), ((4, 2), (4, 3)), ((2, 4), (2,)), ((3, 3), (3, 2)), ((4, 2), (3,)),
                                  ((0, 2), (0,)), ((3, 2), (3, 0))])
def test_least_squares_are_numpys(a, b, rng):
    for rcond in (None, -1, 0.01):
        assert_numpys(lambda a, b: np.linalg.lstsq(a, b, rcond=rcond),  # noqa: B023
                      rng.normal(size=a), rng.normal(size=b))
    assert_numpys(np.linalg.lstsq, np.ones((3, 2)), rng.normal(size=3))  # of rank 1, without residuals


def test_chains_and_powers(rng):
    for shapes in ([(2, 3), (3, 4)], [(3,), (3, 4)], [(2, 3), (3,)], [(3,), (3, 2), (2,)], [(2, 3), (4, 5)],
                   [(5, 2), (2, 5), (5, 1), (1, 5)], [(2, 3), (3,), (3, 2)]):
        assert_numpys(lambda *arrays: np.linalg.multi_dot(arrays), *[rng.normal(size=shape) for shape in shapes])
    v, table = np.ones(3), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]]
    assert_numpys(lambda v: np.linalg.multi_dot([v, table, [1, 2, 3]]), v)
    assert_numpys(lambda v: np.linalg.tensorsolve(table, v), v)
    x = np.array([[1.0, inf], [0.0, 2.0]])
    np.testing.assert_array_equal(np.linalg.matrix_power(ag.tensor(x), 1).data, x)
    np.testing.assert_array_equal(ag.grad(lambda x: np.linalg.matrix_power(x, 0).sum())(x), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"shape \(2, 3\): only square"):
        np.linalg.matrix_power(ag.tensor(np.ones((2, 3))), 1)


def test_cross_products(rng):
    for a, b in [((3,), (3,)), ((2, 3), (3,)), ((4, 1, 3), (5, 3)), ((0, 3), (3,)), ((4,), (4,))]:
        assert_numpys(lambda a, b: np.cross(a, b), rng.normal(size=a), rng.normal(size=b))
    with pytest.warns(DeprecationWarning):
        expected = np.cross([1.0, 2.0], [3.0, 5.0]), np.cross([1.0, 2.0], [3.0, 5.0, 6.0])
    x = ag.tensor([1.0, 2.0])
    assert np.cross(x, [3.0, 5.0]).item() == expected[0]
    np.testing.assert_array_equal(np.cross(x, [3.0, 5.0, 6.0]).data, expected[1])
    ag.check_grads(lambda a, b: np.cross(a, b), *rng.normal(size=(2, 2)))


def test_eigenvalues_that_may_be_complex_are_refused():
    x = ag.tensor(np.eye(2), requires_grad=True)
    for f in (np.linalg.eig, np.linalg.eigvals):
        with pytest.raises(TypeError, match=r"complex .* eigh or eigvalsh of symmetric matrices"):
            f(x)


# ---------------------------------------------------------------------- einsum, and other operands

x23 = normal(2, 3)


@pytest.mark.parametrize("operands", [
    (x23, [0, 1], [1, 0]), (x23, [0, 1]), (x23, [1, 0]), (x23, [0, 1], x23.T, [1, 2]),
    (x23, [0, 1], x23.T, [1, 2], [2, 0]), (x23, [..., 0], [..., 0]), (x23, [..., 1], x23, [..., 1], [...]),
    (x23, [26, 0]), (x23, [25, 26]), (x23, (51, 0), ()), (3.0, [], x23, [0, 1]), ([1.0, 2.0], [0], x23, [0, 1], [1]),
    (x23, [0, 1], [60, 61]), ("...,...", 3, x23), ("...,...", x23, 3), ("...,...", [1.0, 2.0, 3.0], x23),
    ("i,ij", (1.0, 2.0), x23), ("...,...", np.float64(2), x23), ("ij,ij", x23, [[1, 2, 3], [4, 5, 6]]),
    ("...,->...", x23, True)])
def test_einsum_takes_what_numpy_takes(operands):
    assert_numpys(np.einsum, *operands)
    if max((n for a in operands if isinstance(a, list) for n in a if isinstance(n, int)), default=0) < 52:
        arrays = [i for i, a in enumerate(operands) if a is x23]
        ag.check_grads(lambda *xs: np.einsum(*[
            xs[arrays.index(i)] if i in arrays else a for i, a in enumerate(operands)]), *[x23] * len(arrays))


V, M, N = normal(3), matrix(3.0, 2.0, 1.0)[0], np.array(1.5)
OF_TWO = [
    (np.dot, (V, M, N)), (np.inner, (V, M, N)), (np.outer, (V, M, N)), (np.vdot, (V, M, N)), (np.kron, (V, M, N)),
    (np.matmul, (V, M)), (np.cross, (V, M)), (np.vecdot, (V, M)), (np.linalg.solve, (M,)), (np.linalg.cross, (V, M)),
    (np.linalg.vecdot, (V, M)), (np.linalg.matmul, (V, M)), (lambda a, b: np.tensordot(a, b, 1), (V, M)),
    (lambda a, b: np.tensordot(a, b, 0), (V, N)), (lambda a, b: np.linalg.tensordot(a, b, axes=1), (V, M)),
    (lambda a, b: np.linalg.lstsq(a, b)[0], (M,)), (lambda a, b: np.linalg.multi_dot([a, b, V]), (M,))]
TABLE = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]]
OTHERS = [2, 2.5, True, np.float32(1.5), np.float64(1.5), [1.0, 2.0, 3.0], (1.0, 2.0, 3.0), [1, 2, 4],
          np.array([1, 2, 3]), TABLE, tuple(map(tuple, TABLE))]


@pytest.mark.slow_but_every(5)
@pytest.mark.parametrize("other", OTHERS, ids=repr)
@pytest.mark.parametrize("f, arrays", OF_TWO)
def test_the_other_operand_is_whatever_numpy_takes(f, arrays, other):
    tries = 0
    for x, g in itertools.product(arrays, [lambda x: f(x, other), lambda x: f(other, x)]):
        if isinstance(tried(g, x), Exception):
            assert isinstance(tried(g, ag.tensor(x, requires_grad=True)), Exception)
        else:
            assert_numpys(g, x)
            ag.check_grads(g, x, order=1)
            tries += 1
    assert tries or np.ndim(other) == 0


# ---------------------------------------------------------------------- determinants


def rational(x):
    """The same numbers as fractions, which are exact."""
    return np.vectorize(Fraction, otypes=[object])(x)


def cofactors(x):
    """By Laplace's expansion."""
    def det(x):
        return sum((-1) ** j * a * det(np.delete(x[1:], j, 1)) for j, a in enumerate(x[0])) if len(x) else Fraction(1)

    return np.array([[(-1) ** (i + j) * det(np.delete(np.delete(x, i, 0), j, 1)) for j in range(len(x))]
                     for i in range(len(x))])


def exact_cofactors(x):
    return cofactors(rational(x)).astype(float)


def exact_change(x, d):
    """The slope of the cofactors along d: from four values of a polynomial of at most order 4."""
    x, d = rational(x), rational(d)
    near, far = (cofactors(x + k * d) - cofactors(x - k * d) for k in (1, 2))
    return ((8 * near - far) / 12).astype(float)


@pytest.mark.parametrize("x, expected", [
    ([[1.0, 2.0], [2.0, 4.0]], [[4, -2], [-2, 1]]), ([[0.0, 0.0], [0.0, 3.0]], [[3, 0], [0, 0]]), ([[0.0]], [[1]]),
    (np.ones((3, 3)), np.zeros((3, 3))), (np.zeros((2, 2)), np.zeros((2, 2))),
    ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], [[-3, 6, -3], [6, -12, 6], [-3, 6, -3]]),
    ([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 1.0, 1.0]], [[-2, 4, -2], [1, -2, 1], [0, 0, 0]])])
def test_the_gradient_of_a_determinant_is_the_cofactor_matrix(x, expected):
    np.testing.assert_allclose(ag.grad(np.linalg.det)(np.array(x)), expected, rtol=1e-14, atol=2e-14)
    stacked = np.stack([np.array(x), np.eye(len(x))])
    np.testing.assert_allclose(ag.grad(lambda x: np.linalg.det(x) @ [1.0, 2.0])(stacked),
                               [expected, 2 * np.eye(len(x))], rtol=1e-14, atol=2e-14)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("smallest", [1e-4, 1e-8, 1e-12, 1e-16, 1e-20, 0])
def test_cofactors_are_accurate_close_to_singular_matrices(n, smallest, rng):
    for seed in range(5):
        x, _ = matrix(*rng.uniform(0.5, 2, n - 1), smallest, seed=seed)
        expected = exact_cofactors(x)
        np.testing.assert_allclose(ag.grad(np.linalg.det)(x), expected, rtol=0, atol=1e-14 * abs(expected).max())


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_cofactors_and_their_changes_are_accurate_in_each_element_whatever_the_scales(n, singular, rng):
    for _ in range(10):
        rows, columns = 2.0 ** rng.integers(-30, 30, (2, n))
        scale, (x, d) = rows[:, None] * columns, rng.normal(size=(2, n, n))
        x[-1] = 2 * x[0] if singular else x[-1]
        x, d, size = x * scale, d * scale, np.prod(rows) * np.prod(columns) / scale
        np.testing.assert_allclose(ag.grad(np.linalg.det)(x) / size, exact_cofactors(x) / size, rtol=0, atol=1e-11)
        np.testing.assert_allclose(ag.cofactor(x, [d]) / size, exact_change(x, d) / size, rtol=0, atol=1e-9)


@pytest.mark.parametrize("x", [np.diag([1e-20, 1.0, 1e-20]), np.diag([1e200, 1e-300, 1e-100]), 1e-170 * np.eye(2)])
def test_cofactors_of_very_large_and_very_small_numbers(x):
    np.testing.assert_allclose(ag.grad(np.linalg.det)(x), exact_cofactors(x), rtol=1e-12)


@pytest.mark.parametrize("x", [np.zeros((2, 2)), np.eye(3), np.ones((3, 3)), np.diag([1.0, 2.0, 0.0]), np.zeros((3, 3)),
                               np.diag([1.0, 0.0, 0.0, 0.0])])
def test_all_derivatives_of_determinants(x, rng):
    """Each is the same polynomial in Leibniz's formula, which knows no special case."""
    def leibniz(x):
        n = len(x)
        return sum(float(np.linalg.det(np.eye(n)[list(order)])) * np.prod(x[np.arange(n), list(order)])
                   for order in itertools.permutations(range(n)))

    f, g, d = np.linalg.det, leibniz, rng.normal(size=x.shape)
    for _ in range(4):
        f, g = (ag.grad(lambda x, f=f: np.sum(f(x) * d)) for f in (f, g))
        np.testing.assert_allclose(f(x), g(x), rtol=1e-11, atol=1e-11)


def test_the_logarithm_of_a_determinant_that_is_0():
    x = ag.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    sign, logarithm = np.linalg.slogdet(x)
    assert sign.item() == 0 and logarithm.item() == -inf
    with pytest.raises(np.linalg.LinAlgError, match="Singular") as error:
        logarithm.backward()
    assert "in the gradient of slogdet" in str(error.value)


# ---------------------------------------------------------------------- equal values, and values at 0

TWICE, TWICE_SYMMETRIC = matrix(2.0, 1.0, 1.0)
FLAT, FLAT_SYMMETRIC = matrix(2.0, 0.0, 0.0)


@pytest.mark.parametrize("x", [np.eye(3), TWICE_SYMMETRIC, FLAT_SYMMETRIC, TWICE_SYMMETRIC.astype(np.float32)])
def test_equal_eigenvalues_have_gradients_if_they_are_treated_alike(x):
    for f in (np.linalg.eigvalsh, lambda x: np.linalg.eigh(x)[0]):
        d = ag.grad(lambda x: np.sum(f(x) ** 3))(x)  # noqa: B023
        assert d.dtype == x.dtype
        np.testing.assert_allclose(d, 3 * x @ x, atol=1e-5 if x.dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("x", [np.eye(3), TWICE, FLAT, TWICE[:2]])
def test_equal_singular_values_have_gradients_if_they_are_treated_alike(x):
    for f in (np.linalg.svdvals, lambda x: np.linalg.svd(x)[1]):
        np.testing.assert_allclose(ag.grad(lambda x: np.sum(f(x) ** 4))(x), 4 * x @ x.T @ x, atol=1e-13)  # noqa: B023


def squares(i):
    """Of number i of the columns of u, the rows of vh or the eigenvectors, whose signs do not matter."""
    return {"eigh": lambda x: np.sum(np.linalg.eigh(x)[1][..., i] ** 2 * [1.0, 2.0, 4.0]),
            "u": lambda x: np.sum(np.linalg.svd(x)[0][..., i] ** 2 * [1.0, 2.0, 4.0]),
            "vh": lambda x: np.sum(np.linalg.svd(x)[2][..., i, :] ** 2 * [1.0, 2.0, 4.0])}


@pytest.mark.parametrize("name, i, x, words", [
    ("eigh", 1, TWICE_SYMMETRIC, r"eigh: eigenvalues 0 and 1 \(1\) are equal up to rounding"),
    ("eigh", 0, np.eye(3), r"eigenvalues 0 and 1 \(1\) are equal"),
    ("eigh", 0, FLAT_SYMMETRIC, r"eigenvalues 0 and 1 \(.*\) are equal"),
    ("eigh", 1, np.stack([np.diag([1.0, 2.0, 3.0]), TWICE_SYMMETRIC]), r"eigenvalues 0 and 1 of matrix \[1\] \(1\)"),
    ("eigh", 1, TWICE_SYMMETRIC.astype(np.float32), r"eigenvalues 0 and 1"),
    ("u", 1, TWICE, r"svd: singular values 1 and 2 \(1\) are equal up to rounding"),
    ("vh", 2, TWICE, r"singular values 1 and 2 \(1\) are equal"),
    ("u", 2, matrix(3.0, 2.0, 0.0)[0], r"svd: singular value 2 \(.*\) is 0 up to rounding"),
    ("vh", 1, FLAT, r"singular values 1 and 2 \(.*\) are equal")])
def test_vectors_of_equal_values_have_no_gradient(name, i, x, words):
    with pytest.raises(np.linalg.LinAlgError, match=words) as error:
        ag.grad(squares(i)[name])(x)
    assert "one choice of many" in str(error.value) and "add a small diagonal" in str(error.value)
    assert f"in the gradient of {error.value.record.op.name} for its input x" in str(error.value)
    assert error.value.record.op.name == ("eigh" if name == "eigh" else "svd")


@pytest.mark.parametrize("name, i, x", [("eigh", 2, TWICE_SYMMETRIC), ("eigh", 2, FLAT_SYMMETRIC), ("u", 0, TWICE),
                                        ("vh", 0, FLAT)])
def test_vectors_of_other_values_beside_have_gradients(name, i, x, rng):
    f, small = squares(i)[name], 1e-6 * rng.normal(size=x.shape)
    small = small + small.T  # since NumPy's eigh looks at one half alone
    np.testing.assert_allclose(np.sum(ag.grad(f)(x) * small), (f(x + small) - f(x - small)) / 2, rtol=1e-4)


def test_second_derivatives_at_equal_values_are_refused():
    for f in (lambda x: np.sum(np.linalg.eigvalsh(x) ** 2), lambda x: np.linalg.norm(x, "nuc")):
        with pytest.raises(np.linalg.LinAlgError, match="are equal up to rounding"):
            ag.hessian(f)(np.eye(2))


def test_a_traced_function_gives_nan_instead_and_only_there():
    good = matrix(3.0, 2.0, 1.0)[1]
    d = ag.grad(squares(0)["eigh"])
    each = ag.vmap(d)(np.stack([good, np.eye(3)]))
    np.testing.assert_allclose(each[0], d(good), rtol=1e-12)
    assert np.isnan(each[1]).all()
    program = ag.record(d, good)
    assert np.isnan(program(np.eye(3))).all()
    np.testing.assert_allclose(program(good), d(good), rtol=1e-12)


# ---------------------------------------------------------------------- bases that are one of many

B = normal(4, seed=1)


@pytest.mark.parametrize("f, x", [
    (lambda x: np.sum((np.linalg.svd(x)[2][2:] @ B) ** 2), normal(2, 4)),
    (lambda x: np.sum((B @ np.linalg.svd(x).U[:, 2:]) ** 2), normal(4, 2)),
    (lambda x: np.sum((B @ np.linalg.qr(x, "complete").Q[:, 2:]) ** 2), normal(4, 2)),
    (lambda x: np.sum((np.linalg.svd(x)[2][:, 2:] @ B) ** 2), normal(3, 2, 4))])
def test_the_space_that_added_vectors_span_has_a_gradient(f, x):
    ag.check_grads(f, x)


@pytest.mark.parametrize("f, x, name", [
    (lambda x: np.linalg.svd(x)[2][2, 0], normal(2, 4), "svd"),
    (lambda x: np.linalg.svd(x)[0][0, 3], normal(4, 2), "svd"),
    (lambda x: np.linalg.qr(x, "complete")[0][0, 2], normal(4, 2), "qr")])
def test_one_of_several_added_vectors_has_none(f, x, name):
    with pytest.raises(np.linalg.LinAlgError, match=f"{name}: the last 2 vectors .* of many.*full_matrices=False"):
        ag.grad(f)(x)


def test_qr_of_columns_that_depend_on_one_another():
    for x in ([[1.0, 2.0], [2.0, 4.0]], np.ones((3, 2)), np.zeros((2, 2)), [[1.0, 2.0, 3.0], [2.0, 4.0, 5.0]]):
        with pytest.raises(np.linalg.LinAlgError, match="the first 2 columns of x depend on one another"):
            ag.grad(lambda x: np.sum(np.linalg.qr(x)[1]))(np.array(x))
    ag.check_grads(lambda x: np.linalg.qr(x)[0], np.array([[1e-9, 2.0], [3e-9, 4.0]]))  # small, and yet independent
    with pytest.raises(ValueError, match='mode is "reduced"'):
        np.linalg.qr(ag.tensor(np.eye(2)), "raw")


def test_pseudo_inverses_that_leave_something_out():
    x = np.stack([np.diag([1.0, 0.1]), np.diag([1.0, 0.01])])
    for rcond in (0.05, [0.05, 0.001]):
        if rcond == 0.05:
            with pytest.raises(np.linalg.LinAlgError, match=r"rcond=0.05 leaves out singular values other than 0"):
                ag.grad(lambda x: np.linalg.pinv(x, rcond).sum())(x)  # noqa: B023
        else:
            ag.check_grads(lambda x: np.linalg.pinv(x, rcond), x)  # noqa: B023


def test_pseudo_inverses_of_less_than_full_rank_change_as_long_as_they_keep_it(rng):
    def f(a, b):
        return np.linalg.pinv(np.outer(a, b))

    a, b = rng.normal(size=(2, 3))
    ag.check_grads(lambda a, b: f(a, b)[0, 1] + 0 * a[0], a, b, order=1)
    np.testing.assert_allclose(ag.jacobian(f)(a, b), ag.jacobian(lambda a, b: np.outer(b, a) / (a @ a) / (b @ b))(a, b),
                               rtol=1e-10, atol=1e-12)
