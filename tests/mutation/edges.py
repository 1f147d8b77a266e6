"""Documented gradients where there are no finite differences: at ties, zeros and infinities, of nothing, and in half
precision.  Arguments are as in tests/samples.py: the last may be a dict of settings."""

import math

import numpy as np

ZERO, ONE, TWO, PAIR = np.zeros(()), np.ones(()), np.array(2.0), np.array([1.0, 2.0])
NO_HEADS = np.zeros((0, 1, 1))
THREE, NARROW = np.array(3, np.float16), np.array(0.3, np.float16)
MATRIX = ((2.0, 1.0), (0.0, 4.0))
TALL = np.array([[1.0], [2.0], [3.0]])
INF, NAN, FAR = np.array(np.inf), np.array(np.nan), np.array([1e200, -1e200])
DIAGONAL, EPS = np.diag([2.0, 0.0]), np.finfo(float).eps


def close(n):
    """A matrix whose eigenvalues, and singular values, are n spacings of floating-point numbers apart."""
    return np.diag([1.0, 1.0 + n * EPS])


def vectors(*gs):
    """Gradients of the eigenvectors alone."""
    g = np.stack(gs) if len(gs) > 1 else gs[0]
    return np.zeros(g.shape[:-1]), g


# Op -> (arguments, the gradient of each array of numbers among them for a seed of ones, or the error), or with the
# seeds of its results after that.
EDGES = {
    **{name: [([ZERO], [0]), ([NAN], [NAN])] for name in ("absolute", "fabs")},
    "relu": [([ZERO], [0])],
    "sqrt": [([ZERO], [np.inf])],
    "root": [([np.zeros(2)], [[0, 0]])],
    "_by_convention": [([ONE, np.array(True), ONE], [1, NAN])],
    **{name: [([TWO, TWO], [0.5, 0.5]), ([TWO, 2.0], [0.5])] for name in ("maximum", "minimum")},
    **{name: [([TWO, TWO], [0.5, 0.5]), ([TWO, NAN], [1, 0]), ([NAN, TWO], [0, 1])] for name in ("fmax", "fmin")},
    "fmod": [([np.array(9.7), np.array(0.1)], [1, -96])],  # though (x − z) / y is no whole number
    "max": [([np.array([3.0, 3.0, 1.0])], [[0.5, 0.5, 0]])],
    "min": [([np.array([3.0, 1.0, 1.0])], [[0, 0.5, 0.5]])],
    "power": [([ZERO, 0], [0]), ([ZERO, ZERO], [0, 0]), ([ZERO, TWO], [0, 0]), ([ZERO, ONE], [1, 0]),
              ([THREE, TWO], [6, 9 * math.log(3)]),  # the base or the exponent in half precision
              ([np.array(2, np.float16), np.array(10.003)],
               [np.float16(10.003 * 2 ** 9.003), 2 ** 10.003 * math.log(2)]),
              *[([np.array(x), NARROW], [float(NARROW) * x ** (float(NARROW) - 1),
                                         np.float16(x ** float(NARROW) * math.log(x))]) for x in (3.0, 1.0003)]],
    "clip": [([PAIR, ONE, TWO], [[1, 1], 0, 0]), ([ONE, ONE, None], [1, 0]), ([ONE, None, ONE], [1, 0]),
             ([ZERO, ONE, ONE], [0, 0, 0]), ([TWO, ONE, ONE], [0, 0, 1]), ([ONE, TWO, ONE], [0, 0, 1])],
    "nan_to_num": [([np.array([np.nan, np.inf, 2.0])], [[0, 0, 1]])],
    "logsumexp": [([np.array([-np.inf, -np.inf])], [[0, 0]])],
    **{name: [([INF, INF], [0.5, 0.5]), ([-INF, -INF], [0, 0]), ([INF, ZERO], [1, 0]), ([-INF, ZERO], [0, 1]),
              ([-TWO, -TWO], [0.5, 0.5])] for name in ("logaddexp", "logaddexp2")},
    "arctan2": [([ZERO, ZERO], [0, 0])],
    "hypot": [([ZERO, ZERO], [0, 0])],
    "erf": [([FAR], [[0, 0]])],
    "gelu": [([FAR], [[1, 0]]), ([FAR, {"approximate": "tanh"}], [[1, 0]])],
    "sinc": [([np.array(0.636)], [-1.3677232839277966])],  # (cos u − sin u / u) / x
    "softmax": [([np.array([[0.0, -40.0], [0.0, -40.0]])], [math.exp(-40) * np.array([[2.5, -2.5], [4, -4]])],
                 np.array([[3.0, 0.5], [1.0, -3.0]]))],
    **{name: [([np.zeros((2, 0)), 1], [np.zeros((2, 0))])] for name in ("mean", "var")},
    # NumPy takes the axes 0 and −1 of a number, too.
    **{name: [([TWO, 0], [1]), ([TWO, -1], [1])] for name in ("sum", "prod", "cumsum", "cumprod")},
    "cross_entropy": [([np.zeros((0, 0)), np.zeros(0, int), {"label_smoothing": 0.1, "reduction": "sum"}],
                       [np.zeros((0, 0))])],
    "layer_norm": [([np.zeros((2, 0)), None, None], [np.zeros((2, 0))]),
                   ([np.array([1e200, -1e200, 0.0]), None, None], [1.5 ** 0.5 * 1e-200 * np.array([-1, -1, 2]) / 3],
                    np.array([0.0, 0.0, 1.0]))],
    "rms_norm": [([np.zeros((2, 0)), None], [np.zeros((2, 0))]),
                 ([np.array([1e200, 0.0]), None], [[0, 2 ** 0.5 * 1e-200]], np.array([0.0, 1.0]))],
    "matmul": [([MATRIX, PAIR], [[2, 5]]), ([PAIR, MATRIX], [[3, 4]])],
    "solve": [([MATRIX, PAIR], [[0.5, 0.125]])],
    "slogdet": [([DIAGONAL], np.linalg.LinAlgError)],
    "eigh": [
        ([np.eye(2)], [np.eye(2)], (np.ones(2), np.zeros((2, 2)))),
        ([np.zeros((2, 2))], [np.eye(2)], (np.ones(2), np.zeros((2, 2)))),
        ([np.eye(2)], np.linalg.LinAlgError),
        ([np.diag([1.0, 1.0, 2.0])], np.linalg.LinAlgError, vectors(np.eye(3)[:, :1] * np.eye(3)[1])),
        ([np.diag([1.0, 1.0, 2.0])], np.linalg.LinAlgError, vectors(np.eye(3)[:, :1] * np.eye(3)[0])),
        ([np.diag([1.0, 1.0, 2.0])], [np.zeros((3, 3))], vectors(np.diag([0.0, 0.0, 1.0]))),
        ([close(12)], np.linalg.LinAlgError, vectors(np.eye(2))),
        ([close(17)], [np.zeros((2, 2))], vectors(np.eye(2))),
        ([np.stack([close(17), np.diag([100.0, 200.0])])], [np.zeros((2, 2, 2))], vectors(np.eye(2), np.eye(2))),
    ],
    "svd": [
        ([DIAGONAL], [[[1, 0], [0, 0]]], (np.zeros((2, 2)), np.ones(2), np.zeros((2, 2)))),
        ([DIAGONAL], np.linalg.LinAlgError, (np.eye(2), np.zeros(2), np.zeros((2, 2)))),
        ([DIAGONAL], np.linalg.LinAlgError, (np.zeros((2, 2)), np.zeros(2), np.eye(2))),
        ([np.eye(2)], np.linalg.LinAlgError, (np.eye(2), np.zeros(2), np.zeros((2, 2)))),
        ([TALL], np.linalg.LinAlgError, (np.arange(9.0).reshape(3, 3), np.ones(1), np.ones((1, 1)))),
        ([TALL], np.linalg.LinAlgError, (1e-20 * np.arange(9.0).reshape(3, 3), np.ones(1), np.ones((1, 1)))),
        ([np.eye(3)[:, :1]], [np.eye(3)[:, :1]], (np.zeros((3, 3)), np.ones(1), np.zeros((1, 1)))),
        ([np.stack([TALL, TALL])], np.linalg.LinAlgError, (
            np.stack([np.arange(9.0).reshape(3, 3), [[1e18, 0.0, 0.0]] * 3]), np.ones((2, 1)), np.ones((2, 1, 1)))),
    ],
    "qr": [([np.array(MATRIX)[:, :1] * PAIR], np.linalg.LinAlgError),
           ([np.stack([np.ones((2, 2)), np.eye(2)])], np.linalg.LinAlgError),
           ([np.stack([1e-20 * np.eye(2), np.eye(2)])], [np.zeros((2, 2, 2))], (np.zeros((2, 2, 2)),) * 2)],
    "pinv": [([np.diag([1.0, 0.1]), 0.5], np.linalg.LinAlgError),
             ([np.diag([1.0, 0.0]), 0.5], [[[-1, 1], [1, 0]]]), ([np.diag([2.0, 1.0]), 0.5], np.linalg.LinAlgError),
             ([np.diag([2.0, 1.0]), 0.6], np.linalg.LinAlgError), ([np.zeros((2, 2)), 0.5], [np.zeros((2, 2))]),
             ([np.stack([np.diag([2.0, 1.0]), np.diag([8.0, 8.0])]), 0.4],
              [[[[-0.25, -0.5], [-0.5, -1]], np.full((2, 2), -1 / 64)]])],
    "convolve": [([PAIR, 2.0], [[2, 2]])],
    "concatenate": [([PAIR, 2.0, {"axis": None}], [[1, 1]])],
    "scatter_add": [([np.ones((1, 1, 2)), (slice(1, 3),), {"shape": (4,)}], [np.ones((1, 1, 2))])],
    "einsum": [(["...,...", 3.0, PAIR], [[3, 3]])],
    "attention": [([np.ones((1, 1, 1)), NO_HEADS, NO_HEADS], [[[[0]]], NO_HEADS, NO_HEADS]),  # 1 broadcasts to 0
                  ([np.ones((2, 0)), np.ones((4, 0)), np.ones((4, 1))],
                   [np.zeros((2, 0)), np.zeros((4, 0)), np.full((4, 1), 0.5)])],  # of no numbers all scores are 0
}


