"""What the tests of the engine share."""

import autograd as ag


def leaf(data, name="", dtype=float):
    """A tensor that requires a gradient."""
    return ag.tensor(data, dtype=dtype, requires_grad=True, name=name)
