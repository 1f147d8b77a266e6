"""Whatever works forward works backward: the arguments of every op in each of the forms that NumPy takes them in."""

import inspect

import numpy as np
import pytest

import autograd as ag
from autograd.core.registry import NUMPY_OVERRIDES
from tests.autograd.ops.test_ops import CONSTANT, OPS, OURS, outputs, seeds, split_attrs
from tests.samples import SAMPLES


def is_float_array(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def changed(form, tree):
    """`form` of everything in nested lists and tuples, outermost first; what it changes is not looked into."""
    new = form(tree)
    return new if new is not tree or not isinstance(tree, (list, tuple)) else type(tree)(changed(form, a) for a in tree)


def form_of(kind, make):
    """`make` of what is of that kind."""
    return lambda a: make(a) if kind(a) else a


def whole_numbers(a):
    return isinstance(a, (list, tuple)) and len(a) > 0 and all(type(i) is int for i in a)


def integer_array(a):
    return isinstance(a, np.ndarray) and a.dtype.kind in "iub"


FORMS = {
    "np.int64 for int": form_of(lambda a: type(a) is int, np.int64),
    "an array of no axes for int": form_of(lambda a: type(a) is int, np.array),
    "np.float64 for float": form_of(lambda a: type(a) is float, np.float64),
    "np.bool for bool": form_of(lambda a: type(a) is bool, np.bool_),
    "lists": form_of(whole_numbers, list),
    "tuples": form_of(whole_numbers, tuple),
    "tuples of np.int64": form_of(whole_numbers, lambda a: tuple(map(np.int64, a))),
    "arrays of places": form_of(whole_numbers, np.array),
    "lists of places": form_of(lambda a: integer_array(a) and a.size > 0, np.ndarray.tolist),
    "Tensors of places": form_of(integer_array, ag.tensor),
}
MEANT = {"getitem": ("lists", "tuples", "tuples of np.int64", "arrays of places"),  # a tuple is one index for each axis
         "rollaxis": ("an array of no axes for int",)}  # NumPy's own counts it up in place


def as_tuple(a):
    return tuple(a.tolist()) if a.ndim else a.item()


GIVEN = {"an array": lambda a: a, "a list": np.ndarray.tolist, "a tuple": as_tuple, "a number": lambda a: a[()]}


def walked(function, args, attrs, given=None, make=None):
    """(values, number of an array -> its gradient), with a leaf for each array but that of the number `given`."""
    leaves = []

    def leaf(a):
        if not is_float_array(a):
            return a
        leaves.append(make(a) if len(leaves) == given else ag.tensor(a, requires_grad=True))
        return leaves[-1]

    ys = outputs(function(*changed(leaf, args), **attrs))
    sum((y * w.astype(y.dtype)).sum() for w, y in zip(seeds(ys), ys)).backward()
    return [y.data for y in ys], {i: x.grad if x.grad is not None else np.zeros(x.shape)
                                  for i, x in enumerate(leaves) if isinstance(x, ag.Tensor)}


def forms(op_name, sample):
    """(what is other, arguments, settings, how `walked` takes them) of a sample written in other ways."""
    args, attrs = split_attrs(sample)
    for name, form in FORMS.items():
        other = changed(form, args), {key: changed(form, a) for key, a in attrs.items()}
        if repr(other) != repr((args, attrs)) and name not in MEANT.get(op_name, ()):
            yield name, *other, {}
    arrays = []
    changed(lambda a: arrays.append(a) if is_float_array(a) else a, args)
    if len(arrays) > 1:
        for i, a in enumerate(arrays):
            for name, make in GIVEN.items():
                if a.size:  # an empty list has one axis
                    yield f"{name} as input {i}", args, attrs, {"given": i, "make": make}


@pytest.mark.slow_but_every(9)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in CONSTANT])
def test_what_works_forward_works_backward(name):
    """Each form is refused by the call itself, or gives the value and the gradients of the plain one."""
    for sample in SAMPLES[name]:
        ys, gradients = walked(OURS[name], *split_attrs(sample))
        for form, args, attrs, how in forms(name, sample):
            try:
                with ag.no_grad():
                    walked_forward(OURS[name], args, attrs, **how)
            except (TypeError, ValueError, IndexError, AttributeError):
                continue
            try:
                found, again = walked(OURS[name], args, attrs, **how)
            except Exception as error:
                error.add_note(f"{name}, {form}: {args}, {attrs}")
                raise
            for y, z in zip(found, ys, strict=True):
                np.testing.assert_allclose(y, z, rtol=1e-12, atol=1e-14, err_msg=form)
            for i, d in again.items():
                np.testing.assert_allclose(d, gradients[i], rtol=1e-10, atol=1e-13, err_msg=form)


