"""Fourier transforms; a complex array is a pair (real, imaginary)."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core.arrays import as_floats
from ..core.registry import NUMPY_OVERRIDES
from ..define import composed
from .elementwise import as_array
from .index import slice_along
from .linear import dft, fit_length

_INVERSE_NORM = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}


def _pair(x):
    """Return the real and the imaginary part (or None) of a pair of both, or of a real array."""
    if not isinstance(x, tuple):
        return as_floats(as_array(x)), None
    if len(x) != 2:
        raise ValueError(f"complex numbers are a pair (real, imaginary), and no {len(x)} arrays")
    return np.broadcast_arrays(*[as_floats(as_array(a)) for a in x])


@composed
def fft(x, n=None, axis=-1, norm=None):
    """Discrete Fourier transform of n elements along `axis`, as a pair (real, imaginary), of a real array or of such a
    pair.  yₖ = Σⱼ xⱼ exp(−2πi jk / n)"""
    return dft(*_pair(x), n=n, axis=axis, norm=norm)


@composed
def ifft(x, n=None, axis=-1, norm=None):
    """The inverse of `fft`.  yⱼ = Σₖ xₖ exp(2πi jk / n) / n"""
    re, im = _pair(x)
    im, re = dft(np.zeros_like(re) if im is None else im, re, n=n, axis=axis, norm=_INVERSE_NORM[norm])
    return re, im


@composed
def rfft(x, n=None, axis=-1, norm=None):
    """The first n // 2 + 1 elements of the `fft` of a real array, as a pair (real, imaginary); they say what the others
    are."""
    x = as_array(x)
    n = x.shape[axis] if n is None else n
    return tuple(fit_length(a, n // 2 + 1, axis) for a in dft(x, None, n=n, axis=axis, norm=norm))


@composed(implements=np.fft.irfft)
def irfft(x, n=None, axis=-1, norm=None):
    """The inverse of `rfft`: n real numbers, 2 (m − 1) if there are m elements, from a pair (real, imaginary)."""
    re, im = _pair(x)
    n, axis = 2 * (re.shape[axis] - 1) if n is None else n, normalize_axis_index(axis, re.ndim)
    re, im = (fit_length(a, n // 2 + 1, axis) for a in (re, np.zeros_like(re) if im is None else im))
    mirrored = slice_along(axis, (n - 1) // 2, 0, -1)  # the elements behind the middle are the conjugates of these
    re, im = np.concatenate([re, re[mirrored]], axis=axis), np.concatenate([im, -im[mirrored]], axis=axis)
    return ifft((re, im), axis=axis, norm=norm)[0]


def _along_several(name, each, last, words, implements=()):
    """Register the transform `each` along several axes, with the transform `last` along the last axis: as the first one
    or, in an inverse, as the last."""
    def transform(x, s=None, axes=None, norm=None):
        axes = tuple(range(_pair(x)[0].ndim))[-len(s) if s else 0:] if axes is None else axes
        steps = list(zip([each] * (len(axes) - 1) + [last], s or [-1] * len(axes), axes, strict=True))
        for function, n, axis in steps if name.startswith("i") else steps[::-1]:
            x = function(x, None if n == -1 else n, axis, norm)
        return x
    transform.__name__, transform.__doc__ = name, words
    return composed(transform, implements=implements)


_along_several("fftn", fft, fft, "`fft` along several axes (None: all, or the last ones), of the lengths s (−1: all of "
               "it).")
_along_several("ifftn", ifft, ifft, "The inverse of `fftn`.")
_along_several("rfftn", fft, rfft, "`rfft` along the last of several axes, as in `fftn`, and `fft` along the others.")
_along_several("irfftn", ifft, irfft, "The inverse of `rfftn`: real numbers.", np.fft.irfftn)


def _refuse(function, instead):
    def refuse(*args, **kwargs):
        raise TypeError(f"np.fft.{function.__name__} gives complex numbers, which no Tensor holds: {instead} gives a "
                        "pair (real, imaginary) in their place, and takes one")
    NUMPY_OVERRIDES[function] = refuse


for _name in ("fft", "ifft", "rfft"):
    _refuse(getattr(np.fft, _name), f"ag.{_name}(x)")
    _refuse(getattr(np.fft, f"{_name}n"), f"ag.{_name}n(x)")
    _refuse(getattr(np.fft, f"{_name}2"), f"ag.{_name}n(x, axes=(-2, -1))")
