"""Elementwise ops, with broadcasting."""

from __future__ import annotations

import math

import numpy as np

from ..core.arrays import as_floats, cast, check_operand, convert_sequence, narrow, widen
from ..core.registry import NUMPY_OVERRIDES, REGISTRY
from ..core.signature import NO_ATTRS
from ..define import composed, op
from ..engine import Op, Tensor

LN2, LN10 = math.log(2), math.log(10)

# ---------------------------------------------------------------------- corners, and what their rules are written with


def by_convention(slope, corner, *xs):
    """Return `slope`, a first derivative with respect to `xs` that is a convention where `corner` holds, since the
    function has none there.  Derivatives of the result with respect to `xs` are NaN there."""
    return _by_convention.apply((slope, corner, *xs), NO_ATTRS)


@Op
def _by_convention(slope, corner, *xs):
    """A slope that the function does not have where `corner` holds.  y = slope"""
    return slope

@_by_convention.gradient("slope")
def _(g, y, slope, corner, *xs):
    """∂L/∂slope = g"""
    return g

@_by_convention.gradient("*xs")
def _(g, y, slope, corner, *xs):
    """∂L/∂xᵢ = NaN at a corner, else 0    Elsewhere the slope itself leads to what it depends on."""
    return [np.where(corner, np.nan, 0).astype(g.dtype)] * len(xs)


@Op
def root(x):
    """Square root of lengths and variances, whose gradient at 0 is 0.  y = √x"""
    return np.sqrt(x)

@root.gradient("x")
def _(g, y, x):
    """∂L/∂x = g / 2y, and 0 where y is 0"""
    return g * by_convention(np.where(y == 0, 0, 0.5 / not_zero(y)), y == 0, x)


@Op
def sech2(x):
    """Square of the hyperbolic secant, the slope of tanh.  y = 1 / cosh² x"""
    with np.errstate(over="ignore"):  # −2|x| may be −∞
        e = np.exp(-2 * np.absolute(widen(x)))
    square = 1 + e
    square *= square
    e /= square  # e / (1 + e)² loses no digits where tanh is nearly 1
    e *= 4
    return narrow(e, x)

@sech2.gradient("x")
def _(g, y, x):
    """∂L/∂x = −2 g ⊙ y tanh x"""
    return -2 * g * y * np.tanh(x)


for _op in (_by_convention, root, sech2):
    _op.batching = "elementwise"


def not_zero(x):
    """Return x with 1 for 0, to divide by where the dividend is 0 too."""
    return np.where(x == 0, 1, x)


def or_half(g, wins, x, y):
    """Return g where `wins`, else 0; ½ g where x and y are equal, by convention."""
    tie = x == y
    return g * by_convention(np.where(tie, g.dtype.type(0.5), wins), tie, x, y)


def over_square(a, x, y):
    """Return a / (x² + y²), without overflow or underflow of the squares; 0 at (0, 0), by convention."""
    z = np.hypot(x, y)
    length = not_zero(z)
    return by_convention(a / length / length, z == 0, x, y)


def difference(x, y):
    """Return x − y; 0 for ∞ − ∞, and −∞ for −∞ − (−∞)."""
    same = (x == y) & np.isinf(x)
    return np.where(same & (x > 0), 0, x) - np.where(same, 0, y)


# ---------------------------------------------------------------------- tables of derivatives

