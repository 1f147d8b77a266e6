"""Folding of a tape to boxes, frames and edges: to a page, opened by paths, cut around a focus."""

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.view.graph.fold import ENDS, PAGE, Box, Fold, fold
from autograd.view.outline import Group, outline

rng = np.random.default_rng(0)


def leaf(*shape, name=""):
    return ag.tensor(rng.normal(size=shape), requires_grad=True, name=name)


def gpt_tape(n_layer=4):
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=n_layer, n_head=2, n_embd=8))
    ids = np.arange(16).reshape(2, 8) % 11
    return ag.tape(model.loss(ids, ids))


def name(item):
    """Describe a box or frame: scope, operation or leaf, and the number of scopes it represents."""
    op = ("" if not isinstance(item, Box) or item.op is None else
          item.op.op.name if item.op.op is not None else item.op.name or "leaf")
    return " ".join(filter(None, [item.title, op, f"×{item.times}" if item.times > 1 else ""]))


def tree(frame):
    """Return the names of boxes, and (name, items) for a frame, in the order of the tape."""
    return [name(item) if isinstance(item, Box) else (name(item), tree(item)) for item in frame.items]


def edges(folded):
    return {(name(edge.tail), name(edge.head)) for edge in folded.edges}


BLOCK = ["ln_1 layer_norm", "attn", "add", "ln_2 layer_norm", "mlp", "add"]
ATTENTION = ["c_attn linear", "reshape", "swapaxes", "split", "attention", "swapaxes", "reshape", "c_proj linear"]
OPENED = ["ln_1 layer_norm", ("attn", ATTENTION), "add", "ln_2 layer_norm",
          ("mlp", ["c_fc linear", "gelu", "c_proj linear"]), "add"]


@pytest.mark.parametrize("n_layer", [4, 12])
def test_a_gpt_is_one_page(n_layer):
    folded = fold(gpt_tape(n_layer))
    assert tree(folded.frame) == ["wte embedding", "wpe embedding", "add",
                                  (f"h.0 … h.{n_layer - 1} ×{n_layer}", OPENED), "ln_f layer_norm",
                                  "transpose", "linear", "cross_entropy", "wte.weight"]
    assert len(list(folded.frame.boxes())) <= PAGE
    assert all(item.chained for item in folded.frame.runs())


def test_every_record_is_in_one_box():
    tape = gpt_tape()
    for arguments in ({}, {"depth": 0}, {"depth": 1}, {"depth": 9}, {"expand": "h.1.mlp"}):
        folded = fold(tape, **arguments)
        in_boxes = [t for box in folded.frame.boxes() for t in box.records]
        assert sorted(t.created for t in in_boxes) == [t.created for t in tape]
        assert all(any(t is record for record in folded.in_box[t].records) for t in tape)


def test_depth_opens_levels():
    tape = gpt_tape()
    assert "h.0 … h.3 ×4" in tree(fold(tape, depth=0).frame)
    assert ("h.0 … h.3 ×4", BLOCK) in tree(fold(tape, depth=1).frame)
    (_, block), = [item for item in tree(fold(tape, depth=2).frame) if isinstance(item, tuple)]
    assert block[4] == ("mlp", ["c_fc linear", "gelu", "c_proj linear"])
    assert block == OPENED


def test_expand_opens_one_scope_and_leaves_the_others():
    tape = gpt_tape()
    default, expanded = tree(fold(tape).frame), tree(fold(tape, expand="h.0.mlp").frame)
    (i, (run, block)), = [(i, item) for i, item in enumerate(default) if isinstance(item, tuple)]
    assert expanded[:i] + expanded[i + 1:] == default[:i] + default[i + 1:]
    assert expanded[i] == (run, [*block[:4], ("mlp", ["c_fc linear", "gelu", "c_proj linear"]), block[5]])


def test_expand_takes_a_block_out_of_its_row():
    folded = fold(gpt_tape(), depth=0, expand=("h.2.mlp",))
    blocks = [item if isinstance(item, str) else item[0] for item in tree(folded.frame)][3:6]
    assert blocks == ["h.0 … h.1 ×2", "h.2", "h.3"]
    both = fold(gpt_tape(), depth=0, expand=("h.2.mlp", "h.2.attn"))
    assert tree(fold(gpt_tape(), expand="h.2.mlp").frame) == tree(both.frame)  # which opens a level more
    opened = [item[0] for item in tree(fold(gpt_tape(), depth=1, expand="h.2").frame) if not isinstance(item, str)]
    assert opened == ["h.0 … h.1 ×2", "h.2", "h.3"]
    names = {(a, b) for a, b in edges(folded) if "h." in a or "h." in b}
    assert names == {("add", "h.0 … h.1 ×2"), ("h.0 … h.1 ×2", "ln_1 layer_norm"), ("h.0 … h.1 ×2", "add"),
                     ("add", "h.3"), ("h.3", "ln_f layer_norm")}


