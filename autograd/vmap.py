"""vmap: trace a function of one example, and compute each record of its tape for the whole batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from .batching import apply_batched, only
from .core.arrays import private_copy
from .core.errors import point_at
from .core.leaf import now
from .core.mode import EagerExecutor, Mode, current_mode, resampled, within
from .core.recompute import value_of
from .core.registry import REGISTRY
from .core.tree import copy_structure, is_module, tree_leaves, tree_map
from .engine import Tensor, tape, tensor
from .transform import call_function, name_of


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Return a function that maps `f`, a function of one example, over a batch axis of its arguments.

        def loss(w, x, y):
            return np.square(x @ w - y)

        ag.vmap(ag.grad(loss), in_axes=(None, 0, 0))(w, xs, ys)     # a gradient for each example: (n, *w.shape)

    in_axes: the axis to map over, or None for an argument that all examples share: one for all arguments, or a tuple
    with one for each, in which a dict, list, tuple or Module may have a container of axes like it.  Keyword arguments
    are mapped along axis 0.  out_axes: the batch axis of the results, in the same form; None for a result that is the
    same for all examples.  Arrays in, arrays out; Tensors in, Tensors out, which can be differentiated: vmap, grad and
    the other transforms nest in any order.

    `f` runs once, on the first example, and each operation of its tape is then computed for all examples at once.  So
    `f` cannot read values (`if`, `float`, a boolean mask), and draws random numbers with `ag.resampled`, as
    `ag.dropout` does: then each example gets its own.  An op without a batching rule is applied to one example after
    the other, and a warning says so once.  A rule for your own op is one of three words, or a function:

        swish.batching = "elementwise"  # its inputs broadcast
        swish.batching = "leading"      # its first input may have any number of axes before those it works on
        swish.batching = "axis"         # it works on one array, along the axis or axes in its attribute `axis`

    A function is `rule(t, args, mapped)`: the record of one example (t.op, t.attrs, t.shape), the inputs, and for each
    True if it is mapped, that is, has the batch axis in front.  Its result has the batch axis in front.

    Raises ValueError for an argument without the axis to map over, for batches of different sizes and for axes that do
    not have the structure of the arguments or results; TypeError where `f` reads a value.
    """
    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        mode, leaves = current_mode(), tree_leaves([args, kwargs])
        named_axes = _axes_of_arguments(f, in_axes, args, kwargs)
        n, axes = _batch_size(f, named_axes, leaves), [axis for _, axis in named_axes]
        batches = [a if axis is None else _move_axis(a, axis, 0) for a, axis in zip(leaves, axes)]
        examples = [_example(a, axis is not None, mode) for a, axis in zip(batches, axes)]
        values = {t: (a, axis is not None) for t, a, axis in zip(examples, batches, axes) if t is not a}
        start, draws = now(), {}  # type: ignore[var-annotated]
        given = iter(examples)
        shown, named = tree_map(lambda leaf: next(given), [list(args), kwargs])
        with within(tracing="ag.vmap runs a function once for all examples", observer=_draw_observer(draws),
                    executor=EagerExecutor):
            result = copy_structure(call_function(f, shown, named))

        results = tree_leaves(result)
        _evaluate([t for t in results if type(t) is Tensor], start, values, draws, n, mode)
        as_tensors = bool(mode.tracing) or any(type(leaf) is Tensor for leaf in leaves)
        out = iter([_finish(f, *_look_up(t, values), axis, n, as_tensors)
                    for t, (_, axis) in zip(results, _spread(out_axes, result, "the result"))])
        return tree_map(lambda leaf: next(out), result)

    return call


# ---------------------------------------------------------------------- axes


