"""The ops, a family a file; importing this package registers them all."""

from . import elementwise, index, linalg, linear, network, reduce, shape

__all__ = ["elementwise", "index", "linalg", "linear", "network", "reduce", "shape"]
