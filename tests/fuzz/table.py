"""The table of operations: how each one's arguments are drawn, and how it is written for the engine and for PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.fuzz import arguments as a
from tests.fuzz.arguments import alike, along, away, one, pair, reduced, two, two_axes
from tests.fuzz.builder import Builder, apart


@dataclass(frozen=True)
class Entry:
    """An operation.  What PyTorch does is, unless `theirs` says it, the text `ours` with tests/peers.py in place of
    `np` and `ag`."""

    name: str
    draw: Callable[[Builder], dict[str, Any]]
    ours: str
    theirs: str = ""

    def texts(self, p):
        """For both libraries, with arguments that are drawn."""
        fields = self.draw(p)
        theirs = self.theirs or re.sub(r"\b(np\.linalg|np|ag)\.(?=\w+\()", "peers.", self.ours)
        return self.ours.format(**fields), theirs.format(**fields)


E = Entry
KEPT = "axis={axis}, keepdims={keep}"
SINCE_2_2 = "np" if hasattr(np, "matvec") else "ag"  # as of NumPy 2.2
REGULAR = "{n}.5 * {eye} + np.tanh({x})"
SPREAD = "{ramp} + 0.1 * np.tanh({x})"  # singular values stay apart
SYMMETRIC = "{ramp} + 0.05 * (np.tanh({x}) + np.tanh({x}).mT)"  # eigenvalues do
TABLE = [
    # ------------------------------------------------------------------ elementwise
    *[E(f, one(), f"np.{f}({{x}})") for f in (
        "negative", "square", "exp", "exp2", "expm1", "sin", "cos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "copy",
        "deg2rad", "rad2deg", "sinc", "nan_to_num", "ravel", "atleast_1d", "atleast_2d", "atleast_3d")],
    *[E(f, one(), f"np.{f}(1.3 + np.tanh({{x}}))") for f in (
        "sqrt", "log", "log2", "log10", "log1p", "reciprocal")],
    *[E(f, one(), f"np.{f}(0.8 * np.tanh({{x}}))") for f in ("arcsin", "arccos", "arctanh", "tan")],
    E("arccosh", one(), "np.arccosh(2.4 + np.tanh({x}))"),
    E("cbrt", one(), "np.cbrt(1.3 + np.tanh({x}))", "(1.3 + torch.tanh({x})) ** (1 / 3)"),
    E("absolute", away, "np.absolute({x})"),
    E("absolute", away, "abs({x})"),
    E("fabs", away, "np.fabs({x})"),
    E("copysign", a.both_away, "np.copysign({x}, {y})"),
    E("heaviside", pair(), "np.heaviside(0.0 * {x}, {y})", "0.0 * {x} + {y}"),
    E("sign", away, "{x} * np.sign({x})", "{x} * torch.sign({x})"),
    E("floor", away, "{x} + np.heaviside({x}, 0.5)", "{x} + ({x} > 0)"),
    E("detach", one(), "getattr({x}, 'detach', {x}.copy)() * 0.5 + {x}", "{x}.detach() * 0.5 + {x}"),
    E("astype", one(), "{x}.astype({x}.dtype)", "{x} * 1.0"),
    E("add", two, "{x} + {y}"),
    E("subtract", two, "{x} - {y}"),
    E("multiply", two, "{x} * {y}"),
    E("multiply", one(), "{x} * {x}"),
    E("divide", pair(), "{x} / (1.3 + np.tanh({y}))"),
    E("power", pair(), "(1.3 + np.tanh({x})) ** {y}"),
    E("power", a.powers, "{x} ** {n}"),
    *[E(f, pair(apart), f"np.{f}({{x}}, {{y}})") for f in ("maximum", "minimum", "fmax", "fmin")],
    *[E(f, pair(), f"np.{f}({{x}}, 1.3 + np.tanh({{y}}))") for f in ("arctan2", "hypot", "logaddexp", "logaddexp2")],
    E("fmod", a.remainders, "np.fmod({x}, 1.3 + np.tanh({y}))"),
    E("remainder", a.remainders, "np.remainder({x}, 1.3 + np.tanh({y}))"),
    E("remainder", a.remainders, "{x} % (1.3 + np.tanh({y}))"),
    E("where", a.choices, "np.where({c}, {x}, {y})"),
    E("where", a.by_sign, "np.where({z} > 0, {x}, {y})"),
    E("clip", a.limits, "np.clip({x}, -0.31, 0.73)"),
    E("clip", a.limits, "{x}.clip(-0.31, None)"),
    E("select", a.choices, "np.select([{c}, {d}], [{x}, {y}], 0.5)"),
    *[E(f, one(), f"ag.{f}({{x}})") for f in ("sigmoid", "erf", "silu", "softplus", "gelu")],
    *[E(f, away, f"ag.{f}({{x}})") for f in ("relu", "leaky_relu")],
    E("gelu", one(), "ag.gelu({x}, approximate='tanh')"),
    # ------------------------------------------------------------------ reductions
    *[E(f, reduced(), f"np.{f}({{x}}, {KEPT})") for f in ("sum", "prod")],
    E("sum", reduced(), "{x}.sum(" + KEPT + ")", "peers.sum({x}, " + KEPT + ")"),
    E("mean", reduced(a.filled(1)), f"np.mean({{x}}, {KEPT})"),
    *[E(f, reduced(fits), f"np.{f}({{x}}, ddof={ddof}, {KEPT})")
      for f, fits in (("var", a.filled(2)), ("std", a.spread)) for ddof in (0, 1)],
    *[E(f, reduced(a.distinct), f"np.{f}({{x}}, {KEPT})") for f in ("max", "min", "ptp")],
    *[E(f, reduced(a.distinct_and_some), f"np.{f}({{x}}, {KEPT})") for f in ("median", "nanmedian")],
    E("nansum", reduced(), f"np.nansum({{x}}, {KEPT})", f"peers.sum({{x}}, {KEPT})"),
    E("nanprod", reduced(), f"np.nanprod({{x}}, {KEPT})"),
    E("nanmean", reduced(a.filled(1)), f"np.nanmean({{x}}, {KEPT})", f"peers.mean({{x}}, {KEPT})"),
    *[E(f, reduced(fits), f"np.{f}({{x}}, ddof=1, {KEPT})")
      for f, fits in (("nanvar", a.filled(2)), ("nanstd", a.spread))],
    *[E(f, reduced(a.distinct), f"np.{f}({{x}}, {KEPT})") for f in ("nanmax", "nanmin")],
    *[E(f, a.in_order, f"np.{f}({{x}}, {q}, axis={{axis}})") for f, q in (
        ("quantile", 0.3), ("nanquantile", 0.6), ("percentile", 70.0), ("nanpercentile", 10.0))],
    *[E(f, along(flat=True), f"np.{f}({{x}}, axis={{axis}})") for f in ("nancumsum", "nancumprod")],
    *[E(f, along(), f"ag.{f}({{x}}, axis={{axis}})") for f in ("cumulative_sum", "cumulative_prod")],
    *[E(f, one(a.table), f"np.{f}({{x}}).astype({{x}}.dtype)", f"peers.{f}({{x}})") for f in ("cov", "corrcoef")],
    E("logsumexp", reduced(a.filled(1)), f"ag.logsumexp({{x}}, {KEPT})"),
    E("norm", reduced(a.long), f"np.linalg.norm({{x}}, {KEPT})"),
    E("average", a.weighted, "np.average({x}, axis={axis}, weights=1.3 + np.tanh({w}))"),
    *[E(f, along(flat=True), f"np.{f}({{x}}, axis={{axis}})") for f in ("cumsum", "cumprod")],
    # ------------------------------------------------------------------ products
    E("matmul", a.products, "{x} @ {y}"),
    E("matmul", a.products, "np.matmul({x}, {y})"),
    E("dot", a.products, "np.dot({x}, {y})"),
    E("linear", a.affine, "ag.linear({x}, {w}, {b})"),
    E("einsum", a.contractions, "np.einsum({s}, {xs})", "torch.einsum({s}, {xs})"),
    E("einsum", a.stacked, "np.einsum('...ij,...jk->...ik', {x}, {y})", "{x} @ {y}"),
    E("tensordot", a.pairs_of_axes, "np.tensordot({x}, {y}, ([{i}], [{j}]))"),
    E("tensordot", alike(), "np.tensordot({x}, {y}, {x}.ndim)"),
    E("inner", a.inners, "np.inner({x}, {y})"),
    E("outer", a.any_two, "np.outer({x}, {y})"),
    E("vdot", alike(), "np.vdot({x}, {y})"),
    E("kron", a.any_two, "np.kron({x}, {y})", "kron({x}, {y})"),
    E("trace", two_axes, "np.trace({x}, {k}, {i}, {j})"),
    E("diagonal", two_axes, "np.diagonal({x}, {k}, {i}, {j})"),
    *[E(f, a.square(), f"np.linalg.{f}({REGULAR})") for f in ("inv", "det")],
    E("pinv", a.square(), f"np.linalg.pinv({REGULAR})"),
    E("cond", a.separated(), f"np.linalg.cond({SPREAD})"),  # the largest and smallest singular value, if they are apart
    E("cofactor", a.square(), f"ag.cofactor({REGULAR})"),
    E("svd", a.separated(), f"np.linalg.svd({SPREAD})[0]"),
    E("svdvals", a.separated(), f"np.linalg.svdvals({SPREAD})"),
    E("norm", a.separated(), f"np.linalg.norm({SPREAD}, 'nuc', (-2, -1))"),
    E("qr", a.square(), f"np.linalg.qr({REGULAR})[0]"),
    E("eigh", a.separated(), f"np.linalg.eigh({SYMMETRIC})[1]"),
    E("eigvalsh", a.separated(), f"np.linalg.eigvalsh({SYMMETRIC})"),
    E("matrix_power", a.square(), "np.linalg.matrix_power({eye} + np.tanh({x}) / {n}, 3)"),
    E("multi_dot", a.chains, "np.linalg.multi_dot([{z}, {x}, {y}])"),
    E("tensorsolve", a.single, f"np.linalg.tensorsolve({REGULAR}, {{b}})"),
    E("lstsq", a.single, f"np.linalg.lstsq({REGULAR}, {{b}})[0]"),
    E("tensorinv", a.single, f"np.linalg.tensorinv({REGULAR}, 1)"),
    E("vecdot", a.vectors, "np.vecdot({x}, {y})"),
    E("matvec", a.rows_and_matrices, f"{SINCE_2_2}.matvec({{x}}, {{y}})"),
    E("vecmat", a.rows_and_matrices, f"{SINCE_2_2}.vecmat({{y}}, {{x}}.mT)"),
    E("cross", a.threes, "np.cross({x}, {y})"),
    E("slogdet", a.square(), f"np.linalg.slogdet({REGULAR})[1]"),
    E("cholesky", a.square(), "np.linalg.cholesky({x} @ {x}.mT / {n} + {eye})"),
    E("solve", a.systems, f"np.linalg.solve({REGULAR}, {{b}})", "torch.linalg.inv({n}.5 * {eye} + {x}.tanh()) @ {b}"),
    # ------------------------------------------------------------------ shapes
    E("reshape", a.reshapes, "{x}.reshape({shape})"),
    E("transpose", a.orders, "np.transpose({x}, {axes})"),
    E("transpose", one(), "{x}.T", "peers.transpose({x})"),
    E("swapaxes", two_axes, "np.swapaxes({x}, {i}, {j})"),
    E("swapaxes", one(a.axes(2)), "{x}.mT"),
    *[E(f, two_axes, f"np.{f}({{x}}, {{i}}, {{j}})") for f in ("moveaxis", "rollaxis")],
    E("expand_dims", a.new_axis, "np.expand_dims({x}, {axis})"),
    E("squeeze", one(), "np.squeeze({x})"),
    E("squeeze", a.ones_axis, "np.squeeze({x}, {axis})"),
    E("broadcast_to", a.broader, "np.broadcast_to({x}, {shape})"),
    E("broadcast_arrays", pair(), "np.broadcast_arrays({x}, {y})"),
    E("meshgrid", a.grid, "np.meshgrid({x}, {y}, indexing={indexing!r})"),
    E("concatenate", a.joined, "np.concatenate([{xs}], axis={axis})"),
    E("stack", a.same_shape, "np.stack([{xs}], axis={axis})"),
    *[E(f, a.same_shape, f"np.{f}([{{xs}}])") for f in ("vstack", "hstack")],
    E("split", along(1, cuts=a.cuts), "np.split({x}, {cuts}, axis={axis})"),
    E("array_split", along(1, n=lambda p, n: p.integer(2, 4)), "np.array_split({x}, {n}, axis={axis})"),
    E("tile", a.tiles, "np.tile({x}, {reps})"),
    E("repeat", along(flat=True, n=lambda p, n: p.integer(1, 3)), "np.repeat({x}, {n}, axis={axis})"),
    E("repeat", along(1, n=lambda p, n: p.numbers(3, n)), "np.repeat({x}, {n}, axis={axis})"),
    E("flip", along(flat=True), "np.flip({x}, {axis})"),
    E("fliplr", one(a.axes(2)), "np.fliplr({x})"),
    E("flipud", along(), "np.flipud({x})"),
    E("roll", along(n=lambda p, n: p.integer(-4, 5)), "np.roll({x}, {n}, {axis})"),
    E("rot90", two_axes, "np.rot90({x}, {k}, ({i}, {j}))"),
    E("pad", a.borders, "np.pad({x}, {widths}, constant_values={value})"),
    E("pad", a.borders, "np.pad({x}, {widths}, mode={mode!r})"),
    E("diag", a.diagonals, "np.diag({x}, {k})"),
    *[E(f, two_axes, f"np.{f}({{x}}, {{k}})") for f in ("tril", "triu")],
    E("array", a.same_shape, "ag.array([{xs}])"),
    *[E(f, a.same_shape, f"np.{f}([{{xs}}])") for f in ("column_stack", "dstack", "block")],
    E("append", pair(), "np.append({x}, {y})"),
    E("insert", one(a.axes(1), y=lambda p, x: p.of_shape(2), n=lambda p, x: p.integer(0, x.size + 1)),
      "np.insert({x}, {n}, {y})"),
    E("resize", one(lambda x: x.size, shape=lambda p, x: (p.integer(1, 4), p.integer(1, 4))),
      "np.resize({x}, {shape})"),
    E("unstack", along(2), "ag.unstack({x}, axis={axis})"),
    *[E(f, one(a.axes(max(i + 1, 2)), n=lambda p, x, i=i: [p.integer(0, x.shape[i] + 1)]), f"np.{f}({{x}}, {{n}})")
      for i, f in enumerate(("vsplit", "hsplit", "dsplit"))],
    *[E(f, along(), f"np.fft.{f}({{x}}, axes={{axis}})", f"peers.{f}({{x}}, axes={{axis}})")
      for f in ("fftshift", "ifftshift")],
    # ------------------------------------------------------------------ numerical analysis and signals
    E("difference", along(n=lambda p, n: p.integer(1, 3)), "np.diff({x}, {n}, axis={axis})",
      "peers.difference({x}, {n}, axis={axis})"),
    E("ediff1d", one(a.axes(1)), "np.ediff1d({x})"),
    E("gradient", along(3, n=lambda p, n: p.integer(1, 3)), "np.gradient({x}, axis={axis}, edge_order={n})"),
    E("trapezoid", along(1), "np.trapezoid({x}, axis={axis})"),
    E("interp", a.between_points, "np.interp({x}, {c}, {f}).astype({x}.dtype)", "peers.interp({x}, {c}, {f})"),
    E("linspace", pair(), "np.linspace({x}, {y}, 3)"),
    E("polyval", one(p=lambda p, x: p.of_shape(p.integer(1, 4))), "np.polyval({p}, {x})"),
    *[E(f, a.signals, f"np.{f}({{x}}, {{y}}, {{mode!r}})") for f in ("convolve", "correlate")],
    E("dft", a.complex_numbers, "ag.dft({x}, {y}, axis={axis})"),
    *[E(f, a.complex_numbers, f"ag.{f}(({{x}}, {{y}}), {{n}}, axis={{axis}})") for f in ("fft", "ifft", "irfft")],
    E("rfft", a.complex_numbers, "ag.rfft({x}, {n}, axis={axis})"),
    *[E(f, a.complex_numbers, f"ag.{f}(({{x}}, {{y}}))") for f in ("fftn", "ifftn")],
    E("rfftn", a.complex_numbers, "ag.rfftn({x})"),
    E("irfftn", a.complex_numbers, "ag.irfftn(({x}, {y}), ({n},), ({axis},))"),
    # ------------------------------------------------------------------ elements
    *[E("getitem", draw, "{x}[{at}]", "peers.getitem({x}, np.s_[{at},])")
      for draw in (a.index, a.index, a.fancy, a.fancy_two, a.masked)],
    E("take", along(1, flat=True, ids=a.places), "np.take({x}, {ids}, axis={axis})"),
    E("take_along_axis", a.row_places, "np.take_along_axis({x}, {ids}, axis={axis})"),
    E("argsort", a.in_order, "np.take_along_axis({x}, np.argsort({x}, axis={axis}), axis={axis})",
      "peers.sort({x}, axis={axis})"),
    E("argmax", a.in_order, "np.take({x}, np.argmax({x}, axis={axis}), axis={axis})",
      "peers.take({x}, {x}.argmax({axis}), {axis})"),
    E("sort", a.in_order, "np.sort({x}, axis={axis})"),
    E("partition", a.in_order, "np.partition({x}, {k}, axis={axis})"),
    E("top_k", a.in_order, "ag.top_k({x}, {k} + 1, axis={axis})[0]"),
    E("delete", along(1, flat=True, ids=a.places), "np.delete({x}, {ids}, axis={axis})"),
    E("compress", along(1, flat=True, c=lambda p, n: p.mask(n)), "np.compress({c}, {x}, axis={axis})"),
    E("extract", a.choices, "np.extract({d}, np.broadcast_to({x} + {y}, {d}.shape))"),
    E("choose", a.same_shape, "np.choose({ids}, [{xs}])"),
    E("put", a.new_rows, "ag.put({x}, {v}, ({ids},))"),
    E("put_along_axis", a.row_places, "ag.put_along_axis({x}, {ids}, {v}, axis={axis})"),
    E("scatter_add", a.scattered, "ag.scatter_add({x}, ({ids},), shape={shape})"),
    E("embedding", a.lookups, "ag.embedding({ids}, {x})"),
    # ------------------------------------------------------------------ networks
    *[E(f, along(1), f"ag.{f}({{x}}, axis={{axis}})") for f in ("softmax", "log_softmax")],
    E("cross_entropy", a.classified, "ag.cross_entropy({x}, {ids}, label_smoothing={s}, reduction={r!r})"),
    E("mse", a.targets, "ag.mse({x}, {y}, reduction={r!r})"),
    E("binary_cross_entropy", a.targets, "ag.binary_cross_entropy({x}, ag.sigmoid({y}), reduction={r!r})"),
    E("kl_divergence", a.divergences,
      "ag.kl_divergence(ag.log_softmax({x}, axis={axis}), ag.softmax({y}, axis={axis}), {axis}, reduction={r!r})"),
    E("layer_norm", a.normed, "ag.layer_norm({x}, {w}, {b}, eps=0.1)"),
    E("rms_norm", a.normed, "ag.rms_norm({x}, {w}, eps=0.1)"),
    E("swiglu", a.affine, "ag.swiglu({x}, {w}, {u})"),
    E("squared_relu", away, "ag.squared_relu({x})"),
    E("rotary", one(lambda x: x.ndim > 1 and x.shape[-1] in (2, 4, 6),
                    w=lambda p, x: p.of_shape(x.shape[-2], x.shape[-1] // 2)), "ag.rotary({x}, {w})"),
    E("causal_conv", one(lambda x: x.ndim > 1, w=lambda p, x: p.of_shape(p.integer(1, 4), x.shape[-1])),
      "ag.causal_conv({x}, {w})"),
    E("attention", a.heads, "ag.attention({q}, {k}, {v}, {mask}, causal={causal}, scale={scale})",
      "attention({q}, {k}, {v}, {mask}, {causal}, {scale})"),
]
