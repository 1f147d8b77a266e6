"""One captured program: a function traced for arguments of certain shapes, and replayed in planned memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import changed_error, extend, point_at
from ..core.leaf import now
from ..core.mode import within
from ..core.recompute import free
from ..core.tree import copy_structure, tree_leaves, tree_map
from ..engine import Tape, Tensor, reverse, tape, tensor
from ..transform import call_function
from .memory_plan import plan_memory
from .trace import FORWARD, SUM, Step, Trace
from .tracer import RecordingExecutor, TraceObserver


def is_input(leaf: Any) -> bool:
    """Tell whether a leaf of the arguments is an input of the program, and not a constant."""
    return isinstance(leaf, (np.ndarray, np.generic))


class Capture:
    """A function captured for arguments of certain shapes.  `forward` and `backward` replay its steps; the first
    `n_forward` of them are forward."""

    def __init__(self, function: Callable[..., Any], arguments: tuple):
        trace = Trace()
        observer = TraceObserver(trace)
        with within(observer=observer, executor=RecordingExecutor(trace)):
            self._trace_forward(function, arguments, trace)
            trace.commit_steps(self.roots[-1], FORWARD)  # what ran after the last record
            self.n_forward, self.seed = len(trace.steps), None
            if len(self.roots) == 1 and self.roots[0].requires_grad:
                self._mark_recompute()
                self._trace_backward(trace)
        self.tape = tape(*self.roots)
        self._plan(trace, observer)
        self.refilled = self.inputs + observer.redrawn  # leaves with other numbers in each call
        self.leaves = {t: (t._array, t.requires_grad) for t in self.tape if t.op is None}  # as the steps use them
        self.called, self.may_backward, self.tape_was_read = -1, False, False
        self._release()

    # ------------------------------------------------------------------ capture
    def _trace_forward(self, function: Callable[..., Any], arguments: tuple, trace: Trace) -> None:
        """Call the function on Tensors in place of its arrays."""
        leaves = [leaf for leaf in tree_leaves(list(arguments)) if is_input(leaf)]
        self.inputs = [tensor(leaf) for leaf in leaves]
        trace.numbers.update(id(t._array) for t, leaf in zip(self.inputs, leaves) if isinstance(leaf, np.generic))
        inputs = iter(self.inputs)
        traced = tree_map(lambda leaf: next(inputs) if is_input(leaf) else leaf, list(arguments))
        with within(tracing="a program is being recorded"):
            self.result = copy_structure(call_function(function, traced, {}))
        self.roots = tree_leaves(self.result)
        if not self.roots or not all(type(t) is Tensor for t in self.roots):
            raise TypeError(f"a program is recorded of a function that returns Tensors, not {self.result!r:.60}")

    def _mark_recompute(self) -> None:
        """Free the values that the backward pass is to recompute: it then traces their steps once more."""
        for t in tape(*self.roots):
            if t.op is not None and t.op.recompute and t is not self.roots[0]:
                free(t)

    def _trace_backward(self, trace: Trace) -> None:
        """Run the backward pass of the only root."""
        self.seed = trace.add_constant(np.ones_like(self.roots[0]._array))
        for _ in reverse(self.roots, [self.seed], keep=True):
            pass

    def _plan(self, trace: Trace, observer: TraceObserver) -> None:
        """Plan the memory: a parameter's gradient is computed right where its `.grad` is, if it has one."""
        self.gradients: dict[Tensor, Any] = {}
        self.borrowed: list[Tensor] = []  # parameters whose own `.grad` the steps write into
        fixed: dict[int, Any] = {}
        for t, g in observer.sums.items():
            if type(t) is not Tensor or t.op is not None:
                continue
            if type(t._grad) is np.ndarray:
                self.borrowed.append(t)
            self.gradients[t] = grad = t._grad if type(t._grad) is np.ndarray else np.empty_like(t._array)
            if id(g) in trace.buffers and id(g) not in fixed and g.flags.c_contiguous and grad.flags.c_contiguous:
                fixed[id(g)] = grad
            else:  # a view of another array, or also the gradient of another parameter
                trace.steps.append(Step(np.copyto, (trace.add_constant(grad), g), record=t, purpose=SUM))
        results = [t._array for t in self.roots]
        self.plan = plan_memory(trace.resolved_steps(), trace.buffers, results, fixed)
        self.outputs = [self.plan.relocate(a) for a in results]

    def _release(self) -> None:
        """Free the values that were computed for the trace."""
        for t in {*self.tape, *(t for t, _ in self.plan.origins)}:
            free(t)

    # ------------------------------------------------------------------ replay
    def is_current(self) -> bool:
        """Tell whether the leaves are still in the arrays that the steps use, and require gradients as they did."""
        return all(t._array is array and t.requires_grad is required for t, (array, required) in self.leaves.items())

    def forward(self, arguments: tuple) -> Any:
        """Return the results for other arguments of these shapes."""
        self.may_backward = False
        if self.tape_was_read:  # values that were asked for are those of an earlier call
            for t in self.tape:
                free(t)
            self.tape_was_read = False
        leaves = [leaf for leaf in tree_leaves(list(arguments)) if is_input(leaf)]
        for t, leaf in zip(self.inputs, leaves):
            np.copyto(t._array, leaf)
        for t in self.refilled:
            t.bump_version()
        self._run(0, self.n_forward)
        self.called, self.may_backward = now(), True
        outputs = iter(self.outputs)
        return tree_map(lambda t: next(outputs).copy(), self.result)

    def replay(self, arrays: tuple) -> Any:
        """Run the forward steps on other arrays, and return the first output itself."""
        for t, a in zip(self.inputs, arrays):
            np.copyto(t._array, a)
        self.may_backward = False
        self._run(0, self.n_forward)
        return self.outputs[0]

    def backward(self, gradient: Any) -> None:
        """Write the gradients of the parameters."""
        if self.seed is None:
            raise RuntimeError("there is no backward pass: nothing requires a gradient, or the function returned "
                               "several results")
        if not self.may_backward:
            raise RuntimeError("backward runs once after each call, since it reuses the buffers: call again")
        if np.shape(gradient) != self.seed.shape and (gradient is not None or self.seed.size != 1):
            raise ValueError(f"the result has shape {self.seed.shape}: pass a gradient of that shape")
        for t in self.leaves:
            if t.version > self.called:
                raise changed_error(t, self.roots[0])
        self.may_backward = False
        self.seed[...] = 1 if gradient is None else gradient
        # An array that was a parameter's .grad at the time of the capture, and no longer is, has to keep its numbers.
        kept = {t: self.gradients[t].copy() for t in self.borrowed if t._grad is not self.gradients[t]}
        self._run(self.n_forward, len(self.plan.steps))
        for t, g in self.gradients.items():
            if t._grad is not g:
                t._grad = g.copy()
        for t, before in kept.items():
            self.gradients[t][...] = before

    def _run(self, start: int, stop: int) -> None:
        """Run the steps from number `start` to before `stop`; an error points at the record that its step is for."""
        step = None
        try:
            for step in self.plan.steps[start:stop]:
                procedure, arguments = step
                procedure(*arguments)
        except Exception as error:
            t, purpose = next(origin for origin, s in zip(self.plan.origins, self.plan.steps) if s is step)
            point_at(t, extend(error, f"  in a recorded program ({purpose})"))
            raise

    def current_tape(self) -> Tape:
        """Return the tape of the last call.  Values are recomputed on demand, unless a parameter has changed."""
        self.tape_was_read = True
        if all(t.version <= self.called for t in self.leaves):
            for t in self.tape:
                if t.op is not None and t.created < self.called:
                    t.created = now()
        return self.tape
