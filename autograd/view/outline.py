"""The scopes of a tape as a tree, in which groups that repeat are found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..core.describe import describe, shape_text
from ..engine import Tape, Tensor


@dataclass(eq=False)
class Group:
    """What was recorded each time a scope was entered: records and inner groups, in the order of the tape.

    `twins` are the groups that follow it and are made like it (the blocks of a GPT): a view may draw the first and say
    `× 4` (`times`).  A twin is also among its parent's items.
    """

    name: str = ""
    path: str = ""
    items: list[Tensor | Group] = field(default_factory=list)
    twins: list[Group] = field(default_factory=list)
    twin_of: Group | None = None

    @property
    def times(self) -> int:
        """How many groups it stands for, itself included."""
        return 1 + len(self.twins)

    def records(self) -> Iterator[Tensor]:
        """All records in it and in the groups within."""
        for group in self.groups():
            yield from (item for item in group.items if not isinstance(item, Group))

    def groups(self) -> Iterator[Group]:
        """It, and all groups within it, outer ones first."""
        stack = [self]
        while stack:
            yield (group := stack.pop())
            stack += [item for item in reversed(group.items) if isinstance(item, Group)]


def outline(tape: Tape) -> Group:
    """The tree of a tape's scopes.  A leaf stands before its first use, in the innermost group that holds every use."""
    scopes, first_use = {t: t.scope for t in tape}, {t: t.created for t in tape}
    used: set[Tensor] = set()
    for t in tape:
        for a in t.inputs:
            if type(a) is Tensor and a.op is None:
                scopes[a] = _common(scopes[a], t.scope) if a in used else t.scope
                first_use[a] = min(t.created, first_use[a]) if a in used else t.created
                used.add(a)
    root, groups = Group(), {}  # type: ignore[var-annotated]
    for t in sorted(tape, key=lambda t: (first_use[t], t.created)):
        _group_of(scopes[t], root, groups).items.append(t)
    for group in root.groups():
        _find_twins(group)
    return root


def _chain(scope: Any) -> list[Any]:
    """The scope and those around it, outermost first; entering the same name twice makes two."""
    chain = []
    while scope:
        chain.append(scope)
        scope = getattr(scope, "outer", "")
    return chain[::-1]


def _common(a: Any, b: Any) -> Any:
    """The innermost scope around both."""
    common = ""
    for x, y in zip(_chain(a), _chain(b)):
        if x is not y:
            break
        common = x
    return common


def _group_of(scope: Any, root: Group, groups: dict[int, Group]) -> Group:
    """The group of a scope, made where the tape first enters it."""
    group = root
    for part in _chain(scope):
        if id(part) not in groups:
            groups[id(part)] = Group(getattr(part, "name", str(part)), str(part))
            group.items.append(groups[id(part)])
        group = groups[id(part)]
    return group


def _find_twins(parent: Group) -> None:
    """Link each run of groups in `parent` that are made alike to the first of them."""
    first: Group | None = None
    shape = None
    for item in parent.items:
        if not isinstance(item, Group):
            first = first if item.op is None else None  # a leaf that several share does not come between them
        elif first is not None and _made_like(item) == shape:
            item.twin_of = first
            first.twins.append(item)
        else:
            first, shape = item, _made_like(item)


def _made_like(group: Group) -> list[Any]:
    """What two groups have in common if one is as good as the other: operations, shapes, settings and wiring inside."""
    place = {t: i for i, t in enumerate(group.records())}
    return [(t.op.name if t.op is not None else t.requires_grad, shape_text(t), t.scope.removeprefix(group.path),
             [place.get(a, "outside") if type(a) is Tensor else describe(a) for a in t.inputs],
             {name: describe(a) for name, a in (t.attrs or {}).items()}) for t in place]

