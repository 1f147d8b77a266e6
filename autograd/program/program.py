"""`ag.record`: a function captured once as a program, and replayed with no graph and no allocation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.mode import current_mode
from ..core.tree import is_module, tree_leaves
from ..core.views import view
from ..engine import Tape
from .capture import Capture, is_input

if TYPE_CHECKING:
    from ..view.memory.program_memory import ProgramMemory

MOST = 16  # captures that a program keeps, each with an arena of its own


def record(function: Callable[..., Any], *examples: Any) -> Program:
    """Capture `function` as a program, to be replayed on arrays of the shapes of `examples`.

        step = ag.record(model.loss, ids, targets)
        loss = step(ids, targets)       # forward: an array
        step.backward()                 # sets the .grad of the parameters

    It gives the same bits as calling the function and `backward()`, without building a graph and, where all its
    operations have kernels, without allocating memory.  NumPy arrays and scalars among the arguments (also nested in
    lists, tuples and dicts) are inputs; anything else is a constant.  Other shapes, dtypes or constants are captured
    anew.

    Each call recomputes what depends on the inputs and on parameters; arrays and constants from elsewhere (a closure,
    a field of a module) stay as they were.  Reading a value inside the function (`.data`, `if`, `float`) raises
    TypeError: the value would be baked into the program.  `ag.grad` and the other transforms may be called in it; their
    gradients are operations of the program like any other, by the rules of the ops and not by their kernels, whose last
    bits may differ.  Random numbers have to be drawn with `ag.resampled`, as `ag.dropout` does, which draws anew in
    each call.  The function computes in the thread that calls it.  One thread at a time may run a program, and a number
    that changes in every call (a learning rate) is better given as an array.
    """
    if tracing := current_mode().tracing:
        raise TypeError(f"a program cannot be recorded while {tracing}: call the function")
    return Program(function, examples)


class Program:
    """A captured function, as `record` returns it."""

    def __init__(self, function: Callable[..., Any], examples: tuple):
        self.function = function
        self._captures: dict[Any, Capture] = {}  # by _cache_key, the one used last at the end
        self._last: Capture | None = None        # that of the last call
        self._in_use = threading.Lock()
        self._capture(examples)

    def __call__(self, *arguments: Any) -> Any:
        """Return the function's result for these arguments, as new arrays."""
        if tracing := current_mode().tracing:
            raise TypeError(f"a program cannot be called while {tracing}, which would keep its answer for ever: call "
                            "its function")
        with self._locked():
            self._last = None
            self._last = capture = self._capture(arguments)
            return capture.forward(arguments)

    def replay(self, *arrays: Any) -> Any:
        """Call the program again where each microsecond counts: on arrays of the shapes of the last call, and with the
        parameters where they were, which is not checked.  Return the first result in the program's own memory, which
        the next call overwrites."""
        if self._last is None:
            raise RuntimeError("replay repeats a call, and this program has not been called")
        return self._last.replay(arrays)

    def backward(self, gradient: Any = None) -> None:
        """Set `.grad` of each parameter to the gradient of the last call's result, weighted by `gradient` (an array of
        its shape; 1 for a single element).  It runs once after each call, as it reuses the buffers."""
        if self._last is None:
            raise RuntimeError("backward comes after a call, and this program has not been called")
        with self._locked():
            self._last.backward(gradient)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Raise RuntimeError if the program is running in another thread: both would write into its buffers."""
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("this program runs in another thread, and has one set of buffers: record one for each "
                               "thread, or let threads wait for each other with a lock")
        try:
            yield
        finally:
            self._in_use.release()

    @property
    def requires_grad(self) -> bool:
        """True if the last call had one result, which requires a gradient."""
        return self._last is not None and self._last.seed is not None

    @property
    def tape(self) -> Tape:
        """The tape of the last call, to be read, drawn and stepped like any other."""
        if self._last is None:
            raise RuntimeError("the tape is that of a call, and this program has not been called")
        return self._last.current_tape()

    @property
    def n_bytes(self) -> int:
        """The size of the arenas of all captures, in bytes."""
        return sum(capture.plan.n_bytes for capture in self._captures.values())

    def memory(self) -> ProgramMemory:
        """Lay out the memory of the last call (or before the first call, of the last capture): steps, buffers and
        recomputed values.

            m = program.memory()                                      # prints as a table; m.n_bytes is the arena's size
        """
        return view("memory.program_memory").ProgramMemory(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a program works in buffers of its own, and cannot be copied or pickled: record the function "
                        "again")

    def _capture(self, arguments: tuple) -> Capture:
        """Return the capture for arguments like these, a new one if there is none or a parameter's array is another."""
        key = current_mode().grad_enabled, _cache_key(arguments)
        capture = self._captures.pop(key, None)
        if capture is None or not capture.is_current():
            capture = Capture(self.function, arguments)
        self._captures[key] = capture
        if len(self._captures) > MOST:
            del self._captures[next(iter(self._captures))]
        return capture


def _cache_key(tree: Any) -> Any:
    """Return the structure, shapes, dtypes, memory order and constants of arguments: a capture serves for all that have
    the same."""
    if isinstance(tree, dict):
        return dict, tuple([(name, _cache_key(branch)) for name, branch in tree.items()])
    if isinstance(tree, (list, tuple)):
        return type(tree), tuple([_cache_key(branch) for branch in tree])
    if is_input(tree):
        return tree.shape, tree.dtype, np.empty_like(tree).strides, isinstance(tree, np.generic)
    if is_module(tree):
        return _Identity(tree), _cache_key(tree_leaves(tree))
    return (type(tree), repr(tree)) if isinstance(tree, (int, float, str, type(None))) else _Identity(tree)


class _Identity:
    """A key that is equal only for the same object, which it keeps alive."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)