def half(*shape):
    return _random.normal(size=shape).astype(np.float16)


_random = np.random.default_rng(0)
MANY = np.ones(70_000, np.float16)
COUNT = np.array([1, 1, 2048], np.float16)  # 2048 + 1 is no number in half precision
SMALL, LARGE = np.array([2.0 ** -10] * 3, np.float16), np.array([2.0 ** 10] * 3, np.float16)
PRODUCT = np.concatenate([SMALL, LARGE])

# Op -> (arguments), or with seeds, in half precision: rules give what they give of these numbers in double precision,
# rounded once, since sums and products on the way to it are in single precision.
HALVES = {
    "add": [([np.zeros(1, np.float16), COUNT], COUNT)],
    "gelu": [([half(100)],), ([half(100), {"approximate": "tanh"}],)],
    **{name: [([np.zeros(3, np.float16)], COUNT), ([half(3, 20)], half(3, 20))] for name in ("softmax", "log_softmax")},
    "cross_entropy": [([half(20, 5), np.arange(20) % 5],), ([half(70_000, 2), np.zeros(70_000, int)],)],
    "layer_norm": [([half(5, 20), half(20), half(20)], half(5, 20)), ([half(5, 20), None, None], half(5, 20))],
    "rms_norm": [([half(5, 20), half(20)], half(5, 20)), ([half(5, 20), None], half(5, 20))],
    "attention": [([half(5, 4), half(6, 4), half(6, 3)], half(5, 3))],
    "causal_conv": [([half(20, 2), np.ones((1, 2), np.float16)], half(20, 2))],
    "einsum": [(["i,ij,jk->ik", half(2), half(2, 20), half(20, 3), {"optimize": True}],)],
    "mean": [([MANY],)],
    "var": [([half(50)],), ([np.array([0.5, -0.5], np.float16)], np.array(40_000, np.float16))],
    **{name: [([MANY],)] for name in ("max", "min")},
    "prod": [([PRODUCT],)],
    "cumsum": [([np.zeros(3, np.float16)], COUNT)],
    "cumprod": [([PRODUCT], np.eye(6, dtype=np.float16)[-1]), ([np.ones(3, np.float16)], COUNT)],
}