def test_expand_of_an_unknown_scope_names_near_ones():
    with pytest.raises(ValueError, match=r"'h.0.atn'.*h\.0\.attn"):
        fold(gpt_tape(), expand="h.0.atn")
    with pytest.raises(ValueError, match="no scope of the tape is called 'a'$"):
        fold(ag.tape(leaf(2) * 2), expand="a")


def test_edges_are_those_of_the_tape():
    x, w = leaf(3, name="x"), leaf(3, name="w")
    y = np.exp(x) * w
    assert edges(fold(ag.tape((y + w).sum()))) == {("x", "exp"), ("exp", "multiply"), ("w", "multiply"),
                                                    ("multiply", "add"), ("w", "add"), ("add", "sum")}


def test_a_repeated_scope_has_the_edges_of_the_first():
    x, w = leaf(3, name="x"), leaf(3, name="w")
    h = np.exp(x)
    for i in range(40):
        with ag.scope(f"step.{i}"):
            h = np.tanh(h * w) - w
    folded = fold(ag.tape(h.sum()))
    assert tree(folded.frame) == ["exp", ("step.0 … step.39 ×40", ["multiply", "tanh", "subtract"]), "sum", "w"]
    assert edges(folded) == {("exp", "multiply"), ("w", "multiply"), ("multiply", "tanh"), ("w", "subtract"),
                             ("tanh", "subtract"), ("subtract", "sum")}
    assert [len(edge.uses) for edge in folded.edges if name(edge.head) == "tanh"] == [40]


def test_repeats_in_repeats():
    h = np.exp(leaf(2))
    for i in range(3):
        with ag.scope(f"block.{i}"):
            h = np.tanh(h)
            for j in range(4):
                with ag.scope(f"step.{j}"):
                    h = np.sin(h) * 2.0
    folded = fold(ag.tape(h.sum()))
    block = ["tanh", ("step.0 … step.3 ×4", ["sin", "multiply"])]
    assert tree(folded.frame) == ["exp", ("block.0 … block.2 ×3", block), "sum", "leaf"]
    assert [len(box.records) for box in folded.frame.boxes()] == [1, 3, 12, 12, 1, 1]
    assert edges(folded) == {("leaf", "exp"), ("exp", "tanh"), ("tanh", "sin"), ("sin", "multiply"),
                             ("multiply", "sum")}


def test_a_leaf_between_two_scopes_does_not_part_them():
    h, w = np.exp(leaf(2, name="x")), leaf(2, name="w")
    for _ in range(2):
        with ag.scope("step"):
            h = np.sin(h) * w
    tape = ag.tape(h)
    scopes = outline(tape)
    first, second = [item for item in scopes.items if isinstance(item, Group)]
    second.twin_of, first.twins = first, [second]
    scopes.items = [*scopes.items[:2], first, next(t for t in tape if t is w), second]
    assert tree(Fold(tape, scopes, 1).frame) == ["exp", ("step ×2", ["sin", "multiply"]), "x", "w"]


def test_what_a_path_leads_into_is_drawn_in_the_middle_of_a_long_scope():
    h = leaf(2)
    for part in range(2):
        for _ in range(30):
            h = np.sin(h)
        for _ in range(3 - 3 * part):
            with ag.scope("step"):
                h = np.cos(h) * 2.0
    ends = [item for item in tree(fold(ag.tape(h), expand="step").frame) if item != "sin"]
    assert ends == ["… 18 more operations", ("step ×3", ["cos", "multiply"]), "… 18 more operations"]
    assert [item for item in tree(fold(ag.tape(h)).frame) if item != "sin"] == ["… 42 more operations"]


def test_rows_side_by_side_are_told_from_chains():
    parts = list(np.split(leaf(6), 3))
    for i in range(3):
        with ag.scope(f"head.{i}"):
            parts[i] = np.exp(parts[i]) * 2
    folded = fold(ag.tape(sum(parts)), depth=0)
    run, = folded.frame.runs()
    assert (name(run), run.chained) == ("head.0 … head.2 ×3", False)


def test_a_composed_function_is_one_box_until_opened():
    tape = ag.tape(np.linalg.norm(leaf(3, 2, name="w") * 2))
    assert tree(fold(tape).frame) == ["multiply", "norm", "w"]
    for opened in (fold(tape, depth=1), fold(tape, expand="norm")):
        (title, inner), = [item for item in tree(opened.frame) if isinstance(item, tuple)]
        assert title == "norm" and "root" in inner


