"""Mutants that compute the same, and why."""

# Mutants that compute the same, by the reason: "target: before -> after" as the report prints them.
EQUIVALENT = {
    "a tie is decided before, and z is the larger (smaller) one": [
        "maximum.x: x < y -> x <= y",
        "maximum.x: x < y -> x < z",
        "maximum.y: y < x -> y <= x",
        "maximum.y: y < x -> y < z",
        "minimum.x: x > y -> x >= y",
        "minimum.x: x > y -> x > z",
        "minimum.y: y > x -> y >= x",
        "minimum.y: y > x -> y > z",
    ],
    "a Python number as exponent takes another way to the same value, in x's dtype": [
        "power.x: isinstance(y, (int, float)) -> False",
        "power.x: isinstance(y, (int, float)) -> isinstance(g, (int, float))",
        "power.x: isinstance(y, (int, float)) -> isinstance(z, (int, float))",
        "power.x: isinstance(y, (int, float)) -> isinstance(x, (int, float))",
    ],
    "zeros, of whatever shape that broadcasts to x's": [
        "power.x: np.zeros_like(x) -> np.zeros_like(g)",
        "power.x: np.zeros_like(x) -> np.zeros_like(z)",
    ],
    "within its limits x is y; otherwise y is the limit that counts": [
        "clip.x: x <= a_max -> x <= y",
        "clip.a_min: x < a_min if a_max is None else (x < a_min) & (a_min < a_max) -> x < y if a_max is None else "
        "(x < a_min) & (a_min < a_max)",
        "clip.a_min: (x < a_min) & (a_min < a_max) -> (x < y) & (a_min < a_max)",
        "clip.a_min: a_min < a_max -> y < a_max",
        "clip.a_max: (x > a_max) | (a_min > a_max) -> (x > y) | (a_min > a_max)",
        "clip.a_max: a_min > a_max -> a_min > y",
        "clip.a_max: x > a_max if a_min is None else (x > a_max) | (a_min > a_max) -> x > y if a_min is None else "
        "(x > a_max) | (a_min > a_max)",
    ],
    "g, y and x have as many axes, or one shape": [
        "put.v: last_written(x, index) -> last_written(g, index)",
        "put.v: last_written(x, index) -> last_written(y, index)",
        "transpose.x: range(x.ndim) -> range(g.ndim)",
        "transpose.x: range(x.ndim) -> range(y.ndim)",
        "cumprod.x: x.shape[-1] -> g.shape[-1]",
        "cumprod.x: x.shape[-1] -> y.shape[-1]",
        "rotary.angles: x.shape -> g.shape",
        "rotary.angles: x.shape -> y.shape",
        "causal_conv.weight: x.shape -> g.shape",
        "causal_conv.weight: x.shape -> y.shape",
        "causal_conv.weight: x.ndim -> g.ndim",
        "causal_conv.weight: x.ndim -> y.ndim",
        "svd.x: y[1].shape -> g[1].shape",
        "index._along_axis: range(x.ndim) -> range(indices.ndim)",
        "index._along_axis: normalize_axis_index(axis, x.ndim) -> normalize_axis_index(axis, indices.ndim)",
    ],
    "only along the axis itself their lengths differ, and there the row is not used": [
        "index._along_axis: enumerate(x.shape) -> enumerate(indices.shape)",
    ],
    "a row times no rows is no rows": [
        "causal_conv.weight: max(t - k, 0) -> max(t - k, 1)",
    ],
    "the larger of two numbers": [
        "causal_conv.weight: max(t - k, 0) -> max(0, t - k)",
    ],
    "a range is as good as a tuple": [
        "reduce.axes_of: tuple(range(x.ndim)) -> range(x.ndim)",
    ],
    "two axes can be exchanged in either order": [
        "swapaxes.x: g.swapaxes(axis1, axis2) -> g.swapaxes(axis2, axis1)",
        "cumprod.x: x.swapaxes(axis, -1) -> x.swapaxes(-1, axis)",
        "cumprod.x: g.swapaxes(axis, -1) -> g.swapaxes(-1, axis)",
        "cumprod.x: d.swapaxes(axis, -1) -> d.swapaxes(-1, axis)",
    ],
    "rows only make one large product of many small ones": [
        "linear.x: _rows(g) -> g",
    ],
    "the engine sums over the axis of length 1 that is added": [
        "linear._as_matrices: x[None, :] if x.ndim == 1 else x -> x[None, :]",
    ],
    "where x > 0, y is x; elsewhere it is 0": [
        "relu.x: x <= 0 -> y <= 0",
    ],
    "only the dtype differs, which the engine restores": [
        "linalg._rounding: float(np.finfo(w.dtype).eps) -> np.finfo(w.dtype).eps",
        "cross_entropy.logits: _divisor(keep, g, reduction) -> _divisor(keep, loss, reduction)",
        "cross_entropy.logits: _divisor(keep, g, reduction) -> _divisor(keep, logits, reduction)",
        "cross_entropy.logits: _divisor(keep, g, reduction) -> _divisor(keep, targets, reduction)",
        "reduce._among_equals: equal.sum(axis=axis, keepdims=True).astype(g.dtype) -> "
        "equal.sum(axis=axis, keepdims=True)",
        "network._divisor: keep.sum().astype(like.dtype) -> keep.sum()",
        "network._attention_weights: np.where(causal_mask(q, k), 0, -np.inf).astype(scores.dtype) -> "
        "np.where(causal_mask(q, k), 0, -np.inf)",
    ],
    "only the library of the array differs, or its dtype": [
        "linear._einsum_gradient: np.ones_like(g, shape=(n,)) -> np.ones_like(i, shape=(n,))",
        "linear._einsum_gradient: np.ones_like(g, shape=(n,)) -> np.ones_like(optimize, shape=(n,))",
    ],
    "q and k have the same last axis": [
        "attention.q,k,v,mask: attention_scale(q, scale) -> attention_scale(k, scale)",
        "network._attention_weights: attention_scale(q, scale) -> attention_scale(k, scale)",
    ],
    "softmax is the same for scores that are all larger by 1": [
        "network._attention_weights: np.where(causal_mask(q, k), 0, -np.inf) -> np.where(causal_mask(q, k), 1, "
        "-np.inf)",
    ],
    "g and y have the heads of q, or of k where nothing is repeated": [
        "attention.q,k,v,mask: _for_heads_of(q, widen(k)) -> _for_heads_of(g, widen(k))",
        "attention.q,k,v,mask: _for_heads_of(q, widen(k)) -> _for_heads_of(y, widen(k))",
        "attention.q,k,v,mask: _for_heads_of(q, widen(v)) -> _for_heads_of(g, widen(v))",
        "attention.q,k,v,mask: _for_heads_of(q, widen(v)) -> _for_heads_of(y, widen(v))",
    ],
    "repeating once, summing over one head and leaving that to the engine are the same": [
        "network._for_heads_of: (0, 1, q.shape[-3]) -> (0, 1, q.shape)",
        "network._summed_heads: d.ndim < 3 or k.ndim < 3 or d.shape[-3] == k.shape[-3] or (k.shape[-3] == 1) -> "
        "k.ndim < 3 or d.shape[-3] == k.shape[-3] or k.shape[-3] == 1",
        "network._summed_heads: d.ndim < 3 or k.ndim < 3 or d.shape[-3] == k.shape[-3] or (k.shape[-3] == 1) -> "
        "d.ndim < 3 or k.ndim < 3 or d.shape[-3] == k.shape[-3]",
        "network._summed_heads: d.ndim -> k.ndim",
        "network._summed_heads: k.shape[-3] == 1 -> k.shape == 1",
        "network._summed_heads: k.shape[-3] == 1 -> d.shape[-3] == 1",
    ],
    "the mean of nothing has no gradient: only a warning is avoided": [
        "mean.x: _count(x, axis) or 1 -> _count(x, axis)",
        "mean.x: _count(x, axis) or 1 -> _count(x, axis) or 2",
    ],
    "NumPy takes any negative length as unknown": [
        "cumprod.x: x.reshape(-1) -> x.reshape(-2)",
        "index._along_axis: -1 if i == j else 1 -> -2 if i == j else 1",
        "linear._einsum_gradient: -1 if c == other else 1 -> -2 if c == other else 1",
    ],
    "one more doubling adds zeros": [
        "cumprod.x: step < x.shape[-1] -> step <= x.shape[-1]",
    ],
    "in one operand a letter has one length": [
        "linear._einsum_gradient: zip(part, a.shape) -> zip(a.shape, part)",
    ],
    "a sum over no axes changes nothing": [
        "linear._einsum_gradient: d.sum(axis=broadcast, keepdims=True) if broadcast else d -> d.sum(axis=broadcast, "
        "keepdims=True)",
    ],
    "solve refuses a column of zeros too": [
        "qr.x: np.absolute(np.linalg.diagonal(r))[..., None, :] <= _rounding(r) -> "
        "np.absolute(np.linalg.diagonal(r))[..., None, :] < _rounding(r)",
    ],
    "it shows only while a function is traced: tests/autograd/test_linalg.py sees it": [
        "linalg._unless: np.any(places, axis=(-1, -2), keepdims=True) -> np.any(places, keepdims=True)",
    ],
    "it is in the text of the error alone: tests/autograd/test_linalg.py sees it": [
        "linalg._reciprocal_gaps: repeated_values(name, w, at) -> name",
    ],
    "what is divided by where the quotient is not taken": [
        "linalg._reciprocal_gaps: np.where(equal, 1, gaps) -> np.where(equal, 2, gaps)",
    ],
    "each difference is there with both signs; what rounding may leave is estimated": [
        "linalg._of_first: turn - turn.mT -> turn.mT - turn",
        "linalg._of_first: np.absolute(g) -> g",
    ],
    "factors of one change nothing": [
        "linear._einsum_gradient: reach.get(c) != n -> True",
        "linear._einsum_gradient: reach.get(c) -> reach",
    ],
    "scattering to all places is a copy": [
        "linear._einsum_gradient: letters == parts[i] -> False",
        "linear._einsum_gradient: letters == parts[i] -> letters == parts",
    ],
    "the order of products is a matter of speed": [
        "linear._einsum_gradient: np.einsum(','.join((part for part, _ in operands)) + '->' + letters, *[a for _, a "
        "in operands], optimize=optimize) -> np.einsum(','.join((part for part, _ in operands)) + '->' + letters, "
        "*[a for _, a in operands])",
    ],
    "it matters where one call needs more than 26 letters": [
        "linear._explicit: string.ascii_uppercase + string.ascii_lowercase -> string.ascii_uppercase",
        "linear._explicit: string.ascii_uppercase + string.ascii_lowercase -> string.ascii_lowercase",
    ],
    "the formula has refused operands with too few axes": [
        "linear._explicit: max(np.ndim(x) - len(part.replace('...', '')), 0) if '...' in part else 0 -> "
        "max(np.ndim(x) - len(part.replace('...', '')), 0)",
        "linear._explicit: max(np.ndim(x) - len(part.replace('...', '')), 0) -> max(0, np.ndim(x) - "
        "len(part.replace('...', '')))",
        "linear._explicit: max(np.ndim(x) - len(part.replace('...', '')), 0) -> np.ndim(x) - "
        "len(part.replace('...', ''))",
    ],
    "a shortcut for speed": [
        "engine.Op.pull: rule(*arguments, **attrs) if attrs else rule(*arguments) -> rule(*arguments, **attrs)",
        *[f"engine.Op.pull: rule(*arguments, **attrs) if attrs else rule(*arguments) -> rule(*arguments, **attrs) if "
          f"{other} else rule(*arguments)" for other in ("self", "needed", "inputs", "values", "arguments")],
        "engine.Op.pull: type(d) is not np.ndarray or d.shape != x.shape or d.dtype is not x.dtype -> True",
        "engine.Op.pull: type(d) is not np.ndarray -> d is not np.ndarray",
    ],
    "an input and its value have the same place, shape and dtype": [
        "engine.Op.pull: len(values) -> len(inputs)",
        "engine.Op.pull: values[i] -> inputs[i]",
    ],
}

REASONS = {mutant: reason for reason, mutants in EQUIVALENT.items() for mutant in mutants}
