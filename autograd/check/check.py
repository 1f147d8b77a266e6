"""Gradients against finite differences: `check_grads` of a function, `check_op` of an op."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from ..core.arrays import as_input, constant, has_floats, parts_of
from ..core.describe import describe
from ..core.errors import pointing_at
from ..core.mode import no_grad
from ..engine import Op, Tensor, tape, tensor
from ..transform import is_module, tree_leaves, tree_map, vjp
from ..vmap import vmap
from .diagnosis import Case, broadcasts
from .finite_differences import differences
from .purity import check_pure, moved

_RELATIVE = 1e-6  # difference that passes, relative to the derivative, besides what its measurement is uncertain of


def check_grads(f: Callable[..., Any], *xs: Any, order: int = 2, seed: int = 0) -> None:
    """Compare the gradients of `f` at arrays `xs` with finite differences, in float64, and then the gradients of
    those gradients, up to `order`.

    `f` returns an array or a tree of them, of any shapes; what is differentiated is the sum of all their elements
    with random weights.  The steps of the differences are found for each element by trying.  A derivative passes
    if it differs by no more than 1e-6 of itself and what the differences are measured to be uncertain of.  Of an
    input with more than 64 elements, 64 are tried.

    Raises AssertionError with the input, the worst element, both values and a likely cause; ValueError with the
    input, the element and its value where the differences tell nothing: `f` has a kink or a jump there, is not
    finite, goes through an op whose rule is meant not to be the derivative (`surrogate=`), or rounding hides the
    derivative (it is not known to 5e-5 of the largest in that array).  Where all derivatives in an array are 0 up to
    what rounding leaves, they are compared with 0.
    """
    if not xs:
        raise ValueError("nothing to check: pass the arrays at which f is to be differentiated")
    for i, x in enumerate(xs):
        if isinstance(x, dict) or is_module(x):
            raise TypeError(f"argument {i} is a {type(x).__name__}, and check_grads takes arrays: of p = {{'w': w}} "
                            "write check_grads(lambda w: f({'w': w}), w)")
    values = [np.array(x._value() if isinstance(x, Tensor) else x, dtype=np.float64) for x in xs]
    results = tree_leaves(f(*[tensor(x, requires_grad=True) for x in values]))
    for t in tape(*[y for y in results if isinstance(y, Tensor)]):
        _refuse_surrogates(t)
    _check(f, values, [f"argument {i}" for i in range(len(xs))], order, np.random.default_rng(seed), "")


def check_op(op: Op, samples: Iterable[Sequence[Any]], order: int = 2, seed: int = 0) -> None:
    """Check every gradient rule of `op` on `samples`: tuples of arguments, whose last may be a dict of settings.
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
    op = _variant(op, kernels={})  # the rules are what is checked; kernels are compared with them
    checked = False
    for sample in samples:
        checked |= _check_sample(op, *bind_sample(op, sample), order, np.random.default_rng(seed))
    if not checked:
        raise ValueError(f"nothing was checked: give check_op samples of {op.name} with floating-point arrays in them")


def _refuse_surrogates(t: Tensor) -> None:
    """Raise ValueError if the record `t` sends a gradient that is meant not to be the derivative."""
    op, places = t.op, [i for i, a in enumerate(t.inputs) if isinstance(a, Tensor) and a.requires_grad]
    for surrogate, (i, *_) in op.rules.by_surrogate(places).items() if op is not None else ():
        if surrogate is not None:
            raise pointing_at(t, ValueError(
                f"nothing to compare with: the gradient of {op.name} for its input {op.input_name(i)} is intended not "
                "to be the derivative (surrogate=): check_op checks that op, and check_grads what stands around it"))


def bind_sample(op: Op, sample: Sequence[Any]) -> tuple[tuple, dict]:
    """The inputs and the settings of an op in a tuple of arguments, whose last may be a dict of settings."""
    if not isinstance(sample, (tuple, list)):
        raise TypeError(f"samples are a list of tuples of arguments, such as [(x,)], and not of {sample!r:.40}")
    args, attrs = (sample[:-1], sample[-1]) if sample and isinstance(sample[-1], dict) else (sample, {})
    inputs, attrs = op.bind(tuple(args), attrs)
    return (tuple([np.asarray(a) if isinstance(a, np.generic) else a for a in inputs]),
            {name: constant(a, name) for name, a in attrs.items()})


