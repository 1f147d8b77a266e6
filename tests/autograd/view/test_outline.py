"""The tree of scopes: separate calls, placement of leaves, repeated groups."""

import numpy as np

import autograd as ag
import gpt
from autograd.view.outline import Group, outline


def tree(group):
    return {f"{item.name}×{item.times}": tree(item) for item in group.items
            if isinstance(item, Group) and item.twin_of is None}


def gpt_tape(n_layer, **changes):
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=n_layer, n_head=2, n_embd=8))
    ids = np.arange(16).reshape(2, 8) % 11
    return ag.tape(model.loss(ids, ids)), model


def test_blocks_of_a_gpt_repeat():
    tape, model = gpt_tape(12)
    block = {"ln_1×1": {}, "attn×1": {"c_attn×1": {}, "c_proj×1": {}}, "ln_2×1": {},
             "mlp×1": {"c_fc×1": {}, "c_proj×1": {}}}
    assert tree(outline(tape)) == {"wte×1": {}, "wpe×1": {}, "h.0×12": block, "ln_f×1": {}}
    assert sorted(t.created for t in outline(tape).records()) == [t.created for t in tape]


def test_a_block_that_differs_ends_the_row():
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=4, n_head=2, n_embd=8))
    model.h[2].mlp.activation = "relu"
    ids = np.zeros((1, 8), int)
    assert [name for name in tree(outline(ag.tape(model.loss(ids, ids)))) if name.startswith("h")] \
        == ["h.0×2", "h.2×1", "h.3×1"]


def test_two_calls_are_two_groups():
    x = ag.tensor([3.0, 4.0], requires_grad=True)
    y = np.linalg.norm(x) + np.linalg.norm(x * 2)
    groups = [item for item in outline(ag.tape(y)).items if isinstance(item, Group)]
    assert [g.name for g in groups] == ["norm", "norm"] and groups[0].twin_of is None


def test_leaves_are_where_they_are_used():
    tape, model = gpt_tape(2)
    where = {t.name: g.path for g in outline(tape).groups() for t in g.items if not isinstance(t, Group) and t.name}
    assert where["h.1.attn.c_attn.weight"] == "h.1.attn.c_attn" and where["wte.weight"] == ""  # used by the head too


def test_wiring_counts():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    y = x
    for swapped in (False, True):
        with ag.scope("step"):
            a, b = np.exp(y), np.tanh(y)
            y = a / b if not swapped else b / a
    assert tree(outline(ag.tape(y))) == {"step×1": {}} or len(outline(ag.tape(y)).items) == 3
    assert all(g.times == 1 for g in outline(ag.tape(y)).groups())
