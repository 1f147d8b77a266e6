"""Where the first number that is not finite came from."""

from collections.abc import Callable
from typing import Any

import numpy as np

import autograd as ag


def blame(loss: Callable[[], Any]) -> str:
    """What `ag.detect_anomaly` says when `loss()`, a Tensor, and its backward are computed again; empty if all is
    finite.  Gradients are added to those of the parameters."""
    try:
        with np.errstate(all="ignore"), ag.detect_anomaly():
            loss().backward()
    except FloatingPointError as error:
        return " ".join(line.strip() for line in str(error).splitlines())
    return ""
