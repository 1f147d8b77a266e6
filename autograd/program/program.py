"""A function recorded once and run again: its tape, played on planned buffers with no graph and no allocation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import changed_error, extend, pointing_at
from ..core.mode import current_mode, within
from ..core.tree import copy_structure, is_module, tree_leaves, tree_map
from ..core.views import view
from ..engine import Tape, Tensor, free, now, reverse, tape, tensor
from ..transform import called
from .memory_plan import SUM, Step, planned
from .recorder import Recorder

if TYPE_CHECKING:
    from ..view.memory.program_memory import ProgramMemory

MOST = 16  # recordings that a program keeps, each with an arena of its own


def record(function: Callable[..., Any], *examples: Any) -> Program:
    """The computation of `function`, to be run again and again on arrays of the shapes of `examples`.

        step = ag.record(model.loss, ids, targets)
        loss = step(ids, targets)       # forward: an array
        step.backward()                 # sets the .grad of the parameters

    It gives the same bits as calling the function and `backward()`, without building a graph and, where all its
    operations have kernels, without allocating memory.  Arrays and numbers of NumPy among the arguments (also nested in
    lists, tuples and dicts) are inputs; anything else is a setting.  Other shapes, dtypes or settings record anew.

    What the function computes from its inputs and its parameters is computed again in each call; arrays and settings it
    has from elsewhere (a closure, a field of a module) are as they were.  To look at a number of a tensor inside it
    (`.data`, `if`, `float`) raises TypeError, as the program would keep the answer for ever.  `ag.grad` and the other
    transforms may be called in it: their gradients are operations of the program like any other, by the rules of the
    ops and not by their kernels, whose last bits may differ.  Random numbers have to be drawn with `ag.resampled`, as
    `ag.dropout` does, which draws anew in each call.  The function computes in the thread that calls it.  One thread
    at a time may run a program, and a setting that changes in every call (a learning rate) is better given as an array.
    """
    if tracing := current_mode().tracing:
        raise TypeError(f"a program cannot be recorded while {tracing}: call the function")
    return Program(function, examples)


class Program:
    """What `record` returns.  `tape` is that of its last call, to be read, drawn and stepped like any other."""

    def __init__(self, function: Callable[..., Any], examples: tuple):
        self.function, self._recordings = function, {}  # type: ignore[var-annotated]
        self._last: Recording | None = None
        self._in_use = threading.Lock()
        self._recording(examples)

    def __call__(self, *arguments: Any) -> Any:
        """The function's result for these arguments: arrays, which are the caller's own."""
        if tracing := current_mode().tracing:
            raise TypeError(f"a program cannot be called while {tracing}, which would keep its answer for ever: call "
                            "its function")
        with self._alone():
            self._last = None
            self._last = recording = self._recording(arguments)
            return recording.forward(arguments)

    def backward(self, gradient: Any = None) -> None:
        """Set `.grad` of each parameter to the gradient of the last call's result, weighted by `gradient` (an array of
        its shape; 1 for a single element).  Once after each call, as the buffers are used again."""
        if self._last is None:
            raise RuntimeError("backward comes after a call, and this program has not been called")
        with self._alone():
            self._last.backward(gradient)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Raise RuntimeError if the program runs already, in another thread: both would write into its buffers."""
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("this program runs in another thread, and has one set of buffers: record one for each "
                               "thread, or let threads wait for each other with a lock")
        try:
            yield
        finally:
            self._in_use.release()

    @property
    def can_go_back(self) -> bool:
        """Whether the last call had one result, which requires a gradient."""
        return self._last is not None and self._last.seed is not None

    @property
    def tape(self) -> Tape:
        """The records behind the last call's result."""
        if self._last is None:
            raise RuntimeError("the tape is that of a call, and this program has not been called")
        return self._last.current_tape()

    @property
    def n_bytes(self) -> int:
        """The size of the arenas of all that was recorded, in bytes."""
        return sum(r.plan.n_bytes for r in self._recordings.values())

    def memory(self) -> ProgramMemory:
        """Lay out the memory of the last call (or before the first call, of the last recording): steps, buffers and
        recomputed values.

            m = program.memory()                                      # prints as a table; m.n_bytes is the arena's size
        """
        return view("memory.program_memory").ProgramMemory(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a program works in buffers of its own, and cannot be copied or pickled: record the function "
                        "again")

    def _recording(self, arguments: tuple) -> Recording:
        key = current_mode().grad_enabled, _kind(arguments)
        found = self._recordings.pop(key, None)
        if found is None or not found.is_current():
            found = Recording(self.function, arguments)
        self._recordings[key] = found  # the one used last
        if len(self._recordings) > MOST:
            del self._recordings[next(iter(self._recordings))]
        return found


def _kind(tree: Any) -> Any:
    """What has to be the same for a recording to serve again: structure, shapes, dtypes, memory order, settings."""
    if isinstance(tree, dict):
        return dict, tuple([(name, _kind(branch)) for name, branch in tree.items()])
    if isinstance(tree, (list, tuple)):
        return type(tree), tuple([_kind(branch) for branch in tree])
    if _is_input(tree):
        return tree.shape, tree.dtype, np.empty_like(tree).strides, isinstance(tree, np.generic)
    if is_module(tree):
        return _Same(tree), _kind(tree_leaves(tree))
    return (type(tree), repr(tree)) if isinstance(tree, (int, float, str, type(None))) else _Same(tree)


class _Same:
    """An object in a key, which is equal to itself only, and stays alive with the key."""

    def __init__(self, it: Any):
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)


def _is_input(leaf: Any) -> bool:
    return isinstance(leaf, (np.ndarray, np.generic))


