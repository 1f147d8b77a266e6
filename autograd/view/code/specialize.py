"""Formulas and VJP rules, specialised to the shapes, dtypes and attributes of one call: what these decide is decided.

The function is interpreted with the values of the call.  A condition on shapes and attributes leaves the branch that is
taken, a cast that changes nothing leaves its argument, a check that only raises goes; what is left is source.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine import Op
from .library import Library, Rewriter, is_numpys_own, look_up, resolve
from .source import (
    Unwritable,
    call,
    copy_tree,
    function_tree,
    is_plain,
    literal,
    name,
    names_in,
    names_set,
    parse,
    substitute,
    text_of,
)

SHORT = 60
"""Longest expression that is written in the place of a call."""
FEW = {"formula": 1, "rule": 4, "helper": 1}
"""Most calls and operators in it."""
STRUCTURE = {"shape", "ndim", "dtype", "size"}
_OF_STRUCTURE = {len, isinstance, type, hasattr, np.ndim, np.shape}


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


def as_line(library: Library, function: Any, names: tuple[str, ...], arguments: Sequence[Value],
            attrs: dict[str, Value], role: str) -> Value:
    """Return the call of a "formula" or "rule" as an expression of its arguments: written in place if it is short, else
    the call of a function that is called by the first of `names` that is free."""
    return _Caller(library).call(function, list(arguments), attrs, names, role)


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
            return self._plain_call(self.library.reference(function, getattr(function, "__name__", "")), function,
                                    arguments, keywords)
        try:
            return self._specialised(function, arguments, keywords, names, role)
        except Verbatim:
            return self._plain_call(self.library.reference(function, function.__name__), function, arguments, keywords)

    def _plain_call(self, node: ast.expr, function: Any, arguments: list[Value], keywords: dict[str, Value]) -> Value:
        made = call(node, *[a.node for a in arguments])
        made.keywords = [ast.keyword(key, a.node) for key, a in keywords.items()]
        every = [*arguments, *keywords.values()]
        values = []
        for a in arguments:
            values += a.value if isinstance(a.node, ast.Starred) else [a.value]
        value = function(*values, **{key: a.value for key, a in keywords.items()})
        static = all(a.static for a in every) or function in _OF_STRUCTURE if _is_hashable(function) else False
        return Value(made, value, static)

    def _specialised(self, function: Callable[..., Any], arguments: list[Value], keywords: dict[str, Value],
                     names: tuple[str, ...], role: str) -> Value:
        if any(isinstance(a.node, ast.Starred) for a in arguments):
            raise Verbatim
        bound = inspect.signature(function).bind(*arguments, **keywords)
        given = dict(bound.arguments)
        bound.apply_defaults()
        env, star = {}, None
        for key, a in bound.arguments.items():
            kind = inspect.signature(function).parameters[key].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                star = key
                env[key] = Value(name(key), tuple(each.value for each in a), all(each.static for each in a))
                given[key] = a
            elif kind is inspect.Parameter.VAR_KEYWORD:
                raise Verbatim
            else:
                a = a if isinstance(a, Value) else Value(literal(a), a, True)
                env[key] = Value(name(key), a.value, a.static)
        body = _Body(self, function, env)
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

    def _as_function(self, function: Callable[..., Any], body: _Body, result: Value, bound: inspect.BoundArguments,
                     given: dict[str, Any], star: str | None, names: tuple[str, ...]) -> Value:
        """Add the specialised function to the library, and return the call of it."""
        tree = copy_tree(function_tree(function))
        used = {*names_in(body.statements), *names_in(result.node)}
        made = call("f")
        parameters, spec = [], tree.args
        defaults = dict(zip([a.arg for a in (spec.posonlyargs + spec.args)][::-1], spec.defaults[::-1]))
        defaults |= {a.arg: d for a, d in zip(spec.kwonlyargs, spec.kw_defaults) if d is not None}
        parameter = inspect.signature(function).parameters
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
        head.body = [*_docstring(tree), *left, *([] if body.returned else [ast.Return(result.node)])]
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


def _docstring(tree: ast.FunctionDef) -> list[ast.stmt]:
    first = tree.body[0]
    has_one = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(
        first.value.value, str)
    return [first] if has_one else []


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


class _Body:
    """One call of a function, interpreted: the statements that are left of it, and its result."""

    def __init__(self, caller: _Caller, function: Callable[..., Any], env: dict[str, Value]):
        self.caller, self.library, self.function, self.env = caller, caller.library, function, env
        tree = function_tree(function)
        self.tree = tree
        self.local = names_set(tree)
        self.statements: list[ast.stmt] = []
        self.settled = True  # False within a branch that other numbers might not take
        self.numbers_decide = False  # True if there is such a branch
        self.returned = False  # True if all statements are there, the returns too

    def run(self) -> Value | None:
        """Interpret the function; return its result, or None without one."""
        return self._run(self.tree.body[len(_docstring(self.tree)):], self.statements)

    # ------------------------------------------------------------------ statements
    def _run(self, body: list[ast.stmt], out: list[ast.stmt]) -> Value | None:
        for i, statement in enumerate(body):
            result = self._statement(statement, out, body[i + 1:])
            if result is not None:
                return result
        return None

    def _statement(self, statement: ast.stmt, out: list[ast.stmt], rest: list[ast.stmt]) -> Value | None:
        if isinstance(statement, ast.Return):
            return self.expr(statement.value or ast.Constant(None))
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            self._assign(statement.targets[0], self.expr(statement.value), out)
        elif isinstance(statement, ast.AugAssign):
            self._assign_in_place(statement, out)
        elif isinstance(statement, ast.If):
            return self._if(statement, out, rest)
        elif isinstance(statement, ast.With):
            return self._with(statement, out)
        elif isinstance(statement, ast.Expr):
            made = self.expr(statement.value)
            if not isinstance(made.node, ast.Constant):
                out.append(ast.Expr(made.node))
        elif isinstance(statement, (ast.Assert, ast.Pass)):
            pass
        else:
            self._as_it_is(statement, out)
        return None

    def _assign(self, target: ast.expr, made: Value, out: list[ast.stmt]) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            nodes = made.node.elts if isinstance(made.node, (ast.Tuple, ast.List)) else []
            if isinstance(made.value, types.GeneratorType):
                raise Verbatim
            if len(nodes) == len(target.elts) and all(isinstance(t, ast.Name) for t in target.elts) and not any(
                    isinstance(n, ast.Starred) for n in nodes):
                self._assign_each([t.id for t in target.elts], nodes, list(made.value), out)  # type: ignore
                return
        elif isinstance(target, ast.Name):
            self._assign_each([target.id], [made.node], [made.value], out, made.static)
            return
        stored = names_set(target)
        self._forget_aliases(stored)
        out.append(ast.Assign([self._rewritten(target)], made.node))
        self._execute(ast.Assign([target], name("__value")), __value=made.value)
        for each in stored:
            self.env[each] = Value(name(each), self.namespace[each])

    def _assign_each(self, targets: list[str], nodes: list[ast.expr], values: list[Any], out: list[ast.stmt],
                     static: bool = False) -> None:
        """Assign expressions to variables.  One that is another variable, or a number, is used in its place."""
        left = [(t, n, v) for t, n, v in zip(targets, nodes, values) if not (isinstance(n, ast.Name) and n.id == t)]
        made = {}
        kept = []
        for t, n, v in left:
            if self.settled and (isinstance(n, ast.Constant) or isinstance(n, ast.Name) and n.id in self.local):
                made[t] = Value(n, v, static or isinstance(n, ast.Constant))
            elif static and self.settled and is_plain(v) and isinstance(n, ast.Tuple):
                made[t] = Value(literal(v), v, True)
            else:
                kept.append((t, n))
                made[t] = Value(name(t), v, static)
        self._forget_aliases({t for t, _, _ in left}, keep=made)
        self.env.update(made)
        for t, n, v in zip(targets, nodes, values):
            if isinstance(n, ast.Name) and n.id == t:
                self.env[t] = Value(n, v, self.env[t].static)
        if len(kept) == 1:
            out.append(ast.Assign([ast.Name(kept[0][0], ast.Store())], kept[0][1]))
        elif kept:
            out.append(ast.Assign([ast.Tuple([ast.Name(t, ast.Store()) for t, _ in kept], ast.Store())],
                                  ast.Tuple([n for _, n in kept], ast.Load())))

    def _forget_aliases(self, rebound: set[str], keep: dict[str, Value] | None = None) -> None:
        """Raise Verbatim if a variable stands for one that is now assigned anew."""
        keep = keep or {}
        for key, a in {**self.env, **keep}.items():
            if (key not in rebound or key in keep) and (set(names_in(a.node)) - {key}) & rebound:
                raise Verbatim

    def _assign_in_place(self, statement: ast.AugAssign, out: list[ast.stmt]) -> None:
        made = self.expr(statement.value)
        target = statement.target
        root = target
        while isinstance(root, (ast.Subscript, ast.Attribute)):
            root = root.value
        if not isinstance(root, ast.Name) or root.id not in self.env or text_of(self.env[root.id].node) != root.id:
            raise Verbatim
        out.append(ast.AugAssign(self._rewritten(target), statement.op, made.node))
        self._execute(ast.AugAssign(target, statement.op, name("__value")), __value=made.value)
        self.env[root.id] = Value(name(root.id), self.namespace[root.id])

    def _if(self, statement: ast.If, out: list[ast.stmt], rest: list[ast.stmt]) -> Value | None:
        if isinstance(statement.body[-1], ast.Raise) and not statement.orelse:
            return None  # a check, which this call has passed
        test = self.expr(statement.test)
        taken, other = (statement.body, statement.orelse) if test.value else (statement.orelse, statement.body)
        if test.static:
            return self._run(taken, out)
        before, settled, self.settled = dict(self.env), self.settled, False
        inside: list[ast.stmt] = []
        result = self._run(taken, inside)
        after, self.env = self.env, before
        untaken = [self._rewritten(s) for s in other]
        self.env, self.settled = after, settled
        self.numbers_decide = True
        if result is not None:
            if not test.value or out is not self.statements:
                raise Verbatim
            self.env = before
            out.append(ast.If(test.node, [*inside, ast.Return(result.node)], []))
            out += [*untaken, *[self._rewritten(s) for s in rest]]
            self.returned = True
            return result
        inside = inside or [ast.Pass()]
        first, second = (inside, untaken) if test.value else (untaken, inside)
        second = [] if all(isinstance(s, ast.Pass) for s in second) else second
        out.append(ast.If(test.node, first or [ast.Pass()], second))
        for each in names_set([*statement.body, *statement.orelse]):
            if each in self.env:
                self.env[each] = Value(name(each), self.env[each].value)
        return None

    def _with(self, statement: ast.With, out: list[ast.stmt]) -> Value | None:
        inside: list[ast.stmt] = []
        if len(statement.items) != 1:
            raise Verbatim
        manager = self._evaluate(statement.items[0].context_expr)
        with manager:
            result = self._run(statement.body, inside)
        if result is not None:
            inside.append(ast.Return(result.node))
            raise Verbatim
        out.append(ast.With([self._rewritten(item) for item in statement.items], inside))
        return None

    def _as_it_is(self, statement: ast.stmt, out: list[ast.stmt]) -> None:
        """Keep a statement as it is (a loop, say), and execute it."""
        if any(isinstance(found, ast.Return) for found in ast.walk(statement)) and not isinstance(
                statement, ast.FunctionDef):
            raise Verbatim
        stored = names_set(statement)
        if any(text_of(self.env[each].node) != each for each in stored if each in self.env):
            raise Verbatim
        self._forget_aliases(stored)
        out.append(self._rewritten(statement))
        self._execute(statement)
        for each in stored & self.namespace.keys():
            self.env[each] = Value(name(each), self.namespace[each])

    # ------------------------------------------------------------------ what stays as it is
    def _rewritten(self, node: Any) -> Any:
        """Return a part of the function as it is, but for the names of what it refers to."""
        aliases = {key: a.node for key, a in self.env.items() if text_of(a.node) != key}
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
        is_and, kept = isinstance(node.op, ast.And), []
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
            made = self.caller._plain_call(callee.node, function, arguments, keywords)
            return Value(literal(made.value), made.value, True) if made.static and is_plain(made.value) and (
                function is isinstance) else made
        made = self.caller._plain_call(callee.node, function, arguments, keywords)
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


__all__ = ["Value", "as_line", "parse"]
