"""Calls of formulas and VJP rules, written in place or as functions specialised to shapes, dtypes and attributes."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine import Op
from .expressions import OF_STRUCTURE, Value, Verbatim
from .interpret import Body, docstring_of
from .library import Library, is_numpys_own
from .source import (
    call,
    copy_tree,
    function_tree,
    is_plain,
    literal,
    name,
    names_in,
    substitute,
    text_of,
)

SHORT = 60
"""Longest expression that is written in the place of a call."""
FEW = {"formula": 1, "rule": 4, "helper": 1}
"""Most calls and operators in it."""


def as_line(library: Library, function: Any, names: tuple[str, ...], arguments: Sequence[Value],
            attrs: dict[str, Value], role: str) -> Value:
    """Return the call of a "formula" or "rule" as an expression of its arguments: written in place if it is short, else
    the call of a function that is called by the first of `names` that is free."""
    return _Caller(library).call(function, list(arguments), attrs, names, role)


signature = functools.lru_cache(4096)(inspect.signature)


class _Caller:
    """Writes calls."""

    def __init__(self, library: Library):
        self.library = library

    def call(self, function: Any, arguments: list[Value], keywords: dict[str, Value],
             names: tuple[str, ...] = (), role: str = "helper") -> Value:
        """Return a call as an expression: the function's own, if that is short, or the name of a function with it."""
        if isinstance(function, Op):
            arguments = _unpacked(function, arguments)
            function = function.formula
        function = inspect.unwrap(function) if inspect.isfunction(function) else function
        if is_numpys_own(function):
            return self.plain_call(self.library.reference(function, getattr(function, "__name__", "")), function,
                                    arguments, keywords)
        try:
            return self._specialised(function, arguments, keywords, names, role)
        except Verbatim:
            return self.plain_call(self.library.reference(function, function.__name__), function, arguments, keywords)

    def plain_call(self, node: ast.expr, function: Any, arguments: list[Value], keywords: dict[str, Value]) -> Value:
        made = call(node, *[a.node for a in arguments])
        made.keywords = [ast.keyword(key, a.node) for key, a in keywords.items()]
        every = [*arguments, *keywords.values()]
        values: list[Any] = []
        for a in arguments:
            values += a.value if isinstance(a.node, ast.Starred) else [a.value]
        value = function(*values, **{key: a.value for key, a in keywords.items()})
        static = all(a.static for a in every) or function in OF_STRUCTURE if _is_hashable(function) else False
        return Value(made, value, static)

    def _specialised(self, function: Callable[..., Any], arguments: list[Value], keywords: dict[str, Value],
                     names: tuple[str, ...], role: str) -> Value:
        if any(isinstance(a.node, ast.Starred) for a in arguments):
            raise Verbatim
        bound = signature(function).bind(*arguments, **keywords)
        given = dict(bound.arguments)
        bound.apply_defaults()
        env, star = {}, None
        for key, a in bound.arguments.items():
            kind = signature(function).parameters[key].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                star = key
                env[key] = Value(name(key), tuple(each.value for each in a), all(each.static for each in a))
                given[key] = a
            elif kind is inspect.Parameter.VAR_KEYWORD:
                raise Verbatim
            else:
                a = a if isinstance(a, Value) else Value(literal(a), a, True)
                env[key] = Value(name(key), a.value, a.static)
        body = Body(self, function, env)
        result = body.run()
        if result is not None and not body.returned:
            result = _without_last_step(body.statements, result)
            _drop_unused(body.statements, result.node)
        if result is None:
            return Value(ast.Constant(None), None, True)
        if result.static and is_plain(result.value):
            return Value(literal(result.value), result.value, True)
        if isinstance(result.value, (np.ndarray, np.generic)) and not body.numbers_decide:
            for a in [*arguments, *keywords.values()]:
                if a.value is result.value:
                    return a
        if not body.statements:
            short = self._in_place(result, bound.arguments, star, FEW[role])
            if short is not None:
                return short
        return self._as_function(function, body, result, bound, given, star, names)

    def _in_place(self, result: Value, arguments: dict[str, Any], star: str | None, few: int) -> Value | None:
        """Return the result as an expression of the arguments; None if that is long or computes something twice."""
        nodes = {}
        for key, a in arguments.items():
            nodes[key] = (ast.Tuple([each.node for each in a], ast.Load()) if key == star else
                          a.node if isinstance(a, Value) else literal(a))
        used = names_in(result.node)
        for key, node in nodes.items():
            if used.count(key) > 1 and not _is_simple(node):
                return None
        made = substitute(result.node, nodes)
        parts = made.elts if isinstance(made, (ast.Tuple, ast.List)) else [made]
        if max(map(_count_steps, [result.node] if few == 1 else parts), default=0) > few:
            return None
        if max((len(re.sub(r"__r\d+i\d+", "", text_of(part))) for part in parts), default=0) > SHORT:
            return None
        return Value(_flattened(made), result.value, result.static)

    def _as_function(self, function: Callable[..., Any], body: Body, result: Value, bound: inspect.BoundArguments,
                     given: dict[str, Any], star: str | None, names: tuple[str, ...]) -> Value:
        """Add the specialised function to the library, and return the call of it."""
        tree = copy_tree(function_tree(function))
        used = {*names_in(body.statements), *names_in(result.node)}
        made = call("f")
        parameters, spec = [], tree.args
        defaults = dict(zip([a.arg for a in (spec.posonlyargs + spec.args)][::-1], spec.defaults[::-1]))
        defaults |= {a.arg: d for a, d in zip(spec.kwonlyargs, spec.kw_defaults) if d is not None}
        parameter = signature(function).parameters
        after_star = False
        for key in parameter:
            if key not in used:
                continue
            a = bound.arguments[key]
            if key == star:
                parameters.append(f"*{key}")
                made.args += [each.node for each in a]
                after_star = True
            elif key in defaults and (key not in given or _is_default(a, parameter[key].default)):
                parameters.append(f"{key}={text_of(literal(parameter[key].default))}")
            elif key in defaults or after_star:
                parameters.append(f"{key}={text_of(literal(parameter[key].default))}" if key in defaults else key)
                made.keywords.append(ast.keyword(key, a.node))
            else:
                parameters.append(key)
                made.args.append(a.node)
        head = ast.parse(f"def f({', '.join(_in_order(parameters))}): pass").body[0]
        assert isinstance(head, ast.FunctionDef)
        left = [s for s in body.statements if not isinstance(s, ast.Pass)]
        head.body = [*docstring_of(tree), *left, *([] if body.returned else [ast.Return(result.node)])]
        wanted = names or (self.library.function_name(function),)
        made.func = name(self.library.add(wanted, head))
        return Value(made, result.value, result.static)


