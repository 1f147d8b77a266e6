"""Exercises of chapter 13, rounding."""

import math

import numpy as np

from ..judging import ask, choose, equal, exercise, require, returns


@exercise("13.1", "after t = total + y, (t − total) − y is what the addition lost: subtract it from the next number.")
def _(careful_sum):
    rng = np.random.default_rng(0)
    for x in (np.float32([1, 2, 3.5]), np.float32([1e8, *[1] * 64, -1e8]),
              rng.uniform(size=20_000).astype(np.float32), rng.normal(size=4_000).astype(np.float32) - np.float32(0.5)):
        total = ask(careful_sum, {"x": x})
        require(getattr(total, "dtype", None) == np.float32, "careful_sum adds in float32, and returns a np.float32; "
                f"this is a {type(total).__name__}", {"x": x})
        exact = math.fsum(x.tolist())
        near = abs(total - exact) <= 2 * np.spacing(np.float32(abs(exact)))
        require(near, f"careful_sum(x) is {total!r}, and the exact sum of these float32 numbers is {exact!r}: they are "
                "more than two steps of float32 apart", {"x": x})


@exercise("13.2", "double the scale until something in the gradient is infinite: `np.isfinite(...).all()`.")
def _(largest, why, half_precision, features):
    choose("why", why, "a", {"b": "A power of two changes no digit at all.", "c": "Small numbers grow, too."})
    scale = float(largest)
    require(scale > 0 and math.log2(scale) % 1 == 0, f"largest is a power of two, and this is {largest}")
    with np.errstate(over="ignore", invalid="ignore"):
        found = [bool(np.isfinite(half_precision(s, 10_000 * features)).all()) for s in (scale, 2 * scale)]
    require(found[0], f"with the scale {scale:g} the gradient is not finite")
    require(not found[1], f"with the scale {2 * scale:g} the gradient is finite, too")


@exercise("13.3", "added in pairs, a number takes part in log₂ n additions, and each is wrong by at most u = 2⁻²⁴ of "
          "its result.")
def _(bound, atol):
    for n, magnitude in ((2**16, 0.8), (2**10, 1.0), (2, 3.0)):
        right = math.log2(n) * 2.0**-24 * magnitude
        returns(bound, {"n": n, "magnitude": magnitude}, right, {
            "That is the bound from left to right; in pairs it is smaller.": n * 2.0**-24 * magnitude,
            "u is half of eps.": 2 * right,
            "The usual logarithm of halving is that of base 2.": right * math.log(2),
            "The mean is divided by n, and its error too.": n * right}, tolerance=1e-3)
    equal("atol", atol, 1e-6, None, {"A mistake of a thousandth would pass.": 1e-3,
                                     "That is less than the rounding of one addition.": 1e-9}, tolerance=1e-3)
