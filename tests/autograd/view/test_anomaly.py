"""detect_anomaly, and errors that point at a record."""

import warnings

import numpy as np
import pytest

import autograd as ag


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def leaf(data, name=""):
    return ag.tensor(np.asarray(data, float), requires_grad=True, name=name)


def test_the_first_value():
    x = leaf([1.0, -1.0, 4.0], "x")
    with pytest.raises(FloatingPointError) as caught, ag.detect_anomaly():
        with ag.scope("block"):
            y = np.log(x)
        (y * 2).sum().backward()
    record = caught.value.record
    assert record.op.name == "log" and record.inputs[0] is x
    text = str(caught.value).splitlines()
    assert text[0] == "the value of log f64[3] holds 1 NaN among 3 numbers"
    assert text[1].startswith("  %1 f64[3] = log(%0)  block  test_anomaly.py:")


def test_a_nan_that_was_there_before_is_said():
    with pytest.raises(FloatingPointError, match="2 NaN among 2 numbers, and so does its input leaf 'x'"), \
            ag.detect_anomaly():
        leaf([np.nan, np.nan], "x") * 2


def test_an_infinity_that_comes_in_is_fine():
    x, mask = leaf([1.0, 2.0, 3.0]), np.array([0, -np.inf, 0])
    with ag.detect_anomaly():
        ag.softmax(x + mask).sum().backward()
    with pytest.raises(FloatingPointError, match="the value of exp .* 1 inf among 1 numbers"), ag.detect_anomaly():
        np.exp(leaf([1000.0]))
    with pytest.raises(FloatingPointError, match="the value of divide .* 1 inf"), ag.detect_anomaly():
        leaf([1.0]) / 0.0


def test_the_first_gradient():
    x = leaf([0.0, 4.0], "x")
    with pytest.raises(FloatingPointError) as caught, ag.detect_anomaly():
        (np.sqrt(x) * 3).sum().backward()
    assert str(caught.value).startswith("the gradient that sqrt f64[2] sends to leaf 'x' f64[2] holds 1 inf")
    assert caught.value.record.op.name == "sqrt"
    with pytest.raises(FloatingPointError, match="sqrt .* sends to multiply .* holds 1 NaN"), ag.detect_anomaly():
        (np.sqrt(x * np.array([0.0, 1.0])) * np.array([0.0, 1.0])).sum().backward()


def test_a_nan_given_to_backward():
    with pytest.raises(FloatingPointError, match="as does the incoming gradient"), ag.detect_anomaly():
        (leaf([1.0]) * 2).backward(np.array([np.nan]))


def test_tuples_and_integers():
    with ag.detect_anomaly():
        a, b = ag.split(leaf([1.0, 2.0]), 2)
        ag.embedding(np.array([0, 1]), leaf([[1.0], [2.0]])).sum().backward()
    with pytest.raises(FloatingPointError, match="split"), ag.detect_anomaly():
        ag.split(leaf([1.0, np.nan]), 2)


def test_only_within_it():
    x = leaf([-1.0])
    with ag.detect_anomaly(), pytest.raises(FloatingPointError):
        np.log(x)
    np.log(x).sum().backward()
    with ag.no_grad(), ag.detect_anomaly():
        np.log(x)  # no record


def test_second_order():
    x = leaf([0.0])
    with pytest.raises(FloatingPointError), ag.detect_anomaly():
        y = ag.grad(lambda v: np.sum(v**1.5))(x)
        y.sum().backward()


@pytest.mark.parametrize("fail, name", [
    (lambda x: np.ones((2, 2)) @ x, "matmul"),
    (lambda x: (x * 2).backward(), "multiply"),
    (lambda x: setattr(x * 2, "data", 0), "multiply"),
    (lambda x: (x * 2).grad, "multiply"),
    (lambda x: setattr(x, "data", np.ones(2)), None),
    (lambda x: setattr(x, "grad", np.ones(2)), None),
    (lambda x: x.use_buffers(np.ones(2)), None),
    (lambda x: ag.tensor([1.0]).backward(), None)])
def test_errors_point_at_a_record(fail, name):
    with pytest.raises((RuntimeError, TypeError, ValueError)) as caught, ag.scope("here"):
        fail(leaf([1.0, 2.0, 3.0]))
    assert (caught.value.record.op and caught.value.record.op.name) == name
    last = str(caught.value).splitlines()[-1]
    assert last.startswith("  %") and "  here  test_anomaly.py:" in last


def test_an_error_in_a_rule_ends_with_its_line():
    @ag.op
    def odd(x):
        return x * 1.0

    @odd.gradient("x")
    def _(g, y, x):
        return g[7]

    try:
        with pytest.raises(IndexError) as caught:
            odd(leaf([1.0])).sum().backward()
        lines = str(caught.value).splitlines()
        assert lines[1] == "  in the gradient of odd for its input x"
        assert lines[2].startswith("  %1 f64[1] = odd(%0)") and caught.value.record.op is odd
    finally:
        del ag.REGISTRY["odd"]
