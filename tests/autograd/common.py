"""What the tests of the engine share."""

import numpy as np

import autograd as ag


def leaf(data, name="", dtype=float):
    """A tensor that requires a gradient."""
    return ag.tensor(data, dtype=dtype, requires_grad=True, name=name)


def decides_by_numbers(name, sample):
    """Whether a function looks at the numbers of arrays in its sample, which cannot be looked at while it is traced."""
    if name.endswith(("quantile", "percentile")):
        return isinstance(sample[1], np.ndarray)
    return name in ("choose", "lstsq")
