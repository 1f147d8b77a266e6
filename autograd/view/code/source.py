"""Sources of formulas and VJP rules as syntax trees, values as literals, and expressions as text."""

from __future__ import annotations

import ast
import functools
import inspect
import io
import re
import tokenize
from collections.abc import Callable
from typing import Any

import numpy as np


class Unwritable(ValueError):
    """A function or value that cannot be written down as source."""


# ---------------------------------------------------------------------- functions as syntax trees


@functools.lru_cache(4096)
def function_tree(function: Callable[..., Any]) -> ast.FunctionDef:
    """Return the definition of a function; that of a lambda as one that returns its expression."""
    try:
        tree = _parse("".join(inspect.findsource(function)[0]))
    except (OSError, TypeError) as error:
        raise Unwritable(f"the source of {function.__qualname__} cannot be read ({error}): define it in a file, or in "
                         "a cell of a notebook") from error
    first, spans = function.__code__.co_firstlineno, _spans(function)
    found: list[ast.FunctionDef] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and function.__name__ == "<lambda>" and node.lineno == first:
            if spans <= _nested_spans(node.body):
                body: list[ast.stmt] = [ast.Return(node.body)]
                found.append(ast.FunctionDef("function", node.args, body, [], None, lineno=1, col_offset=0))
        elif isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            if first in (node.lineno, *[decorator.lineno for decorator in node.decorator_list]):
                found.append(node)
    if not found:
        raise Unwritable(f"the source of {function.__qualname__} is not where it was defined: has the file changed?")
    return found[0]


@functools.lru_cache(64)
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def _spans(function: Callable[..., Any]) -> set[tuple]:
    """Return the places in its line that the instructions of a function come from."""
    positions = {(start, column) for start, _, column, end in function.__code__.co_positions() if column != end}
    return {(line, column) for line, column in positions if line is not None and column is not None}


def _nested_spans(tree: ast.AST) -> set[tuple]:
    return {(node.lineno, node.col_offset) for node in ast.walk(tree) if isinstance(node, ast.expr)}


@functools.lru_cache(4096)
def local_names(function: Callable[..., Any]) -> frozenset[str]:
    """Return the variables of a function, those of functions and comprehensions in it too."""
    return frozenset(names_set(function_tree(function)))


def is_name(node: ast.expr, called: str) -> bool:
    """Return True for the expression that reads the variable of this name."""
    return isinstance(node, ast.Name) and node.id == called


def docstring_formula(function: Any) -> str:
    """Return the formula in the docstring of a VJP rule, on one line: `∂L/∂x = g ⊙ y`."""
    lines = (inspect.getdoc(function) or "").partition("    ")[0].splitlines()
    return "; ".join(line.strip() for line in lines if line.strip())


# ---------------------------------------------------------------------- values as literals


def is_plain(value: Any) -> bool:
    """Return True for a value that a short literal writes down: a number, string, None, or a tuple of these."""
    if type(value) in (tuple, list):
        return all(map(is_plain, value))
    return value is None or value is ... or type(value) in (int, float, bool, str)


def literal(value: Any) -> ast.expr:
    """Return the expression that writes a value down.  Raises Unwritable if there is none."""
    if isinstance(value, slice):
        return ast.Slice(*[None if end is None else literal(end) for end in (value.start, value.stop, value.step)])
    if type(value) in (tuple, list):
        items = [literal(item) for item in value]
        return ast.Tuple(items, ast.Load()) if type(value) is tuple else ast.List(items, ast.Load())
    if type(value) is dict:
        return ast.Dict([literal(key) for key in value], [literal(item) for item in value.values()])
    if isinstance(value, type) or isinstance(value, np.dtype):
        return _type_literal(value)
    if isinstance(value, (float, np.floating)) and not np.isfinite(value):
        special = parse("np.nan" if np.isnan(value) else "np.inf" if value > 0 else "-np.inf")
        return special if type(value) is float else call(f"np.{np.asarray(value).dtype}", special)  # float64 is a float
    if isinstance(value, np.generic):
        return call(f"np.{value.dtype.name}" if value.dtype != bool else "np.bool_", ast.Constant(value.item())
                    if value.dtype.kind != "f" else parse(str(value)))
    if isinstance(value, np.ndarray):
        return array_literal(value)
    if value is None or value is ... or type(value) in (int, float, bool, str, bytes):
        return parse(repr(value)) if type(value) in (int, float) else ast.Constant(value)
    raise Unwritable(f"{value!r:.60} cannot be written down as source")


