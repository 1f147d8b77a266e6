"""Activations, the normal distribution they need, and dropout."""

from __future__ import annotations

import math

import numpy as np

from ...core.arrays import as_floats, narrow, widen
from ...core.mode import resampled
from ...define import composed, op
from ...engine import Op
from ..elementwise import sigmoid


@op
def relu(x):
    """Rectified linear unit.  y = max(x, 0)    Its gradient at 0 is 0."""
    return np.maximum(x, 0)

@relu.gradient("x")
def _(g, y, x):
    """∂L/∂x = g where x > 0, else 0"""
    return np.where(x <= 0, 0, g)  # NaN lets g pass, so that it does not end here unseen


@op
def squared_relu(x):
    """Rectified linear unit, squared (So et al. 2021, Primer).  y = max(x, 0)²    Its gradients at 0 are 0."""
    return np.square(relu(x))

@squared_relu.gradient("x")
def _(g, y, x):
    """∂L/∂x = 2 g ⊙ max(x, 0)"""
    return 2 * g * relu(x)


# erf(x) = tanh(x P(x²) / Q(x²)): artanh(erf(x)) / x is smooth and nearly straight, so short polynomials do (lowest
# power first; weighted least squares on Chebyshev nodes).  Up to `end`, where erf is 1 in that precision, the relative
# error is 1.1e-8 in single and 7.9e-17 in double precision, before rounding.
_ERF_SINGLE = 4.4, (
    1.128379178720705176, 0.25088029118652782355, 0.035327267317193230757, 0.0013874578918245942419,
    -0.000015216659440216198815), (
    1.0, 0.13125735994337384528, 0.01953687289790742608)
_ERF_DOUBLE = 6.0, (
    1.1283791670955124908, 0.46447423901996134645, 0.1274949237650737322, 0.021079900826153976254,
    0.0024882622524267243324, 0.00018637277996501109082, 8.4839781798186118086e-6, 1.0927503446137250039e-7,
    -4.9305800096074992629e-9, -2.1630398501662486764e-11), (
    1.0, 0.32054972855360630659, 0.083979207590590187204, 0.011615173126848834893, 0.0012732901880701949862,
    0.000073850380316752453378, 2.7966776884292812842e-6, -2.4130626135466261423e-8, -1.06525412381341198e-9)


def _polynomial(u, coefficients):
    """Evaluate a polynomial by Horner's scheme, in one array."""
    y = u * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y += c
        y *= u
    y += coefficients[0]
    return y


@op
def erf(x):
    """Error function.  y = 2/√π ∫₀ˣ exp(−t²) dt"""
    wide = widen(as_floats(x))
    end, top, bottom = _ERF_SINGLE if wide.dtype.itemsize <= 4 else _ERF_DOUBLE
    wide = np.clip(wide, -end, end)
    u = wide * wide
    wide *= _polynomial(u, top)
    wide /= _polynomial(u, bottom)
    return narrow(np.tanh(wide), x)

@erf.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ 2/√π exp(−x²)"""
    x = np.clip(x, -30, 30)  # beyond, the slope is 0, and x² might overflow
    return g * (2 / math.sqrt(math.pi) * np.exp(-x * x))


# Φ(−a) = exp(−a²/2) P(a) / Q(a) for a ≥ 0: without the exponential it is smooth and never small, so that short
# polynomials do (lowest power first; minimax fits on a mapped interval).  Up to `end`, where Φ(−a) is 0 in that
# precision, the relative error is 1.5e-7 in single and 5.1e-17 in double precision, before rounding.
TAIL_SINGLE = 14.5, (
    0.49999992389397802, 0.34283179915904995, 0.10917386176780919, 0.014709044483877598, 1.9608632238635972e-7), (
    1.0, 1.4835400315722588, 0.90211101113722387, 0.2731537718180809, 0.036894399915119654)
_TAIL_DOUBLE = 39.0, (
    0.49999999999999997, 0.77485871955251039, 0.59402413532739974, 0.28931676458644425, 0.09769219610891121,
    0.023620227484642143, 0.0040888432191289958, 0.00049034866004667176, 3.72478332843674e-5,
    1.385414130297705e-6), (
    1.0, 2.3476019999078761, 2.5611636612915451, 1.714306992516424, 0.78199344028241979, 0.25494048633172428,
    0.060429306871226288, 0.010342576484484303, 0.0012325945341309668, 9.3366472077200112e-5, 3.4727182310878655e-6)


def normal_tail(x):
    """Return Φ(−|x|), with a relative error as small as the rounding of x² allows, and exp(−x²/2)."""
    end, top, bottom = TAIL_SINGLE if x.dtype.itemsize <= 4 else _TAIL_DOUBLE
    a = np.minimum(np.absolute(x), end)
    tail = _polynomial(a, top)
    tail /= _polynomial(a, bottom)
    a *= a
    a *= -0.5
    e = np.exp(a)
    tail *= e
    return tail, e


@Op
def normal_cdf(x):
    """Normal distribution function.  y = Φ(x)"""
    return np.absolute((x >= 0) - normal_tail(x)[0])  # 1 − Φ(−x) above 0

@normal_cdf.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ exp(−x²/2) / √(2π)"""
    return g * normal_density(x)