# NumPy's function, y, ∂L/∂x in words and as a rule.
FUNCTIONS_OF_ONE = [
    (np.negative, "−x", "−g", lambda g, y, x: -g),
    (np.absolute, "|x|    The gradient at 0 is 0.", "g ⊙ sign(x)",
     lambda g, y, x: g * by_convention(np.sign(x), x == 0, x)),
    (np.square, "x²", "2 g ⊙ x", lambda g, y, x: g * (2 * x)),
    (np.sqrt, "√x    The slope at 0 is infinite.", "g / 2y", lambda g, y, x: g / (2 * y)),
    (np.cbrt, "∛x    The slope at 0 is infinite.", "g / 3y²", lambda g, y, x: g / (3 * (y * y))),
    (np.reciprocal, "1 / x", "−g ⊙ y²", lambda g, y, x: -g * y * y),
    (np.exp, "eˣ", "g ⊙ y", lambda g, y, x: g * y),
    (np.exp2, "2ˣ", "g ⊙ y ln 2", lambda g, y, x: g * (y * LN2)),
    (np.expm1, "eˣ − 1, exact near 0", "g ⊙ eˣ", lambda g, y, x: g * np.exp(x)),
    (np.log, "ln x", "g / x", lambda g, y, x: g / x),
    (np.log2, "log₂ x", "g / (x ln 2)", lambda g, y, x: g / LN2 / x),
    (np.log10, "log₁₀ x", "g / (x ln 10)", lambda g, y, x: g / LN10 / x),
    (np.log1p, "ln(1 + x), exact near 0", "g / (1 + x)", lambda g, y, x: g / (1 + x)),
    (np.sin, "sin x", "g ⊙ cos x", lambda g, y, x: g * np.cos(x)),
    (np.cos, "cos x", "−g ⊙ sin x", lambda g, y, x: -g * np.sin(x)),
    (np.tan, "tan x", "g ⊙ (1 + y²)", lambda g, y, x: g * (1 + y * y)),
    (np.arcsin, "arcsin x    The slope at ±1 is infinite.", "g / √(1 − x²)",
     lambda g, y, x: g / np.sqrt((1 - x) * (1 + x))),
    (np.arccos, "arccos x    The slope at ±1 is infinite.", "−g / √(1 − x²)",
     lambda g, y, x: -g / np.sqrt((1 - x) * (1 + x))),
    (np.arctan, "arctan x", "g / (1 + x²)", lambda g, y, x: g * over_square(1, 1, x)),
    (np.sinh, "sinh x", "g ⊙ cosh x", lambda g, y, x: g * np.cosh(x)),
    (np.cosh, "cosh x", "g ⊙ sinh x", lambda g, y, x: g * np.sinh(x)),
    (np.tanh, "tanh x", "g / cosh² x", lambda g, y, x: g * sech2(x)),
    (np.arcsinh, "arsinh x", "g / √(x² + 1)", lambda g, y, x: g / np.hypot(x, 1)),
    (np.arccosh, "arcosh x    The slope at 1 is infinite.", "g / √(x² − 1)",
     lambda g, y, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1))),
    (np.arctanh, "artanh x", "g / (1 − x²)", lambda g, y, x: g / ((1 - x) * (1 + x))),
    (np.fabs, "|x|, as a floating-point number    The gradient at 0 is 0.", "g ⊙ sign(x)",
     lambda g, y, x: g * by_convention(np.sign(x), x == 0, x)),
    (np.sinc, "sin(πx) / πx, and 1 at 0", "g ⊙ (cos πx − y) / x, and 0 at 0", lambda g, y, x: g * sinc_slope(y, x)),
]

