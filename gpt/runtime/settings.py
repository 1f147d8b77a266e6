"""Settings: dataclass fields with a help line and limits, checked here and made into flags by the command line."""

import math
import os
from collections.abc import Mapping
from dataclasses import field, fields
from types import NoneType
from typing import Any, get_args


def setting(default: Any, help: str, *, at_least: float | None = None, at_most: float | None = None,
            above: float | None = None, below: float | None = None, choices: tuple[str, ...] = (),
            positional: bool = False, group: str = "", metavar: str = "", path: bool = False) -> Any:
    """Return a field of a Settings dataclass.

    `help`: its help line.  `at_least` … `choices`: limits of its value.  `positional`: it is an argument, not a flag.
    `group`: its heading in the help.  `metavar`: its placeholder there.  `path`: its value is a path, or a list of
    them; with `choices`, it may be a path beside them.
    """
    return field(default=default, metadata={"help": help, "at_least": at_least, "at_most": at_most, "above": above,
                                            "below": below, "choices": choices, "positional": positional,
                                            "group": group, "metavar": metavar, "path": path})


class Settings:
    """Base of a dataclass of settings, which raises TypeError or ValueError for a value outside of its limits."""

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            if f.metadata:
                _check(f.name, getattr(self, f.name), base_type(f.type), f.metadata, f.default)


def describe_choices(registry: Mapping[str, Any]) -> str:
    """Return the choices of a registry for a help line, each with its `help`: `sgd, a phrase; adamw, a phrase`."""
    return "; ".join(f"{name}, {entry.help}" for name, entry in registry.items())


def overwrite_setting() -> Any:
    """Return the flag --overwrite, which all commands share that write to --out."""
    return setting(False, "overwrite what is in the way at --out, which is refused otherwise", group="output")


def flag_of(name: str) -> str:
    """Return the flag of a setting: `--n-layer` for n_layer, and `--from` for from_ (`from` is a keyword)."""
    return "--" + name.strip("_").replace("_", "-")


def is_path(value: str) -> bool:
    """Return True if a value is a path and not a mistyped choice: it has a dot or a path separator."""
    return "." in value or "/" in value or os.sep in value


def base_type(annotation: Any) -> Any:
    """Return the type without None: `int` for `int | None`."""
    return next((t for t in get_args(annotation) if t is not NoneType), annotation) \
        if NoneType in get_args(annotation) else annotation


def _check(name: str, value: Any, base: Any, limits: Any, default: Any) -> None:
    if value is None and default is None:
        return
    accepted: Any = {int: int, float: (int, float), bool: bool, str: str}.get(base, object)
    if not isinstance(value, accepted) or isinstance(value, bool) and base is not bool:
        raise TypeError(f"{name} is {value!r}, and needs to be of type {getattr(base, '__name__', base)}")
    if limits["path"] and "" in ([value] if isinstance(value, str) else value):
        flag = name if limits["positional"] else flag_of(name)
        raise ValueError(f"{flag} {'is empty' if isinstance(value, str) else 'has an empty name in it'}: give a path, "
                         "or leave it out")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, and needs to be a finite number")
    if limits["choices"] and value not in limits["choices"] and not (limits["path"] and is_path(value)):
        raise ValueError(f"{name} is {value!r}, and needs to be one of {', '.join(limits['choices'])}"
                         + ", or the path of a file" * limits["path"])
    for wanted, bound, holds in (("at least", limits["at_least"], lambda b: value >= b),
                                 ("at most", limits["at_most"], lambda b: value <= b),
                                 ("above", limits["above"], lambda b: value > b),
                                 ("below", limits["below"], lambda b: value < b)):
        if bound is not None and not holds(bound):
            raise ValueError(f"{name} is {value}, and needs to be {wanted} {bound}")