def walked_forward(function, args, attrs, given=None, make=None):
    """The call alone."""
    count = iter(range(100))
    function(*changed(lambda a: a if not is_float_array(a) else make(a) if next(count) == given else ag.tensor(a),
                      args), **attrs)


# ---------------------------------------------------------------------- an axis of what has none

MORE = {"split": [1], "array_split": [1], "argpartition": [0], "partition": [0], "take": [0], "repeat": [2],
        "delete": [0], "roll": [1], "take_along_axis": [np.array(0)], "logsumexp": [], "softmax": []}


def numpys(name):
    """NumPy's function that ours implements, or None."""
    known = ag.REGISTRY.get(name) or ag.FUNCTIONS.get(name)
    return next((f for f, answer in NUMPY_OVERRIDES.items() if answer is known or f.__name__ == name), None)


def takes_axis(name):
    function = OPS[name] if name in OPS else OURS[name]
    return "axis" in (function.signature if name in OPS else inspect.signature(function)).parameters


@pytest.mark.slow_but_every(9)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("axis", [0, -1, None, (), 1, (0,), np.int64(0)], ids=repr)
@pytest.mark.parametrize("name", [name for name in OURS if takes_axis(name) and numpys(name)
                                  and name not in ("compress", "take")])  # of which NumPy makes (1, 1) and (1,)
def test_a_number_has_the_axes_that_numpy_says(name, axis):
    """NumPy takes axis 0 of a number for some functions, and refuses it for others: so does the call, or both ways
    are right."""
    if name.startswith("cumulative") and axis == (0,):
        return  # NumPy takes it as 0, and these refuse it

    def f(x):
        given = [[x, x]] if name in ("stack", "concatenate") else [x, *MORE.get(name, [])]
        return outputs(numpys(name)(*given, axis=axis))

    x = ag.tensor(2.5, requires_grad=True)
    try:
        expected = f(np.array(2.5))
    except (TypeError, ValueError, IndexError):
        with pytest.raises((TypeError, ValueError, IndexError)):
            f(x)
        return
    ys = f(x)
    for y, z in zip(ys, expected, strict=True):
        assert y.shape == np.shape(z) and np.array_equal(y.data, z)
    if any(y.requires_grad for y in ys):
        sum(y.sum() for y in ys).backward()
        up, down = (sum(np.sum(y) for y in f(np.array(2.5 + h))) for h in (1e-6, -1e-6))
        assert x.grad.shape == () and abs(x.grad - (up - down) / 2e-6) < 1e-6


# ---------------------------------------------------------------------- found one by one


@pytest.mark.parametrize("f, shape", [
    (lambda x: np.transpose(x, 0), (3,)), (lambda x: x.transpose(0), (3,)),
    (lambda x: np.array_split(x, np.int64(2))[0], (3,)),
    (lambda x: np.concatenate([x, 2.0, (3.0, 4.0)], axis=None), (3,)),
    (lambda x: np.power(x, (2, 3, 4)), (3,)), (lambda x: x @ ((1.0,), (2.0,), (3.0,)), (2, 3)),
    (lambda x: np.tensordot(x, np.ones((3, 2)), np.int64(1)), (2, 3)),
    (lambda x: np.average([1.0, 2.0, 4.0], weights=x), (3,)),
    (lambda x: ag.put(np.ones(3), x, slice(None)), (1, 3)),
    (lambda x: ag.put(np.ones(3), x, slice(1, None)), (1, 1, 1)),
    (lambda x: ag.scatter_add(x, (slice(None),), shape=(3,)), (1, 3)),
    (lambda x: ag.put_along_axis(np.ones((2, 3)), np.array([[0, 1], [2, 0]]), x, 1), (1, 2, 2)),
])
def test_odd_forms_go_back(f, shape):
    ag.check_grads(f, np.linspace(1.0, 2.0, 6).reshape(-1)[:np.prod(shape)].reshape(shape))


def test_a_dtype_goes_through_a_program():
    """A dtype has a `base` that is itself."""
    program = ag.record(lambda x: (x * x).astype(x.dtype), np.ones(2, np.float32))
    np.testing.assert_array_equal(program(np.float32([2, 3])), [4, 9])


@pytest.mark.parametrize("given", [(1.0, 2.0), [1.0, 2.0]])
def test_a_tuple_is_an_array_in_a_program_too(given):
    w = ag.tensor([2.0, 3.0], requires_grad=True)
    program = ag.record(lambda x: np.sum(np.power(w * x, given)), np.ones(2))
    assert program(np.ones(2)) == 11
    program.backward()
    np.testing.assert_array_equal(w.grad, [1, 6])
