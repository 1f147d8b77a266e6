"""The ops, a family a file or a folder; importing this package registers them all."""

from . import elementwise, fourier, index, linalg, linear, network, numeric, reduce, shape

__all__ = ["elementwise", "fourier", "index", "linalg", "linear", "network", "numeric", "reduce", "shape"]