def _spread(axes: Any, tree: Any, where: str) -> list[tuple[str, Any]]:
    """Return the path (for errors) and the axis of each leaf of `tree`."""
    is_one = axes is None or isinstance(axes, (int, np.integer))
    if isinstance(tree, dict) and (is_one or isinstance(axes, dict) and axes.keys() == tree.keys()):
        return [pair for key in tree for pair in _spread(axes if is_one else axes[key], tree[key], f"{where}[{key!r}]")]
    if isinstance(tree, (list, tuple)) and (is_one or isinstance(axes, (list, tuple)) and len(axes) == len(tree)):
        return [pair for i, branch in enumerate(tree)
                for pair in _spread(axes if is_one else axes[i], branch, f"{where}[{i}]")]
    if is_one:
        return [(where, axes)] * len(tree_leaves(tree))
    if is_module(tree) and type(axes) is type(tree) and len(tree_leaves(axes)) == len(tree_leaves(tree)):
        return [(where, axis) for axis in tree_leaves(axes)]
    raise ValueError(f"{where} has no structure like that of its axes {axes!r:.60}: give an axis, None, or a container "
                     "like it with one for each array")


def _axes_of_arguments(f: Callable[..., Any], in_axes: Any, args: tuple, kwargs: dict) -> list[tuple[str, Any]]:
    """Return the path and the axis of each leaf of the arguments."""
    if not isinstance(in_axes, (list, tuple)):
        in_axes = [in_axes] * len(args)
    if len(in_axes) != len(args):
        raise ValueError(f"in_axes has {len(in_axes)} entries, and {name_of(f)} was called with {len(args)} positional "
                         "arguments")
    return [pair for i, (axes, a) in enumerate(zip(in_axes, args)) for pair in _spread(axes, a, f"argument {i}")] + \
        [pair for key, a in kwargs.items() for pair in _spread(0, a, f"argument {key!r}")]


def _batch_size(f: Callable[..., Any], axes: list[tuple[str, Any]], leaves: list[Any]) -> int:
    """Return the number of examples.  Raises ValueError unless all batches have the same."""
    sizes: dict[int, str] = {}
    for leaf, (where, axis) in zip(leaves, axes):
        if axis is not None:
            shape = np.shape(leaf)
            if not -len(shape) <= axis < len(shape):
                raise ValueError(f"vmap of {name_of(f)}: {where} has shape {shape}, and so no axis {axis} to map over: "
                                 "in_axes has None for what all examples share")
            sizes.setdefault(shape[axis], where)
    if not sizes:
        raise ValueError(f"vmap of {name_of(f)}: in_axes names no axis to map over")
    if len(sizes) > 1:
        raise ValueError(f"vmap of {name_of(f)}: batches of different sizes: " + ", ".join(
            f"{n} examples in {where}" for n, where in sizes.items()))
    return next(iter(sizes))


def _move_axis(a: Any, source: int, destination: int) -> Any:
    """Move one axis of `a`; without a record if it is in its place already."""
    return a if source % a.ndim == destination % a.ndim else np.moveaxis(a, source, destination)


# ---------------------------------------------------------------------- one example


def _example(a: Any, is_mapped: bool, mode: Mode) -> Any:
    """Return an argument of f: the first example of a batch (random values for an empty one), or a shared one."""
    if not is_mapped:
        return tensor(a) if isinstance(a, (np.ndarray, np.generic)) else a
    array = value_of(a) if type(a) is Tensor else a
    if not len(array):
        array = np.random.default_rng(0).random((1, *array.shape[1:])).astype(array.dtype)
    t = tensor(array[0])
    t._requires_grad = mode.grad_enabled and type(a) is Tensor and a.requires_grad
    return t


def _draw_observer(draws: dict[Tensor, Callable[[], Any]]) -> Any:
    """Return the observer of the traced example: it enters in `draws` the function that drew a random leaf."""
    def on_draw(draw: Callable[[], Any]) -> Tensor:
        t = tensor(draw())
        draws[t] = draw
        return t

    return SimpleNamespace(on_forward=lambda t: None, on_backward=lambda t, g, sent: None, on_draw=on_draw)


# ---------------------------------------------------------------------- all examples


def _look_up(a: Any, values: dict) -> tuple[Any, bool]:
    """Return the value for all examples of an input or result `a` of one, and True if it has a batch axis in front."""
    return values.get(a, (a, False)) if type(a) is Tensor else (a, False)


