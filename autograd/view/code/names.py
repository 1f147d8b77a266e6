"""Names of the variables of a written program: the user's, where the tape or the bytecode knows them."""

from __future__ import annotations

import ast
import dis
import functools
import keyword
import linecache
import re
import unicodedata
from types import CodeType
from typing import Any

from ...core.registry import FUNCTIONS
from ...engine import Tape, Tensor, _item

PLAIN = {"x", "y", "a", "b", "xs", "arrays", "z"}  # names of inputs that say nothing


def name_records(tape: Tape, taken: set[str], repeated: dict[Tensor, tuple[Tensor, str]]) -> dict[Tensor, str]:
    """Return a variable's name for each record, all different and none of them `taken`.

    `repeated` maps each record of a repeated scope to that of the first such scope, whose name it has, and to a suffix.
    """
    roles, alone, roots = _roles(tape), _alone_in_scope(tape), set(tape.roots)
    last_in_scope = {id(t.scope): t for t in tape}
    arguments = name_arguments(tape)
    names: dict[Tensor, str] = {}
    used: dict[str, set[str]] = {}                   # suffix (of the first scope of a run) -> the names in that run
    for t in tape:
        first, suffix = repeated.get(t, (t, ""))
        if first is not t:
            continue
        stored = _stored_name(t, last_in_scope)
        inner = identifier(t.scope.rpartition(".")[2]) if t.scope else ""
        if t.name:
            parts = t.name.split(".") if suffix else [t.name]
            fewest = 2 if len(parts) > 1 and not parts[-2].isdigit() else 1
            wanted = [identifier(".".join(parts[-n:])) for n in range(fewest, len(parts) + 1)]
        elif stored:
            wanted = [stored, f"{inner}_{stored}" if inner and not inner[0] == "_" else stored]
        elif t in alone:
            wanted = [inner]
        elif t in roots and t.size == 1:
            wanted = ["loss"]
        elif t.op is None and arguments.get(id(t)):
            wanted = [arguments[id(t)]]
        elif t in roles and (t.op is None or roles[t] not in ("w", "b", "table", "ids")):
            wanted = [roles[t]]
        elif t.op is None:
            wanted = ["p" if t.requires_grad else "c"]
        else:
            wanted = ["h1" if t.op is not _item else "part"]
        names[t] = _free(wanted, used.setdefault(suffix, set(taken))) + suffix
    for t, (first, suffix) in repeated.items():
        if first is not t:
            names[t] = names[first][:-len(repeated[first][1])] + suffix
    return names


def name_arguments(tape: Tape) -> dict[int, str]:
    """Map the id of an input of a record (an array, or a leaf) to the variable that the user's code passed it in."""
    found: dict[int, str] = {}
    for t in tape:
        if t.op is not None and getattr(t.scope, "name", "") not in FUNCTIONS:
            for a, given in zip(t.inputs, _names_given(t._code, t._offset, len(t.inputs))):
                if given and not given.startswith("_"):
                    found.setdefault(id(a), given)
    return found


@functools.lru_cache(1024)
def _names_given(code: CodeType, offset: int, n: int) -> list[str]:
    """Return the variables that are the operands of the expression at an offset, "" for one that is no variable."""
    start, end, left, right = list(code.co_positions())[offset // 2]
    if start is None or end is None or left is None or right is None:
        return []
    lines = [linecache.getline(code.co_filename, i).encode() for i in range(start, end + 1)]
    lines[-1] = lines[-1][:right]
    lines[0] = lines[0][left:]
    try:
        node = ast.parse(b"(" + b"".join(lines) + b")", mode="eval").body
    except SyntaxError:
        return []
    if isinstance(node, ast.BinOp):
        operands = [node.left, node.right]
    elif isinstance(node, ast.Call):
        is_method = isinstance(node.func, ast.Attribute) and len(node.args) == n - 1
        operands = [node.func.value, *node.args] if is_method else node.args  # type: ignore[attr-defined]
    else:
        return []
    names = [o.id if isinstance(o, ast.Name) else o.attr if isinstance(o, ast.Attribute) else "" for o in operands]
    return names if len(names) == n else []


def _free(wanted: list[str], taken: set[str]) -> str:
    candidates = [w for w in wanted if w not in taken and not keyword.iskeyword(w)]
    if candidates:
        found = candidates[0]
    else:
        root = "h" if wanted[-1] == "h1" else wanted[-1] + "_"
        n = 2
        while (found := f"{root}{n}") in taken:
            n += 1
    taken |= {found, f"d_{found}"}
    return found


def identifier(text: str) -> str:
    """Return a name as a variable's: `h.0.attn.weight` as `h_0_attn_weight`."""
    text = unicodedata.normalize("NFKC", text)  # as Python does with the names in a program
    text = re.sub(r"\W+", "_", text).strip("_") or "leaf"
    text = f"_{text}" if text[0].isdigit() else text
    return text if text.isidentifier() else re.sub(r"\W+", "_", text, flags=re.ASCII)


def _roles(tape: Tape) -> dict[Tensor, str]:
    """Return for records the name of the input that they are of the first op which says something by it."""
    roles: dict[Tensor, str] = {}
    for t in tape:
        for i, a in enumerate(t.inputs):
            if type(a) is Tensor and a not in roles:
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
        n = behind[0].argval
        names: list[str] = []
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