# NumPy's function, z; ∂L/∂x in words and as a rule; ∂L/∂y in words and as a rule.
FUNCTIONS_OF_TWO = [
    (np.add, "x + y",
     "g", lambda g, z, x, y: g,
     "g", lambda g, z, x, y: g),
    (np.subtract, "x − y",
     "g", lambda g, z, x, y: g,
     "−g", lambda g, z, x, y: -g),
    (np.multiply, "x ⊙ y",
     "g ⊙ y", lambda g, z, x, y: g * y,
     "g ⊙ x", lambda g, z, x, y: g * x),
    (np.divide, "x / y",
     "g / y", lambda g, z, x, y: g / y,
     "−g ⊙ z / y", lambda g, z, x, y: -g * z / y),
    (np.maximum, "max(x, y)    Where they are equal, each gets half of the gradient.",
     "g ⊙ ([x > y] + ½ [x = y])", lambda g, z, x, y: or_half(g, np.logical_not(x < y), x, y),
     "g ⊙ ([y > x] + ½ [x = y])", lambda g, z, x, y: or_half(g, np.logical_not(y < x), x, y)),
    (np.minimum, "min(x, y)    Where they are equal, each gets half of the gradient.",
     "g ⊙ ([x < y] + ½ [x = y])", lambda g, z, x, y: or_half(g, np.logical_not(x > y), x, y),
     "g ⊙ ([y < x] + ½ [x = y])", lambda g, z, x, y: or_half(g, np.logical_not(y > x), x, y)),
    (np.remainder, "x − y ⌊x / y⌋, between 0 and y",
     "g", lambda g, z, x, y: g,
     "−g ⊙ ⌊x / y⌋", lambda g, z, x, y: -g * np.floor_divide(x, y)),
    (np.arctan2, "the angle whose sine is as x and whose cosine is as y    At (0, 0) the gradient is 0.",
     "g ⊙ y / (x² + y²)", lambda g, z, x, y: g * over_square(y, x, y),
     "−g ⊙ x / (x² + y²)", lambda g, z, x, y: -g * over_square(x, x, y)),
    (np.hypot, "√(x² + y²)    At (0, 0) the gradient is 0, as that of a norm.",
     "g ⊙ x / z", lambda g, z, x, y: g * by_convention(x / not_zero(z), z == 0, x, y),
     "g ⊙ y / z", lambda g, z, x, y: g * by_convention(y / not_zero(z), z == 0, x, y)),
    (np.logaddexp, "ln(eˣ + eʸ)    At (−∞, −∞) the gradient is 0; at (∞, ∞) each gets half of it.",
     "g ⊙ sigmoid(x − y)", lambda g, z, x, y: g * sigmoid(difference(x, y)),
     "g ⊙ sigmoid(y − x)", lambda g, z, x, y: g * sigmoid(difference(y, x))),
    (np.logaddexp2, "log₂(2ˣ + 2ʸ)",
     "g ⊙ sigmoid((x − y) ln 2)", lambda g, z, x, y: g * sigmoid(difference(x, y) * LN2),
     "g ⊙ sigmoid((y − x) ln 2)", lambda g, z, x, y: g * sigmoid(difference(y, x) * LN2)),
    (np.fmax, "max(x, y), or the one of them that is not NaN    Where they are equal, each gets half of the gradient.",
     "g ⊙ ([x > y or y is NaN] + ½ [x = y])", lambda g, z, x, y: or_half(g, (x > y) | (y != y), x, y),
     "g ⊙ ([y > x or x is NaN] + ½ [x = y])", lambda g, z, x, y: or_half(g, (y > x) | (x != x), x, y)),
    (np.fmin, "min(x, y), or the one of them that is not NaN    Where they are equal, each gets half of the gradient.",
     "g ⊙ ([x < y or y is NaN] + ½ [x = y])", lambda g, z, x, y: or_half(g, (x < y) | (y != y), x, y),
     "g ⊙ ([y < x or x is NaN] + ½ [x = y])", lambda g, z, x, y: or_half(g, (y < x) | (x != x), x, y)),
    (np.fmod, "x − y trunc(x / y), between 0 and x",
     "g", lambda g, z, x, y: g,
     "−g ⊙ trunc(x / y)", lambda g, z, x, y: -g * np.rint((x - z) / y)),
]

for _function, _value, *_gradients in FUNCTIONS_OF_ONE + FUNCTIONS_OF_TWO:
    _op = op(_function)
    _result = "y" if len(_gradients) == 2 else "z"
    _op.__doc__ = f"{_result} = {_value}"
    for _input, _words, _rule in zip("xy", _gradients[::2], _gradients[1::2]):
        _rule.__doc__ = f"∂L/∂{_input} = {_words}"
        _op.gradient(_input)(_rule)

