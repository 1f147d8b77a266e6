"""Every view of tapes whose numbers are infinite, NaN, huge, tiny, or absent."""

import numpy as np
import pytest

import autograd as ag

VALUES = {"inf": [1.0, np.inf], "-inf": [1.0, -np.inf], "nan": [1.0, np.nan], "the largest": [1.0, 1.7e308],
          "subnormal": [1.0, 5e-324], "only inf": [np.inf, np.inf], "zeros": [0.0, 0.0], "none": []}
FUNCTIONS = {"softmax": ag.softmax, "exp": np.exp, "square": np.square, "log": np.log, "multiply": lambda t: t * t,
             "sum": lambda t: np.sum(t, keepdims=True), "absolute": np.absolute, "norm": np.linalg.norm}
VIEWS = {
    "repr": lambda y, loss: (repr(y), repr(y.inputs[0]), str(ag.tape(loss)), ag.tape(loss)._repr_html_()),
    "explain": lambda y, loss: (repr(y.explain(loss)), y.explain(loss)._repr_html_()),
    "ledger": lambda y, loss: repr(ag.tape(loss).ledger(y)),
    "stepper": lambda y, loss: [repr(step) + step._repr_html_() for step in ag.tape(loss).stepper()],
    "memory": lambda y, loss: repr(ag.tape(loss).memory()),
    "draw": lambda y, loss: ag.tape(loss).draw(color="grad").source,
    "player": lambda y, loss: ag.tape(loss).player()._repr_html_(),
    "diff": lambda y, loss: repr(ag.diff(ag.tape(loss), ag.tape(loss * 2))),
}


@pytest.mark.slow_but_every(9)
@pytest.mark.parametrize("view, errstate", [*[(view, "ignore") for view in VIEWS], ("repr", "raise"),
                                            ("explain", "raise")])  # others run the backward pass, which may raise
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("numbers", VALUES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_view_shows_them(numbers, function, view, errstate):
    with np.errstate(all="ignore"):
        x = ag.tensor(VALUES[numbers], requires_grad=True, name="x")
        y = FUNCTIONS[function](x)
        loss = y.sum()
    with np.errstate(all=errstate):
        assert VIEWS[view](y, loss)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("numbers", VALUES)
def test_check_grads_says_what_it_cannot_judge(numbers, function):
    with np.errstate(all="ignore"):
        try:
            ag.check_grads(FUNCTIONS[function], np.array(VALUES[numbers]))
        except (ValueError, AssertionError) as error:
            assert str(error)
