"""Sample inputs for every op and composed function, in `check_op`'s format: name -> tuples of arguments, of which the
last may be a dict of settings.

All are float64 and lie away from kinks and ties, so that finite differences apply; what happens *at* a kink is
tested by hand.  They cover 0-d and zero-size arrays, axes of length 1, broadcasting both ways, negative axes,
arrays that are not contiguous, and the edges of each op's domain.
"""

import numpy as np

_random = np.random.default_rng(20)


def normal(*shape):
    return _random.normal(size=shape)


def between(low, high, *shape):
    return _random.uniform(low, high, size=shape)


def apart(*shape):
    """Numbers of both signs, each at least 0.2 from the others, and 0.1 from zero."""
    n = int(np.prod(shape))
    return np.reshape((_random.permutation(n) - n // 2 + 0.5) * 0.2, shape)


def integers(high, *shape):
    return _random.integers(high, size=shape)


def _one(make=normal):
    """Shapes and layouts for an op of one array."""
    return [(make(),), (make(3),), (make(0, 2),), (make(1, 3, 1),), (make(3, 2).T,), (make(6)[::-2],)]


def _two(make=normal, other=None):
    """Shapes and layouts for an op of two arrays that broadcasts."""
    other = other or make
    return [(make(), other()), (make(3), other(3)), (make(2, 3), other()), (make(), other(2, 2)),
            (make(2, 3), other(3)), (make(2, 1), other(2, 3)), (make(3, 1), other(1, 2)), (make(0, 2), other(2)),
            (make(3, 2).T, other(6)[::2]), (make(2, 2), 1.5), (2.5, other(2))]


def _slices():
    """Shapes and axes for an op along one axis."""
    return [(normal(4),), (normal(1),), (normal(2, 3),), (normal(2, 3), {"axis": 0}), (normal(2, 3, 2), {"axis": -2}),
            (normal(0, 3),), (normal(3, 2).T,), (5 * normal(3),), (normal(2, 2), {"axis": (0, 1)})]


def _reductions(make=normal):
    """Shapes, axes and keepdims for a reduction."""
    return [(make(),), (make(3),), (make(2, 3),), (make(2, 3), {"axis": 0}), (make(2, 3), {"axis": -1}),
            (make(2, 3), {"axis": 1, "keepdims": True}), (make(2, 3), {"keepdims": True}),
            (make(2, 1, 3), {"axis": (0, -1)}), (make(2, 1, 3), {"axis": (-1, 1), "keepdims": True}),
            (make(0, 3), {"axis": 1}), (make(3, 2).T, {"axis": 0}), (make(6)[::-2],), (make(2, 2), {"axis": ()})]


def _comparisons():
    tied = np.array([[1.0, 2.0], [2.0, 1.0]])
    return [*_two(apart), (tied, tied.T), (np.array(1.0), 1.0), (np.zeros((0, 2)), np.zeros(2)), (integers(3, 4), 1)]


def near(low, high):
    """Makes arrays of numbers between these."""
    return lambda *shape: between(low, high, *shape)


def definite(*shape):
    """Symmetric positive definite matrices in the last two axes."""
    x = normal(*shape)
    return x @ x.mT + 2 * np.eye(shape[-1])


def regular(*shape):
    """Matrices that are far from singular, in the last two axes."""
    return normal(*shape) / 2 + 2 * np.eye(shape[-1])


def spread(*shape):
    """Matrices in the last two axes, whose singular values are 1, 2, 3 …"""
    u, s, vh = np.linalg.svd(normal(*shape), full_matrices=False)
    return (u * np.arange(s.shape[-1], 0.0, -1)) @ vh


def symmetric(*shape):
    """Symmetric matrices in the last two axes, whose eigenvalues are −0.5, 1, 2.5 …"""
    v = np.linalg.qr(normal(*shape)).Q
    x = (v * (1.5 * np.arange(shape[-1]) - 0.5)) @ v.mT
    return (x + x.mT) / 2


def _axes_of(make=normal):
    """Arrays with each axis they have, counted from both ends."""
    return [(make(3), {"axis": 0}), (make(2, 3), {"axis": 0}), (make(2, 3), {"axis": -1}),
            (make(2, 1, 3), {"axis": -2}), (make(0, 2), {"axis": 1}), (make(3, 2).T, {"axis": 1}),
            (make(6)[::-2], {"axis": -1})]


_mask = np.array([[True, False, True], [False, True, True]])
_edge = np.array([[0.0, -30.0, 30.0], [1e-6, 4.0, -4.0]])  # far out on both sides

SAMPLES = {
    "add": _two(),
    "subtract": _two(),
    "multiply": _two(),
    "divide": [*_two(normal, lambda *s: between(0.5, 2, *s)), (normal(2), np.array([-1e-2, 1e3]))],
    "power": [*_two(lambda *s: between(0.3, 2, *s), normal), (normal(3), 2), (normal(3), 3.0), (normal(2), -1),
              (normal(2, 2), 0), (normal(2), 1), (normal(2), np.array([2, 3], np.int8)), (between(1, 2, 3), 0.5),
              (2, normal(3)),
              (between(0.5, 2, 3), np.array([0.0, 2.0, -1.0]))],
    "negative": _one(),
    "absolute": _one(apart),
    "maximum": [(apart(), np.array(-0.3)), (apart(3), apart(3)[::-1] + 0.05), (apart(2, 3), np.array(0.05)),
                (0.05, apart(4)), (apart(2, 3), apart(3) + 0.05), (apart(3, 1), apart(1, 2) + 0.05),
                (apart(0, 2), apart(2)), (apart(3, 2).T, apart(6)[::2] + 0.05)],
    "where": [(np.array(True), normal(), normal()), (_mask, normal(2, 3), normal(2, 3)),
              (_mask, normal(3), normal(2, 1)), (_mask[0], normal(2, 3), normal()), (_mask, normal(2, 3), 0.0),
              (_mask, 1.0, normal(2, 3)), (_mask.T, normal(2, 3).T, normal(3, 1)),
              (np.zeros((0, 3), bool), normal(3), normal(0, 1)), (True, normal(2), normal(2)),
              (np.array([[True], [False]]), normal(3), normal(2, 3))],
    "exp": [*_one(), (np.array([-30.0, 0.0, 5.0]),)],
    "log": [*_one(lambda *s: between(0.2, 3, *s)), (np.array([1e-2, 1.0, 1e4]),)],
    "sqrt": [*_one(lambda *s: between(0.2, 3, *s)), (np.array([1e-2, 1.0, 1e4]),)],
    "tanh": [*_one(), (_edge / 5,)],
    "erf": [*_one(), (_edge,)],
    "relu": _one(apart),
    "gelu": [*_one(), (_edge / 5,), *[(*s, {"approximate": "tanh"}) for s in _one()],
             (_edge / 5, {"approximate": "tanh"})],
    "copy": _one(),
    "square": _one(),
    "cbrt": [*_one(apart), (np.array([-8.0, 1e-2, 1e3]),)],
    "reciprocal": [*_one(apart), (np.array([-1e-2, 1e3]),)],
    **{name: [*_one(), (np.array([-30.0, 0.0, 5.0]),)] for name in ("exp2", "expm1")},
    **{name: [*_one(near(0.2, 3)), (np.array([1e-2, 1.0, 1e4]),)] for name in ("log2", "log10")},
    "log1p": [*_one(near(-0.8, 3)), (np.array([-0.99, 1e-3, 1e4]),)],
    **{name: [*_one(), (np.array([-10.0, 3.0, 100.0]),)] for name in ("sin", "cos", "arctan", "arcsinh")},
    "tan": [*_one(near(-1.2, 1.2)), (np.array([2.0, -4.0]),)],
    **{name: [*_one(near(-0.9, 0.9)), (np.array([-0.99, 1e-3, 0.99]),)] for name in ("arcsin", "arccos", "arctanh")},
    **{name: [*_one(), (np.array([-5.0, 1e-3, 5.0]),)] for name in ("sinh", "cosh")},
    "arccosh": [*_one(near(1.2, 4)), (np.array([1.01, 100.0]),)],
    "sigmoid": [*_one(), (np.array([-30.0, 0.0, 5.0]),)],
    "nan_to_num": [*_one(), (normal(2, 3), {"nan": 1.0}), (normal(2), {"posinf": 5.0, "neginf": -5.0})],
    "minimum": [(apart(), np.array(-0.3)), (apart(3), apart(3)[::-1] + 0.05), (apart(2, 3), np.array(0.05)),
                (0.05, apart(4)), (apart(2, 3), apart(3) + 0.05), (apart(3, 1), apart(1, 2) + 0.05),
                (apart(0, 2), apart(2)), (apart(3, 2).T, apart(6)[::2] + 0.05)],
    "remainder": [(np.array(5.3), np.array(2.0)), (np.array([5.3, -5.3, 5.3, -5.3]), np.array([2.0, 2.0, -2.0, -2.0])),
                  (np.array([[0.5], [3.7]]), np.array([1.1, -0.9])), (between(2.1, 2.9, 2, 2), 1.0),
                  (7.0, between(2.1, 2.9, 3)), (between(4.2, 4.8, 3, 2).T, np.array(2.0)), (normal(0, 2), np.ones(2))],
    "arctan2": [*_two(apart), (np.array([-30.0, 0.01]), np.array([0.02, 40.0]))],
    "hypot": [*_two(apart), (np.array([-30.0, 0.01]), np.array([0.02, 40.0]))],
    "logaddexp": [*_two(), (np.array([-30.0, 20.0, 800.0]), np.array([5.0, -20.0, 801.0]))],
    "clip": [(apart(), -0.45, 0.45), (apart(2, 4), -0.45, 0.45), (apart(4), None, 0.15), (apart(4), 0.15),
             (apart(2, 3), np.array([-0.35, 0.05, 0.15]), np.array([[0.45], [0.25]])), (apart(3), np.array(0.05), None),
             (apart(3, 2).T, np.array(-0.15), np.array(0.25)), (apart(0, 2), -1.0, 1.0),
             (apart(4), np.array(0.35), np.array(-0.15)), (apart(6)[::-2], {"a_max": 0.15}),
             (apart(6), None, np.array(0.05)), (apart(6), np.array(-0.25), None)],
    **{name: _one(apart) for name in ("floor", "ceil", "rint", "trunc", "signbit", "isnan", "isinf", "isfinite",
                                      "isposinf", "isneginf")},
    "round": [*_one(apart), (apart(2, 3), 1), (apart(4), {"decimals": 1})],
    **{name: [*_two(apart), (np.array([[0.0], [1.0]]), np.array([0.0, 2.0]))]
       for name in ("logical_and", "logical_or", "logical_xor", "isclose", "allclose", "array_equal")},
    "heaviside": _two(apart),
    "logical_not": [*_one(apart), (np.array([0.0, 1.0]),)],
    "floor_divide": _two(apart),
    **{name: [(integers(8, 2, 3), integers(8, 3)), (integers(2, 3).astype(bool), integers(2, 3).astype(bool))]
       for name in ("bitwise_and", "bitwise_or", "bitwise_xor")},
    "invert": [(integers(8, 2, 3),), (integers(2, 3).astype(bool),)],
    "sign": [*_one(apart), (np.array([0.0, -0.0, 2.0]),)],
    **{name: _comparisons() for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")},
    "matmul": [(normal(3), normal(3)), (normal(2, 3), normal(3)), (normal(2), normal(2, 3)),
               (normal(2, 3), normal(3, 2)), (normal(2, 2, 3), normal(2, 3, 1)), (normal(2, 2, 3), normal(3, 2)),
               (normal(2, 3), normal(2, 3, 2)), (normal(2, 1, 1, 2), normal(3, 2, 1)), (normal(2, 2, 3), normal(3)),
               (normal(2), normal(2, 2, 3)), (normal(3, 2).T, normal(4, 3)[::2].T), (normal(1, 1), normal(1, 1)),
               (normal(0, 2), normal(2, 3)), (normal(2, 0), normal(0, 3)), (normal(0), normal(0))],
    "linear": [(normal(2, 3), normal(3, 2), normal(2)), (normal(3), normal(3, 2), normal(2)),
               (normal(2, 2, 3), normal(3, 1), normal(1)), (normal(2, 3), normal(3, 2), None),
               (normal(0, 3), normal(3, 2), normal(2)), (normal(3, 2).T, normal(2, 3).T, normal(4)[::2]),
               (normal(2, 2, 2).T, normal(2, 2), None)],
    "einsum": [("ij,jk->ik", [normal(2, 3), normal(3, 2)]), ("ij->", [normal(2, 3)]), ("ij->ji", [normal(2, 3)]),
               ("ii->i", [normal(3, 3)]), ("ii", [normal(3, 3)]), ("iij->j", [normal(2, 2, 3)]),
               ("i,j->ij", [normal(2), normal(3)]), ("ij,ij->i", [normal(2, 3), normal(2, 3)]),
               ("ji,jk,kl->il", [normal(3, 2), normal(3, 2), normal(2, 1)]), ("ba", [normal(2, 3)]),
               ("...ij,...jk->...ik", [normal(2, 1, 2), normal(2, 1)]), ("...i,i", [normal(2, 3), normal(3)]),
               ("...", [normal(2, 2)]), ("i...,j...->ij...", [normal(2, 3), normal(3, 1)]),
               ("ij,j->i", [normal(2, 3), normal(1)]), ("ij,kj->k", [normal(2, 3), normal(2, 1)]),
               ("i,i,i->i", [normal(3), normal(1), normal(3)]), ("ab,ab", [normal(3, 2).T, normal(4, 3)[::2]]),
               (" i j , j -> i ", [normal(2, 2), normal(2)]), ("ij,jk->ik", [normal(0, 3), normal(3, 2)]),
               (",i->i", [normal(), normal(2)]), ("iji,jk->ik", [normal(2, 3, 2), normal(3, 2)]),
               ("ii,i->i", [normal(1, 1), normal(3)]), ("i,ii->i", [normal(3), normal(3, 3)]),
               ("A...,A->...", [normal(2, 3), normal(2)]), ("edcba", [normal(1, 2, 1, 2, 1)]),
               ("ij,jk,kl->il", [normal(2, 2), normal(2, 3), normal(3, 1)], {"optimize": True})],
    "inv": [(regular(2, 2),), (regular(3, 3),), (regular(2, 3, 3),), (regular(1, 1),), (regular(3, 3).T,),
            (np.zeros((0, 2, 2)),)],
    "solve": [(regular(3, 3), normal(3)), (regular(3, 3), normal(3, 2)), (regular(2, 3, 3), normal(3)),
              (regular(2, 3, 3), normal(2, 3, 1)), (regular(2, 2), normal(3, 2, 2)), (regular(1, 1), normal(1)),
              (regular(3, 3).T, normal(6)[::2]), (regular(2, 1, 2, 2), normal(3, 2, 1))],
    "det": [(regular(2, 2),), (regular(3, 3),), (regular(2, 3, 3),), (regular(1, 1),), (regular(3, 3).T,)],
    "slogdet": [(regular(2, 2),), (-regular(3, 3),), (regular(2, 3, 3),), (regular(1, 1),), (regular(3, 3).T,)],
    "cholesky": [(definite(2, 2),), (definite(3, 3),), (definite(2, 3, 3),), (definite(1, 1),), (definite(3, 3).T,)],
    "prod": [*_reductions(apart), (normal(0, 3),), (np.array([0.0, 2.0, -3.0]),), (np.array([0.0, 2.0, 0.0]),),
             (np.array([[0.0, 2.0, 0.5], [0.0, 1.5, 0.0]]), {"axis": 1}), (normal(5),)],
    "cumsum": [*_axes_of(), (normal(2, 3),), (normal(),), (normal(0),), (normal(5),)],
    "cumprod": [*_axes_of(apart), (apart(2, 3),), (apart(),), (normal(0),), (normal(5),),
                (np.array([2.0, 0.0, -3.0, 1.5]),), (np.array([2.0, 0.0, -3.0, 0.0, 0.5]),)],
    "logsumexp": [*_reductions(), (normal(0, 3),), (1000 + normal(2, 2), {"axis": 0}), (np.array([-800.0, 3.0, 2.0]),)],
    **{name: [(apart(3),), (apart(2, 3),), (apart(2, 3), {"axis": 0}), (apart(3, 2).T, {"axis": -1}),
              (apart(2, 3), {"axis": 1, "keepdims": True}), (np.array([1.0, 3.0, 3.0, 1.0]),)]
       for name in ("argmax", "argmin")},
    "argsort": [(apart(3),), (apart(2, 3),), (apart(2, 3), {"axis": 0}), (apart(3, 2).T, {"axis": None})],
    "argpartition": [(apart(4), 2), (apart(2, 3), 1, {"axis": 0})],
    **{name: [(apart(3),), (_mask,), (_mask, {"axis": 0}), (np.array([[0.0, 0.0], [0.0, 2.0]]), {"axis": 1})]
       for name in ("any", "all", "count_nonzero")},
    **{name: [(_mask,), (np.array([0.0, 3.0, 0.0, 1.0]),)] for name in ("nonzero", "flatnonzero", "argwhere")},
    "searchsorted": [(np.array([0.1, 0.5, 0.9]), normal(4)), (np.array([0.1, 0.5]), 0.5, {"side": "right"})],
    "digitize": [(normal(4), np.array([-0.5, 0.5]))],
    "isin": [(integers(4, 3), np.array([1, 2]))],
    "tril": [(normal(3, 3),), (normal(2, 3), 1), (normal(2, 3, 2), -1), (normal(3),), (normal(0, 2),),
             (normal(3, 2).T, {"k": 1})],
    "triu": [(normal(3, 3),), (normal(2, 3), 1), (normal(2, 3, 2), -1), (normal(3),), (normal(0, 2),),
             (normal(3, 2).T, {"k": 1})],
    "last_written": [(normal(3), np.array([0, 2, 0])), (normal(2, 3), slice(None), np.array([1, 1])),
                     (normal(2, 3), 1, 2)],
    "put": [(normal(3), normal(), 1), (normal(4), normal(2), slice(1, 3)), (normal(4), 2.0, slice(1, 3)),
            (normal(3), normal(3), np.array([0, 2, 0])), (normal(2, 3), normal(1), _mask[:, 0], 1),
            (normal(2, 3), normal(), _mask), (normal(2, 3), normal(3), (np.array([1, 1]),)),
            (normal(2, 3), normal(2, 1), (slice(None), np.array([2, 0]))), (normal(0, 2), normal(2), slice(None)),
            (normal(3, 2).T, normal(2, 2), (slice(None), slice(None, None, -2)))],
    "sum": [*_reductions(), (normal(0, 3), {"axis": 0}), (normal(0, 3),)],
    "mean": _reductions(),
    "var": [*_reductions(), (normal(2, 3), {"axis": 1, "ddof": 1}),
            (normal(2, 2), {"axis": (0, 1), "ddof": 2, "keepdims": True}), (100 + normal(4),)],
    "max": _reductions(apart),
    "reshape": [(normal(), (1, 1)), (normal(2, 3), (3, 2)), (normal(2, 3), (-1,)), (normal(2, 3), 6), (normal(1), ()),
                (normal(0, 2), (3, 0)), (normal(3, 2).T, (3, -1)), (normal(4)[::2], (1, 2))],
    "transpose": [(normal(),), (normal(3),), (normal(2, 3),), (normal(2, 1, 3), (2, 0, 1)),
                  (normal(2, 1, 3), (-1, 0, -2)), (normal(0, 2),), (normal(3, 2).T,), (normal(2, 3), {"axes": (1, 0)})],
    "swapaxes": [(normal(2, 3), 0, 1), (normal(2, 1, 3), -1, 0), (normal(2, 3), 1, -1), (normal(0, 2), 0, 1),
                 (normal(3, 2).T, 0, -1)],
    "broadcast_to": [(normal(), (2, 2)), (normal(3), (2, 3)), (normal(2, 1), (3, 2, 2)), (normal(1), (0,)),
                     (normal(2), (2,)), (normal(4)[::2], (3, 2)), (normal(1, 1), (2, 1, 3))],
    "concatenate": [([normal(2), normal(3)],), ([normal(2, 3), normal(1, 3), normal(0, 3)],),
                    ((normal(2, 3), normal(2, 1)), {"axis": 1}), ([normal(2, 2), normal(2, 1)], {"axis": -1}),
                    ([normal(2, 2), normal(3)], {"axis": None}), ([normal(2)],),
                    ([normal(3, 2).T, normal(6)[::2][None]],), ([normal(2, 1, 2)] * 2, {"axis": -2})],
    "split": [(normal(4), 2), (normal(4, 3), 2), (normal(2, 3), 3, {"axis": 1}), (normal(2, 4), 2, {"axis": -1}),
              (normal(5), [1, 3]), (normal(3), [0, 3]), (normal(4, 2), (2, 3), {"axis": -2}),
              (normal(0, 2), 2, {"axis": 1}), (normal(3, 2).T, 3, {"axis": 1}), (normal(2), 1)],
    "astype": [(normal(), np.float64), (normal(2, 3), np.float64), (normal(0, 2), "float64"), (normal(3, 2).T, float)],
    "truncate": [(apart(), int), (apart(2, 3), np.int64), (apart(0, 2), int), (apart(3, 2).T, np.int32),
                 (np.array([0.0, 2.0]), bool)],
    "getitem": [(normal(3), (0,)), (normal(3), (-1,)), (normal(4), (slice(1, 3),)),
                (normal(4), (slice(None, None, -2),)), (normal(2, 3), (1,)), (normal(2, 3), (1, 2)),
                (normal(2, 3), (Ellipsis, 0)), (normal(2, 3), (slice(None), None, 1)), (normal(), ()),
                (normal(), (Ellipsis, None)), (normal(4), (np.array([0, 2, 2, -1]),)),
                (normal(3, 2), (np.array([[0, 1], [2, 0]]),)),
                (normal(3, 3), (np.array([0, 1, 1]), np.array([2, 0, 0]))),
                (normal(3, 2), (np.array([0, 0]), slice(None))),
                (normal(2, 3, 2), (np.array([0, 1]), slice(None), np.array([1, 1]))), (normal(2, 3), (_mask,)),
                (normal(2, 3), (slice(None), _mask[0])), (normal(3), (np.zeros(0, int),)),
                (normal(0, 2), (slice(None), 1)), (normal(3, 2).T, (slice(None), np.array([2, 2]))),
                (normal(2, 3), ([1, 1],)), (normal(3), (np.array(True),)),
                (normal(2, 3), (np.array(1), np.array([0, 0])))],
    "scatter_add": [(normal(), (1,), {"shape": (3,)}), (normal(2), (slice(1, 3),), {"shape": (4,)}),
                    (normal(4), (np.array([0, 2, 2, -1]),), {"shape": (3,)}),
                    (normal(2, 3), (np.array([1, 1]),), {"shape": (2, 3)}),
                    (normal(3), (np.array([0, 1, 1]), np.array([2, 0, 0])), {"shape": (3, 3)}),
                    (normal(4), (_mask,), {"shape": (2, 3)}), (normal(0), (np.zeros(0, int),), {"shape": (2,)}),
                    (normal(2, 1), (Ellipsis, None), {"shape": (2,)}),
                    (normal(3, 2).T, (slice(None, None, -1),), {"shape": (2, 3)}), (normal(), (), {"shape": ()})],
    "embedding": [(np.array([0, 2, 2]), normal(3, 2)), (integers(3, 2, 2), normal(3, 2)), (np.array(1), normal(3, 2)),
                  (np.zeros((0, 2), int), normal(3, 2)), (integers(2, 4)[::2], normal(2, 3).T),
                  (np.array([0]), normal(1, 1))],
    "one_hot": [(integers(3, 4), 3), (np.array(1), 2), (integers(2, 2, 3), 2), (np.zeros(0, int), 3),
                (integers(3, 6)[::2], 3)],
    "top_k": [(apart(4), 2), (apart(2, 3), 1, {"axis": 0}), (apart(2, 3), 3), (apart(1), 1), (apart(3), 0),
              (apart(0, 2), 1), (apart(3, 2).T, 2), (apart(2, 1, 3), 1, {"axis": -2}), (apart(6)[::-2], 2)],
    "softmax": _slices(),
    "log_softmax": _slices(),
    "cross_entropy": [(normal(2, 3), integers(3, 2)), (normal(3), np.array(1)), (normal(2, 2, 3), integers(3, 2, 2)),
                      (normal(2, 1), np.zeros(2, int)), (normal(3, 3), np.array([2, -100, 0])),
                      (normal(3, 3), np.array([2, 1, 0]), {"ignore_index": 1}),
                      (normal(2, 3), integers(3, 2), {"label_smoothing": 0.1}),
                      (normal(2, 3), integers(3, 2), {"label_smoothing": 1.0}),
                      (normal(2, 3), integers(3, 2), {"reduction": "sum"}),
                      (normal(2, 3), integers(3, 2), {"reduction": "none"}),
                      (normal(3, 2), np.array([1, -1, 0]),
                       {"ignore_index": -1, "label_smoothing": 0.2, "reduction": "none"}),
                      (normal(0, 3), np.zeros(0, int), {"reduction": "sum"}), (normal(3, 2).T, integers(3, 4)[::2]),
                      (5 * normal(2, 3), integers(3, 2))],
    "layer_norm": [(normal(2, 3), normal(3), normal(3)), (normal(3), normal(3), normal(3)),
                   (normal(2, 1, 3), normal(3), None), (normal(2, 3), None, normal(3)), (normal(2, 3), None, None),
                   (normal(2, 3), normal(3), normal(3), {"eps": 0.1}), (normal(0, 3), normal(3), normal(3)),
                   (normal(3, 2).T, normal(6)[::2], normal(3)), (10 + normal(2, 4), normal(4), normal(4)),
                   (normal(2, 1), normal(1), normal(1))],
    "rms_norm": [(normal(4), normal(4)), (normal(2, 3), None), (normal(2, 1, 3), normal(3), 0.1),
                 (normal(2, 3), normal(3), {"eps": 0.1}), (normal(0, 3), normal(3)), (normal(3, 2).T, normal(6)[::2]),
                 (10 + normal(2, 4), normal(4)), (normal(2, 1), normal(1))],
    "squared_relu": _one(apart),
    "rotary": [(normal(3, 4), normal(3, 2)), (normal(2, 2, 3, 4), normal(2, 1, 3, 2)), (normal(2, 2, 2), normal(2, 1)),
               (normal(1, 6), 5 * normal(1, 3)),
               (normal(0, 2), normal(0, 1)), (normal(4, 2).T, normal(2, 2).T), (normal(2, 1, 3, 4), normal(6, 2)[::2]),
               (normal(3, 2, 2).swapaxes(0, 1), normal(3, 1)), (normal(2, 0), normal(2, 0))],
    "causal_conv": [(normal(3, 2), normal(2, 2)), (normal(2, 4, 2), normal(3, 2)), (normal(3, 2), normal(1, 2)),
                    (normal(2, 1), normal(4, 1)), (normal(2, 1, 3, 2), normal(3, 2)), (normal(0, 2), normal(2, 2)),
                    (normal(2, 3).T, normal(2, 2).T), (normal(3, 2, 1).swapaxes(0, 1), normal(4, 1)[::2]),
                    (normal(2, 0), normal(2, 0)), (normal(3, 1), normal(5, 1))],
    "attention": [(normal(2, 2), normal(2, 2), normal(2, 2)), (normal(2, 2), normal(3, 2), normal(3, 1)),
                  (normal(2, 2), normal(2, 2), normal(2, 2), {"causal": True}),
                  (normal(2, 2), normal(3, 2), normal(3, 2), {"causal": True}),
                  (normal(3, 2), normal(3, 2), normal(3, 2), {"scale": 0.3}),
                  (normal(2, 2, 2), normal(2, 2, 2), normal(2, 2, 2), {"causal": True}),
                  (normal(2, 2), normal(2, 3, 2), normal(2, 3, 1)), (normal(2, 1, 2, 1), normal(2, 3, 1), normal(3, 1)),
                  (normal(2, 2), normal(3, 2), normal(3, 2), _mask),
                  (normal(2, 2), normal(3, 2), normal(3, 2), normal(2, 3)),
                  (normal(2, 2, 2), normal(3, 2), normal(3, 2), normal(3)),
                  (normal(2, 2), normal(3, 2), normal(3, 2), normal(2, 3), {"causal": True}),
                  (normal(2, 2), normal(3, 2), normal(3, 2), {"mask": np.array([[True], [True]])}),
                  (normal(1, 1), normal(1, 1), normal(1, 1)), (normal(0, 2), normal(2, 2), normal(2, 2)),
                  (normal(4, 2, 2), normal(2, 3, 2), normal(2, 3, 1)),
                  (normal(3, 2, 1), normal(1, 2, 1), normal(3, 2, 1)),
                  (normal(2, 2, 2, 1), normal(2, 1, 3, 1), normal(2, 2, 3, 2), {"causal": True}),
                  (normal(2, 2), normal(3, 2), normal(3, 2), np.array([[False] * 3, [True, False, True]])),
                  (normal(3, 2), normal(2, 2), normal(2, 2), {"causal": True}),
                  (normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 1), normal(2, 1, 3)),
                  (normal(2, 3, 2), normal(2, 2, 2), normal(2, 2, 1)),
                  (normal(6, 1, 1), normal(2, 6, 1), normal(2, 6, 1)),
                  (normal(4, 1, 1), normal(2, 2, 1), normal(2, 2, 1)),
                  (normal(4, 2, 1), normal(2, 1, 1), normal(2, 1, 1)),
                  (normal(4, 1, 1), normal(2, 3, 1), normal(4, 3, 1)),
                  (normal(4, 1, 1), normal(4, 3, 1), normal(2, 3, 1)),
                  (normal(2, 2).T, normal(4, 2)[::2], normal(2, 4).T[::2])],
    "causal_mask": [(normal(3, 1), normal(3, 2)), (normal(2, 2, 1), normal(2, 3, 1)), (normal(1, 1), normal(4, 1)),
                    (normal(0, 1), normal(2, 1))],
}

_places = np.array([[2, 0], [1, 1]])

SAMPLES.update({  # composed of ops, in the arguments of NumPy's functions
    "min": _reductions(apart),
    "ptp": [*_reductions(apart)[1:-1], (apart(1),)],
    "std": [(normal(3),), (normal(2, 3),), (normal(2, 3), {"axis": 0}), (normal(2, 3), {"axis": 1, "ddof": 1}),
            (normal(2, 1, 3), {"axis": (0, -1), "keepdims": True}), (normal(3, 2).T, {"axis": 0}), (normal(6)[::-2],)],
    "median": [(apart(3),), (apart(4),), (apart(2, 3),), (apart(2, 4), {"axis": 0}), (apart(3, 2).T, {"axis": 1}),
               (apart(2, 1, 3), {"axis": (0, -1), "keepdims": True}), (apart(1),)],
    "average": [(normal(3),), (normal(2, 3), {"axis": 1}), (normal(3), None, between(0.5, 2, 3)),
                (normal(2, 3), 1, between(0.5, 2, 3)), (normal(2, 3), -2, between(0.5, 2, 2)),
                (normal(2, 3), None, between(0.5, 2, 2, 3)),
                (normal(2, 3), 1, between(0.5, 2, 3), {"keepdims": True})],
    "tensordot": [(normal(2, 3), normal(3, 2), 1), (normal(2, 3), normal(2, 3)), (normal(2), normal(3), 0),
                  (normal(2, 3, 2), normal(2, 1, 3), ((1, 0), (2, 0))), (normal(2, 3), normal(2, 3), (-1, 1)),
                  (normal(0, 3), normal(3, 2), 1), (normal(2, 0), normal(0, 3), 1),
                  (normal(3, 2).T, normal(4, 3)[::2].T, 1)],
    "dot": [(normal(), normal(2)), (normal(3), normal(3)), (normal(2, 3), normal(3)), (normal(2, 3), normal(3, 2)),
            (normal(3), normal(2, 3, 2)), (normal(2, 2, 3), normal(2, 3, 1)), (normal(2), 2.0), (normal(0), normal(0))],
    "inner": [(normal(), normal(2)), (normal(3), normal(3)), (normal(2, 3), normal(3)), (normal(2, 3), normal(4, 3))],
    "outer": [(normal(2), normal(3)), (normal(2, 2), normal(3)), (normal(), normal(2)), (normal(0), normal(2))],
    "vdot": [(normal(3), normal(3)), (normal(2, 3), normal(2, 3)), (normal(3, 2).T, normal(2, 3))],
    "kron": [(normal(2), normal(3)), (normal(2, 2), normal(1, 3)), (normal(2), normal(2, 2)),
             (normal(2, 1, 2), normal(3)),
             (normal(), normal(2))],
    "diagonal": [(normal(3, 3),), (normal(2, 3), 1), (normal(3, 2), -1), (normal(2, 3, 2),), (normal(2, 3, 3), 0, 1, 2),
                 (normal(2, 3, 2), {"axis1": -1, "axis2": 0}), (normal(2, 2), 5), (normal(3, 2).T,)],
    "trace": [(normal(3, 3),), (normal(2, 3), 1), (normal(2, 3, 3), 0, 1, 2), (normal(3, 2).T, -1)],
    "norm": [(normal(3),), (normal(2, 3),), (normal(2, 3), None, 1), (normal(2, 3), {"axis": 0, "keepdims": True}),
             (normal(2, 3), "fro"), (normal(2, 2, 3), {"axis": (1, 2)}), (apart(3), 1),
             (np.array([[1.0, -2.0], [0.5, 0.1]]), np.inf, 1),
             (normal(3), 2), (normal(2, 3), 2, 0), (normal(2, 1, 2),), (normal(3, 2).T, {"axis": 1})],
    "ravel": _one(),
    "moveaxis": [(normal(2, 1, 3), 0, -1), (normal(2, 1, 3), (0, 1), (-1, 0)), (normal(2, 3), -1, 0),
                 (normal(3, 2).T, 1, 0)],
    "expand_dims": [(normal(), 0), (normal(3), 0), (normal(3), -1), (normal(2, 3), 1), (normal(2), (0, 2)),
                    (normal(0, 2), -2)],
    "squeeze": [(normal(1, 3, 1),), (normal(1, 3, 1), 0), (normal(1, 3, 1), {"axis": (0, -1)}), (normal(),),
                (normal(2),)],
    "atleast_1d": [(normal(),), (normal(2),), (normal(), normal(2))],
    "atleast_2d": [(normal(),), (normal(2),), (normal(2, 1),), (normal(), normal(1, 2, 1))],
    "atleast_3d": [(normal(),), (normal(2),), (normal(2, 3),), (normal(1, 2, 1),), (normal(2), normal(2, 2))],
    "broadcast_arrays": [(normal(3), normal(2, 1)), (normal(2),), (normal(), normal(0, 2))],
    "meshgrid": [(normal(2), normal(3)), (normal(2), normal(3), {"indexing": "ij"}), (normal(2), normal(1), normal(3)),
                 (normal(2),), (normal(2), normal(0))],
    "stack": [([normal(2), normal(2)],), ([normal(), normal(), normal()],), ((normal(2, 3), normal(2, 3)), 1),
              ([normal(2, 1), normal(2, 1)], {"axis": -1}), ([normal(3)],)],
    "vstack": [([normal(2), normal(2)],), ([normal(2, 3), normal(1, 3)],), ([normal(), normal()],)],
    "hstack": [([normal(2), normal(3)],), ([normal(2, 3), normal(2, 1)],), ([normal(), normal(2)],)],
    "array_split": [(normal(5), 2), (normal(5), 3), (normal(2, 3), 2, 1), (normal(4), [1, 1, 3]), (normal(2), 3)],
    "tile": [(normal(2), 3), (normal(2), (2, 2)), (normal(2, 3), 2), (normal(2, 1), (1, 2)), (normal(), 2),
             (normal(2), 0)],
    "repeat": [(normal(3), 2), (normal(2, 3), 2), (normal(2, 3), 2, 1), (normal(3), [0, 2, 1]),
               (normal(2, 2), [1, 2], -1)],
    "flip": [(normal(3),), (normal(2, 3),), (normal(2, 3), 0), (normal(2, 3), (0, -1)), (normal(2, 1, 3), -1)],
    "roll": [(normal(3), 1), (normal(2, 3), 2), (normal(2, 3), -1, 1), (normal(2, 3), (1, 2), (0, 1)),
             (normal(2, 3), 1, (0, 1)),
             (normal(0, 2), 1, 0), (normal(3), 7)],
    "fliplr": [(normal(2, 3),), (normal(2, 3, 2),)],
    "flipud": [(normal(3),), (normal(2, 3),)],
    "rollaxis": [(normal(2, 1, 3), 2), (normal(2, 1, 3), 0, 3), (normal(2, 3), {"axis": -1})],
    "delete": [(normal(4), [0, 2]), (normal(2, 3), 1, 1), (normal(2, 3), slice(0, 2)), (normal(0, 2), 0, {"axis": 1})],
    "rot90": [(normal(2, 3),), (normal(2, 3), 2), (normal(2, 3), 3), (normal(2, 3), 4), (normal(2, 3, 1), -1, (1, 2))],
    "pad": [(normal(3), 1), (normal(2, 3), (1, 2)), (normal(2, 3), ((1, 0), (0, 2))),
            (normal(2), 1, {"constant_values": 3.0}),
            (normal(3), 2, "edge"), (normal(3), 2, {"mode": "reflect"}), (normal(2, 2), 1, "symmetric"),
            (normal(2), 3, "wrap"),
            (normal(0, 2), ((1, 0), (0, 0)))],
    "diag": [(normal(3),), (normal(3), 1), (normal(2), -2), (normal(3, 3),), (normal(2, 3), 1), (normal(0),)],
    **{name: [(normal(2, 3),), (normal(2), {"dtype": np.float32}), (normal(2), {"shape": (2, 2)})]
       for name in ("zeros_like", "ones_like", "empty_like")},
    "full_like": [(normal(2, 3), 7.0), (normal(2), 1.5, {"dtype": np.float32}), (normal(2), 3, {"shape": (2, 2)})],
    "take": [(normal(4), [0, 2, 2]), (normal(2, 3), np.array([[0, 2], [1, 1]]), 1), (normal(2, 3), [5, 0]),
             (normal(2, 3), 1, 0), (normal(2, 3), np.array(-1), {"axis": -1}), (normal(0, 3), [1], 1)],
    "take_along_axis": [(normal(2, 3), _places, 1), (normal(3, 2), _places, 0), (normal(2, 3), np.array([3, 0]), None),
                        (normal(2, 3), np.array([[1]]), {"axis": -1}), (normal(1, 3), _places, 1)],
    "put_along_axis": [(normal(2, 3), np.array([[2, 0], [1, 2]]), normal(2, 2), 1),
                       (normal(2, 3), np.array([[1]]), 5.0, 1),
                       (normal(2, 3), np.array([[2], [1]]), normal(2, 1), -1),
                       (normal(3, 2), _places, normal(2, 2), 0)],
    "sort": [(apart(3),), (apart(2, 3),), (apart(2, 3), 0), (apart(2, 3), None), (apart(3, 2).T, {"axis": 1}),
             (apart(0, 2),)],
    "partition": [(apart(4), 1), (apart(2, 3), 1, 0), (apart(2, 3), 2, None)],
    "compress": [(_mask[0], normal(3)), (_mask[0], normal(2, 3), 1), (np.array([False, True]), normal(2, 3), 0),
                 (_mask[0], normal(2, 2))],
    "extract": [(_mask, normal(2, 3)), (np.zeros(2, bool), normal(2))],
    "select": [([_mask, ~_mask], [normal(2, 3), normal(3)]), ([_mask[0]], [normal(3)], normal(3)),
               ([_mask, _mask[0], _mask[1]], [normal(3), normal(2, 3), normal(2, 1)], 2.0)],
    "choose": [(np.array([0, 2, 1]), [normal(3), normal(3), normal(3)]), (np.array([[0], [1]]), [normal(3), normal()]),
               (np.array([-1, 5]), [normal(2), normal(2)], {"mode": "clip"}),
               (np.array([-1, 4]), [normal(2), normal(2), normal(2)], {"mode": "wrap"}), (np.array(0), [normal()])],
    "softplus": [*_one(), (np.array([-30.0, 0.0, 40.0]),)],
    "silu": [*_one(), (np.array([-10.0, 0.0, 10.0]),)],
    "leaky_relu": [*_one(apart), (apart(3), 0.2)],
    "swiglu": [(normal(3), normal(3, 2), normal(3, 2)), (normal(2, 2, 3), normal(3, 2), normal(3, 2))],
    "mse": [(normal(3), normal(3)), (normal(2, 3), normal(3), "sum"),
            (normal(2, 3), normal(2, 3), {"reduction": "none"})],
    "binary_cross_entropy": [(normal(4), between(0, 1, 4)), (np.array([-40.0, 30.0]), np.array([0.25, 1.0]), "sum"),
                             (normal(2, 3), _mask * 1.0, {"reduction": "none"})],
    "kl_divergence": [(np.log(np.array([0.5, 0.2, 0.3])), np.array([0.1, 0.6, 0.3])),
                      (-between(0.5, 2, 2, 3), between(0.1, 0.8, 2, 3), {"axis": 0, "reduction": "sum"}),
                      (-between(0.5, 2, 2, 3), between(0.1, 0.8, 2, 3), {"reduction": "none"})],
})

_random = np.random.default_rng(23)  # whatever is added before, these stay away from kinks

SAMPLES.update({  # of matrices
    "cofactor": [(regular(2, 2),), (regular(2, 3, 3),), (regular(1, 1),), (regular(3, 3).T,),
                 (np.array([[1.0, 2.0], [2.0, 4.0]]),), (1e3 * spread(3, 2) @ spread(2, 3),),
                 (np.stack([regular(2, 2), np.ones((2, 2))]),), (regular(3, 3), [normal(3, 3)]),
                 (regular(2, 2, 2), [normal(2, 2), normal(2, 2, 2)]), (np.diag([1.0, 0.0, 0.0]), [normal(3, 3)])],
    "pinv": [(spread(3, 2),), (spread(2, 3),), (spread(2, 3, 2),), (spread(2, 2),), (spread(1, 1),),
             (spread(3, 2).T,), (spread(3, 2), 0.1), (spread(2, 3, 2), {"rcond": np.array([0.2, 0.1])}),
             (np.zeros((0, 3, 2)),)],
    "eigh": [(symmetric(2, 2),), (symmetric(3, 3),), (symmetric(2, 3, 3),), (symmetric(1, 1),),
             (symmetric(3, 3).T, "U"), (np.zeros((0, 2, 2)),)],
    "svd": [(spread(2, 2),), (spread(3, 3),), (spread(2, 3, 3),), (spread(1, 1),), (spread(3, 2),), (spread(2, 3),),
            *[(x, {"full_matrices": False}) for x in (spread(4, 2), spread(2, 4), spread(2, 3, 2), spread(3, 2).T,
                                                      spread(3, 1), np.zeros((0, 3, 2)))]],
    "qr": [(normal(2, 2),), (normal(3, 3),), (normal(4, 2),), (normal(2, 4),), (normal(2, 3, 2),), (normal(1, 1),),
           (normal(3, 2).T,), (np.zeros((0, 3, 2)),), (normal(1, 3, 2),), (normal(3, 2), "complete"),
           (normal(2, 3), {"mode": "complete"})],
    "matrix_rank": [(normal(3, 2),), (np.ones((2, 2, 3)),), (np.array([[1.0, 2.0], [2.0, 4.0]]),), (normal(3),)],
    "eigvalsh": [(symmetric(2, 2),), (symmetric(3, 3),), (symmetric(2, 3, 3),), (symmetric(3, 3).T, "U")],
    "svdvals": [(spread(2, 2),), (spread(4, 2),), (spread(2, 2, 4),), (spread(3, 2).T,)],
    "cond": [(spread(2, 2),), (spread(3, 2),), (spread(2, 2, 3), 2), (spread(3, 3), -2), (regular(2, 2), 1),
             (regular(2, 3, 3), np.inf), (regular(2, 2), "fro"), (spread(2, 2), {"p": "nuc"})],
    "matrix_power": [(normal(2, 2), 1), (normal(2, 2), 2), (normal(3, 3), 3), (normal(2, 2, 2), 6), (regular(2, 2), -1),
                     (regular(2, 2).T, -3)],
    "multi_dot": [([normal(2, 3), normal(3, 2)],), ([normal(3), normal(3, 2), normal(2)],), ([normal(2), normal(2)],),
                  ((normal(1, 3), normal(3, 2), normal(2, 4), normal(4)),), ([normal(3, 2).T, normal(6, 2)[::2]],)],
    "lstsq": [(spread(3, 2), normal(3)), (spread(4, 2), normal(4, 2)), (spread(2, 3), normal(2)),
              (spread(2, 2), normal(2, 1)), (spread(3, 2), normal(3), 0.1), (spread(2, 3).T, normal(6)[::2])],
    "tensorsolve": [(normal(2, 3, 6), normal(2, 3)), (normal(2, 2, 2, 2), normal(2, 2)), (normal(3, 3), normal(3)),
                    (normal(2, 6, 3), normal(2, 3), (1,))],
    "tensorinv": [(normal(2, 3, 6),), (normal(2, 2, 2, 2),), (regular(3, 3), 1), (normal(6, 3, 2), {"ind": 1})],
    "vecdot": [(normal(3), normal(3)), (normal(2, 3), normal(3)), (normal(2, 1, 3), normal(2, 3)),
               (normal(3, 2), normal(3), {"axis": 0}), (normal(3, 2).T, normal(6)[::2]), (normal(2, 0), normal(0))],
    "matvec": [(normal(2, 3), normal(3)), (normal(2, 2, 3), normal(3)), (normal(2, 3), normal(2, 3)),
               (normal(3, 2).T, normal(6)[::2]), (normal(2, 0), normal(0))],
    "vecmat": [(normal(3), normal(3, 2)), (normal(3), normal(2, 3, 2)), (normal(2, 3), normal(3, 2)),
               (normal(6)[::2], normal(2, 3).T)],
    "cross": [(normal(3), normal(3)), (normal(2, 3), normal(3)), (normal(3, 2), normal(3, 2), {"axis": 0}),
              (normal(2, 1, 3), normal(2, 3)), (normal(3, 2), normal(2, 3), 0, 1, 0), (normal(0, 3), normal(3))],
})
SAMPLES["det"] += [(np.array([[1.0, 2.0], [2.0, 4.0]]),), (spread(3, 2) @ spread(2, 3),), (np.zeros((2, 2)),),
                   (np.diag([1.0, 0.0, 0.0]),)]
_uneven = np.array([[1.0, -2.0, 0.7], [0.5, 0.1, -3.0]])  # also in the sums of its rows and columns
SAMPLES["norm"] += [
    *[(_uneven, p, 1) for p in (3, 1.5, 0.5, -1, -2.5, -np.inf)], (normal(2, 3), 3, 0, True), (normal(1, 3), 1),
    *[(_uneven, p) for p in (-1, np.inf, -np.inf)], *[(spread(2, 3), p) for p in (2, -2, "nuc")],
    (normal(2, 3, 2), 1, (2, 0)), (normal(2, 3, 2), np.inf, (0, -1), True), (spread(2, 3, 2), "nuc", (1, 2)),
    (spread(2, 3, 2), {"ord": 2, "axis": (-1, 1), "keepdims": True}), (normal(0, 3), 3, 1)]


def holed(*shape):
    """Numbers that lie apart, with NaN among them."""
    x = apart(*shape)
    x.flat[1::3] = np.nan
    return x


_increasing = np.cumsum(between(0.5, 1, 4))
_between = np.array([[-0.3, 0.2], [0.55, 0.8]]) * _increasing[-1]  # none of them is one of the above

SAMPLES.update({  # functions of numerical analysis and of statistics, and what NumPy's users find beside them
    "fabs": _one(apart),
    **{name: [*_one(), (np.array([-180.0, 1e-3, 400.0]),)] for name in ("deg2rad", "rad2deg")},
    "sinc": [*_one(), (np.array([1e-3, 0.31, 0.33, -2.4]),), (np.array([-0.05, 0.0, 3.7]),)],
    "logaddexp2": [*_two(), (np.array([-30.0, 20.0, 800.0]), np.array([5.0, -20.0, 801.0]))],
    **{name: [(apart(), np.array(-0.3)), (apart(3), apart(3)[::-1] + 0.05), (apart(2, 3), np.array(0.05)),
              (0.05, apart(4)), (apart(3, 1), apart(1, 2) + 0.05), (apart(0, 2), apart(2)),
              (apart(3, 2).T, apart(6)[::2] + 0.05)] for name in ("fmax", "fmin")},
    "fmod": [(np.array(5.3), np.array(2.0)), (np.array([5.3, -5.3, 5.3, -5.3]), np.array([2.0, 2.0, -2.0, -2.0])),
             (np.array([[0.5], [3.7]]), np.array([1.1, -0.9])), (7.0, between(2.4, 2.9, 3)),
             (between(4.2, 4.8, 3, 2).T, np.array(2.0)), (normal(0, 2), np.ones(2)), (np.array([7.3, -9.1]), 0.6)],
    "copysign": [(apart(3), np.array([-1, 2, -3], np.int8)), (apart(2, 3), -1.0), (apart(0), 1.0),
                 (apart(3, 1), np.array([5, -5], np.int8))],
    **{name: _one(apart) for name in ("isreal", "iscomplex", "angle", "spacing")},
    "array_equiv": [(apart(3), apart(3)), (apart(2), np.zeros((3, 2)))],
    **{name: [(holed(4),), (holed(2, 4), {"axis": 1}), (apart(3, 2).T, {"axis": 0})]
       for name in ("nanargmax", "nanargmin")},
    # Those that leave out NaN are given none here: finite differences do not lead across it.
    **{name: [(apart(3),), (apart(2, 4), {"axis": 1}), (apart(3, 2).T, {"axis": 0, "keepdims": True}),
              (apart(2, 1, 3), {"axis": (0, -1)})]
       for name in ("nansum", "nanprod", "nanmean", "nanmax", "nanmin", "nanvar", "nanmedian")},
    "nanstd": [(apart(3),), (apart(2, 4), {"axis": 1, "ddof": 1}), (apart(3, 4).T, {"axis": 0, "keepdims": True}),
               (apart(2, 1, 3), {"axis": (0, -1)})],
    **{name: [(apart(4),), (apart(2, 3), {"axis": 0}), (apart(3, 2).T, {"axis": -1}), (apart(2, 2),), (apart(),)]
       for name in ("nancumsum", "nancumprod")},
    **{name: [(apart(3),), (apart(2, 3), {"axis": 1}), (apart(2, 3), {"axis": 0, "include_initial": True})
              if name == "cumulative_sum" else (apart(4), {"include_initial": True}), (apart(3, 2).T, {"axis": -1})]
       for name in ("cumulative_sum", "cumulative_prod")},
    **{name: [(apart(5), 0.3 * unit), (apart(2, 4), 0.35 * unit, {"axis": 1}), (apart(3, 2).T, 0.8 * unit, {"axis": 0}),
              (apart(3, 4), 0.55 * unit, {"axis": (0, -1), "keepdims": True}), (apart(2, 3), 0.4 * unit),
              (apart(4, 2), np.array([0.2, 0.9]) * unit, {"axis": 0}),
              (apart(5), np.array([[0.1, 0.3], [0.6, 0.9]]) * unit), (apart(4), 0.0), (apart(4), unit)]
       for name, unit in (("quantile", 1), ("nanquantile", 1), ("percentile", 100), ("nanpercentile", 100))},
    "cov": [(normal(2, 4),), (normal(4),), (normal(4, 2), {"rowvar": False}), (normal(2, 4), normal(4)),
            (normal(2, 4), {"bias": True}), (normal(2, 4), None, True, False, None, np.array([1, 2, 1, 2])),
            (normal(2, 4), None, True, False, None, None, between(0.5, 2, 4)), (normal(3, 2).T, {"ddof": 0})],
    "corrcoef": [(normal(3, 5),), (normal(4), normal(4)), (normal(5, 2), {"rowvar": False})],
    "difference": [(normal(4),), (normal(2, 4), 2), (normal(3, 2), {"axis": 0}), (normal(3, 2).T, 1, -1, 0.5, 1.0),
             (normal(2, 3), 1, 0, normal(1, 3), normal(2, 3)), (normal(3), 0), (normal(0, 2), {"axis": 1})],
    "ediff1d": [(normal(4),), (normal(2, 2), normal(2), 1.0), (normal(3), None, normal(1))],
    "gradient": [(normal(4),), (normal(2, 3),), (normal(3, 3), 0.5, {"axis": 0}), (normal(4), _increasing),
                 (normal(4), _increasing, {"edge_order": 2}), (normal(3, 4), 2.0, _increasing),
                 (normal(4), {"edge_order": 2}), (normal(3, 2).T, {"axis": -1}), (normal(4), np.array(0.7)),
                 (normal(2, 4), _increasing, {"axis": 1})],
    "trapezoid": [(normal(4),), (normal(4), _increasing), (normal(2, 4), _increasing), (normal(3, 2), {"axis": 0}),
                  (normal(2, 3), normal(2, 3)), (normal(3), {"dx": 0.3}), (normal(3, 2).T, {"axis": 0})],
    "interp": [(_between, _increasing, normal(4)), (np.array(0.4), _increasing, normal(4)),
               (_between[1], _increasing, normal(4), {"left": -1.0, "right": 2.0}),
               (np.array([0.3, 2.6, -1.3]), np.array([2.9, 0.5, 1.4, 4.1]), normal(4), {"period": 2.0}),
               (np.array([0.5, 1.5]), np.ones(1), normal(1))],
    "linspace": [(normal(), normal(), 4), (normal(), 3.0, 5), (normal(2), normal(3, 1), 3), (0.0, normal(2), 3),
                 (normal(2), normal(2), 4, {"endpoint": False, "axis": -1}), (normal(), normal(), 1)],
    "polyval": [(normal(3), normal()), (normal(3), normal(2, 2)), ([1.0, 2.0, 3.0], normal(3)), (normal(1), normal(2))],
    **{name: [(normal(4), normal(2)), (normal(2), normal(4), "full"), (normal(4), normal(3), "same"),
              (normal(2), normal(5), {"mode": "same"}), (normal(5), normal(2), "valid"),
              (normal(1), normal(3), "valid"), (normal(6)[::-2], normal(1), "full")]
       for name in ("convolve", "correlate")},
    "dft": [(normal(4), normal(4)), (normal(3), None), (normal(2, 3), normal(2, 3), {"axis": 0}),
            (normal(3), normal(3), 5), (normal(5), normal(5), 3), (normal(3, 2).T, normal(2, 3), {"norm": "ortho"}),
            (normal(2, 4), None, {"n": 2, "norm": "forward"}), (normal(1), normal(1))],
    "fft": [(normal(4),), ((normal(3), normal(3)),), (normal(2, 3), {"axis": 0, "norm": "ortho"}), (normal(3), 5)],
    "ifft": [(normal(4),), ((normal(3), normal(3)),), ((normal(2, 3), normal(2, 3)), 2, 0),
             (normal(3), {"norm": "forward"})],
    "rfft": [(normal(4),), (normal(5),), (normal(2, 3), {"axis": 0}), (normal(3), 6), (normal(3, 2).T, 2)],
    "irfft": [((normal(3), normal(3)),), ((normal(3), normal(3)), 5), ((normal(3, 2), normal(3, 2)), {"axis": 0}),
              (normal(4),), ((normal(2), normal(2)), 7, -1, "ortho")],
    **{name: [(x,), (x, (2, 4), (0, 1)), (x, {"axes": (1, 0), "norm": "ortho"}), (x, {"axes": (0,)}),
              (x, (-1, 3), (0, 1))]
       for name, x in (("fftn", (normal(3, 4), normal(3, 4))), ("ifftn", (normal(3, 4), normal(3, 4))),
                       ("rfftn", normal(3, 4)), ("irfftn", (normal(3, 4), normal(3, 4))))},
    **{name: [(normal(4),), (normal(3, 4),), (normal(3, 4), 1), (normal(2, 3), {"axes": (0,)})]
       for name in ("fftshift", "ifftshift")},
    "array": [([normal(2), normal(2)],), ([[normal(), 1.0], (2.0, normal())],), ([[normal(2, 1)], [normal(2, 1)]],),
              ([normal(2), [1.0, 2.0]],), (normal(2, 3),), ([normal(3, 2).T, normal(2, 3)],)],
    "column_stack": [([normal(3), normal(3)],), ((normal(3), normal(3, 2)),), ([normal(2, 1)],)],
    "dstack": [([normal(2, 3), normal(2, 3)],), ([normal(3), normal(3)],), ([normal(2, 1, 2), normal(2, 1)],)],
    "block": [([normal(2), normal(3)],), ([[normal(2, 2), normal(2, 1)], [normal(1, 2), np.ones((1, 1))]],),
              (normal(2),)],
    "append": [(normal(3), normal(2)), (normal(2, 2), normal(3)), (normal(2, 3), normal(1, 3), 0),
               (normal(2, 3), normal(2, 2), {"axis": -1}), (normal(2), 3.0)],
    "insert": [(normal(4), 1, normal()), (normal(4), [0, 2], normal(2)), (normal(2, 3), 1, normal(2), {"axis": 1}),
               (normal(2, 2), 3, 0.5), (normal(2, 3), slice(0, 2), normal(2, 3), 0)],
    "resize": [(normal(4), (2, 3)), (normal(2, 3), 4), (normal(3, 2).T, (1, 7))],
    "unstack": [(normal(3),), (normal(2, 3), {"axis": 1}), (normal(2, 1, 3), {"axis": -2})],
    "hsplit": [(normal(4), 2), (normal(2, 3), [1]), (normal(2, 4, 1), 2)],
    "vsplit": [(normal(4, 2), 2), (normal(3, 2).T, [1])],
    "dsplit": [(normal(2, 1, 4), 2), (normal(1, 2, 3), [1, 2])],
})

SMALL = {  # one each, for the third order
    **{name: samples[min(1, len(samples) - 1)] for name, samples in SAMPLES.items()},
    "power": (between(0.5, 2, 2), normal(2)),
    "where": (_mask[0, :2], normal(2), normal(2)),
    "matmul": (normal(1, 2), normal(2, 1)),
    "linear": (normal(1, 2), normal(2, 1), normal(1)),
    "getitem": (normal(2), (np.array([0, 1, 1]),)),
    "scatter_add": (normal(3), (np.array([0, 1, 1]),), {"shape": (2,)}),
    "split": (normal(3), [1]),
    "embedding": (np.array([1, 1]), normal(2, 1)),
    "cross_entropy": (normal(1, 3), np.array([1]), {"label_smoothing": 0.1}),
    "layer_norm": (normal(1, 3), normal(3), normal(3)),
    "attention": (normal(2, 1), normal(2, 1), normal(2, 1), {"causal": True}),
    "einsum": ("ij,jk->i", [normal(1, 2), normal(2, 1)]),
    "solve": (regular(2, 2), normal(2)),
    "put": (normal(2), normal(2), np.array([0, 0])),
    "rms_norm": (normal(1, 3), normal(3)),
    "cofactor": (np.array([[1.0, 2.0], [2.0, 4.0]]), [normal(2, 2)]), "pinv": (spread(2, 1),),
    "svd": (spread(2, 2),), "qr": (normal(2, 1),), "eigh": (symmetric(2, 2),), "cond": (spread(2, 1),),
    "multi_dot": ([normal(1, 2), normal(2)],), "lstsq": (spread(2, 1), normal(2)), "tensorinv": (regular(2, 2), 1),
    "tensorsolve": (normal(2, 2), normal(2)), "matrix_power": (normal(2, 2), 3), "norm": (apart(1, 2), 1.5, 1),
    **{name: (np.array([0.2, 1.3]), *more) for name, *more in (
        ("fmod", np.array([0.7, 0.45])), ("nanvar",), ("nanstd",), ("sinc",))},
    "convolve": (normal(2), normal(2)), "dft": (normal(2), normal(2)), "linspace": (normal(), normal(), 3),
    "interp": (np.array(0.4), _increasing, normal(4)), "cov": (normal(2, 2),), "corrcoef": (normal(2, 3),),
    "gradient": (normal(3), np.array([0.1, 0.5, 1.4]), {"edge_order": 2}), "block": ([normal(1), normal(1)],),
    "inv": (regular(2, 2),), "det": (regular(2, 2),), "slogdet": (regular(2, 2),), "cholesky": (definite(2, 2),),
}

_random = np.random.default_rng(24)

for _name, _samples in {  # what a change to a rule would else go unnoticed by
    "put": [(normal(4), normal(1, 1, 2), slice(1, 3)), (normal(2, 3), normal(1, 1), 1)],
    "cross_entropy": [(normal(2, 2, 3), integers(3, 2, 2), {"label_smoothing": 0.3})],
    "convolve": [(normal(3), normal()), (normal(), normal(3), "same")],
    "dft": [(normal(2, 3, 2), None, {"n": 2, "axis": 1}), (normal(2, 3), None, {"n": 5}), (normal(4, 2), None, 2, 0)],
}.items():
    SAMPLES[_name] += _samples

INNER = {  # ops without a public name, which rules and formulas are written with
    "root": [*_one(near(0.2, 3)), (np.array([1e-2, 1.0, 1e4]),)],
    "sech2": [*_one(), (_edge / 5,)],
    "normal_cdf": [*_one(), (_edge / 5,)],
    "_by_convention": [(normal(3), np.zeros(3, bool), normal(3)),
                       (normal(2, 2), np.zeros((2, 2), bool), normal(2), normal())],
}