# Constant almost everywhere, so that no gradient flows.
for _constant in (np.sign, np.floor, np.ceil, np.rint, np.trunc, np.floor_divide, np.signbit,
                  np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
                  np.logical_and, np.logical_or, np.logical_xor, np.logical_not,
                  np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert,
                  np.isnan, np.isinf, np.isfinite, np.isposinf, np.isneginf, np.isclose, np.allclose, np.array_equal,
                  np.array_equiv, np.isreal, np.iscomplex, np.angle, np.spacing):
    op(_constant, differentiable=False)
op(np.round, differentiable=False, implements=(np.round, np.around))


# ---------------------------------------------------------------------- with edges of their own


@op
def power(x, y):
    """Power.  z = xʸ    Where y is 0 the gradient of x is 0, at x = 0 too; where x is 0 (and y ≥ 0) the
    gradient of y is 0."""
    return x ** y

@power.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g ⊙ y xʸ⁻¹"""
    if isinstance(y, (int, float)):  # a Python number keeps x's dtype, and NumPy's fast squares
        return g * (y * x ** (y - 1)) if y != 0 else np.zeros_like(x)
    y = cast(y, z.dtype)  # a narrow exponent or base is not to set the precision of the other's gradient
    exponent = np.where((x == 0) & (y == 0), 1, y - 1)
    return g * by_convention(y * x ** exponent, (x == 0) & (y <= 1), y)

@power.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = g ⊙ z ln x"""
    x = x if isinstance(x, (int, float)) else cast(x, z.dtype)
    return g * by_convention(z * np.log(not_zero(x)), (x == 0) & (y <= 1), x, y)


@op
def where(condition, x, y):
    """Choice.  z = x where the condition holds, else y"""
    return np.where(condition, x, y)

@where.gradient("x")
def _(g, z, condition, x, y):
    """∂L/∂x = g where the condition holds, else 0"""
    return np.where(condition, g, 0)

@where.gradient("y")
def _(g, z, condition, x, y):
    """∂L/∂y = 0 where the condition holds, else g"""
    return np.where(condition, 0, g)


NUMPY_OVERRIDES[np.where] = lambda condition, x=None, y=None: (
    np.nonzero(condition) if x is None else where(condition, x, y))


@op
def clip(x, a_min=None, a_max=None):
    """Limits, either of which may be None.  y = min(max(x, a_min), a_max)    At a limit the gradient is x's."""
    return np.clip(x, a_min, a_max)

@clip.gradient("x")
def _(g, y, x, a_min=None, a_max=None):
    """∂L/∂x = g where x is within the limits, else 0"""
    above, below = a_min is None or x >= a_min, a_max is None or x <= a_max
    return np.where(above & below, g, 0)

@clip.gradient("a_min")
def _(g, y, x, a_min=None, a_max=None):
    """∂L/∂a_min = g where x is below it, and it below a_max, else 0"""
    return np.where(x < a_min if a_max is None else (x < a_min) & (a_min < a_max), g, 0)

@clip.gradient("a_max")
def _(g, y, x, a_min=None, a_max=None):
    """∂L/∂a_max = g where x is above it, or a_min is, else 0"""
    return np.where(x > a_max if a_min is None else (x > a_max) | (a_min > a_max), g, 0)


