"""Fixtures of the tests of the engine."""

import pytest

import autograd as ag
from autograd.core.registry import NUMPY_OVERRIDES


@pytest.fixture(params=["numpy", "numba"])
def family(request):
    """Runs the test that asks for it on both kinds of kernels."""
    if request.param == "numba":
        pytest.importorskip("numba")
    ag.kernels.use(request.param)
    yield request.param
    ag.kernels.use("numpy")


@pytest.fixture
def new_op():
    """Register ops for one test."""
    before = [(table, dict(table)) for table in (ag.REGISTRY, ag.FUNCTIONS, NUMPY_OVERRIDES)]
    yield ag.op
    for table, entries in before:
        table.clear()
        table.update(entries)
