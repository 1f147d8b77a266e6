"""The ops, a family a file; importing this package registers them all."""

from . import elementwise, index, linear, network, reduce, shape

__all__ = ["elementwise", "index", "linear", "network", "reduce", "shape"]