def _evaluate(results: list[Tensor], start: int, values: dict[Tensor, tuple[Any, bool]],
              draws: dict[Tensor, Callable[[], Any]], n: int, mode: Mode) -> None:
    """Compute `results` for all examples into `values`, and drop each intermediate value after its last use."""
    records = [t for t in tape(*results, since=start) if t.created > start]
    last = {a: i for i, t in enumerate(records) for a in t.inputs if type(a) is Tensor}
    for t in results:
        last.pop(t, None)
    for i, t in enumerate(records):
        if t in draws:
            values[t] = resampled(_batch_draw(value_of(t), draws[t], n)), True
        elif t.op is None:
            values.setdefault(t, (t if t.requires_grad else t._array, False))
        else:
            inputs = [_look_up(a, values) for a in t.inputs]
            values[t] = y, is_mapped = _compute(t, tuple([a for a, _ in inputs]), [m for _, m in inputs], mode)
            if is_mapped and type(y) is not tuple and y.shape != (n, *t.shape):
                raise point_at(t, ValueError(f"the batching rule of {t.op.name} returned shape {y.shape} for {n} "
                                                f"examples of shape {t.shape}"))
        for a in t.inputs:
            if type(a) is Tensor and last.get(a) == i:
                values.pop(a, None)


def _compute(t: Tensor, args: tuple, mapped: list[bool], mode: Mode) -> tuple[Any, bool]:
    """Return the value of record `t` for all examples, and True if it has a batch axis, False if they share it."""
    if t.op.name == "_item":  # type: ignore[union-attr]
        return args[0][t.attrs["i"]], mapped[0]
    compute = apply_batched if any(mapped) else lambda t, args, mapped: t.op.apply(args, t.attrs)
    if not mode.tracing and not any(type(a) is Tensor for a in args):
        return compute(t, args, mapped), any(mapped)
    with within(grad_enabled=mode.grad_enabled and t.requires_grad, scope=t.scope):
        y = compute(t, args, mapped)
    if type(y) is Tensor:
        y._code, y._offset = t._code, t._offset  # the line of f
    return y, any(mapped)


def _batch_draw(first: Any, draw: Callable[[], Any], n: int) -> Callable[[], Any]:
    """Return a function that draws for each of `n` examples; the draw of the first one has been made."""
    made = [first]
    return lambda: np.stack([made.pop() if made else draw() for _ in range(max(n, 1))])[:n]


def _finish(f: Callable[..., Any], value: Any, is_mapped: bool, axis: Any, n: int, as_tensor: bool) -> Any:
    """Return a result with its batch axis at `axis`."""
    value = value if hasattr(value, "shape") else np.asarray(value)
    if value.dtype.kind not in "fiub":
        raise TypeError(f"{name_of(f)} returned {value!r:.60}: vmap makes batches of arrays and numbers")
    if axis is None and is_mapped:
        raise ValueError(f"vmap of {name_of(f)}: out_axes=None is for results that are the same for all examples")
    if axis is not None:
        value = value if is_mapped else np.broadcast_to(value, (n, *value.shape))
        if not -value.ndim <= axis < value.ndim:
            raise ValueError(f"vmap of {name_of(f)}: out_axes {axis} for a result of shape {value.shape}")
        value = _move_axis(value, 0, axis)
    if as_tensor or type(value) is Tensor and value.requires_grad:
        return value if type(value) is Tensor else tensor(value)
    return private_copy(value_of(value) if type(value) is Tensor else value)


# ---------------------------------------------------------------------- ops that are composed of others


def _by_formula(t: Any, args: tuple, mapped: Any) -> Any:
    """Compute an op whose formula is composed of ops, as `vmap` does any function."""
    return vmap(functools.partial(t.op.formula, **t.attrs), tuple([0 if m else None for m in mapped]))(*args)


for _name in ("linear", "layer_norm", "rms_norm", "rotary"):  # x alone may have further axes
    REGISTRY[_name].batching = only(0, _by_formula)
