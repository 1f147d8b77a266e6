"""A small module whose arrays are a vector, a matrix and a frozen vector."""

from dataclasses import dataclass

import numpy as np
import pytest

import autograd as ag
from gpt import Module


@dataclass
class Three(Module):
    a: object
    b: object
    c: object


@pytest.fixture
def three():
    """Return a function that makes the module, with a matrix of `n` rows."""
    def make(n=2):
        rng = np.random.default_rng(0)
        return Three(ag.tensor(rng.standard_normal(3), requires_grad=True),
                     ag.tensor(rng.standard_normal((n, 3)), requires_grad=True),
                     ag.tensor(rng.standard_normal(2)))
    return make
