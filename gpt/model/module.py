"""Modules: dataclasses over arrays or Tensors, which `map` turns into the same module over other arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Self

import autograd as ag
from autograd.core.mode import current_mode

from .tree import flatten_containers, is_array, is_parameter, module_html, module_text

Array = Any  # a NumPy array or a Tensor: a module works on both


class Module:
    """Base of a model and its layers: a dataclass whose fields hold arrays, modules, lists, tuples and dicts of them,
    and settings, which `map` leaves as they are.

        @dataclass
        class Linear(Module):
            weight: Array                      # (n_in, n_out)
            def __call__(self, x):             # (…, n_in) -> (…, n_out)
                return x @ self.weight

    Each call opens a scope named by the fields that lead to the module: `h.0.attn`.
    """

    _scope = ""  # the name of the field that holds this module; the root has none

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("__repr__", "__eq__", "__hash__"):  # keep @dataclass from writing its own: arrays do not compare
            if name not in cls.__dict__:
                setattr(cls, name, getattr(cls, name))
        if call := cls.__dict__.get("__call__"):
            cls.__call__ = _open_scope(call)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        for path, child in flatten_containers(name, value):
            if isinstance(child, Module):
                object.__setattr__(child, "_scope", path)

    def map(self, fn: Callable[[Array], Array]) -> Self:
        """Return the same module with `fn(array)` in place of each array, in the order of the fields.

        `fn` is called once for a shared array (a tied weight), and its result is shared again:
        `model.map(lambda t: t.data)` is the model on raw arrays, which records nothing.
        """
        done: dict[int, Any] = {}  # by identity, since arrays do not compare

        def visit(value: Any) -> Any:
            if id(value) in done:
                return done[id(value)]
            if isinstance(value, Module):
                new = object.__new__(type(value))
                new.__dict__.update(vars(value))
                new.__dict__.update({f.name: visit(getattr(value, f.name)) for f in fields(value)})  # type: ignore[arg-type]
            elif isinstance(value, (list, tuple)):
                return type(value)([visit(v) for v in value])
            elif isinstance(value, dict):
                return {k: visit(v) for k, v in value.items()}
            elif is_array(value):
                new = fn(value)
            else:
                return value
            done[id(value)] = new
            return new

        return visit(self)

    def named_arrays(self) -> dict[str, Array]:
        """Return a dict from dotted name to array, in the order of `map`; a shared one stands under its first name."""
        found: dict[str, Array] = {}
        seen: set[int] = set()

        def visit(prefix: str, module: Module) -> None:
            for f in fields(module):  # type: ignore[arg-type]
                for name, value in flatten_containers(prefix + f.name, getattr(module, f.name)):
                    if isinstance(value, Module):
                        visit(f"{name}.", value)
                    elif is_array(value) and id(value) not in seen:
                        seen.add(id(value))
                        found[name] = value

        visit("", self)
        return found

    @property
    def n_parameters(self) -> int:
        """Number of parameters; raw arrays and packed weights count, Tensors that require no gradient do not."""
        return sum(a.size for a in self.named_arrays().values() if is_parameter(a))

    def __repr__(self) -> str:
        return module_text(self)

    def _repr_html_(self) -> str:
        return module_html(self)


def widened(a: Array) -> Array:
    """Return packed weights as a Tensor of float32 that requires a gradient, and any other array as it is."""
    return ag.tensor(a, requires_grad=True) if isinstance(a, ag.Packed) else a


def raw(a: Array) -> Array:
    """Return the data of a Tensor, and an array as it is; `model.map(raw)` is the model without a tape."""
    return a.data if isinstance(a, ag.Tensor) else a


def _open_scope(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `__call__` so that it runs within the scope of its module's name."""

    @functools.wraps(call)
    def scoped(self: Module, *args: Any, **kwargs: Any) -> Any:
        mode = current_mode()
        records = mode.grad_enabled or mode.tracing  # otherwise nobody would see the scope
        if not records or not self._scope or type(self).__call__ is not scoped:  # type: ignore[operator]  # by super()
            return call(self, *args, **kwargs)
        with ag.scope(self._scope):
            return call(self, *args, **kwargs)

    return scoped
