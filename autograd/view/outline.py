"""The tree of a tape's scopes, with repeated groups linked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..core.describe import describe, shape_text
from ..engine import Tape, Tensor


@dataclass(eq=False)
class Group:
    """The records and inner groups of one entry into a scope, in the order of the tape.

    `twins` are the identical groups that directly follow it (the blocks of a GPT): a view may draw only the first and
    write `× 4` (`times`).  A twin is also among its parent's items.
    """

    name: str = ""
    path: str = ""
    items: list[Tensor | Group] = field(default_factory=list)
    twins: list[Group] = field(default_factory=list)
    twin_of: Group | None = None

    @property
    def times(self) -> int:
        """Number of identical groups, this one included."""
        return 1 + len(self.twins)

    def records(self) -> Iterator[Tensor]:
        """Yield all records in the group and its inner groups."""
        for group in self.groups():
            yield from (item for item in group.items if not isinstance(item, Group))

    def groups(self) -> Iterator[Group]:
        """Yield the group and all groups inside it, outer ones first."""
        stack = [self]
        while stack:
            yield (group := stack.pop())
            stack += [item for item in reversed(group.items) if isinstance(item, Group)]


def outline(tape: Tape) -> Group:
    """Build the tree of a tape's scopes.  A leaf is placed before its first use, in the innermost group that contains
    all its uses."""
    scopes, first_use = {t: t.scope for t in tape}, {t: t.created for t in tape}
    used: set[Tensor] = set()
    for t in tape:
        for a in t.inputs:
            if type(a) is Tensor and a.op is None:
                scopes[a] = _common_scope(scopes[a], t.scope) if a in used else t.scope
                first_use[a] = min(t.created, first_use[a]) if a in used else t.created
                used.add(a)
    root, groups = Group(), {}  # type: ignore[var-annotated]
    for t in sorted(tape, key=lambda t: (first_use[t], t.created)):
        _group_of(scopes[t], root, groups).items.append(t)
    for group in root.groups():
        _find_twins(group)
    return root


def enclosing_scopes(scope: Any) -> list[Any]:
    """Return the scope and all around it, outermost first; entering the same name twice makes two scopes."""
    scopes = []
    while scope:
        scopes.append(scope)
        scope = getattr(scope, "outer", "")
    return scopes[::-1]


def _common_scope(a: Any, b: Any) -> Any:
    """Return the innermost scope around both."""
    common = ""
    for x, y in zip(enclosing_scopes(a), enclosing_scopes(b)):
        if x is not y:
            break
        common = x
    return common


def _group_of(scope: Any, root: Group, groups: dict[int, Group]) -> Group:
    """Return the group of a scope, and create it where the tape first enters the scope."""
    group = root
    for outer in enclosing_scopes(scope):
        if id(outer) not in groups:
            groups[id(outer)] = Group(getattr(outer, "name", str(outer)), str(outer))
            group.items.append(groups[id(outer)])
        group = groups[id(outer)]
    return group


def _find_twins(parent: Group) -> None:
    """Link each run of identical groups in `parent` to the first of them."""
    first: Group | None = None
    structure = None
    for item in parent.items:
        if not isinstance(item, Group):
            first = first if item.op is None else None  # a shared leaf does not end a run
        elif first is not None and _structure(item) == structure:
            item.twin_of = first
            first.twins.append(item)
        else:
            first, structure = item, _structure(item)


def _structure(group: Group) -> list[Any]:
    """Return what identical groups share: operations, shapes, attributes and the edges inside the group."""
    place = {t: i for i, t in enumerate(group.records())}
    return [(t.op.name if t.op is not None else t.requires_grad, shape_text(t), t.scope.removeprefix(group.path),
             [place.get(a, "outside") if type(a) is Tensor else describe(a) for a in t.inputs],
             {name: describe(a) for name, a in (t.attrs or {}).items()}) for t in place]

