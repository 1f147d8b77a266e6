"""Faster versions of the hot ops, with the same answers; nothing else refers to this package."""

from . import numpy

__all__ = ["numpy"]
