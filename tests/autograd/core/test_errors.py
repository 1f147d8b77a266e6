"""Errors that arise in a formula, a kernel, a gradient rule or a transform: each ends with its line of the tape, has
the record, and can be sent to another process."""

import copy
import dataclasses
import gc
import multiprocessing
import pickle
import traceback
import weakref
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import autograd as ag
from tests.samples import SAMPLES

from ..common import leaf


class Plain(Exception):
    pass


class TwoArguments(Exception):
    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")
        self.what, self.where = what, where


class Worded(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code


class Composed(Exception):
    def __str__(self):
        return f"composed of {self.args}"


class Broken(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    what: str


class Reduced(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}, {b}")
        self.a, self.b = a, b

    def __reduce__(self):
        return Reduced, (self.a, self.b)


def _noted():
    error = ValueError("with a note")
    error.add_note("the note")
    return error


SAYS_ITS_ARGUMENT = {  # these have a text that can be extended
    "ValueError": lambda: ValueError("planted"), "TypeError": lambda: TypeError("planted"),
    "LinAlgError": lambda: np.linalg.LinAlgError("planted"), "ZeroDivisionError": lambda: ZeroDivisionError("planted"),
    "FloatingPointError": lambda: FloatingPointError("planted"), "AttributeError": lambda: AttributeError("planted"),
    "MemoryError": lambda: MemoryError("planted"),
    "warning": lambda: RuntimeWarning("planted"), "no OSError number": lambda: OSError("planted"),
    "Plain": lambda: Plain("planted"), "TwoArguments": lambda: TwoArguments("planted", 3), "Worded": lambda: Worded(3),
    "Frozen": lambda: Frozen("planted"), "Reduced": lambda: Reduced("a", "b"), "noted": _noted,
}
COMPOSES = {  # these get notes
    "KeyError": lambda: KeyError("planted"), "OSError": lambda: FileNotFoundError(2, "No such file", "name"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    "ImportError": lambda: ImportError("planted", name="module"), "empty": AssertionError,
    "two": lambda: ValueError("a", 2), "number": lambda: RuntimeError(5), "Composed": lambda: Composed("planted"),
    "Broken": lambda: Broken("planted"), "AxisError": lambda: np.exceptions.AxisError(3, 2),
    "group": lambda: ExceptionGroup("several", [ValueError("one")]),
}
FLOAT = np.dtype(float)
KINDS = {**SAYS_ITS_ARGUMENT, **COMPOSES}


def last_line(error):
    return traceback.format_exception_only(error)[-1].splitlines()[-1]


@pytest.fixture
def failing(new_op):
    """Make an op that fails in its formula, or its rule."""
    def make(error, where):
        def planted(x, power=1):
            if where == "formula":
                raise error
            return x * 2.0
        op = new_op(planted)

        @op.gradient("x")
        def _(g, y, x, power=1):
            if where == "rule":
                raise error
            return g * 2.0
        return op
    return make


def caught(f, *args):
    with pytest.raises(BaseException) as info:  # noqa: B017
        f(*args)
    return info.value


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_a_rule_ends_with_its_line(kind, failing):
    planted, x = KINDS[kind](), leaf([1.0, 2.0], name="x")
    y = failing(planted, "rule")(x, power=3).sum()
    before = None if kind == "Broken" else str(planted)
    error = caught(y.backward)
    assert error is planted and error.record.op.name == "planted"
    lines = traceback.format_exception_only(error)
    text = "".join(lines)
    last = str(error).splitlines()[-1] if kind == "noted" else last_line(error)
    assert last.startswith("  %1 f64[2] = planted(%0, power=3)") and "test_errors.py:" in last
    assert text.count("in the gradient of planted for its input x") == 1 and text.count("%1 f64[2]") == 1
    if kind in SAYS_ITS_ARGUMENT:
        assert str(error).startswith(before) and str(error).splitlines()[-1].startswith("  %1 f64[2] = planted(%0")
    elif kind != "Broken":
        assert str(error) == before
    if kind == "noted":
        assert error.__notes__ == ["the note"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_a_formula_ends_with_its_line(kind, failing):
    planted = KINDS[kind]()
    error = caught(failing(planted, "formula"), leaf([1.0, 2.0], name="x"))
    assert isinstance(error, type(planted)) or kind == "UnicodeDecodeError" and type(error) is ValueError
    assert error is not planted and error.__cause__ is planted and error.record.op.name == "planted"
    last = str(error).splitlines()[-1] if kind == "noted" else last_line(error)
    assert last.startswith("  %1 not computed = planted(%0)")
    assert "planted(f64[2])" in "".join(traceback.format_exception_only(error))
    if kind in SAYS_ITS_ARGUMENT or kind in ("AxisError", "UnicodeDecodeError"):
        assert str(error).startswith(f"planted(f64[2]): {planted}") and str(error).splitlines()[-1] == last
    fields = {name: value for name, value in vars(planted).items() if name != "__notes__"}
    assert fields.items() <= vars(error).items()


@pytest.mark.parametrize("name", [name for name, op in ag.REGISTRY.items() if op.rules])
def test_in_the_rules_of_every_op(name, monkeypatch):
    """Once of a text, once of a key; with kernels and without."""
    op = ag.REGISTRY[name]

    def fail(*args, **attrs):
        raise planted

    for kind, by_kernel in ((ValueError, False), (KeyError, False), (ValueError, True)):
        if by_kernel and np.ndarray not in op.kernels:
            continue
        planted = kind("planted")
        args, attrs = SAMPLES[name][0], {}
        if isinstance(args[-1], dict):
            args, attrs = args[:-1], args[-1]
        inputs, attrs = op.bind(args, attrs)
        i = next(i for i, a in enumerate(inputs) if i in op.rules and getattr(a, "dtype", None) is FLOAT)
        inputs = tuple(leaf(a) if j == i else a for j, a in enumerate(inputs))
        with monkeypatch.context() as patched:
            if by_kernel:
                forward = op.kernels[np.ndarray].forward
                patched.setitem(op.kernels, np.ndarray, SimpleNamespace(forward=forward, backward=fail))
            else:
                patched.setattr(op, "kernels", {})
                patched.setattr(op, "rules", type(op.rules)(op))
                op.rules.update({j: (fail, None) for j in range(op.n_inputs)})
            y = op.apply(inputs, attrs)
            y = y[0] if isinstance(y, tuple) else y
            if by_kernel and y.saved is None:
                continue  # it declined
            error = caught(y.backward, np.ones(y.shape))
        assert error is planted and error.record.op is op
        assert f"in the gradient of {name} for its input {op.input_name(i)}" in "".join(
            traceback.format_exception_only(error))
        assert last_line(error).startswith("  %") and f"= {name}(" in last_line(error)
        if kind is ValueError:
            assert str(error).splitlines()[-1] == last_line(error)


TRANSFORMS = {
    "grad": lambda f, x: ag.grad(f)(x), "value_and_grad": lambda f, x: ag.value_and_grad(f)(x),
    "vjp": lambda f, x: ag.vjp(f, x)[1](np.ones(())), "jvp": lambda f, x: ag.jvp(f, (x,), (x,)),
    "jacobian": lambda f, x: ag.jacobian(f)(x), "hessian": lambda f, x: ag.hessian(f)(x),
    "hvp": lambda f, x: ag.hvp(f, x, x), "checkpoint": lambda f, x: ag.grad(ag.checkpoint(f))(x),
    "no transform": lambda f, x: f(leaf(x)).backward(),
    "create_graph": lambda f, x: f(leaf(x)).backward(create_graph=True),
}


@pytest.mark.parametrize("where", ["formula", "rule"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_in_every_transform(transform, where, failing):
    op = failing(ValueError("planted"), where)
    error = caught(TRANSFORMS[transform], lambda x: np.sum(op(x * 3.0)), np.ones(2))
    assert error.record.op is op and "planted(" in str(error).splitlines()[-1]


def test_an_op_inside_a_rule_is_the_innermost_and_the_outer_is_a_note(new_op):
    def shell(x):
        return x * 1.0
    op = new_op(shell)
    op.gradient("x")(lambda g, y, x: g @ np.ones((5, 5)))
    y = op(leaf([1.0, 2.0])).sum()
    error = caught(lambda: y.backward(create_graph=True))
    assert error.record.op is ag.matmul and "= matmul(" in str(error).splitlines()[-1]
    assert "in the gradient of shell for its input x" in error.__notes__[0] and "= shell(%0)" in error.__notes__[1]


def test_where_gradients_are_added_up_and_where_values_come_back():
    with np.errstate(all="raise"):
        x = leaf([1.0], name="x")
        y, z = x * 1e200, x * 1.5e200
        error = caught((y * 1e100 + z * 1e100).backward, np.array([1e8]))
        assert isinstance(error, FloatingPointError) and "added up" in str(error) and error.record is x
        assert str(error).splitlines()[-1].startswith("  %0 'x' f64[1] = parameter")
        assert x.grad is None
    y = np.exp(x * 1000.0)
    np.sqrt(y).sum().backward()
    with np.errstate(all="raise"):
        error = caught(lambda: y.data)
        assert isinstance(error, FloatingPointError) and error.record is y and "recomputed" in str(error)
        assert "= exp(%" in str(error).splitlines()[-1]


def test_in_a_recorded_program():
    w = leaf([2.0], name="w")
    program = ag.record(lambda x: np.tanh(np.sqrt(x * w)).sum(), np.array([1.0]))
    with np.errstate(all="raise"):
        error = caught(program, np.array([1e308]))
        assert "in a recorded program (forward)" in str(error) and error.record.op is ag.multiply
        program(np.array([0.0]))
        error = caught(program.backward)
        assert "in the gradient of sqrt for its input x" in str(error) and error.record.op is ag.sqrt
        assert "= sqrt(%" in str(error).splitlines()[-1]


# ---------------------------------------------------------------------- sent to another process


def fail_as(kind):
    """Raise an error of that kind in a backward pass, and add a note after it has been caught once."""
    @ag.op
    def planted(x):
        return x * 2.0

    @planted.gradient("x")
    def _(g, y, x):
        raise KINDS[kind]()

    try:
        planted(leaf(np.ones(2))).sum().backward()
    except Exception as error:
        error.add_note("added later") if kind != "Frozen" else None
        raise


def _same(error, kind):
    again = KINDS[kind]()
    assert type(error) is type(again)
    text = "".join(traceback.format_exception_only(error))
    assert text.count("in the gradient of planted for its input x") == 1 and "= planted(%0)" in text
    if kind in SAYS_ITS_ARGUMENT:
        assert str(error).startswith(str(again)) and str(error).splitlines()[-1].startswith("  %1 f64[2] = planted(%0)")
    elif kind != "Broken":
        assert str(error) == str(again)
    if kind != "Frozen":
        assert error.__notes__[-1] == "added later"
    for name, value in vars(again).items():
        assert name == "__notes__" or getattr(error, name) == value
    assert getattr(error, "errno", None) == getattr(again, "errno", None)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_pickled_without_its_record(kind, new_op):
    error = caught(fail_as, kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for dumps in (pickle.dumps, pickle._dumps):
            again = pickle.loads(dumps(error, protocol))
            _same(again, kind)
            assert not hasattr(again, "record")
    for make in (copy.copy, copy.deepcopy):
        again = make(error)
        _same(again, kind)
        again.__notes__.append("of the copy")
        assert not hasattr(again, "record") and "of the copy" not in error.__notes__
    assert error.record.op.name == "planted"


def test_errors_of_the_engine_are_pickled():
    x = leaf([1.0, 2.0])
    for fail in (lambda: x @ np.ones(3), lambda: (x * 2).grad, lambda: (x * 2).backward(),
                 lambda: ag.tensor(1.0).backward(), lambda: setattr(x, "data", np.ones(3)), lambda: copy.copy(x * 2)):
        error = caught(fail)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)


@pytest.mark.parametrize("pool", ["ProcessPoolExecutor", "Pool"])
def test_errors_come_back_from_other_processes(pool):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) if pool == "ProcessPoolExecutor" else context.Pool(1) as workers:
        for kind in KINDS.keys() - {"Frozen"}:  # which concurrent.futures itself cannot handle
            if pool == "ProcessPoolExecutor":
                error = caught(workers.submit(fail_as, kind).result)
            else:
                error = caught(workers.apply_async(fail_as, (kind,)).get)
            _same(error, kind)
            whole = "".join(traceback.format_exception(error))
            assert "raise KINDS[kind]()" in whole and "= planted(%0)" in whole.split("The above exception")[0]


def test_an_error_keeps_its_tape_alive_no_longer_than_itself():
    def alive_after(kind):
        a = np.ones(3)
        buffer = weakref.ref(a)
        x = ag.tensor([1.0, 2.0, 3.0], requires_grad=True)
        x.use_buffers(a)
        y = np.exp(x)
        rule = ag.exp.rules[0]
        ag.exp.rules[0] = (lambda g, y, x: (_ for _ in ()).throw(KINDS[kind]()), None)
        try:
            y.sum().backward()
        except Exception as error:
            pickle.dumps(error)
        finally:
            ag.exp.rules[0] = rule
        return buffer

    gc.disable()
    try:
        for kind in ("ValueError", "KeyError", "Plain"):
            assert alive_after(kind)() is None
    finally:
        gc.enable()