# Op -> samples with numbers of Python's, of which NumPy's function makes double precision.
NUMBERS = {"convolve": [(PAIR, 2.0)]}


def corner(*slopes):
    """The Jacobian at a corner: the slopes by the seed, and NaN by all numbers."""
    return [[slope, *[np.nan] * len(slopes)] for slope in slopes]


# Op -> (arguments, the Jacobian of its gradients, by the seeds and by the arrays), or with seeds.  A slope that is a
# convention has no derivative: NaN.
SECOND = {
    **{name: [([ZERO], corner(0)), ([ONE], [[1, 0]], ZERO), ([NAN], [[NAN, 0]])] for name in ("absolute", "fabs")},
    "root": [([ZERO], corner(0))],
    "_by_convention": [([ONE, np.array(True), ONE], [[1, 0, 0], [0, 0, 0]])],
    **{name: [([TWO, TWO], corner(0.5, 0.5))] for name in ("maximum", "minimum", "fmax", "fmin")},
    **{name: [([ZERO, ZERO], corner(0, 0))] for name in ("hypot", "arctan2")},
    **{name: [([np.array([3.0, 3.0])], corner(0.5, 0.5))] for name in ("max", "min")},
    "logaddexp": [([TWO, TWO], [[0.5, 0.25, -0.25], [0.5, -0.25, 0.25]])],
    "power": [([ZERO, ZERO], [[0, 0, NAN], [0, NAN, NAN]]), ([ZERO, TWO], [[0, 2, 0], [0, 0, 0]]),
              ([ZERO, ONE], [[1, 0, NAN], [0, NAN, NAN]])],
    "svd": [([np.zeros((1, 1))], [[0, 0, 0, NAN]], (np.zeros((1, 1)), np.ones(1), np.zeros((1, 1))))],
}
