"""Sample inputs for every op, in `check_op`'s format: op name -> tuples of arguments, the last a dict of settings.

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


_mask = np.array([[True, False, True], [False, True, True]])
_edge = np.array([[0.0, -30.0, 30.0], [1e-6, 4.0, -4.0]])  # far out on both sides

SAMPLES = {
    "add": _two(),
    "subtract": _two(),
    "multiply": _two(),
    "divide": [*_two(normal, lambda *s: between(0.5, 2, *s)), (normal(2), np.array([-1e-2, 1e3]))],
    "power": [*_two(lambda *s: between(0.3, 2, *s), normal), (normal(3), 2), (normal(3), 3.0), (normal(2), -1),
              (normal(2, 2), 0), (normal(2), 1), (normal(2), np.array([2, 3], np.int8)), (between(1, 2, 3), 0.5),
              (2, normal(3))],
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
                  (normal(2, 2).T, normal(4, 2)[::2], normal(2, 4).T[::2])],
    "causal_mask": [(normal(3, 1), normal(3, 2)), (normal(2, 2, 1), normal(2, 3, 1)), (normal(1, 1), normal(4, 1)),
                    (normal(0, 1), normal(2, 1))],
}

SMALL = {  # one each, for the third order
    **{name: samples[1] for name, samples in SAMPLES.items()},
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
}