def _is_default(a: Value, default: Any) -> bool:
    return a.static and is_plain(a.value) and type(a.value) is type(default) and a.value == default


def _without_last_step(statements: list[ast.stmt], result: Value) -> Value:
    """Return the result with the expression of its last assignment in its place: `d = …; return d`."""
    last = statements[-1] if statements else None
    if isinstance(last, ast.Assign) and isinstance(result.node, ast.Name) and isinstance(
            last.targets[0], ast.Name) and last.targets[0].id == result.node.id:
        statements.pop()
        return Value(last.value, result.value, result.static)
    return result


def _drop_unused(statements: list[ast.stmt], result: ast.expr) -> None:
    """Remove assignments to variables that nothing reads."""
    for i in reversed(range(len(statements))):
        s = statements[i]
        if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name):
            if s.targets[0].id not in names_in([*statements[i + 1:], result]):
                del statements[i]


def _in_order(parameters: list[str]) -> list[str]:
    """Return parameters without a default before those with one."""
    star = next((i for i, p in enumerate(parameters) if p.startswith("*")), len(parameters))
    front = parameters[:star]
    return [*[p for p in front if "=" not in p], *[p for p in front if "=" in p], *parameters[star:]]


def _is_hashable(function: Any) -> bool:
    try:
        hash(function)
    except TypeError:
        return False
    return True


def _unpacked(op: Op, arguments: list[Value]) -> list[Value]:
    """Return the arguments of an op with those of its `*xs` one by one."""
    if op.star is None or len(arguments) != op.star + 1 or not isinstance(arguments[-1].value, op.unpacked):
        return arguments
    last = arguments[-1]
    if isinstance(last.node, (ast.Tuple, ast.List)) and len(last.node.elts) == len(last.value):
        return [*arguments[:-1], *[Value(n, v, last.static) for n, v in zip(last.node.elts, last.value)]]
    return [*arguments[:-1], Value(ast.Starred(last.node, ast.Load()), last.value, last.static)]


def _is_simple(node: ast.expr) -> bool:
    """Return True for an expression that may be repeated: a variable, a constant, a tuple of these."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(map(_is_simple, node.elts))
    if isinstance(node, ast.Attribute):
        return _is_simple(node.value)
    if isinstance(node, ast.UnaryOp):
        return _is_simple(node.operand)
    return isinstance(node, (ast.Name, ast.Constant, ast.Slice))


def _count_steps(node: ast.expr) -> int:
    """Return the number of calls and operators in an expression."""
    return sum(isinstance(found, (ast.BinOp, ast.Compare)) or isinstance(found, ast.Call) and
               ast.unparse(found.func) != "tuple" for found in ast.walk(node))


def _flattened(node: ast.expr) -> ast.expr:
    """Return an expression with `*(a, b)` written as `a, b`, and `(a, b)[0]` as `a`."""
    class Flatten(ast.NodeTransformer):
        def generic_visit(self, found: Any) -> Any:
            super().generic_visit(found)
            for field in ("elts", "args"):
                if isinstance(getattr(found, field, None), list):
                    items: list[ast.AST] = []
                    for item in getattr(found, field):
                        starred = isinstance(item, ast.Starred) and isinstance(item.value, (ast.Tuple, ast.List))
                        items += item.value.elts if starred else [item]  # type: ignore[attr-defined]
                    setattr(found, field, items)
            return found
    return Flatten().visit(copy_tree(node))  # type: ignore[no-any-return]
