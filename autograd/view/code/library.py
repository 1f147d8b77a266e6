"""The functions, constants and imports that a written program needs, by the names it calls them by."""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
import sys
import types
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ...core.signature import is_ufunc
from ...engine import Op, Tensor
from .source import (
    Unwritable,
    copy_tree,
    function_tree,
    literal,
    local_names,
    name,
    names_in,
    parse,
    text_of,
)

ROOT = __name__.partition(".")[0]
RESERVED = {*dir(builtins), *keyword.kwlist, "np", "math"}


class Library:
    """Definitions before the passes of a program: `functions` and `constants` (name -> text), and `imports`."""

    def __init__(self, taken: set[str]):
        self.taken = taken | RESERVED
        self.functions: dict[str, str] = {}
        self.constants: dict[str, str] = {}
        self.imports: dict[str, None] = {}
        self.foreign: set[str] = set()              # packages other than NumPy that the program needs
        self.missing: dict[str, Unwritable] = {}    # a name that stands for what cannot be written -> the reason
        self._names: dict[Any, str] = {}            # a function, or the text of one without its name -> its name

    # ------------------------------------------------------------------ references
    def reference(self, value: Any, hint: str) -> ast.expr:
        """Return the expression that reads a global value of some function's, called `hint` there."""
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if value is Tensor:
            return ast.Constant(None)  # nothing here is one
        if isinstance(value, np.ufunc) or type(value).__name__ == "_ArrayFunctionDispatcher":
            return self._numpys(value)
        if isinstance(value, Op):
            return self.reference(value.formula, value.name)
        if callable(value) and hasattr(value, "__wrapped__") and inspect.isfunction(value):
            return self.reference(inspect.unwrap(value), hint)
        if inspect.isfunction(value):
            return self._function(value)
        if inspect.isbuiltin(value) and value.__module__ == "builtins":
            return name(value.__name__)
        try:
            made = self._import(value) if callable(value) and not isinstance(value, type) else literal(value)
        except Unwritable as error:
            self.missing[missing := f"MISSING_{len(self.missing)}"] = error
            return name(missing)
        if isinstance(value, type) or value is None or type(value) in (bool, int):
            return made
        key = "constant", hint, text_of(made)
        if key not in self._names:
            self._names[key] = self.free_name(hint)
            self.constants[self._names[key]] = text_of(made)
        return name(self._names[key])

    def free_name(self, *wanted: str) -> str:
        """Return the first of some names that nothing has, or the last with a number."""
        n = 2
        for candidate in wanted:
            if candidate not in self.taken:
                break
        else:
            while (candidate := f"{wanted[-1]}_{n}") in self.taken:
                n += 1
        self.taken.add(candidate)
        return candidate

    def _module(self, module: types.ModuleType) -> ast.expr:
        root, _, rest = module.__name__.partition(".")
        if root == "numpy":
            return parse(f"np.{rest}" if rest else "np")
        self._need(root)
        self.imports[f"import {module.__name__}"] = None
        return parse(module.__name__)

    def _numpys(self, function: Any) -> ast.expr:
        """Return the expression for one of NumPy's functions, `np.linalg.inv`; or for a ufunc of another library."""
        called = str(function.__name__)
        for prefix, module in (("np", np), ("np.linalg", np.linalg), ("np.fft", np.fft)):
            if getattr(module, called, None) is function:
                return parse(f"{prefix}.{called}")
        return self._import(function)

    def _import(self, value: Any) -> ast.expr:
        """Return the name of a function that is imported from its library."""
        module, attribute = getattr(value, "__module__", None), getattr(value, "__name__", "")
        if module is None or not attribute.isidentifier():
            found = [m for m, loaded in list(sys.modules.items()) if attribute and "." not in m.removeprefix("scipy.")
                     and getattr(loaded, attribute, None) is value]
            module = next((m for m in found if not m.startswith(("tests", "__main__"))), None)
        if not module or module == "__main__" or module.partition(".")[0] == ROOT:
            raise Unwritable(f"{value!r:.60} cannot be written down as source")
        self._need(module.partition(".")[0])
        self.imports[f"from {module} import {attribute}"] = None
        self.taken.add(attribute)
        return name(attribute)

    def _need(self, package: str) -> None:
        if package != "numpy" and package not in sys.stdlib_module_names:
            self.foreign.add(package)

    # ------------------------------------------------------------------ functions
    def _function(self, function: Callable[..., Any]) -> ast.expr:
        """Return the name of a Python function, which is written down as it is, with all that it refers to."""
        if function.__module__ == f"{ROOT}.ops.elementwise" and function.__name__ == "as_array":
            return parse("np.asarray")
        if is_library(function.__module__ or ""):
            found = getattr(np, function.__name__, None)
            return parse(f"np.{function.__name__}") if found is function else self._import(function)
        if function not in self._names:
            tree = function_tree(function)
            self._names[function] = self.free_name(self.function_name(function))
            made = Rewriter(self, function, set()).visit(copy_tree(tree))
            self.write(self._names[function], made)
        return name(self._names[function])

    def function_name(self, function: Callable[..., Any]) -> str:
        """Return the name that a function has."""
        return function.__name__ if function.__name__.isidentifier() and function.__name__.strip("_") else "function"

    def add(self, wanted: tuple[str, ...], tree: ast.FunctionDef) -> str:
        """Add a function under the first of some names that is free, unless there is one alike; return its name."""
        tree.name = "_"
        key = wanted[0], text_of(tree)
        if key not in self._names:
            self._names[key] = self.free_name(*wanted)
            self.write(self._names[key], tree)
        return self._names[key]

    def used_by(self, text: str) -> tuple[list[str], list[str], list[str]]:
        """Return the imports, the constants and the functions that a program needs whose passes are `text`, as lines
        of source.  Raises Unwritable if that is something which cannot be written down."""
        needed, todo, imported = set(), [text], []
        while todo:
            for found in names_in(ast.parse(todo.pop())):
                if found in self.missing:
                    raise self.missing[found]
                for defined in (self.functions, self.constants):
                    if found in defined and found not in needed:
                        needed.add(found)
                        todo.append(defined[found])
                imported.append(found)
        imports = [line for line in self.imports if line.rpartition(" ")[2].partition(".")[0] in imported]
        return (imports, [f"{n} = {value}" for n, value in self.constants.items() if n in needed],
                [source for n, source in self.functions.items() if n in needed])

    def write(self, called: str, tree: ast.FunctionDef) -> None:
        """Write the source of a function under a name."""
        tree.name, tree.decorator_list, tree.returns = called, [], None
        for argument in ast.walk(tree.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        self.functions[called] = text_of(tree)


def look_up(function: Callable[..., Any], found: str) -> Any:
    """Return what a name means in a function that does not assign it.  Raises NameError if nothing."""
    if function.__closure__ and found in function.__code__.co_freevars:
        return function.__closure__[function.__code__.co_freevars.index(found)].cell_contents
    if found in function.__globals__:
        return function.__globals__[found]
    return getattr(builtins, found)


def resolve(function: Callable[..., Any], node: ast.expr, local: Collection[str]) -> Any:
    """Return the value of a global name or of an attribute of a module, `np.linalg.inv`; Unwritable for another."""
    if isinstance(node, ast.Name) and node.id not in local:
        try:
            return look_up(function, node.id)
        except AttributeError:
            return Unwritable
    if isinstance(node, ast.Attribute):
        base = resolve(function, node.value, local)
        if isinstance(base, types.ModuleType):
            return getattr(base, node.attr, Unwritable)
    return Unwritable


class Rewriter(ast.NodeTransformer):
    """Replaces what a function refers to by the names that the program has for it, and some variables by `aliases`."""

    def __init__(self, library: Library, function: Callable[..., Any], local: set[str],
                 aliases: dict[str, ast.expr] | None = None):
        self.library, self.function, self.aliases = library, function, aliases or {}
        self.local = {*local, *local_names(function)}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a global name, or a variable that has an alias."""
        if node.id in self.aliases and isinstance(node.ctx, ast.Load):
            return copy_tree(self.aliases[node.id])
        if not isinstance(node.ctx, ast.Load) or node.id in self.local:
            return node
        value = resolve(self.function, node, self.local)
        return node if value is Unwritable else self.library.reference(value, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Replace an attribute of a module."""
        if ast.unparse(node) == "current_mode().tracing":  # which a program is not
            return ast.Constant("")
        value = resolve(self.function, node, self.local)
        if value is Unwritable:
            return self.generic_visit(node)  # type: ignore[return-value]
        module: Any = resolve(self.function, node.value, self.local)
        if is_library(module.__name__):
            return ast.Attribute(self.library.reference(module, ""), node.attr, ast.Load())
        return self.library.reference(value, node.attr)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Pass what an op takes as a list one by one, since its formula does."""
        callee = resolve(self.function, node.func, self.local)
        if getattr(callee, "__name__", "") == "by_convention":
            return self.visit(node.args[0])  # type: ignore[no-any-return]
        if isinstance(callee, Op) and callee.star is not None and len(node.args) == callee.star + 1 and not isinstance(
                node.args[-1], ast.Starred):
            node.args[-1] = ast.Starred(node.args[-1], ast.Load())
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_If(self, node: ast.If) -> ast.stmt:
        """Leave out a check that only raises."""
        is_check = isinstance(node.body[-1], ast.Raise) and not node.orelse
        return ast.Pass() if is_check else self.generic_visit(node)  # type: ignore[return-value]

    def visit_For(self, node: ast.For) -> ast.stmt:
        """Leave out a loop of such checks."""
        made = self.generic_visit(node)
        return ast.Pass() if all(isinstance(s, ast.Pass) for s in node.body) else made  # type: ignore[return-value]


def is_numpys_own(function: Any) -> bool:
    """Return True for a function that the program calls as it is: NumPy's, Python's, or another library's."""
    if isinstance(function, Op):
        return is_ufunc(function.formula)
    return not inspect.isfunction(function) or is_library(function.__module__ or "")


def is_library(module: str) -> bool:
    """Return True for a module of Python, of NumPy or SciPy, from which a program imports what it needs."""
    root = module.partition(".")[0]
    return root in ("numpy", "scipy") or root in sys.stdlib_module_names and root != "__main__"
