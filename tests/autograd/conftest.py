"""Fixtures of the tests of the engine."""

import pytest

import autograd as ag
from autograd.methods import ANSWERS


@pytest.fixture
def new_op():
    """Register ops for one test."""
    before = [(table, dict(table)) for table in (ag.REGISTRY, ag.FUNCTIONS, ANSWERS)]
    yield ag.op
    for table, entries in before:
        table.clear()
        table.update(entries)