class Recording:
    """A function recorded for arguments of certain shapes."""

    def __init__(self, function: Callable[..., Any], arguments: tuple):
        recorder = Recorder()
        leaves = [leaf for leaf in tree_leaves(list(arguments)) if _is_input(leaf)]
        self.inputs = [tensor(leaf) for leaf in leaves]
        recorder.numbers.update(id(t._array) for t, leaf in zip(self.inputs, leaves) if isinstance(leaf, np.generic))
        given = iter(self.inputs)
        traced = tree_map(lambda leaf: next(given) if _is_input(leaf) else leaf, list(arguments))
        with within(tracing="a program is being recorded", observer=recorder, executor=recorder):
            self.result = copy_structure(called(function, traced, {}))
        self.roots = tree_leaves(self.result)
        if not self.roots or not all(type(t) is Tensor for t in self.roots):
            raise TypeError(f"a program is recorded of a function that returns Tensors, not {self.result!r:.60}")
        self.n_forward, self.seed = len(recorder.steps), None
        if len(self.roots) == 1 and self.roots[0].requires_grad:
            self.seed = recorder.constant(np.ones_like(self.roots[0]._array))
            for t in tape(*self.roots):
                if t.op is not None and t.op.recompute and t is not self.roots[0]:
                    free(t)  # the walk computes it again
            with within(observer=recorder, executor=recorder):
                for _ in reverse(self.roots, [self.seed], keep=True):
                    pass
        self.tape = tape(*self.roots)
        self.changing = self.inputs + recorder.redrawn
        self._plan(recorder, [t._array for t in self.roots])
        self.leaves = {t: (t._array, t.requires_grad) for t in self.tape if t.op is None}
        self.called, self.may_go_back, self.shown = -1, False, False
        for t in {*self.tape, *(t for t, _ in self.plan.turns)}:
            free(t)

    def _plan(self, recorder: Recorder, results: list[Any]) -> None:
        """Lay everything out in memory: each parameter's gradient where its `.grad` is, if it has one."""
        gradients = {t: g for t, g in recorder.sums.items() if type(t) is Tensor and t.op is None}
        self.gradients, self.lent, fixed = {}, [], {}  # type: ignore[var-annotated]
        for t, g in gradients.items():
            lent = type(t._grad) is np.ndarray
            self.lent += [t] * lent
            self.gradients[t] = grad = t._grad if lent else np.empty_like(t._array)
            if id(g) in recorder.buffers and id(g) not in fixed and g.flags.c_contiguous and grad.flags.c_contiguous:
                fixed[id(g)] = grad
            else:  # a part of another array, or what is another parameter's too
                recorder.steps.append(Step(np.copyto, (recorder.constant(grad), g), record=t, purpose=SUM))
        self.plan = planned(recorder.resolved(), recorder.buffers, results, fixed)
        self.outputs = [self.plan.move(a) for a in results]

    def is_current(self) -> bool:
        """Whether the parameters are still where they were, and those that gradients flow to."""
        return all(t._array is buffer and t.requires_grad is flows for t, (buffer, flows) in self.leaves.items())

    def forward(self, arguments: tuple) -> Any:
        """The results for other arguments of these shapes."""
        self.may_go_back = False
        if self.shown:  # values that somebody asked for are those of an earlier call
            for t in self.tape:
                free(t)
            self.shown = False
        leaves = [leaf for leaf in tree_leaves(list(arguments)) if _is_input(leaf)]
        for t, leaf in zip(self.inputs, leaves):
            np.copyto(t._array, leaf)
        for t in self.changing:
            t.bump_version()
        self._run(slice(self.n_forward))
        self.called, self.may_go_back = now(), True
        outputs = iter(self.outputs)
        return tree_map(lambda t: next(outputs).copy(), self.result)

    def backward(self, gradient: Any) -> None:
        """Write the gradients of the parameters."""
        if self.seed is None:
            raise RuntimeError("there is no way back: nothing requires a gradient, or the function returned several "
                               "results")
        if not self.may_go_back:
            raise RuntimeError("backward goes back once after each call, since it uses the buffers again: call again")
        if np.shape(gradient) != self.seed.shape and (gradient is not None or self.seed.size != 1):
            raise ValueError(f"the result has shape {self.seed.shape}: pass a gradient of that shape")
        for t in self.leaves:
            if t.version > self.called:
                raise changed_error(t, self.roots[0])
        self.may_go_back = False
        self.seed[...] = 1 if gradient is None else gradient
        # An array that was somebody's .grad when this was recorded, and is no more, is left as it is.
        kept = {t: self.gradients[t].copy() for t in self.lent if t._grad is not self.gradients[t]}
        self._run(slice(self.n_forward, None))
        for t, g in self.gradients.items():
            if t._grad is not g:
                t._grad = g.copy()
        for t, before in kept.items():
            self.gradients[t][...] = before

    def _run(self, part: slice) -> None:
        """Run a part of the steps; an error points at the record that its step is for."""
        step = None
        try:
            for step in self.plan.steps[part]:
                procedure, given = step
                procedure(*given)
        except Exception as error:
            t, purpose = next(turn for turn, s in zip(self.plan.turns, self.plan.steps) if s is step)
            pointing_at(t, extend(error, f"  in a recorded program ({purpose})"))
            raise

    def current_tape(self) -> Tape:
        """The tape, as if its records had been made in the last call: their values can be asked for as long as no
        parameter has changed since."""
        self.shown = True
        if all(t.version <= self.called for t in self.leaves):
            for t in self.tape:
                if t.op is not None and t.created < self.called:
                    t.created = now()
        return self.tape