def draw_gradient(y: Any, rng: np.random.Generator) -> Any:
    """A gradient for the result `y` of an op: random numbers, and zeros for integers."""
    return tree_map(lambda a: rng.normal(size=a.shape).astype(a.dtype) if has_floats(a) else np.zeros_like(a), y)


def _check_sample(op: Op, inputs: tuple, attrs: dict, order: int, rng: np.random.Generator) -> bool:
    """Whether there was something to check."""
    names = [op.input_name(i) for i in range(len(inputs))]
    floats = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    y = check_pure(lambda *given, **attrs: op.apply(given, attrs), op.name,
                   {f"its input {name}": a for name, a in zip(names, inputs)}, attrs, lambda: moved(inputs))
    if not op.differentiable:
        return True
    _check_dtypes(op, [inputs[i].dtype for i in floats], y)
    for i in floats:
        if i not in op.rules:
            raise AssertionError(f"{op.name} has no gradient rule for its input {names[i]}")
    _check_rules(op, inputs, attrs, floats, y, rng.spawn(1)[0])
    _check_batching(op, inputs, attrs, floats)
    for surrogate, places in op.rules.by_surrogate(floats).items():
        _check_gradients(op, inputs, attrs, places, surrogate, order, rng)
    return bool(floats)


def _check_dtypes(op: Op, given: list[Any], y: Any) -> None:
    """Raise AssertionError unless some results are floats, and these no larger than the given ones."""
    made = [leaf.dtype for leaf in tree_leaves(y)]
    if given and not has_floats(y):
        raise AssertionError(f"{op.name} makes {made[0]} of {given[0]}, and no gradient flows through that: return "
                             "floating-point numbers (np.round(x), say), or make it with differentiable=False")
    for dtype in made:
        if dtype.kind == "f" and dtype != np.float32 and given and all(d == np.float32 for d in given):
            raise AssertionError(f"{op.name} makes {dtype} of float32")