NUMPY_OVERRIDES[np.divmod] = lambda x, y: (x // y, x % y)
NUMPY_OVERRIDES[np.clip] = lambda x, a_min=None, a_max=None, min=None, max=None: clip(
    x, min if a_min is None else a_min, max if a_max is None else a_max)


@op
def sigmoid(x):
    """Logistic function.  y = 1 / (1 + exp(−x))"""
    with np.errstate(over="ignore"):  # of ∞, the reciprocal is 0
        e = np.exp(-widen(as_floats(x)))
    e += 1
    return narrow(1 / e, x)

@sigmoid.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ y sigmoid(−x)    which is 1 − y without losing its digits"""
    return g * (y * sigmoid(-x))


@op(implements=(np.copy, np.positive, np.conjugate, np.real))
def copy(x):
    """The same numbers in an array of their own.  y = x"""
    return x.copy()

@copy.gradient("x")
def _(g, y, x):
    """∂L/∂x = g"""
    return g


@op
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """Numbers in place of NaN and of infinities (None: the largest there are).  y = x where x is finite"""
    return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)

@nan_to_num.gradient("x")
def _(g, y, x, copy=True, nan=0.0, posinf=None, neginf=None):
    """∂L/∂x = g where x is finite, else 0"""
    return np.where(np.isfinite(x), g, 0)


# ---------------------------------------------------------------------- composed


@composed(implements=(np.deg2rad, np.radians))
def deg2rad(x):
    """Degrees in radians.  y = x π / 180"""
    return x * (math.pi / 180)


@composed(implements=(np.rad2deg, np.degrees))
def rad2deg(x):
    """Radians in degrees.  y = x 180 / π"""
    return x * (180 / math.pi)


@composed
def copysign(x, y):
    """|x| with the sign of y.    No gradient flows to y, and none to x where it is 0."""
    if type(y) in (int, float):
        return np.absolute(x) * math.copysign(1, y)
    y = as_array(y)
    if type(x) not in (int, float):
        x = as_array(x)
        x = as_floats(x) if y.dtype.kind != "f" else x.astype(np.result_type(np.abs(x).dtype, y.dtype))
    return abs(x) * np.where(np.signbit(y), -1, 1).astype(y.dtype)


@composed
def heaviside(x, y):
    """Step.  z = 0 for negative x, y where x is 0, and 1 for positive x.    No gradient flows to x."""
    if type(x) in (int, float):
        step = x if math.isnan(x) else float(x > 0)
    else:
        x = as_array(x)
        step = np.where(np.isnan(x), x, x > 0)
    z = np.where(x == 0, y, step)
    return cast(z, np.heaviside(*[np.ones((), a.dtype) if hasattr(a, "dtype") else a for a in (x, y)]).dtype)


def _modf(x):
    """The fractional and the whole part of x."""
    finite = np.where(np.isinf(x), 0, x)
    return finite - np.trunc(finite), np.trunc(x)


NUMPY_OVERRIDES[np.fix], NUMPY_OVERRIDES[np.modf] = REGISTRY["trunc"], _modf
NUMPY_OVERRIDES[np.ldexp] = lambda x, n: as_array(x) * np.exp2(n).astype(as_array(x).dtype)
NUMPY_OVERRIDES[np.float_power] = lambda x, y: power(as_array(x).astype(float), y)


_SINC = [(-1) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(10, 0, -1)]


def sinc_slope(y, x):
    """Return the derivative of y = sin(u) / u by x, u = πx.  Near 0, where cos(u) − y cancels, it is the series
    u Σₖ (−1)ᵏ 2k u²ᵏ⁻² / (2k + 1)!"""
    u = math.pi * x
    is_near = np.absolute(u) < 1
    near, far, slope = np.where(is_near, u, 0), np.where(is_near, 1, u), 0
    for c in _SINC:
        slope = slope * (near * near) + c
    return math.pi * np.where(is_near, near * slope, (np.cos(u) - y) / far)


def as_array(x):
    """Return numbers and lists as arrays; arrays and Tensors as they are.  Raises TypeError for anything else."""
    if type(x) is Tensor:
        return x
    x = check_operand(convert_sequence(x), "an argument")
    return x if hasattr(x, "shape") else np.asarray(x)


def as_array_like(x, a):
    """Return a number or list as an array of the dtype and library of x; an array or Tensor as it is."""
    return a if hasattr(a, "shape") else (np.zeros_like(x, shape=np.shape(a)) + a).astype(x.dtype)
