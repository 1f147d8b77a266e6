"""The lines of a tape's forward and backward pass, a line a record."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.arrays import as_tuple, has_floats
from ...core.multi_output import OutputGradients
from ...engine import Tape, Tensor, _item
from .expressions import Value
from .library import Library
from .names import name_arguments
from .source import call, docstring_formula, literal, name, text_of
from .specialize import as_line


@dataclass
class Line:
    """A statement of a pass: its text, the comment behind it, and the record that it is for."""

    text: str
    comment: str = ""
    record: Any = None


class Passes:
    """The lines `forward` and `backward` of a tape, whose values were computed by formulas; `names` are its variables'.

    `constants` are arrays that ops were given beside Tensors (name -> array).
    """

    def __init__(self, tape: Tape, library: Library, names: dict[Tensor, str]):
        self.tape, self.library, self.names = tape, library, names
        self.constants: dict[str, Any] = {}
        self._given = name_arguments(tape)
        self._constant_names: dict[tuple, str] = {}
        self._items: dict[Tensor, list[str]] = {}       # tuple -> the variables of its arrays
        self._items_of: dict[Tensor, list[Tensor]] = {}
        for t in tape:
            if t.op is _item:
                self._items_of.setdefault(t.inputs[0], []).append(t)
        self._item_gradients: dict[Tensor, str] = {}    # of items that are there twice, each with a gradient of its own
        self._sums: dict[Any, Any] = {}                 # record, or (tuple, i) -> its gradient so far
        self._inputs: dict[Tensor, list[Value]] = {}
        self.forward: list[Line] = []
        self.backward: list[Line] = []
        for t in tape:
            if t.op is not None and t.op is not _item:
                self.forward.append(self._forward_line(t))
        self._write_backward()

    # ------------------------------------------------------------------ forward
    def _forward_line(self, t: Tensor) -> Line:
        value = t._value()
        if type(value) is tuple:
            self._name_items(t, value)
        arguments = self._inputs[t] = [self._input(t, i, a) for i, a in enumerate(t.inputs)]
        attrs = {key: Value(literal(a), a, True) for key, a in t.attrs.items()}
        names = _function_name(t), f"{_function_name(t)}_forward"
        made = as_line(self.library, t.op.formula, names, arguments, attrs, "formula")  # type: ignore[union-attr]
        if type(value) is tuple and isinstance(made.node, ast.Call) and text_of(made.node.func) == "tuple":
            made.node = made.node.args[0]
        target = self.names[t] if type(value) is not tuple else ", ".join(self._items[t]) + "," * (len(value) == 1)
        return Line(f"{target} = {text_of(made.node)}", ", ".join(shape_text(a) for a in as_tuple(value)[:3]), t)

    def _name_items(self, t: Tensor, value: tuple) -> None:
        """Name the arrays of a tuple: as their records are, or `_` for one that nothing reads."""
        names = ["_"] * len(value)
        items = self._items_of.get(t, [])
        for item in items:
            i = item.attrs.get("i", 0)
            if names[i] == "_":
                names[i] = self.names[item]
            if sum(other.attrs.get("i", 0) == i for other in items) > 1:  # as a second derivative makes them
                self._item_gradients[item] = self.library.free_name(f"d_{self.names[item]}_here")
            self.names[item] = names[i]
        for i, a in enumerate(value):
            if names[i] == "_" and has_floats(a) or names[i] == "_" and t.op.name == "top_k":  # type: ignore
                head, mark, suffix = self.names[t].partition("__r")
                names[i] = self.library.free_name(f"{head}_{i}{mark}{suffix}")
        self._items[t] = names

    def _input(self, t: Tensor, i: int, a: Any) -> Value:
        if type(a) is Tensor:
            value = a._value()
            if type(value) is tuple:
                return Value(ast.Tuple([name(n) for n in self._items[a]], ast.Load()), value)
            return Value(name(self.names[a]), value)
        if isinstance(a, np.ndarray) and a.ndim and (a.size > 4 or self._given.get(id(a))):
            return Value(name(self._constant(t, i, a)), a)
        if type(a) is tuple:
            items = [self._input(t, i, item) for item in a]
            return Value(ast.Tuple([item.node for item in items], ast.Load()), a, all(item.static for item in items))
        return Value(literal(a), a, not isinstance(a, (np.ndarray, np.generic)))

    def _constant(self, t: Tensor, i: int, a: Any) -> str:
        key = a.tobytes(), a.dtype, a.shape, a.strides
        if key not in self._constant_names:
            role = t.op.input_name(i).partition("[")[0]  # type: ignore[union-attr]
            wanted = self._given.get(id(a)) or (role if len(role) > 2 else "c")
            self._constant_names[key] = made = self.library.free_name(wanted, f"{wanted}_given")
            self.constants[made] = a
        return self._constant_names[key]

    # ------------------------------------------------------------------ backward
    def gradient_name(self, a: Any) -> str:
        """Return the variable of the gradient of a record, or of item i of a tuple, (record, i)."""
        if type(a) is Tensor and a in self._item_gradients:
            return self._item_gradients[a]
        return f"d_{self._items[a[0]][a[1]] if type(a) is tuple else self.names[a]}"

    def _write_backward(self) -> None:
        for t in dict.fromkeys(t for t in self.tape.roots if t.requires_grad):
            self._sums[t] = np.ones_like(t._value())
            self.backward.append(Line(f"{self.gradient_name(t)} = np.ones_like({self.names[t]})", "", t))
        for t in reversed(self.tape):
            if t.op is None:
                continue
            if t.op is _item:
                if t in self._sums:
                    self._pass_on_item(t)
                continue
            g = self._incoming(t)
            if g is not None:
                self._record_lines(t, g)

    def _pass_on_item(self, t: Tensor) -> None:
        """Add the gradient of an item to that of its array in the tuple, which has its name unless there are several
        records of that array."""
        key = t.inputs[0], t.attrs.get("i", 0)
        total, d = self.gradient_name(key), self.gradient_name(t)
        if total != d:
            self.backward.append(Line(f"{total} = {f'{total} + ' * (key in self._sums)}{d}", "", t))
        self._sums[key] = self._sums[key] + self._sums[t] if key in self._sums else self._sums[t]

    def _incoming(self, t: Tensor) -> Value | None:
        """Return the gradient of a record; None if it has none."""
        value = t._value()
        if type(value) is not tuple:
            return Value(name(self.gradient_name(t)), self._sums[t]) if t in self._sums else None
        if not any((t, i) in self._sums for i in range(len(value))):
            return None
        nodes: list[ast.expr] = []
        arrays = []
        for i, (a, n) in enumerate(zip(value, self._items[t])):
            there = (t, i) in self._sums
            unused = call("np.zeros_like", name(n)) if n != "_" else ast.Constant(None)
            nodes.append(name(f"d_{n}") if there else unused)
            arrays.append(self._sums[t, i] if there else np.zeros_like(a))
        return Value(ast.Tuple(nodes, ast.Load()), tuple(arrays))

    def _record_lines(self, t: Tensor, g: Value) -> None:
        """Write the gradients that a record sends to its inputs."""
        op, value = t.op, t._value()
        y = self._input(t, 0, t) if type(value) is tuple else Value(name(self.names[t]), value)
        attrs = {key: Value(literal(a), a, True) for key, a in t.attrs.items()}
        needed = [i for i, a in enumerate(t.inputs) if type(a) is Tensor and a.requires_grad]
        shared: dict[Any, Sequence[Value]] = {}         # rule of several inputs -> the gradients that it returns
        for i in needed:
            rule, place = op.rules[i]  # type: ignore[union-attr]
            comment = docstring_formula(rule) if rule not in shared else ""
            if rule not in shared:
                d = as_line(self.library, rule, self._rule_names(t, i, place), [g, y, *self._inputs[t]], attrs, "rule")
            if place is not None:
                if rule not in shared:
                    shared[rule] = self._unpack(t, rule, d, needed, comment)
                    comment = comment if isinstance(d.node, (ast.Tuple, ast.List)) else ""
                d = shared[rule][place]
            self._send(t, t.inputs[i], i, d, comment)

    def _rule_names(self, t: Tensor, i: int, place: int | None) -> tuple[str, ...]:
        op, name = t.op, _function_name(t)
        if place is not None or len(set(op.rules)) == 1:  # type: ignore[union-attr]
            return (f"{name}_backward",)
        return (f"{name}_backward_{op.input_name(i).partition('[')[0]}",)  # type: ignore[union-attr]

    def _unpack(self, t: Tensor, rule: Any, made: Value, needed: list[int], comment: str) -> Sequence[Value]:
        """Return the gradients that a rule of several inputs returns, each as an expression."""
        results = list(made.value)
        if isinstance(made.node, (ast.Tuple, ast.List)) and len(made.node.elts) == len(results):
            return [Value(n, v) for n, v in zip(made.node.elts, results)]
        rules = t.op.rules  # type: ignore[union-attr]
        names = ["_"] * len(results)
        for i in needed:
            a = t.inputs[i]
            if rules[i][0] is rule:
                place = rules[i][1]
                first = a not in self._sums and sum(b is a for b in t.inputs) == 1 and a.op is not _item
                plain = _same_form(results[place], a._value())
                names[place] = self.gradient_name(a) if first and plain else self.library.free_name(
                    f"d_{t.op.input_name(i).strip('[]')}_from_{self.names[t]}".replace("[", "_"))  # type: ignore
        self.backward.append(Line(f"{', '.join(names)}{',' * (len(names) == 1)} = {text_of(made.node)}", comment, t))
        return [Value(name(n), v) for n, v in zip(names, results)]

    def _send(self, t: Tensor, a: Tensor, i: int, d: Value, comment: str) -> None:
        """Write a gradient in the form of the input that it is for, added to what that has already."""
        value = a._value()
        if type(value) is tuple:
            assert isinstance(d.value, (tuple, list)) and not isinstance(d.value, OutputGradients)
        d = _unbroadcast(d, value, self._inputs[t][i].node)
        target, text = self.gradient_name(a), text_of(d.node)
        if a in self._sums:
            self._sums[a] = self._sums[a] + d.value
            last, text = self.backward[-1], f"({text})" if _is_loose(d.node) else text
            if last.record is t and last.text.startswith(f"{target} = ") and isinstance(
                    d.node, (ast.Name, ast.BinOp, ast.Call)):
                last.text += f" + {text}"
                return
            text = f"{target} + {text}"
        else:
            self._sums[a] = d.value
        if text != target:
            self.backward.append(Line(f"{target} = {text}", comment, t))


def _function_name(t: Tensor) -> str:
    name = t.op.name  # type: ignore[union-attr]
    return name if name.isidentifier() else "function"


def _is_loose(node: ast.expr) -> bool:
    """Return True for an expression that needs brackets behind a plus."""
    return isinstance(node, (ast.BinOp, ast.Compare, ast.BoolOp, ast.IfExp)) and not (
        isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div, ast.MatMult)))


def _same_form(d: Any, x: Any) -> bool:
    return isinstance(d, (np.ndarray, np.generic)) and d.shape == x.shape and d.dtype == x.dtype


def _unbroadcast(d: Value, x: Any, node: ast.expr) -> Value:
    """Return a gradient in the shape and dtype of the input `x`, as `core.arrays.unbroadcast` does."""
    def method(on: ast.expr, called: str, *arguments: ast.expr) -> ast.Call:
        return call(ast.Attribute(on, called, ast.Load()), *arguments)

    made, value = d.node, d.value
    extra = value.ndim - x.ndim
    axes = tuple(i for i, m in enumerate(value.shape) if i < extra or x.shape[i - extra] != m)
    if axes:
        if value.dtype == np.float16:
            made, value = method(made, "astype", ast.parse("np.float32", mode="eval").body), value.astype(np.float32)
        keep = value.ndim == x.ndim
        made = method(made, "sum")
        if len(axes) < value.ndim:
            made.keywords.append(ast.keyword("axis", literal(axes if len(axes) > 1 else axes[0])))
        if keep:
            made.keywords.append(ast.keyword("keepdims", ast.Constant(True)))
        value = value.sum(axis=axes)
        if not keep and value.shape != x.shape:
            made = method(made, "reshape", ast.Attribute(node, "shape", ast.Load()))
        value = value.reshape(x.shape)
    if value.dtype != x.dtype:
        made = method(made, "astype", ast.Attribute(node, "dtype", ast.Load()))
        value = value.astype(x.dtype)
    return Value(made, value)


def shape_text(a: Any) -> str:
    """Return the shape of an array as a comment says it: `(2, 3)`; nothing for a number."""
    return str(a.shape) if a.ndim else ""
