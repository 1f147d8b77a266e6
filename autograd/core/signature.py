"""Signatures of ops: inputs, which gradients can flow to, and attributes; and the table of VJP rules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

NO_ATTRS: dict[str, Any] = {}
"""The attributes of a call that passed none; shared, and never written to."""


def is_ufunc(function: Any) -> bool:
    """Return True for a ufunc: NumPy's, or one that another library has compiled."""
    return callable(function) and hasattr(function, "nin") and hasattr(function, "nout")


def signature_of(formula: Any) -> inspect.Signature:
    """Return the signature of a formula, without `out`; the inputs of a ufunc without names are x, or x and y, or x1,
    x2, x3 …"""
    if isinstance(formula, np.ufunc):
        names = {1: ["x"], 2: ["x", "y"]}.get(formula.nin) or [f"x{i + 1}" for i in range(formula.nin)]
        return inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names])
    signature = inspect.signature(formula)
    parameters = [p for p in signature.parameters.values() if p.name != "out"]
    return signature.replace(parameters=parameters[:formula.nin] if is_ufunc(formula) else parameters)


class Signature:
    """The parameters of a formula.  One without a default is an input, and so is one that a VJP rule names; the others
    are attributes.  `*xs` stands for any number of inputs, passed as one list or tuple, or one by one."""

    unpacked: Any = (list, tuple)  # types that are unpacked when passed for `*xs`
    batching: Any = None  # batching rule for `vmap`: the name of a family, or a function
    recompute = False  # True: a captured program recomputes the value in the backward pass, rather than keep it

    def __init__(self, formula: Callable[..., Any]):
        self.name, self.signature = formula.__name__, signature_of(formula)
        parameters = self.signature.parameters.values()
        self.parameters = [p.name for p in parameters]
        self.star = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL), None)
        required = [p for p in parameters if p.default is p.empty]
        if any(p.kind in (p.VAR_KEYWORD, p.KEYWORD_ONLY) for p in required):
            raise TypeError(f"{self.name}: each keyword argument needs a default, and **kwargs has none")
        self.take_inputs(len(required))

    def take_inputs(self, n: int) -> None:
        """Make the first `n` parameters the inputs, and the others attributes."""
        self.n_inputs, self.attr_names = n, frozenset(self.parameters[n:])
        self.arity = n if self.star is None else -1  # number of positional arguments with which a call needs no `bind`

    def positions(self, names: tuple[str, ...]) -> list[int]:
        """Return the indices of the named parameters (`*xs` with its star).  Raises TypeError for an unknown name."""
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"write @{self.name}.gradient(\"{self.parameters[0]}\"), with the names of the inputs")
        parameters = [f"*{p}" if i == self.star else p for i, p in enumerate(self.parameters)]
        if not names or not set(names) <= set(parameters) or len(set(names)) < len(names):
            raise TypeError(f"{self.name} has the inputs {', '.join(parameters)}, not {', '.join(names) or 'none'}")
        return [parameters.index(name) for name in names]

    def check_rule(self, rule: Callable[..., Any], role: str = "gradient rule", before: tuple = ("g", "y")) -> None:
        """Raise TypeError unless a rule takes the parameters `before`, and then those of the formula."""
        given = list(signature_of(rule).parameters.values())[len(before):]
        wanted = self.signature.parameters.values()
        if [(p.name, p.kind, repr(p.default)) for p in given] != [(p.name, p.kind, repr(p.default)) for p in wanted]:
            raise TypeError(f"a {role} of {self.name} takes ({', '.join([*before, str(self.signature)[1:-1]])}), "
                            f"and this one takes {signature_of(rule)}")

    def bind(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Return (inputs, attrs) of a call, whether its arguments were passed by position or by name."""
        if self.star is not None and len(args) > self.star:
            if isinstance(args[self.star], self.unpacked):
                kwargs = dict(zip(self.parameters[self.star + 1:], args[self.star + 1:]), **kwargs)
                args = (*args[:self.star], *args[self.star])
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}{self.signature}: {error}") from None
        attrs = {name: a for name, a in bound.arguments.items() if name in self.attr_names}
        bound.apply_defaults()
        return (args if self.star is not None else bound.args[:self.n_inputs]), attrs

    def __repr__(self) -> str:
        return f"<op {self.name}{self.signature}>"

    def input_name(self, i: int) -> str:
        """Return the name of input `i`: `x`, or `xs[2]`."""
        if self.star is not None and i >= self.star:
            return f"{self.parameters[self.star]}[{i - self.star}]"
        return self.parameters[i]


class Rules(dict):
    """Map from the index of an input to its VJP rule, and the index of its gradient in the rule's results (None: the
    only one)."""

    complete = False  # True once every input has a rule

    def __init__(self, op: Signature):
        self.op = op
        self.shared: dict[Any, tuple[str, ...]] = {}  # rule of several inputs -> their names
        self.surrogates: dict[int, Any] = {}  # index of an input -> the function whose derivative its rule is, or None

    def register(self, positions: list[int], names: tuple[str, ...], surrogate: Any,
                 rule: Callable[..., Any]) -> Callable[..., Any]:
        """Enter the rule of the named inputs, whose indices are `positions`."""
        op = self.op
        op.check_rule(rule)
        if surrogate is not None and surrogate is not True:
            op.check_rule(surrogate, "surrogate", ())
        if len(names) > 1 or positions[0] == op.star:
            self.shared[rule] = names
        for place, i in enumerate(positions):
            self[i] = (rule, place if len(names) > 1 or i == op.star else None)
            self.surrogates[i] = surrogate
        op.take_inputs(max(op.n_inputs, *[i + 1 for i in positions]))
        self.complete = all(i in self for i in range(op.n_inputs))
        return rule

    def split_results(self, results: Any, rule: Callable[..., Any], n_inputs: int) -> Any:
        """Return the results of a rule of several inputs.  Raises TypeError unless it is one gradient for each."""
        names = self.shared.get(rule)
        n = n_inputs - (self.op.star or 0) if names and names[0].startswith("*") else len(names or results)
        if not isinstance(results, (tuple, list)) or len(results) != n:
            found = f"{len(results)} of them" if isinstance(results, (tuple, list)) else f"a {type(results).__name__}"
            raise TypeError(f"the rule of {', '.join(names or ())} returns a tuple with a gradient for each, {n} in "
                            f"all, and this one returned {found}")
        return results

    def check(self, inputs: Iterable[Any]) -> None:
        """Raise TypeError for an input that requires a gradient and has no rule."""
        for i, a in enumerate(inputs):
            if getattr(a, "requires_grad", False) and i not in self:
                raise self._no_rule_error(i)

    def group_by_surrogate(self, places: Iterable[int]) -> dict[Any, list[int]]:
        """Group the inputs at `places` by what their rules differentiate: a surrogate, or the formula (None)."""
        found: dict[Any, list[int]] = {}
        for i in places:
            star = self.op.star
            found.setdefault(self.surrogates.get(i if star is None else min(i, star)), []).append(i)
        return found

    def __contains__(self, i: object) -> bool:
        star = self.op.star
        return super().__contains__(star if star is not None and isinstance(i, int) and i > star else i)

    def __missing__(self, i: int) -> tuple[Callable[..., Any], int]:
        star = self.op.star
        if star is not None and i > star and i in self:
            return self[star][0], i - star
        raise self._no_rule_error(i)

    def _no_rule_error(self, i: int) -> Exception:
        return TypeError(f"{self.op.name} has no gradient rule for its input {self.op.input_name(i)}: write one with "
                         f"@{self.op.name}.gradient(...), or detach() that input")
