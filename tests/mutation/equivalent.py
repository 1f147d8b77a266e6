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
        *[f"fm{name}: {before} -> {after}" for name, x, y, sign in
          (("ax.x", "x", "y", ">"), ("ax.y", "y", "x", ">"), ("in.x", "x", "y", "<"), ("in.y", "y", "x", "<"))
          for before, after in ((f"{x} {sign} {y}", f"{x} {sign}= {y}"), (f"{x} {sign} {y}", f"z {sign} {y}"))],
    ],
    "where z is not y, x is the one that counts, or y is NaN": [
        *[f"fm{name}: {y} != {y} -> {after}" for name, y in (("ax.x", "y"), ("ax.y", "x"), ("in.x", "y"), ("in.y", "x"))
          for after in (f"{y} != z", f"z != {y}")],
    ],
    "at a corner all numbers that decide where it is get NaN, in whatever order": [
        *[f"{op}: or_half(g, {wins}, x, y) -> or_half(g, {wins}, y, x)" for op, wins in (
            ("maximum.x", "np.logical_not(x < y)"), ("maximum.y", "np.logical_not(y < x)"),
            ("minimum.x", "np.logical_not(x > y)"), ("minimum.y", "np.logical_not(y > x)"),
            ("fmax.x", "(x > y) | (y != y)"), ("fmax.y", "(y > x) | (x != x)"),
            ("fmin.x", "(x < y) | (y != y)"), ("fmin.y", "(y < x) | (x != x)"))],
        *[f"{target}: by_convention({slope}, {corner}, x, y) -> by_convention({slope}, {corner}, y, x)"
          for target, slope, corner in (
            ("elementwise.or_half", "np.where(tie, g.dtype.type(0.5), wins)", "tie"),
            ("elementwise.over_square", "a / length / length", "z == 0"), ("hypot.x", "x / not_zero(z)", "z == 0"),
            ("hypot.y", "y / not_zero(z)", "z == 0"), ("power.y", "z * np.log(not_zero(x))", "(x == 0) & (y <= 1)"))],
        "arctan.x: over_square(1, 1, x) -> over_square(1, x, 1)",
        "arctan2.x: over_square(y, x, y) -> over_square(y, y, x)",
        "arctan2.y: over_square(x, x, y) -> over_square(x, y, x)",
    ],
    "the result, which the slope is written with, leads NaN on to the numbers that it was made of": [
        *[f"{target}: by_convention({slope}, {corner}, x, y) -> by_convention({slope}, {corner}, {xs})"
          for target, slope, corner in (
            ("hypot.x", "x / not_zero(z)", "z == 0"), ("hypot.y", "y / not_zero(z)", "z == 0"),
            ("power.y", "z * np.log(not_zero(x))", "(x == 0) & (y <= 1)")) for xs in ("x, z", "z, y")],
        "root.x: by_convention(np.where(y == 0, 0, 0.5 / not_zero(y)), y == 0, x) -> "
        "by_convention(np.where(y == 0, 0, 0.5 / not_zero(y)), y == 0, y)",
    ],
    "g, y and slope have one dtype": [
        "_by_convention.xs: g.dtype -> y.dtype",
        "_by_convention.xs: g.dtype -> slope.dtype",
    ],
    "|x| and √x are 0 where x is": [
        "absolute.x: x == 0 -> y == 0",
        "fabs.x: x == 0 -> y == 0",
        "root.x: np.where(y == 0, 0, 0.5 / not_zero(y)) -> np.where(x == 0, 0, 0.5 / not_zero(y))",
        "root.x: by_convention(np.where(y == 0, 0, 0.5 / not_zero(y)), y == 0, x) -> "
        "by_convention(np.where(y == 0, 0, 0.5 / not_zero(y)), x == 0, x)",
    ],
    "hypot is the same with its inputs exchanged": [
        "arcsinh.x: np.hypot(x, 1) -> np.hypot(1, x)",
        "elementwise.over_square: np.hypot(x, y) -> np.hypot(y, x)",
    ],
    "x and y are equal there, and infinite": [
        *[f"elementwise.difference: {change}" for change in (
            "np.isinf(x) -> np.isinf(y)", "x > 0 -> x >= 0", "x > 0 -> y > 0", "x > 0 -> x > 1")],
    ],
    "0 times any power of 0 is 0, and by y the slope is a convention": [
        "power.x: np.where((x == 0) & (y == 0), 1, y - 1) -> np.where((x == 0) & (y == 0), 2, y - 1)",
    ],
    "long before these limits exp(−x²) is 0 in double precision, and a sigmoid 0 or 1": [
        *[f"{target}: np.clip(x, -{c}, {c}) -> np.clip(x, {limits})"
          for target, c in (("erf.x", 30), ("activations.normal_density", 40), ("activations._sigmoid_2u", 25))
          for limits in (f"-{c - 1}, {c}", f"-{2 * c}, {c}", f"-{c}, {c + 1}", f"-{c}, {2 * c}")],
    ],
    "at |u| = 1 the series and the quotient are both right, but for rounding": [
        "elementwise.sinc_slope: np.absolute(u) < 1 -> np.absolute(u) <= 1",
    ],
    "a gradient has the dtype of its result": [
        "power.x: z.dtype -> g.dtype", "power.y: z.dtype -> g.dtype",
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
        "transpose.x: normalize_axis_tuple(axes, x.ndim) -> normalize_axis_tuple(axes, g.ndim)",
        "transpose.x: normalize_axis_tuple(axes, x.ndim) -> normalize_axis_tuple(axes, y.ndim)",
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
    "a number of NumPy's in the dtype that it is multiplied with is as good as one of Python's": [
        "linalg._rounding: float(np.finfo(w.dtype).eps) -> np.finfo(w.dtype).eps",
    ],
    "q and k have the same last axis": [
        "attention.q,k,v,mask: attention_scale(q, scale) -> attention_scale(k, scale)",
        "layers._attention_weights: attention_scale(q, scale) -> attention_scale(k, scale)",
    ],
    "softmax is the same for scores that are all larger by 1": [
        "layers._attention_weights: np.where(causal_mask(q, k), 0, -np.inf) -> np.where(causal_mask(q, k), 1, "
        "-np.inf)",
    ],
    "g and y have the heads of q, or of k where nothing is repeated": [
        "attention.q,k,v,mask: _repeat_heads(q, k) -> _repeat_heads(g, k)",
        "attention.q,k,v,mask: _repeat_heads(q, k) -> _repeat_heads(y, k)",
        "attention.q,k,v,mask: _repeat_heads(q, v) -> _repeat_heads(g, v)",
        "attention.q,k,v,mask: _repeat_heads(q, v) -> _repeat_heads(y, v)",
    ],
    "repeating once, summing over one head and leaving that to the engine are the same": [
        "layers._repeat_heads: (0, 1, q.shape[-3]) -> (0, 1, q.shape)",
        "layers._sum_heads: d.ndim < 3 or k.ndim < 3 or d.shape[-3] == k.shape[-3] or (k.shape[-3] == 1) -> "
        "k.ndim < 3 or d.shape[-3] == k.shape[-3] or k.shape[-3] == 1",
        "layers._sum_heads: d.ndim < 3 or k.ndim < 3 or d.shape[-3] == k.shape[-3] or (k.shape[-3] == 1) -> "
        "d.ndim < 3 or k.ndim < 3 or d.shape[-3] == k.shape[-3]",
        "layers._sum_heads: d.ndim -> k.ndim",
        "layers._sum_heads: k.shape[-3] == 1 -> k.shape == 1",
        "layers._sum_heads: k.shape[-3] == 1 -> d.shape[-3] == 1",
    ],
    "a sum of nothing is 0, whatever it is divided by": [
        "mean.x: _count(x, axis) or 1 -> _count(x, axis) or 2",
        "var.x: n or 1 -> n or 2",
        "layers._row_mean: x.shape[-1] or 1 -> x.shape[-1] or 2",
        "layers.attention_scale: q.shape[-1] or 1 -> q.shape[-1] or 2",
        "cross_entropy.logits: logits.shape[-1] or 1 -> logits.shape[-1] or 2",
    ],
    "the formula has refused other axes of a number": [
        "reduce.axes_of: x.ndim or 1 -> x.ndim or 2",
    ],
    "0 and 1 are the same in every precision, and ties of one": [
        "reduce._among_equals: equal.astype(g.dtype) -> equal.astype(x.dtype)",
        "reduce._among_equals: equal.astype(g.dtype) -> equal.astype(y.dtype)",
    ],
    "what is ignored gets 0, whatever its class": [
        "probabilities._mask_ignored: np.where(keep, targets, 0) -> np.where(keep, targets, 1)",
    ],
    "0 times what is added is 0": [
        "cross_entropy.logits: label_smoothing -> True",
    ],
    "NumPy takes any negative length as unknown": [
        "cumprod.x: x.reshape(-1) -> x.reshape(-2)",
        "index._along_axis: -1 if i == j else 1 -> -2 if i == j else 1",
        "linear._scatter_diagonal: -1 if c == other else 1 -> -2 if c == other else 1",
    ],
    "a number and a sequence can be multiplied in either order": [
        "_by_convention.xs: [np.where(corner, np.nan, 0).astype(g.dtype)] * len(xs) -> "
        "len(xs) * [np.where(corner, np.nan, 0).astype(g.dtype)]",
        "index._match_assigned: (1,) * (v.ndim - d.ndim) -> (v.ndim - d.ndim) * (1,)",
        "index.slice_along: (slice(None),) * axis -> axis * (slice(None),)",
    ],
    "convolution is the same with its inputs exchanged, but for rounding": [
        "linear._correlate_full: np.convolve(np.pad(g, (before, 0)), v[::-1]) -> "
        "np.convolve(v[::-1], np.pad(g, (before, 0)))",
    ],
    "a and g are of one library and dtype": [
        "linear._correlate_full: np.zeros_like(g, shape=(1,)) -> np.zeros_like(a, shape=(1,))",
    ],
    "zeros behind the end add nothing, and what they become is cut off, but for rounding": [
        "linear._correlate_full: (before, 0) -> (before, 1)",
    ],
    "to cut off nothing and to add no zeros are the same": [
        "linear.fit_length: missing <= 0 -> missing < 0",
        "linear.fit_length: missing == 0 -> missing == 1",
        "linear.fit_length: x if missing == 0 else x[slice_along(axis, n)] -> x[slice_along(axis, n)]",
    ],
    "there is nothing behind the last end, and no array that would take it": [
        "concatenate.xs: ends[:-1] -> ends",
    ],
    "the engine sums over axes of length 1 in front": [
        "index._match_assigned: v.ndim - d.ndim -> v.ndim",
        "index._match_assigned: v.ndim - d.ndim -> v.ndim + d.ndim",
    ],
    "the engine has made arrays of what an op was given, and has refused the others": [
        "elementwise.as_array: check_operand(convert_sequence(x), 'an argument') -> convert_sequence(x)",
        "elementwise.as_array: convert_sequence(x) -> x",
        "arrays.widen: getattr(a, 'dtype', None) -> getattr(a, 'dtype')",
    ],
    "a Tensor passes the other way, too: a shortcut for speed": [
        "elementwise.as_array: type(x) is Tensor -> False",
        "elementwise.as_array: type(x) -> x",
    ],
    "one more doubling adds zeros": [
        "cumprod.x: step < x.shape[-1] -> step <= x.shape[-1]",
    ],
    "in one operand a letter has one length": [
        "linear._ones_for_missing_axes: zip(term, a.shape) -> zip(a.shape, term)",
    ],
    "a sum over no axes changes nothing": [
        "linear._sum_broadcast_axes: d.sum(axis=broadcast, keepdims=True) if broadcast else d -> d.sum(axis=broadcast, "
        "keepdims=True)",
    ],
    "solve refuses a column of zeros too": [
        "qr.x: np.absolute(np.linalg.diagonal(r))[..., None, :] <= _rounding(r) -> "
        "np.absolute(np.linalg.diagonal(r))[..., None, :] < _rounding(r)",
    ],
    "it shows only while a function is traced: tests/autograd/ops/test_linalg.py sees it": [
        "linalg._unless: np.any(places, axis=(-1, -2), keepdims=True) -> np.any(places, keepdims=True)",
    ],
    "it is in the text of the error alone: tests/autograd/ops/test_linalg.py sees it": [
        "linalg._reciprocal_gaps: repeated_values(name, w, at) -> name",
    ],
    "what is computed there is not taken": [
        "linalg._reciprocal_gaps: np.where(equal, 1, gaps) -> np.where(equal, 2, gaps)",
        "elementwise.sinc_slope: np.where(is_near, 1, u) -> np.where(is_near, 2, u)",
        "elementwise.sinc_slope: np.where(is_near, u, 0) -> np.where(is_near, u, 1)",
    ],
    "each difference is there with both signs; what rounding may leave is estimated": [
        "linalg._of_first: turn - turn.mT -> turn.mT - turn",
        "linalg._of_first: np.absolute(g) -> g",
    ],
    "factors of one change nothing": [
        "linear._ones_for_missing_axes: reach.get(c) != n -> True",
        "linear._ones_for_missing_axes: reach.get(c) -> reach",
    ],
    "scattering to all places is a copy": [
        "linear._einsum_gradient: letters == terms[i] -> False",
        "linear._einsum_gradient: letters == terms[i] -> letters == terms",
    ],
    "the order of products is a matter of speed": [
        "linear._einsum_gradient: np.einsum(','.join((term for term, _ in operands)) + '->' + letters, *[a for _, a "
        "in operands], optimize=optimize) -> np.einsum(','.join((term for term, _ in operands)) + '->' + letters, "
        "*[a for _, a in operands])",
    ],
    "it matters where one call needs more than 26 letters": [
        "linear.explicit_subscripts: string.ascii_uppercase + string.ascii_lowercase -> string.ascii_uppercase",
        "linear.explicit_subscripts: string.ascii_uppercase + string.ascii_lowercase -> string.ascii_lowercase",
    ],
    "the formula has refused operands with too few axes": [
        "linear.explicit_subscripts: max(np.ndim(x) - len(term.replace('...', '')), 0) if '...' in term else 0 -> "
        "max(np.ndim(x) - len(term.replace('...', '')), 0)",
        "linear.explicit_subscripts: max(np.ndim(x) - len(term.replace('...', '')), 0) -> max(0, np.ndim(x) - "
        "len(term.replace('...', '')))",
        "linear.explicit_subscripts: max(np.ndim(x) - len(term.replace('...', '')), 0) -> np.ndim(x) - "
        "len(term.replace('...', ''))",
    ],
    "a shortcut for speed": [
        "formula.Formula.vjp: rule(*arguments, **attrs) if attrs else rule(*arguments) -> rule(*arguments, **attrs)",
        *["formula.Formula.vjp: rule(*arguments, **attrs) if attrs else rule(*arguments) -> rule(*arguments, **attrs) "
          f"if {other} else rule(*arguments)" for other in ("self", "needed", "inputs", "values", "arguments")],
        "formula.Formula.vjp: type(d) is not np.ndarray or d.shape != x.shape or d.dtype is not x.dtype -> True",
        "formula.Formula.vjp: type(d) is not np.ndarray -> d is not np.ndarray",
    ],
    "an input and its value have the same place, shape and dtype": [
        "formula.Formula.vjp: len(values) -> len(inputs)",
        "formula.Formula.vjp: values[i] -> inputs[i]",
    ],
}

REASONS = {mutant: reason for reason, mutants in EQUIVALENT.items() for mutant in mutants}
