"""Expressions of a formula or VJP rule, interpreted: what is left of each, and its value in one call."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine import Op
from .library import Rewriter, is_numpys_own, look_up, resolve
from .source import (
    Unwritable,
    copy_tree,
    function_tree,
    is_name,
    is_plain,
    literal,
    local_names,
    name,
)

STRUCTURE = {"shape", "ndim", "dtype", "size"}
OF_STRUCTURE = {len, isinstance, type, hasattr, np.ndim, np.shape}


@dataclass
class Value:
    """An expression, its value for this tape, and `static`: it follows from shapes, dtypes and attributes."""

    node: ast.expr
    value: Any
    static: bool = False


class Verbatim(Exception):
    """A function is to be written as it is."""


class Form:
    """An array of which only the structure may be asked."""

    __array_ufunc__ = None

    def __init__(self, a: Any):
        self.shape, self.ndim, self.dtype, self.size = a.shape, a.ndim, a.dtype, a.size

    def __len__(self) -> int:
        return int(self.shape[0])

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("no numbers")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __iter__ = __array_function__ = _refuse  # type: ignore
    __hash__ = None  # type: ignore


def _form(value: Any) -> Any:
    """Return a value with forms in place of its arrays."""
    if type(value) in (tuple, list):
        return type(value)(map(_form, value))
    return Form(value) if isinstance(value, (np.ndarray, np.generic)) else value


class Expressions:
    """The expressions of one call of a function, whose variables are `env`; `caller` writes the calls in it."""

    def __init__(self, caller: Any, function: Callable[..., Any], env: dict[str, Value]):
        self.caller, self.library, self.function, self.env = caller, caller.library, function, env
        self.tree = function_tree(function)
        self.local = local_names(function)

    # ------------------------------------------------------------------ what stays as it is
    def _rewritten(self, node: Any) -> Any:
        """Return a part of the function as it is, but for the names of what it refers to."""
        aliases = {key: a.node for key, a in self.env.items() if not is_name(a.node, key)}
        return Rewriter(self.library, self.function, set(self.env), aliases).visit(copy_tree(node))

    def _execute(self, statement: ast.stmt, **values: Any) -> None:
        tree = ast.fix_missing_locations(ast.Module([copy_tree(statement)], []))
        self.namespace = self._namespace() | values
        exec(compile(tree, "<a formula>", "exec"), self.namespace)

    def _evaluate(self, node: ast.expr, forms: bool = False) -> Any:
        tree = ast.fix_missing_locations(ast.Expression(copy_tree(node)))
        return eval(compile(tree, "<a formula>", "eval"), self._namespace(forms))

    def _namespace(self, forms: bool = False) -> dict[str, Any]:
        closure = dict(zip(self.function.__code__.co_freevars,
                           [cell.cell_contents for cell in self.function.__closure__ or ()]))
        values = {key: _form(a.value) if forms and not a.static else a.value for key, a in self.env.items()}
        return {**self.function.__globals__, **closure, **values}

    # ------------------------------------------------------------------ expressions
    def expr(self, node: ast.expr) -> Value:
        """Interpret an expression."""
        method = getattr(self, f"_{type(node).__name__}", None)
        return method(node) if method is not None else self._opaque(node)

    def _opaque(self, node: ast.expr) -> Value:
        """Return an expression that is not looked into."""
        value = self._evaluate(node)
        static = False
        try:
            again = self._evaluate(node, forms=True)
            static = is_plain(again) and again == value
        except Exception:
            static = False
        if static and not isinstance(node, ast.Lambda):
            return Value(literal(value), value, True)
        return Value(self._rewritten(node), value)

    def _Constant(self, node: ast.Constant) -> Value:
        return Value(node, node.value, True)

    def _Name(self, node: ast.Name) -> Value:
        if node.id in self.env:
            return self.env[node.id]
        value = look_up(self.function, node.id)
        return Value(self.library.reference(value, node.id), value, True)

    def _Attribute(self, node: ast.Attribute) -> Value:
        if ast.unparse(node) == "current_mode().tracing":
            return Value(ast.Constant(""), "", True)
        value = resolve(self.function, node, self.local)
        if value is not Unwritable:
            return Value(self._rewritten(node), value, True)
        base = self.expr(node.value)
        return Value(ast.Attribute(base.node, node.attr, ast.Load()), getattr(base.value, node.attr),
                     base.static or node.attr in STRUCTURE)

    def _Subscript(self, node: ast.Subscript) -> Value:
        base, index = self.expr(node.value), self.expr(node.slice)
        if isinstance(base.node, (ast.Tuple, ast.List)) and type(index.value) is int and not any(
                isinstance(e, ast.Starred) for e in base.node.elts):
            return Value(base.node.elts[index.value], base.value[index.value], base.static)
        return Value(ast.Subscript(base.node, index.node, ast.Load()), base.value[index.value],
                     base.static and index.static)

    def _Slice(self, node: ast.Slice) -> Value:
        ends = [None if end is None else self.expr(end) for end in (node.lower, node.upper, node.step)]
        return Value(ast.Slice(*[None if end is None else end.node for end in ends]),
                     slice(*[None if end is None else end.value for end in ends]),
                     all(end is None or end.static for end in ends))

    def _Tuple(self, node: ast.Tuple | ast.List) -> Value:
        nodes: list[ast.expr] = []
        values: list[Any] = []
        static = True
        for item in node.elts:
            made = self.expr(item.value if isinstance(item, ast.Starred) else item)
            static = static and made.static
            if not isinstance(item, ast.Starred):
                nodes.append(made.node)
                values.append(made.value)
            else:
                expanded = isinstance(made.node, (ast.Tuple, ast.List))
                nodes += made.node.elts if expanded else [ast.Starred(made.node, ast.Load())]  # type: ignore
                values += list(made.value)
        kind = type(node)
        return Value(kind(nodes, ast.Load()), tuple(values) if kind is ast.Tuple else values, static)

    _List = _Tuple

    def _BinOp(self, node: ast.BinOp) -> Value:
        x, y = self.expr(node.left), self.expr(node.right)
        made = ast.BinOp(x.node, node.op, y.node)
        return Value(made, _operate(ast.BinOp(name("x"), node.op, name("y")), x=x.value, y=y.value),
                     x.static and y.static)

    def _UnaryOp(self, node: ast.UnaryOp) -> Value:
        x = self.expr(node.operand)
        value = _operate(ast.UnaryOp(node.op, name("x")), x=x.value)
        if isinstance(node.op, ast.Not) and x.static:
            return Value(ast.Constant(value), value, True)
        return Value(ast.UnaryOp(node.op, x.node), value, x.static)

    def _Compare(self, node: ast.Compare) -> Value:
        parts = [self.expr(part) for part in (node.left, *node.comparators)]
        names = [f"x{i}" for i in range(len(parts))]
        made = ast.Compare(name(names[0]), node.ops, [name(n) for n in names[1:]])
        value = _operate(made, **{n: part.value for n, part in zip(names, parts)})
        static = all(part.static for part in parts) or all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
        return Value(ast.Compare(parts[0].node, node.ops, [part.node for part in parts[1:]]), value, static)

    def _BoolOp(self, node: ast.BoolOp) -> Value:
        is_and = isinstance(node.op, ast.And)
        kept: list[Value] = []
        for i, operand in enumerate(node.values):
            made = self.expr(operand)
            last = i == len(node.values) - 1
            decided = not last and bool(made.value) != is_and
            if made.static and not kept and (decided or last):
                return made
            if made.static and not decided and not last:
                continue
            kept.append(made)
            if decided:
                if made.static:
                    break
                rest = [self._rewritten(other) for other in node.values[i + 1:]]
                return Value(ast.BoolOp(node.op, [*[k.node for k in kept], *rest]) if rest or len(kept) > 1
                             else made.node, made.value)
        if len(kept) == 1:
            return kept[0]
        return Value(ast.BoolOp(node.op, [k.node for k in kept]), kept[-1].value)

    def _IfExp(self, node: ast.IfExp) -> Value:
        test = self.expr(node.test)
        taken, other = (node.body, node.orelse) if test.value else (node.orelse, node.body)
        made = self.expr(taken)
        if test.static:
            return made
        untaken = self._rewritten(other)
        body, orelse = (made.node, untaken) if test.value else (untaken, made.node)
        return Value(ast.IfExp(test.node, body, orelse), made.value)

    def _GeneratorExp(self, node: ast.GeneratorExp | ast.ListComp) -> Value:
        """Write a comprehension over a few expressions out."""
        loop = node.generators[0]
        if len(node.generators) == 1 and not loop.ifs and isinstance(loop.target, ast.Name):
            over = self.expr(loop.iter)
            if isinstance(over.node, (ast.Tuple, ast.List)) and 0 < len(over.node.elts) == len(over.value) <= 4:
                before, nodes, values, static = self.env.get(loop.target.id), [], [], True
                for n, v in zip(over.node.elts, over.value):
                    self.env[loop.target.id] = Value(n, v, over.static)
                    made = self.expr(node.elt)
                    nodes.append(made.node)
                    values.append(made.value)
                    static = static and made.static
                self.env.pop(loop.target.id)
                if before is not None:
                    self.env[loop.target.id] = before
                kind = ast.List if isinstance(node, ast.ListComp) else ast.Tuple
                return Value(kind(nodes, ast.Load()), values if kind is ast.List else tuple(values), static)
        return self._opaque(node)

    _ListComp = _GeneratorExp  # type: ignore[assignment]

    def _Call(self, node: ast.Call) -> Value:
        if any(k.arg is None for k in node.keywords) or any(isinstance(a, ast.GeneratorExp) for a in node.args):
            return self._opaque(node)
        callee = self._callee(node.func)
        if getattr(callee.value, "__name__", "") == "by_convention":
            return self.expr(node.args[0])
        arguments: list[Value] = []
        for a in node.args:
            made = self.expr(a.value if isinstance(a, ast.Starred) else a)
            if not isinstance(a, ast.Starred):
                arguments.append(made)
            elif isinstance(made.node, (ast.Tuple, ast.List)):
                arguments += [Value(n, v, made.static) for n, v in zip(made.node.elts, made.value)]
            else:
                arguments.append(Value(ast.Starred(made.node, ast.Load()), made.value, made.static))
        keywords = {str(k.arg): self.expr(k.value) for k in node.keywords}
        function = callee.value
        if isinstance(function, Op) or inspect.isfunction(function) and not is_numpys_own(function):
            return self.caller.call(function, arguments, keywords)
        bound_to_op = getattr(function, "__self__", None)
        if isinstance(bound_to_op, Op):
            raise Verbatim
        if isinstance(function, types.BuiltinFunctionType) and function.__module__ == "builtins":
            made = self.caller.plain_call(callee.node, function, arguments, keywords)
            return Value(literal(made.value), made.value, True) if made.static and is_plain(made.value) and (
                function is isinstance) else made
        made = self.caller.plain_call(callee.node, function, arguments, keywords)
        of_module = isinstance(node.func, ast.Attribute) and callee.static
        return made if of_module or isinstance(node.func, ast.Name) else Value(
            made.node, made.value, made.static and callee.static)

    def _callee(self, node: ast.expr) -> Value:
        """Return what a call calls: a global function, a method, a function of this one's."""
        value = resolve(self.function, node, self.local)
        if value is not Unwritable:
            if isinstance(value, Op) or inspect.isfunction(value) and not is_numpys_own(value):
                return Value(node, value, True)
            return Value(self._rewritten(node), value, True)
        return self.expr(node)


def _operate(node: ast.expr, **values: Any) -> Any:
    tree = ast.fix_missing_locations(ast.Expression(copy_tree(node)))
    return eval(compile(tree, "<a formula>", "eval"), values)
