"""`check_op`: the formula, the gradient rules and the batching rule of an op."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from ..core.arrays import freeze_attr, has_floats, unbroadcast
from ..core.tree import tree_leaves, tree_map
from ..engine import Op
from ..vmap import vmap
from .check_gradients import check_orders
from .comparison import OpFunction, variant_of
from .purity import check_pure, perturb


def check_op(op: Op, samples: Iterable[Sequence[Any]], order: int = 2, seed: int = 0) -> None:
    """Check every gradient rule of `op` on `samples`: tuples of arguments, whose last may be a dict of attributes.
    Floating-point arrays in them, of any shapes, are differentiated; everything else stays as given.

        ag.check_op(ag.softmax, [(np.array([1.0, 2.0]),), (np.ones((2, 3)), {"axis": 0})])

    Tolerances are those of `check_grads`.  A rule that is registered with a `surrogate` is compared with differences of
    that, and with none if it is True.  Raises AssertionError for a wrong rule (as `check_grads` does, with the input's
    name), for a missing one, for a formula that makes another dtype of float32, for a wrong batching rule
    (help(ag.vmap)), and for a formula or rule that is not pure: that changes what it is given, returns memory that it
    returns again, or gives something else in another call.  Raises ValueError as `check_grads`, and if there was
    nothing to check.
    """
    if not isinstance(op, Op):
        raise TypeError(f"check_op checks ops, and {getattr(op, '__name__', op)!r} is none: use check_grads")
    op = variant_of(op, kernels={})  # the rules are checked here; check_kernel compares kernels with them
    checked = False
    for sample in samples:
        checked |= _check_sample(op, *bind_sample(op, sample), order, np.random.default_rng(seed))
    if not checked:
        raise ValueError(f"nothing was checked: give check_op samples of {op.name} with floating-point arrays in them")


def bind_sample(op: Op, sample: Sequence[Any]) -> tuple[tuple, dict]:
    """Return the inputs and the attributes of `op` in a tuple of arguments, whose last may be a dict of attributes."""
    if not isinstance(sample, (tuple, list)):
        raise TypeError(f"samples are a list of tuples of arguments, such as [(x,)], and not of {sample!r:.40}")
    args, attrs = (sample[:-1], sample[-1]) if sample and isinstance(sample[-1], dict) else (sample, {})
    inputs, attrs = op.bind(tuple(args), attrs)
    return (tuple([np.asarray(a) if isinstance(a, np.generic) else a for a in inputs]),
            {name: freeze_attr(a, name) for name, a in attrs.items()})


def draw_gradient(y: Any, rng: np.random.Generator) -> Any:
    """Return a gradient for the result `y` of an op: random numbers, and zeros for integers."""
    return tree_map(lambda a: rng.normal(size=a.shape).astype(a.dtype) if has_floats(a) else np.zeros_like(a), y)


def _check_sample(op: Op, inputs: tuple, attrs: dict, order: int, rng: np.random.Generator) -> bool:
    """Check `op` on one sample; return whether there was something to check."""
    y = _check_formula(op, inputs, attrs)
    if not op.differentiable:
        return True
    floats = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    _check_dtypes(op, [inputs[i].dtype for i in floats], y)
    _check_rules_exist(op, floats)
    _check_rules_are_pure(op, inputs, attrs, floats, y, rng.spawn(1)[0])
    _check_batching(op, inputs, attrs, floats)
    for surrogate, places in op.rules.group_by_surrogate(floats).items():
        _check_gradients(op, inputs, attrs, places, surrogate, order, rng)
    return bool(floats)


def _check_formula(op: Op, inputs: tuple, attrs: dict) -> Any:
    """Raise AssertionError unless the formula is pure; return its result."""
    arguments = {f"its input {op.input_name(i)}": a for i, a in enumerate(inputs)}
    return check_pure(lambda *inputs, **attrs: op.apply(inputs, attrs), op.name, arguments, attrs,
                      lambda: perturb(inputs))


def _check_dtypes(op: Op, given: list[Any], y: Any) -> None:
    """Raise AssertionError unless some results are floats, and these no larger than the given ones."""
    made = [leaf.dtype for leaf in tree_leaves(y)]
    if given and not has_floats(y):
        raise AssertionError(f"{op.name} makes {made[0]} of {given[0]}, and no gradient flows through that: return "
                             "floating-point numbers (np.round(x), say), or make it with differentiable=False")
    for dtype in made:
        if dtype.kind == "f" and dtype != np.float32 and given and all(d == np.float32 for d in given):
            raise AssertionError(f"{op.name} makes {dtype} of float32")


def _check_rules_exist(op: Op, places: list[int]) -> None:
    for i in places:
        if i not in op.rules:
            raise AssertionError(f"{op.name} has no gradient rule for its input {op.input_name(i)}")


def _check_rules_are_pure(op: Op, inputs: tuple, attrs: dict, places: list[int], y: Any,
                          rng: np.random.Generator) -> None:
    """Raise AssertionError for a rule that is not pure."""
    def perturbed() -> list[Any]:
        others = perturb(inputs)
        other_y = op.apply(tuple(others), attrs)
        return [draw_gradient(other_y, rng), other_y, *others]

    for rule in dict.fromkeys(op.rules[i][0] for i in places):
        names = ", ".join(op.input_name(i) for i in places if op.rules[i][0] is rule)
        given = {"g": draw_gradient(y, rng), "the output": y, **{op.input_name(i): a for i, a in enumerate(inputs)}}
        check_pure(rule, f"the gradient rule of {op.name} for {names}", given, attrs, perturbed)


def _check_batching(op: Op, inputs: tuple, attrs: dict, places: list[int]) -> None:
    """Raise AssertionError for a batching rule whose results are not those of one example after the other."""
    if op.batching is None or not places:
        return
    examples = [tuple([a * scale if i in places else a for i, a in enumerate(inputs)]) for scale in (1, 0.9)]
    batch = [np.stack(pair) if i in places else pair[0] for i, pair in enumerate(zip(*examples))]
    axes = tuple([0 if i in places else None for i in range(len(inputs))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rule may leave some arguments to a loop
        together = tree_leaves(vmap(lambda *xs: op.apply(xs, attrs), axes)(*batch))
    for got, *alone in zip(together, *[tree_leaves(op.apply(xs, attrs)) for xs in examples]):
        if not np.allclose(got, np.stack(alone), rtol=1e-5, equal_nan=True):
            raise AssertionError(f"{op.name}.batching = {op.batching!r} makes something else of two examples together "
                                 "than the formula makes of each")


def _check_gradients(op: Op, inputs: tuple, attrs: dict, places: list[int], surrogate: Any, order: int,
                     rng: np.random.Generator) -> None:
    """Compare the gradients of the inputs at `places` with differences of the formula, or of its surrogate."""
    function = OpFunction(op, inputs, attrs, places, surrogate)
    against = "" if surrogate is None or surrogate is True else " against its surrogate"
    check_orders(function.apply, function.xs, function.names, order, rng, f"{op.name}{against}",
                 functools.partial(_swap_arguments, function), measures=surrogate is not True)


def _swap_arguments(function: OpFunction, k: int, g: Any, y: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the results of the rule of input places[k] with one of its arguments in place of another, and in words
    which one in place of which."""
    op, places = function.op, function.places
    arguments = [g, y, *function.inputs]
    names = ["g", "the output", *map(op.input_name, range(len(function.inputs)))]
    rule, result = op.rules[places[k]]
    if isinstance(y, tuple):
        return
    for p, q in permutations([0, 1, *[2 + j for j in places]], 2):
        if arguments[p].shape == arguments[q].shape:
            d = rule(*arguments[:p], arguments[q], *arguments[p + 1:], **function.attrs)
            d = d if result is None else d[result]
            yield f"{names[p]} where {names[q]} belongs", unbroadcast(d, function.xs[k])