normal_cdf.batching = "elementwise"


def normal_density(x):
    """Φ′(x) = exp(−x²/2) / √(2π)"""
    # Augmented assignment works in place on an array of our own, and makes a new record of a Tensor.
    y = np.clip(x, -40, 40)  # beyond, it is 0, and x² might overflow
    y *= y
    y *= -0.5
    y = np.exp(y)
    y *= 1 / math.sqrt(2 * math.pi)
    return y


@op
def gelu(x, approximate="none"):
    """Gaussian error linear unit (Hendrycks & Gimpel 2016).  y = x Φ(x), Φ the normal distribution function
    approximate: "tanh" puts Φ(x) ≈ ½ (1 + tanh u) = sigmoid(2u), u = √(2/π) (x + 0.044715 x³)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate is "none" or "tanh", not {approximate!r}')
    wide = widen(as_floats(x))
    return narrow(wide * (normal_cdf(wide) if approximate == "none" else _sigmoid_2u(wide)[0]), x)


_A, _B = math.sqrt(8 / math.pi), math.sqrt(8 / math.pi) * 0.044715  # 2u = x (a + b x²)


def _sigmoid_2u(x):
    """Return sigmoid(2u), and x clipped to limits beyond which that is 0 or 1, since x³ might overflow."""
    x = np.clip(x, -25, 25)
    u = x * x
    u *= _B
    u += _A
    u *= x
    return sigmoid(u), x

@gelu.gradient("x")
def _(g, y, x, approximate="none"):
    """∂L/∂x = g ⊙ (Φ(x) + x Φ′(x)), Φ′(x) = exp(−x²/2) / √(2π); for "tanh" Φ′(x) = 2u′ Φ(x) (1 − Φ(x))"""
    x = widen(x)
    if approximate == "none":
        return g * (normal_cdf(x) + x * normal_density(x))
    cdf, x = _sigmoid_2u(x)
    slope = x * x
    slope *= 3 * _B
    slope += _A
    slope *= x
    slope *= 1 - cdf  # where cdf is nearly 1, what this loses is nothing beside 1
    slope += 1
    slope *= cdf
    return g * slope


@op
def softplus(x):
    """Smooth relu.  y = ln(1 + eˣ)"""
    x = as_floats(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.absolute(x)))

@softplus.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ sigmoid(x)"""
    return g * sigmoid(x)


@composed
def silu(x):
    """Sigmoid linear unit, or swish.  y = x sigmoid(x)"""
    return x * sigmoid(x)


@composed
def leaky_relu(x, slope=0.01):
    """y = x where x > 0, else slope · x    At 0 the gradient is that of the negative side."""
    return np.where(x > 0, x, slope * x)


@composed
def swiglu(x, gate, up):
    """Gated unit (Shazeer 2020): x (…, n), gate and up (n, m) -> (…, m).  y = silu(x gate) ⊙ (x up)"""
    return silu(x @ gate) * (x @ up)


@composed
def dropout(x, rate, rng):
    """Zeros with probability `rate`, drawn from `rng` (np.random.Generator), and the others scaled up, so that the
    expectation stays.  y = x ⊙ mask / (1 − rate)"""
    if not 0 <= rate < 1:
        raise ValueError(f"rate is a probability below 1, not {rate}")
    return x * resampled(lambda: (rng.random(x.shape, dtype=np.float32) >= rate).astype(x.dtype) / (1 - rate))
