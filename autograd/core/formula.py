"""An op as far as arrays go: its formula, its VJP rules and its kernels.  `engine.Op` adds the record."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import check_operand, check_result, unbroadcast
from .contract import check_kernel_result
from .errors import extend, gradient_line
from .mode import current_mode
from .multi_output import OutputGradients
from .signature import Rules, Signature


class Formula(Signature):
    """A function of arrays, its VJP rules and its kernels.

    `kernels` maps a type of array to a faster pair: an object with `forward(executor, *inputs, **attrs) -> (y, saved)`,
    or None to decline, and `backward(executor, needed, g, y, saved, *inputs, **attrs)` -> the gradients of the inputs
    numbered in `needed`, each of its input's shape and dtype.  Arrays are allocated by the executor, and work is done
    by `executor.run(procedure, *arrays)`; `ag.check_kernel` tries it.
    """

    def __init__(self, formula: Callable[..., Any], differentiable: bool = True):
        super().__init__(formula)
        functools.update_wrapper(self, formula, updated=())  # type: ignore[arg-type]
        self.formula, self.differentiable, self.rules = formula, differentiable, Rules(self)
        self.kernels: dict[type, Any] = {}

    def gradient(self, *names: str, surrogate: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the VJP rule of one input, of several that share their work (it returns a tuple), or of `"*xs"`
        (one gradient per item).

        A rule is a pure function `(g, y, *inputs, **attrs)` of the incoming gradient, the output and the op's own
        arguments.  Written with operators, methods and `np.` functions it can be differentiated again.  It neither sums
        over broadcast axes nor casts: the engine does.  A rule that is meant not to be the derivative has a
        `surrogate`: the function whose derivative it is, or True if there is none.
        """
        if not self.differentiable:
            raise TypeError(f"{self.name} was made with differentiable=False: leave that out to give it a gradient")
        return functools.partial(self.rules.register, self.positions(names), names, surrogate)

    def check_operands(self, values: Sequence[Any]) -> list[Any]:
        """Return the values as the op computes with them.  Raises TypeError for one that would lose something."""
        return [check_operand(v, self.input_name(i)) for i, v in enumerate(values)]

    def compute(self, values: Sequence[Any], attrs: dict) -> tuple[Any, Any]:
        """Run the kernel for arrays of this type, or the formula.  Returns (y, saved), where `saved` is the kernel and
        the values that it saved for its backward, or None."""
        if self.kernels and (kernel := self.kernels.get(type(values[0]))):
            executor = current_mode().executor  # None: formulas alone
            if executor is not None and (made := kernel.forward(executor, *values, **attrs)) is not None:
                y, saved = check_kernel_result(self.name, made)
                return y, (kernel, saved)
        y = self.formula(*values, **attrs) if attrs else self.formula(*values)
        return y if type(y) is np.ndarray else check_result(y), None

    def vjp(self, needed: list[int], inputs: Sequence[Any], values: Sequence[Any], arguments: tuple,
            attrs: dict) -> list[tuple[Any, Any]]:
        """Apply the VJP rules to `arguments`, which are (g, y, *inputs).  Returns (input, gradient) for each of the
        `inputs` numbered in `needed`, in the shape and dtype of its entry of `values`."""
        sent, shared = [], None  # shared: the rule of several inputs that has run last
        for i in needed:
            rule, index = self.rules[i]
            try:
                if index is None:
                    d = rule(*arguments, **attrs) if attrs else rule(*arguments)
                else:
                    if rule is not shared:
                        shared, results = rule, self.rules.split_results(rule(*arguments, **attrs), rule, len(values))
                    d = results[index]
                x = values[i]
                if type(d) is not np.ndarray or d.shape != x.shape or d.dtype is not x.dtype:
                    d = unbroadcast(d, x) if type(d) is not OutputGradients else d
            except Exception as error:
                extend(error, gradient_line(self, [i]))
                raise
            sent.append((inputs[i], d))
        return sent