def _check_rules(op: Op, inputs: tuple, attrs: dict, places: list[int], y: Any, rng: np.random.Generator) -> None:
    """Raise AssertionError for a rule that is not pure."""
    def others() -> list[Any]:
        inputs_there = moved(inputs)
        y_there = op.apply(tuple(inputs_there), attrs)
        return [draw_gradient(y_there, rng), y_there, *inputs_there]

    for rule in dict.fromkeys(op.rules[i][0] for i in places):
        served = ", ".join(op.input_name(i) for i in places if op.rules[i][0] is rule)
        given = {"g": draw_gradient(y, rng), "the output": y, **{op.input_name(i): a for i, a in enumerate(inputs)}}
        check_pure(rule, f"the gradient rule of {op.name} for {served}", given, attrs, others)


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
    xs = [inputs[i].astype(np.float64) for i in places]

    def given(xs: Any) -> tuple:
        there = dict(zip(places, xs))
        return tuple([there.get(i, a) for i, a in enumerate(inputs)])

    what = op.name if surrogate is None or surrogate is True else f"{op.name} against its surrogate"
    if surrogate is not None:
        op = surrogate_op(op, surrogate, given(xs), attrs)

    def substitutes(k: int, g: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """What the rule of input places[k] returns if it is given one of its arguments in place of another."""
        arguments, called = [g, y, *inputs], ["g", "the output", *map(op.input_name, range(len(inputs)))]
        rule, place = op.rules[places[k]]
        if isinstance(y, tuple):
            return
        for p, q in permutations([0, 1, *[2 + j for j in places]], 2):
            if arguments[p].shape == arguments[q].shape:
                d = rule(*arguments[:p], arguments[q], *arguments[p + 1:], **attrs)
                yield f"{called[p]} where {called[q]} belongs", as_input(d if place is None else d[place], xs[k])

    _check(lambda *xs: op.apply(given(xs), attrs), xs, [op.input_name(i) for i in places], order, rng, what,
           substitutes, compares=surrogate is not True)


def _variant(op: Op, **changes: Any) -> Op:
    """Another op with the fields of `op` but those that change; `copy` gives the same one, as of functions."""
    made = object.__new__(Op)
    vars(made).update(vars(op), **changes)
    return made


def surrogate_op(op: Op, surrogate: Callable[..., Any], inputs: tuple, attrs: dict) -> Op:
    """`op` with `surrogate` for its formula (True: with that itself), whose rules get what the formula makes of these
    inputs, whatever it is differentiated by.  Raises ValueError if the surrogate makes another shape."""
    surrogate = op.formula if surrogate is True else surrogate
    y, stand_in = op.apply(inputs, attrs), surrogate(*inputs, **attrs)
    if [a.shape for a in parts_of(y)] != [np.shape(a) for a in parts_of(stand_in)]:
        raise ValueError(f"the surrogate of {op.name} returned {describe(stand_in)}, and its formula {describe(y)}: "
                         "they need the same shape")
    made = _variant(op, formula=surrogate, kernels={})
    made.vjp = lambda needed, inputs, values, arguments, attrs: op.vjp(  # type: ignore[method-assign]
        needed, inputs, values, (arguments[0], y, *arguments[2:]), attrs)
    return made


def _check(f: Callable[..., Any], xs: list[np.ndarray], names: list[str], order: int, rng: np.random.Generator,
           what: str, substitutes: Callable[..., Iterable[tuple[str, Any]]] = lambda *_: (),
           compares: bool = True) -> None:
    """Compare the gradient of f's results, weighted at random (unless not `compares`); then that of this gradient, as a
    function of the weights and of `xs`."""
    if not xs:
        return

    def flat(*xs: Any) -> tuple[Any, ...]:
        return tuple([leaf for leaf in tree_leaves(f(*xs)) if has_floats(leaf)])

    y, pullback = vjp(flat, *xs)
    if not y:
        raise ValueError(f"nothing to check: {what or 'f'} returned no array of floating-point numbers")
    weights = [rng.normal(size=leaf.shape) for leaf in y]

    def weighted(*xs: Any) -> np.ndarray:
        with no_grad(), np.errstate(all="ignore"):  # on Tensors too, so that f does the same as when it is recorded
            return np.concatenate([(), *[np.ravel(w * t.data) for w, t in zip(weights, flat(*map(tensor, xs)))]])

    prefix = f"{what}: " if what else ""
    analytic = _pulled(pullback, weights, xs, prefix)
    if compares:
        numeric, errors = zip(*[differences(weighted, xs, i, name, rng) for i, name in enumerate(names)])
        for i, name in enumerate(names):
            case = Case(weighted, xs, names, y, weights, analytic, numeric, i, substitutes)
            _compare(case, errors[i], f"{prefix}gradient of {name}")
    if order > 1:
        n = len(weights)
        _check(lambda *all_xs: vjp(flat, *all_xs[n:])[1](all_xs[:n]), weights + xs,
               ["g" if n == 1 else f"g[{i}]" for i in range(n)] + names, order - 1, rng, f"{prefix}in the gradient")


def _pulled(pullback: Callable[..., Any], weights: list[np.ndarray], xs: list[np.ndarray], prefix: str) -> list[Any]:
    """The gradients from the rules.  A rule that writes into g, or returns a shape that no sum over broadcast axes
    makes the input's, is an AssertionError."""
    try:
        return [np.asarray(d) for d in pullback(tuple(weights))]
    except ValueError as error:
        if "read-only" in str(error):
            raise AssertionError(f"{prefix or 'f: '}a gradient rule changes g in place: work on a copy") from error
        text = str(error).partition("\n")[0]
        shapes = re.fullmatch(r"a gradient rule returned shape \((.*)\) for an input of shape \((.*)\)", text)
        if not shapes:
            raise
        got, wanted = [tuple(map(int, re.findall(r"\d+", shape))) for shape in shapes.groups()]
        causes = ["is it transposed?"] if got in (wanted[::-1], wanted[:-2] + wanted[:-3:-1]) else []
        if got in [x.shape for x in xs] and not broadcasts(got, wanted):
            causes.append("is it the gradient of another input, and are two rules swapped?")
        cause = " Or ".join(causes) or "is it summed over an axis that is not broadcast, or not brought back?"
        raise AssertionError(f"{prefix}{text}, which cannot be restored: {cause}") from error


def _compare(case: Case, errors: np.ndarray, what: str) -> None:
    """Raise if a gradient differs from the differences where these were tried."""
    a, n = case.analytic[case.i], case.numeric[case.i]
    allowed = _RELATIVE * abs(n) + errors
    if np.all((abs(a - n) <= allowed) | np.isnan(n)):
        return
    with np.errstate(all="ignore"):
        excess = np.where(np.isnan(n), 0, np.where(np.isfinite(a), abs(a - n) / allowed, np.inf))
    worst = tuple(map(int, np.unravel_index(int(np.argmax(excess)), excess.shape)))
    raise AssertionError(f"{what} is wrong: at index {worst} it is {a[worst]:.8g}, and finite differences give "
                         f"{n[worst]:.8g}.  {case.cause()}")
