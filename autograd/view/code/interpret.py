"""A formula or VJP rule interpreted with the values of one call: what shapes, dtypes and attributes decide is decided.

A condition on them leaves the branch that is taken, a cast that changes nothing leaves its argument, a check that only
raises goes; what is left is source.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable
from typing import Any

from .expressions import Expressions, Value, Verbatim
from .source import (
    is_name,
    is_plain,
    literal,
    name,
    names_in,
    names_set,
)


def docstring_of(tree: ast.FunctionDef) -> list[ast.stmt]:
    """Return the statement that is a function's docstring, in a list; an empty one without it."""
    first = tree.body[0]
    has_one = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(
        first.value.value, str)
    return [first] if has_one else []


class Body(Expressions):
    """One call of a function, interpreted: the statements that are left of it, and its result."""

    def __init__(self, caller: Any, function: Callable[..., Any], env: dict[str, Value]):
        super().__init__(caller, function, env)
        self.statements: list[ast.stmt] = []
        self.settled = True  # False within a branch that other numbers might not take
        self.numbers_decide = False  # True if there is such a branch
        self.returned = False  # True if all statements are there, the returns too

    def run(self) -> Value | None:
        """Interpret the function; return its result, or None without one."""
        return self._run(self.tree.body[len(docstring_of(self.tree)):], self.statements)

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
        root: ast.expr = target
        while isinstance(root, (ast.Subscript, ast.Attribute)):
            root = root.value
        if not isinstance(root, ast.Name) or root.id not in self.env or not is_name(
                self.env[root.id].node, root.id):
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
        if any(not is_name(self.env[each].node, each) for each in stored if each in self.env):
            raise Verbatim
        self._forget_aliases(stored)
        out.append(self._rewritten(statement))
        self._execute(statement)
        for each in stored & self.namespace.keys():
            self.env[each] = Value(name(each), self.namespace[each])
