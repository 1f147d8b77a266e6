"""Ops that work element by element, with broadcasting."""

from __future__ import annotations

import numpy as np

from ..engine import op

# ---------------------------------------------------------------------- arithmetic


@op
def add(x, y):
    """Sum.  z = x + y"""
    return x + y


@add.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g"""
    return g


@add.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = g"""
    return g


@op
def subtract(x, y):
    """Difference.  z = x − y"""
    return x - y


@subtract.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g"""
    return g


@subtract.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = −g"""
    return -g


@op
def multiply(x, y):
    """Product.  z = x ⊙ y"""
    return x * y


@multiply.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g ⊙ y"""
    return g * y


@multiply.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = g ⊙ x"""
    return g * x


@op
def divide(x, y):
    """Quotient.  z = x / y"""
    return x / y


@divide.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g / y"""
    return g / y


@divide.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = −g ⊙ z / y"""
    return -g * z / y


@op
def power(x, y):
    """Power.  z = xʸ    Where y is 0 the gradient of x is 0, at x = 0 too; where x is 0 (and y ≥ 0) the
    gradient of y is 0."""
    return x ** y


@power.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g ⊙ y xʸ⁻¹"""
    if isinstance(y, (int, float)):  # a Python number keeps x's dtype, and NumPy's fast squares
        return g * (y * x ** (y - 1)) if y != 0 else g * np.zeros_like(x)
    return g * y * x ** np.where(y == 0, 1, y - 1)


@power.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = g ⊙ z ln x"""
    return g * z * np.log(np.where(x == 0, 1, x))


@op
def negative(x):
    """Opposite.  y = −x"""
    return -x


@negative.gradient("x")
def _(g, y, x):
    """∂L/∂x = −g"""
    return -g


@op
def absolute(x):
    """Absolute value.  y = |x|    Its gradient at 0 is 0."""
    return np.absolute(x)


@absolute.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ sign(x)"""
    return g * np.sign(x)


@op
def maximum(x, y):
    """The larger one.  z = max(x, y)    Where they are equal, each gets half of the gradient."""
    return np.maximum(x, y)


@maximum.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g ⊙ ([x > y] + ½ [x = y])"""
    return g * np.where(x == y, 0.5, x > y)


@maximum.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = g ⊙ ([y > x] + ½ [x = y])"""
    return g * np.where(x == y, 0.5, y > x)


@op
def where(condition, x, y):
    """Choice.  z = x where `condition`, else y"""
    return np.where(condition, x, y)


@where.gradient("x")
def _(g, z, condition, x, y):
    """∂L/∂x = g where the condition holds, else 0"""
    return np.where(condition, g, 0)


@where.gradient("y")
def _(g, z, condition, x, y):
    """∂L/∂y = 0 where the condition holds, else g"""
    return np.where(condition, 0, g)


# ---------------------------------------------------------------------- functions


@op
def exp(x):
    """Exponential.  y = eˣ"""
    return np.exp(x)


@exp.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ y"""
    return g * y


@op
def log(x):
    """Natural logarithm.  y = ln x"""
    return np.log(x)


@log.gradient("x")
def _(g, y, x):
    """∂L/∂x = g / x"""
    return g / x


@op
def sqrt(x):
    """Square root.  y = √x    Its gradient at 0 is infinite."""
    return np.sqrt(x)


@sqrt.gradient("x")
def _(g, y, x):
    """∂L/∂x = g / 2y"""
    return g / (2 * y)


@op
def tanh(x):
    """Hyperbolic tangent.  y = tanh x"""
    return np.tanh(x)


@tanh.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ (1 − y²)"""
    return g * (1 - y * y)


@op
def copy(x):
    """The same numbers in an array of their own.  y = x"""
    return x.copy()


@copy.gradient("x")
def _(g, y, x):
    """∂L/∂x = g"""
    return g


# ---------------------------------------------------------------------- constant almost everywhere


@op(differentiable=False)
def sign(x):
    """−1, 0 or 1.  y = sign(x)"""
    return np.sign(x)


@op(differentiable=False)
def equal(x, y):
    """z = [x = y]"""
    return np.equal(x, y)


@op(differentiable=False)
def not_equal(x, y):
    """z = [x ≠ y]"""
    return np.not_equal(x, y)


@op(differentiable=False)
def less(x, y):
    """z = [x < y]"""
    return np.less(x, y)


@op(differentiable=False)
def less_equal(x, y):
    """z = [x ≤ y]"""
    return np.less_equal(x, y)


@op(differentiable=False)
def greater(x, y):
    """z = [x > y]"""
    return np.greater(x, y)


@op(differentiable=False)
def greater_equal(x, y):
    """z = [x ≥ y]"""
    return np.greater_equal(x, y)