def test_a_scope_with_one_operation_is_that_operation():
    x = leaf(2, 3)
    with ag.scope("a"), ag.scope("b"):
        y = np.tanh(x)
    assert tree(fold(ag.tape(np.moveaxis(y, 0, 1))).frame) == ["a.b tanh", "moveaxis transpose", "leaf"]


def test_leaves_have_boxes_in_small_tapes_and_where_they_are_shared():
    x, w, shared = leaf(3, name="x"), leaf(3, name="w"), leaf(3, name="shared")
    y = x * w + shared
    small = [name(box) for box in fold(ag.tape(y.sum())).frame.boxes()]
    assert {"x", "w", "shared"} <= set(small)
    for _ in range(15):
        y = np.tanh(y) * 2
    folded = fold(ag.tape((y + shared).sum()))
    assert [name(box) for box in folded.frame.boxes() if box.op.op is None] == ["shared"]
    assert folded.in_box[x] is folded.in_box[w] and folded.in_box[x].op.op.name == "multiply"


def test_a_long_scope_is_drawn_by_its_ends():
    y = x = leaf(3, name="x")
    for _ in range(2500):
        y = np.tanh(y) * 2.0
    middle = [t for t in ag.tape(y) if t.op is not None][2000]
    boxes = list(fold(ag.tape(y)).frame.boxes())
    assert len(boxes) == 2 * ENDS + 1
    rest, = [box for box in boxes if box.op is None]
    assert rest.title == f"… {5000 - 2 * ENDS:,} more operations" and len(rest.records) == 5000 - 2 * ENDS
    assert len(fold(ag.tape(y), depth=5).edges) == 2 * ENDS  # a line from end to end
    near = fold(ag.tape(y), focus=middle)
    assert len(list(near.frame.boxes())) == 7 and near.in_box[middle].op is middle
    assert x not in near.in_box


def test_focus_shows_three_edges_each_way_and_takes_no_part_in_folding():
    tape = gpt_tape()
    attention = [t for t in tape if t.op is not None and t.op.name == "attention"][2]
    folded = fold(tape, focus=attention)
    (h, [(attn, inner)]), = tree(folded.frame)
    assert (h, attn) == ("h.2", "attn")
    assert sorted(inner) == sorted(["split", *["reshape", "swapaxes"] * 2, "attention", "c_proj linear",
                                    "h.2.attn.c_proj.weight"])
    above, below = folded.has_more(tape)
    assert [name(box) for box in above] == ["reshape"] and [name(box) for box in below] == ["c_proj linear"]


def test_focus_draws_each_scope_by_itself():
    h = np.exp(leaf(2))
    for _ in range(10):
        with ag.scope("step"):
            h = np.sin(h) * 2.0
    tape = ag.tape(h)
    middle = [t for t in tape if t.op is not None and t.op.name == "sin"][5]
    assert [item if isinstance(item, str) else item[1] for item in tree(fold(tape, focus=middle).frame)] == [
        "step multiply", ["sin", "multiply"], ["sin", "multiply"], ["sin", "multiply"]]


def test_focus_on_a_leaf_and_on_an_item():
    w, x = leaf(6, name="w"), leaf(6, name="x")
    first, second = np.split(np.exp(w) * x, 2)
    tape = ag.tape((first * second).sum())
    assert [name(box) for box in fold(tape, focus=w).frame.boxes()] == ["exp", "multiply", "split", "w", "x"]
    item = next(t for t in tape if t is second)
    assert fold(tape, focus=item).in_box[item].op.op.name == "split"


def test_a_leaf_in_focus_has_a_box_in_large_company():
    w = leaf(3, name="w")
    y = np.exp(w)
    tape = ag.tape(sum(np.tanh(y) * i for i in range(20)))
    folded = fold(tape, focus=w)
    assert len(folded.shown) > 30 and folded.in_box[w].op is w
    assert fold(tape).in_box[w].op is y


def test_focus_has_to_be_in_the_tape():
    with pytest.raises(ValueError, match="leaf 'w' .*not in this tape"):
        fold(ag.tape(leaf(2) * 2), focus=leaf(2, name="w"))
    with pytest.raises(ValueError, match="'attn' is not in this tape"):
        fold(ag.tape(leaf(2) * 2), focus="attn")


def test_empty_tapes_and_leaves():
    assert tree(fold(ag.tape()).frame) == []
    assert tree(fold(ag.tape(leaf(2, name="w"))).frame) == ["w"]
