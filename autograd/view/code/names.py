"""Names of the variables of a written program: the user's, where the tape or the bytecode knows them."""

from __future__ import annotations

import dis
import functools
import re
from types import CodeType
from typing import Any

from ...core.registry import FUNCTIONS
from ...engine import Tape, Tensor, _item

PLAIN = {"x", "y", "a", "b", "xs", "arrays", "z"}  # names of inputs that say nothing


def name_records(tape: Tape, taken: set[str]) -> dict[Tensor, str]:
    """Return a variable's name for each record, all different and none of them `taken`."""
    roles = _roles(tape)
    last_in_scope = {id(t.scope): t for t in tape}
    alone, roots = _alone_in_scope(tape), set(tape.roots)
    names: dict[Tensor, str] = {}
    taken = set(taken)
    for t in tape:
        stored = _stored_name(t, last_in_scope)
        scope = t.scope.rpartition(".")[2]
        if t.name:
            wanted = [_identifier(t.name)]
        elif stored:
            wanted = [stored, f"{_identifier(scope)}_{stored}" if scope else stored]
        elif t.op is None:
            wanted = [roles.get(t) or ("p" if t.requires_grad else "c")]
        elif t in alone:
            wanted = [_identifier(scope)]
        elif t in roots and t.size == 1:
            wanted = ["loss"]
        else:
            wanted = ["h1" if t.op is not _item else "part"]
        names[t] = _free(wanted, taken)
    return names


def _free(wanted: list[str], taken: set[str]) -> str:
    candidates = [w for w in wanted if w not in taken]
    if candidates:
        found = candidates[0]
    else:
        root = wanted[-1].rstrip("0123456789") if wanted[-1] == "h1" else wanted[-1] + "_"
        n = 2
        while (found := f"{root}{n}") in taken:
            n += 1
    taken |= {found, f"d_{found}"}
    return found


def _identifier(text: str) -> str:
    """Return a name as a variable's: `h.0.attn.weight` as `h_0_attn_weight`."""
    text = re.sub(r"\W+", "_", text).strip("_") or "leaf"
    return f"_{text}" if text[0].isdigit() else text


def _roles(tape: Tape) -> dict[Tensor, str]:
    """Return for leaves the name of the input that they are of the first op which says something by it."""
    roles: dict[Tensor, str] = {}
    for t in tape:
        for i, a in enumerate(t.inputs):
            if type(a) is Tensor and a.op is None and a not in roles:
                role = t.op.input_name(i).partition("[")[0]  # type: ignore[union-attr]
                if role not in PLAIN:
                    roles[a] = role
    return roles


def _alone_in_scope(tape: Tape) -> set[Tensor]:
    """Return the operations that are the only ones of their scope."""
    counted: dict[int, list[Tensor]] = {}
    for t in tape:
        if t.op is not None and t.scope:
            counted.setdefault(id(t.scope), []).append(t)
    return {ts[0] for ts in counted.values() if len(ts) == 1}


def _stored_name(t: Tensor, last_in_scope: dict[int, Tensor]) -> str:
    """Return the variable in which the user's code put a record; "" if in none, or if it is inside another function."""
    if getattr(t.scope, "name", "") in FUNCTIONS and last_in_scope[id(t.scope)] is not t:
        return ""
    names = _names_behind(t._code, t._offset)
    i = t.attrs.get("i", 0) if t.op is _item else 0
    found = names[i] if i < len(names) and (len(names) == 1 or t.op is _item) else ""
    return "" if found.startswith("_") or not found.isidentifier() else found


@functools.lru_cache(1024)
def _names_behind(code: CodeType, offset: int) -> list[str]:
    """Return the variable into which the result of the instruction at an offset is stored, several if unpacked."""
    behind = [each for each in dis.get_instructions(code) if each.offset > offset]
    if behind and behind[0].opname == "UNPACK_SEQUENCE":
        n, names = behind[0].argval, []
        for each in behind[1:]:
            stored = _stored(each)
            if stored is None or len(names) >= n:
                break
            names += stored
        return names[:n] if len(names) >= n else []
    return (_stored(behind[0]) or [])[:1] if behind else []


def _stored(instruction: Any) -> list[str] | None:
    """Return the variables that an instruction stores into; None if it stores into none that has a name."""
    if not instruction.opname.startswith("STORE_") or instruction.opname in ("STORE_SUBSCR", "STORE_SLICE"):
        return None
    if isinstance(instruction.argval, tuple):
        return list(instruction.argval) if instruction.opname == "STORE_FAST_STORE_FAST" else [instruction.argval[0]]
    return [instruction.argval]
