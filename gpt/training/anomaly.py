"""The origin of the first value that is not finite."""

from collections.abc import Callable
from typing import Any

import numpy as np

import autograd as ag


def find_anomaly(loss: Callable[[], Any]) -> str:
    """Recompute `loss()`, a Tensor, and its backward pass under `ag.detect_anomaly`, and return its report; empty if
    all is finite.  Gradients accumulate in those of the parameters."""
    try:
        with np.errstate(all="ignore"), ag.detect_anomaly():
            loss().backward()
    except FloatingPointError as error:
        return " ".join(line.strip() for line in str(error).splitlines())
    return ""