def _type_literal(value: Any) -> ast.expr:
    if isinstance(value, np.dtype):
        return call("np.dtype", ast.Constant(value.str))
    if value in (type(None), type(...)):
        return call("type", ast.Constant(None if value is type(None) else ...))
    if value.__module__ == "builtins":
        return ast.Name(value.__name__, ast.Load())
    if value.__module__ == "numpy":
        return parse(f"np.{value.__name__}")
    raise Unwritable(f"the class {value.__qualname__} is not NumPy's, nor Python's")


def array_literal(a: Any) -> ast.expr:
    """Return the expression that makes an array with the same numbers, dtype and memory order."""
    order = memory_order(a)
    made = a.transpose(order)
    text = np.array2string(made, separator=", ", threshold=a.size + 1, max_line_width=10 ** 9, floatmode="unique",
                           formatter={"float": _float_text}) if a.size else "[]"
    text = " ".join(text.split())
    node = call("np.array", parse(text))
    default = np.array(made.tolist()).dtype if a.size else None
    if a.dtype != default:
        node.args.append(parse("bool" if a.dtype == bool else f"np.{a.dtype.name}"))
    if not a.size:
        node = ast.Call(ast.Attribute(node, "reshape", ast.Load()), [literal(made.shape)], [])
    if order != tuple(range(a.ndim)):
        back = tuple(order.index(i) for i in range(a.ndim))
        node = ast.Call(ast.Attribute(node, "transpose", ast.Load()), [literal(back)], [])
    return node


def _float_text(x: Any) -> str:
    return "np.nan" if np.isnan(x) else str(x).replace("inf", "np.inf")


def memory_order(a: Any) -> tuple[int, ...]:
    """Return the axes of an array, that with the longest stride first."""
    if a.flags.c_contiguous:
        return tuple(range(a.ndim))
    return tuple(sorted(range(a.ndim), key=lambda i: -a.strides[i]))


# ---------------------------------------------------------------------- expressions


def parse(text: str) -> Any:
    """Return the syntax tree of an expression."""
    return ast.parse(text, mode="eval").body


def name(text: str) -> ast.Name:
    """Return the expression that reads a variable."""
    return ast.Name(text, ast.Load())


def call(function: str | ast.expr, *arguments: ast.expr) -> ast.Call:
    """Return the expression that calls a function, given as a dotted name or an expression."""
    return ast.Call(parse(function) if isinstance(function, str) else function, list(arguments), [])


_OPERATORS = {"add": ast.Add, "subtract": ast.Sub, "multiply": ast.Mult, "divide": ast.Div, "matmul": ast.MatMult,
              "equal": ast.Eq, "not_equal": ast.NotEq, "less": ast.Lt, "less_equal": ast.LtE, "greater": ast.Gt,
              "greater_equal": ast.GtE}


