"""Checks of gradients and kernels against finite differences and formulas."""

from .check_gradients import check_grads
from .check_kernels import check_kernel
from .check_ops import bind_sample, check_op
from .finite_differences import measure_derivatives

__all__ = ["bind_sample", "check_grads", "check_kernel", "check_op", "measure_derivatives"]
