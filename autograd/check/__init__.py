"""Checks of gradients and kernels against finite differences and formulas."""