def _without_ones(node: ast.expr) -> ast.expr:
    """Return an expression that is broadcast without reshaping one number to (1, 1) before."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        node.left = _without_ones(node.left)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "reshape":
        shape = node.args[0] if len(node.args) == 1 else None
        if isinstance(shape, ast.Tuple) and all(isinstance(n, ast.Constant) and n.value == 1 for n in shape.elts):
            return node.func.value
    return node


_REDUCTIONS = {"sum", "mean", "max", "min", "prod", "var"}
_DEFAULTS = {"keepdims=False": _REDUCTIONS, "axis=None": _REDUCTIONS | {"cumsum", "cumprod"},
             "axis=0": {"split", "concatenate"}}


class _Polish(ast.NodeTransformer):
    """NumPy's functions as operators, and slices as `slice(...)` where they are no index."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = ast.unparse(node.func)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "transpose" and not node.keywords and (
                not node.args or ast.unparse(node.args[0]) == "None"):
            return ast.Attribute(node.func.value, "T", ast.Load())
        if function == "np.broadcast_to" and node.args:
            node.args[0] = _without_ones(node.args[0])
        if function.startswith("np."):
            node.keywords = [k for k in node.keywords if function[3:] not in _DEFAULTS.get(
                f"{k.arg}={ast.unparse(k.value)}", ())]
        if function.startswith("np.") and not node.keywords and not any(isinstance(a, ast.Starred) for a in node.args):
            operator = _OPERATORS.get(function[3:])
            if operator is not None and len(node.args) == 2:
                x, y = node.args
                made: Any = operator()
                return ast.BinOp(x, made, y) if isinstance(made, ast.operator) else ast.Compare(x, [made], [y])
            if function == "np.negative" and len(node.args) == 1:
                return ast.UnaryOp(ast.USub(), node.args[0])
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        x, y = node.left, node.right
        if all(isinstance(n, ast.Constant) and type(n.value) is int for n in (x, y)) and isinstance(
                node.op, (ast.Add, ast.Sub, ast.Mult)):
            return ast.Constant(eval(ast.unparse(node)))
        if isinstance(node.op, ast.Pow) and isinstance(y, ast.Constant) and type(y.value) is int and y.value == 1:
            return x
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        node.value = self.visit(node.value)
        if isinstance(node.slice, ast.Tuple) and not any(isinstance(e, ast.Starred) for e in node.slice.elts):
            node.slice.elts = [self._index(e) for e in node.slice.elts]
            if len(node.slice.elts) == 1 and not isinstance(node.slice.elts[0], (ast.Tuple, ast.List)):
                node.slice = node.slice.elts[0]
        else:
            node.slice = self._index(node.slice)
        return node

    def _index(self, node: ast.expr) -> ast.expr:
        return self.generic_visit(node) if isinstance(node, ast.Slice) else self.visit(node)  # type: ignore

    def visit_Slice(self, node: ast.Slice) -> ast.expr:
        ends = [ast.Constant(None) if end is None else self.visit(end) for end in (node.lower, node.upper, node.step)]
        return call("slice", *(ends if node.step else ends[:2]))


def text_of(node: ast.AST) -> str:
    """Return the source of an expression or a statement."""
    text = ast.unparse(ast.fix_missing_locations(_Polish().visit(copy_tree(node))))
    return re.sub(r"^( +(?:return|[\w, ]+ =)) \((.*)\)$", _bare_tuple, text, flags=re.MULTILINE)


def _bare_tuple(found: re.Match) -> str:
    """Return a line that returns or assigns a tuple without its brackets."""
    bare = f"{found[1]} {found[2]}"
    try:
        same = ast.dump(ast.parse(found[2])) == ast.dump(ast.parse(f"({found[2]})"))
    except SyntaxError:
        same = False
    return bare if same and found[2] and not found[2].startswith("*") else found[0]


def double_quoted(text: str) -> str:
    """Return a program with its strings in double quotes, but for those that hold some."""
    rows = text.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(text).readline))):
        if token.type == tokenize.STRING and token.string[0] == "'" and '"' not in token.string:
            (row, start), (_, end) = token.start, token.end
            line = rows[row - 1]
            rows[row - 1] = f'{line[:start]}"{token.string[1:-1]}"{line[end:]}'
    return "".join(rows)


def copy_tree(node: Any) -> Any:
    """Return a deep copy of a syntax tree, in which no node occurs twice."""
    if isinstance(node, list):
        return [copy_tree(item) for item in node]
    if not isinstance(node, ast.AST):
        return node
    return type(node)(**{field: copy_tree(value) for field, value in ast.iter_fields(node)})


def substitute(node: Any, replacements: dict[str, ast.expr]) -> Any:
    """Return a copy of a syntax tree with expressions in place of the variables they are named for."""
    class Substitute(ast.NodeTransformer):
        def visit_Name(self, found: ast.Name) -> ast.expr:
            return copy_tree(replacements[found.id]) if found.id in replacements and isinstance(found.ctx, ast.Load) \
                else found
    return Substitute().visit(copy_tree(node))


def names_in(node: Any) -> list[str]:
    """Return the variables that a syntax tree reads, once for each time."""
    nodes = node if isinstance(node, list) else [node]
    return [found.id for tree in nodes for found in ast.walk(tree)
            if isinstance(found, ast.Name) and isinstance(found.ctx, ast.Load)]


def names_set(node: Any) -> set[str]:
    """Return the variables that a syntax tree assigns, arguments of inner functions too."""
    nodes = node if isinstance(node, list) else [node]
    return {found.id if isinstance(found, ast.Name) else found.arg for tree in nodes for found in ast.walk(tree)
            if isinstance(found, ast.Name) and not isinstance(found.ctx, ast.Load) or isinstance(found, ast.arg)}
