"""Mutants: every rule, every helper that a rule calls, and what the engine does around a rule, with one fault each."""

import ast
import functools
import inspect
import itertools
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType

import autograd as ag
from autograd import engine
from autograd.core.arrays import unbroadcast, widen
from autograd.core.formula import Formula
from autograd.core.multi_output import OutputGradients
from tests.mutation.faults import faults

# ---------------------------------------------------------------------- functions and their syntax trees


@functools.cache
def _definitions(file):
    """Line -> the functions that begin there."""
    found = {}
    for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            first = min([node.lineno, *[d.lineno for d in getattr(node, "decorator_list", ())]])
            found.setdefault(first, []).append(node)
    return found


def definition_of(function):
    """The syntax tree of a function; among the lambdas of a line, the innermost one around its first instruction."""
    code = function.__code__
    found = [node for node in _definitions(code.co_filename)[code.co_firstlineno]
             if getattr(node, "name", "<lambda>") == code.co_name]
    if code.co_name != "<lambda>":
        return found[0]
    first = min((line, column) for line, _, column, _ in code.co_positions() if column)
    around = [node for node in found if (node.body.lineno, node.body.col_offset) <= first
              < (node.body.end_lineno, node.body.end_col_offset)]
    return max(around, key=lambda node: node.body.col_offset)


def compiled(definition, function):
    """The code of a changed definition of `function`."""
    if isinstance(definition, ast.Lambda):
        statement = ast.Expr(definition)
    else:
        statement = ast.FunctionDef(definition.name, definition.args, definition.body, [])
    names = function.__code__.co_freevars
    if names:
        parameters = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
        statement = ast.FunctionDef("around", parameters, [statement], [])
    code = compile(ast.fix_missing_locations(ast.Module([statement], [])), function.__code__.co_filename, "exec",
                   dont_inherit=True)
    for name in ["around"] * bool(names) + [function.__code__.co_name]:
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return code


def copied(function, code, variables):
    """A function like `function`, with other code and other global variables."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
    new = FunctionType(code, variables, function.__name__, function.__defaults__,
                       tuple(cells[name] for name in code.co_freevars))
    new.__kwdefaults__ = function.__kwdefaults__
    return new


def _names(code):
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return {*code.co_names, *itertools.chain.from_iterable(map(_names, inner))}


@functools.cache
def helpers(function):
    """Name -> function, of the plain functions of autograd.ops that `function` calls (no ops, no composed ones), and
    `widen`."""
    called = {name: function.__globals__.get(name) for name in _names(function.__code__)}
    return {name: f for name, f in sorted(called.items())
            if isinstance(f, FunctionType) and (f.__module__.startswith("autograd.ops.") or f is widen)
            and not hasattr(f, "__wrapped__") and f is not function}


def all_helpers(function):
    found = list(helpers(function).values())
    for f in found:
        found += [helper for helper in helpers(f).values() if helper not in found]
    return found


def replaced(function, target, code):
    """`function` where `target`, which is itself or a helper of it, has `code`; all others keep calling the old one."""
    if function is target:
        return copied(function, code, function.__globals__)
    old = helpers(function)
    new = {name: replaced(f, target, code) for name, f in old.items()}
    if all(new[name] is old[name] for name in old):
        return function
    return copied(function, function.__code__, {**function.__globals__, **new})


# ---------------------------------------------------------------------- mutants


@dataclass(frozen=True)
class Mutant:
    """`function` with one fault; `ops` are to find it (the engine's tests, if there are none)."""

    target: str
    before: str
    after: str
    function: FunctionType
    code: CodeType
    ops: tuple = ()

    def __str__(self):
        return f"{self.target}: {self.before} -> {self.after}"


def mutants_of(target, function, ops=(), n_arrays=None, part=""):
    """Return the mutants of a function, whose first `n_arrays` parameters (None: all) may stand for others by
    mistake."""
    parameters = list(inspect.signature(function).parameters)
    others = {name: [other for other in parameters[:n_arrays] if other != name] for name in parameters}
    definition = definition_of(function)
    within = next(node for node in ast.walk(definition) if ast.unparse(node).startswith(part))
    return [Mutant(target, before, after, function, compiled(definition, function), ops)
            for before, after in faults(definition, within, others)]


def our_ops():
    """The differentiable ops whose rules stand in autograd.ops: those that have public names, and those that only
    rules and formulas call."""
    inner = [op for name, module in sys.modules.items() if name.startswith("autograd.ops.")
             for op in vars(module).values() if isinstance(op, ag.Op)]
    return {name: op for name, op in {**{op.name: op for op in inner}, **ag.REGISTRY}.items()
            if any(rule.__module__.startswith("autograd.ops.") for rule, _ in op.rules.values())}


def mutants(names=()):
    """All mutants, or those of some ops ("engine": of the engine)."""
    unknown = set(names) - {*our_ops(), "engine"}
    if unknown:
        raise ValueError(f"no op with gradient rules is called {', '.join(sorted(unknown))}")
    found, users = [], {}
    for name, op in our_ops().items():
        rules = {}
        for i, (rule, _) in op.rules.items():
            rules.setdefault(rule, []).append(op.parameters[i])
        for rule, inputs in rules.items():
            for helper in all_helpers(rule):
                users.setdefault(helper, []).append(op)
            if not names or name in names:
                found += mutants_of(f"{name}.{','.join(inputs)}", rule, (op,), 2 + op.n_inputs)
    for helper, callers in users.items():
        if not names or any(op.name in names for op in callers):
            found += mutants_of(_label(helper), helper, tuple(dict.fromkeys(callers)))
    for function, part in ENGINE.items() if not names or "engine" in names else ():
        found += mutants_of(_label(function), function, part=part)
    return found


def _label(function):
    return f"{function.__module__.split('.')[-1]}.{function.__qualname__}"


# What the engine does around every rule: functions, and the beginning of the part that counts.
ENGINE = {unbroadcast: "def", Formula.vjp: "for i in needed", engine.reverse: "while queue", engine._add_up: "try",
          OutputGradients.__add__: "def"}


@contextmanager
def put_in(mutant, op=None):
    """The mutant in place: among the rules of `op`, or in the engine."""
    function, code = mutant.function, mutant.function.__code__
    if op is None:
        function.__code__ = mutant.code
    else:
        before, new = dict(op.rules), {}
        for i, (rule, place) in before.items():
            new[rule] = new.get(rule) or replaced(rule, function, mutant.code)
            op.rules[i] = new[rule], place
    try:
        yield
    finally:
        if op is None:
            function.__code__ = code
        else:
            op.rules.update(before)
