"""Memory of captured programs: against the plan, against other captures, and buffer by buffer."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.core.describe import format_bytes
from autograd.program.trace import BACKWARD, FORWARD, RECOMPUTE, SUM
from autograd.view.memory.chart import arena_map

rng = np.random.default_rng(0)


def parameter(*shape, name=""):
    return ag.tensor(rng.normal(size=shape), requires_grad=True, name=name)


def gpt_program(rows=6):
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=16, n_layer=2, n_head=2, n_embd=16), seed=3)
    return ag.record(model.loss, *rng.integers(0, 11, (2, rows, 16)))


def recompute(monkeypatch, *names):
    for op in ag.REGISTRY.values():
        monkeypatch.setattr(op, "recompute", op.name in names)


# ---------------------------------------------------------------------- the plan


@pytest.mark.parametrize("names", [(), ("gelu", "layer_norm")])
def test_buffers_lie_in_the_arena_and_never_two_in_one_place(names, monkeypatch):
    recompute(monkeypatch, *names)
    program = gpt_program()
    m = program.memory()
    assert m.n_bytes == program.n_bytes == m.plan.n_bytes_without(set(), {})
    assert m.without_reuse == sum(-(-b.n_bytes // 64) * 64 for b in m.lifetimes) > 2 * m.n_bytes
    assert [b.born for b in m.lifetimes] == sorted(b.born for b in m.lifetimes)
    for i, b in enumerate(m.lifetimes):
        assert 0 <= b.start <= b.start + b.n_bytes <= m.n_bytes and 0 <= b.born <= b.dies <= len(m.steps)
        for other in m.lifetimes[:i]:
            assert (b.start + b.n_bytes <= other.start or other.start + other.n_bytes <= b.start
                    or b.dies < other.born or other.dies < b.born)
    for step, n_bytes in enumerate(m.alive):
        assert n_bytes == sum(b.n_bytes for b in m.at(step)) <= m.n_bytes
    assert m.peak == max(m.alive) == m.alive[m.peak_step]


def test_steps_and_buffers_of_a_small_program():
    w = parameter(1000, name="w")
    m = ag.record(lambda x: (np.exp(np.sin(w * x)) * 2.0).sum(), np.ones(1000)).memory()
    names = [(t.op.name, purpose) for t, purpose in m.steps]
    forward = ["multiply", "sin", "exp", "multiply", "sum"]
    assert names[:m.n_forward] == [(name, FORWARD) for name in forward] and m.n_forward == 5
    assert names[m.n_forward:] == [(name, BACKWARD) for name in ["multiply", "exp", "sin", "multiply"]]
    inner = [b for b in m.lifetimes if b.purpose == FORWARD]
    # A rule is handed the gradient, the output and the inputs; that of `sum` runs no step, as it spreads a view.
    assert [(b.record.op.name, b.n_bytes, b.born, b.dies) for b in inner] == [
        ("multiply", 8000, 0, 8), ("sin", 8000, 1, 7), ("exp", 8000, 2, 6), ("multiply", 8000, 3, 5), ("sum", 8, 4, 9)]
    assert (m.parameters, m.gradients, m.inputs) == (8000, 8000, 8000)
    assert m.n_bytes == 5 * 8000 + 64 and m.without_reuse == 7 * 8000 + 64  # the gradient of w is not in it


def test_sums_of_gradients_and_what_is_held_in_passing():
    w = parameter(1000)
    m = ag.record(lambda: ag.layer_norm(np.sin(w) + np.exp(w * 1.0), None, None)[:10].sum()).memory()
    assert [t for t, purpose in m.steps if purpose == SUM] == [ag.tape(w)[0]]
    passing = [b for b in m.lifetimes if b.kind == "temporary"]
    assert [(b.record.op.name, b.purpose) for b in passing] == [("layer_norm", BACKWARD)]  # its kernel's scratch
    assert all((b.kind == "temporary") == (b.born == b.dies) for b in m.lifetimes)
    assert {b.kind for b in m.lifetimes} == {"forward", "gradients", "temporary"}


def test_leaves_and_results_alone():
    w = parameter(3)
    m = ag.record(lambda: w).memory()
    assert repr(m) and m._repr_html_() and m.n_bytes == 0
    m = ag.record(lambda x: {"a": x * 2, "b": x + 1}, np.ones(100)).memory()
    assert [(b.n_bytes, b.dies) for b in m.lifetimes] == [(800, 2), (800, 2)] and len(m.steps) == m.n_forward == 2
    assert "result" in repr(m) and m.again == []


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_numbers_and_empty_arrays(shape):
    w = parameter(*shape)
    m = ag.record(lambda: (np.exp(w) * w).sum()).memory()
    assert m.peak <= m.n_bytes and repr(m) and m._repr_html_()


def test_it_is_the_plan_of_the_last_call():
    w = parameter(10)
    program = ag.record(lambda x: (w * x).sum(), np.ones((2, 10)))
    assert program.memory().inputs == 160  # before the first call
    program(np.ones((5, 10)))
    assert program.memory().inputs == 400
    total = format_bytes(program.n_bytes)
    assert f"2 captured graphs, for arguments of other shapes too: {total}" in repr(program.memory())
    program(np.ones((2, 10)))
    assert program.memory().inputs == 160


def test_asking_leaves_the_program_as_it_is():
    w = parameter(10)
    program, asked = (ag.record(lambda x: np.tanh(w * x).sum(), np.ones(10)) for _ in range(2))
    for x in rng.normal(size=(3, 10)):
        repr(asked.memory())
        assert program(x) == asked(x)
        repr(asked.memory())
        program.backward()
        expected = w.grad.copy()
        asked.backward()
        assert np.array_equal(w.grad, expected) and asked.tape[-1].data == program.tape[-1].data


def test_values_that_nothing_needed_are_not_kept_for_it():
    w = parameter(10)

    def f(x):
        np.exp(w * np.ones((50, 10)))  # which no result is made from
        return np.sin(w * x).sum()

    program = ag.record(f, np.ones(10))
    m = program.memory()
    assert {t.op.name for t, _ in m.steps} == {"multiply", "exp", "sin", "sum"}
    assert all(t._array is None for t, _ in m.steps) and "exp f64[50,10]" in repr(m)


# ---------------------------------------------------------------------- recomputation


def test_what_is_saved_is_what_recording_otherwise_takes(monkeypatch):
    sizes = {}
    for names in [(), ("gelu",), ("layer_norm",), ("gelu", "layer_norm")]:
        recompute(monkeypatch, *names)
        sizes[names] = gpt_program(40).n_bytes
    m = gpt_program(40).memory()
    assert [(a.op, a.times) for a in m.again] == [("layer_norm", 5), ("gelu", 2), ("all of these", 7)]
    saved = {a.op: a.saved for a in m.again}
    both = sizes["gelu", "layer_norm"]
    assert saved == {"layer_norm": sizes["gelu",] - both, "gelu": sizes["layer_norm",] - both,
                     "all of these": sizes[()] - both}
    assert min(saved.values()) > 0
    n = 40 * 16 * 16 * 4  # bytes of x (B, T, C), of which NumPy's kernel saves x̂ too, and a number a row
    assert [a.n_bytes for a in m.again] == [5 * (2 * n + n // 16), 2 * 2 * 4 * n, 5 * (2 * n + n // 16) + 16 * n]


def test_what_a_checkpoint_frees_is_computed_again():
    w = parameter(4, 4)
    inner = ag.checkpoint(lambda x: np.tanh(np.tanh(x @ w) @ w))
    m = ag.record(lambda x: (inner(x) ** 2).sum(), np.ones((3, 4))).memory()
    assert [(a.op, a.times) for a in m.again if a.op == "tanh"] and RECOMPUTE in {purpose for _, purpose in m.steps}


@pytest.mark.parametrize("n", [50, 200])  # of the smaller ones what gelu holds in passing is a large part
def test_of_a_tape_it_is_what_freeing_and_computing_again_saves(n, monkeypatch):
    """Check the predicted saving against ag.checkpoint, which recomputes as a captured program does."""
    w = [parameter(n, n) for _ in range(5)]

    def chain(block):
        x = np.ones((n, n))
        for weight in w:
            x = block(x @ weight, weight)
        return ag.tape(x.sum()).memory()

    def block(x, weight):
        return ag.gelu(x) @ weight

    recompute(monkeypatch)
    plain, saving = chain(block), chain(ag.checkpoint(block))
    assert plain.again == []
    recompute(monkeypatch, "gelu")
    (again,) = chain(block).again
    assert (again.op, again.times) == ("gelu", 5) and again.n_bytes == 5 * 2 * n * n * 8  # y, and Φ(x) of NumPy's
    assert again.saved == pytest.approx(plain.peak - saving.peak, rel=0.01) and again.saved > 20 * n * n


@pytest.mark.parametrize("read, saved", [
    (lambda y, heavy: np.exp(y) + heavy(), 80_000), (lambda y, heavy: np.exp(y.T) + heavy(), 80_000),
    (lambda y, heavy: heavy() + np.exp(y), 0), (lambda y, heavy: (lambda view: heavy() + np.exp(view))(y.T), 0)])
def test_of_a_tape_it_is_kept_to_its_last_reader(read, saved, monkeypatch):
    @ag.Op
    def wasteful(x):
        """y = 2 x, at great expense"""
        return np.stack([2 * x] * 50)[0] * 1

    wasteful.gradient("x")(lambda g, y, x: 2 * g)
    x, w = parameter(100, 100), parameter(100, 100)
    recompute(monkeypatch, "sin")
    (again,) = ag.tape(read(np.sin(x), lambda: wasteful(w)).sum()).memory().again
    assert (again.n_bytes, again.saved) == (80_000, pytest.approx(saved, abs=5000))


def test_what_is_held_in_passing_would_not_be_kept():
    @ag.Op
    def twice(x):
        """y = 2 x"""
        return 2 * x

    twice.gradient("x")(lambda g, y, x: 2 * g)

    class Kernel:
        @staticmethod
        def forward(executor, x):
            y, scratch = executor.empty(x, x.shape), executor.empty(x, (2, *x.shape))
            executor.run(lambda x, scratch, y: (np.add(x, x, out=scratch[0]), np.copyto(y, scratch[0])), x, scratch, y)
            return y, None

        @staticmethod
        def backward(executor, needed, g, y, saved, x):
            return [Kernel.forward(executor, g)[0]]

    w = parameter(100)
    twice.kernels[np.ndarray], twice.recompute = Kernel, True
    (again,) = ag.record(lambda: np.exp(np.sin(twice(w * 1.0))).sum()).memory().again
    assert (again.op, again.times, again.n_bytes) == ("twice", 1, 800)


def test_several_roots_and_the_root_itself_are_kept(monkeypatch):
    x = parameter(100)
    recompute(monkeypatch, "sin")
    assert ag.tape(np.sin(x)).memory().again == []
    assert ag.tape(np.exp(np.sin(x)), np.cos(x)).memory().again == []
    assert ag.record(lambda: np.sin(x)).memory().again == []


# ---------------------------------------------------------------------- shown


def test_the_text_has_a_line_for_what_is_alike(monkeypatch):
    recompute(monkeypatch, "gelu", "layer_norm")
    m = gpt_program().memory()
    text = repr(m)
    assert re.search(rf"^Memory plan of {m.n_forward} steps forward and \d+ backward: an arena of [\d.]+ kB "
                     r"\([\d.]+ kB without reuse", text)
    assert re.search(r"49\.2 kB +2 × 24\.6 kB +forward +\d+–\d+ +recomputed %\d+ +%\d+ f32\[6,16,64\] = linear\(",
                     text)
    assert re.search(r"\n +[\d.]+ kB +[\d.]+ kB +2 +gelu\n", text)
    assert f"step {m.peak_step}, " in text and len(text.splitlines()) < 30


def test_the_map_has_a_box_for_each_buffer(monkeypatch):
    recompute(monkeypatch, "gelu")
    m = gpt_program().memory()
    root = ElementTree.fromstring(m.svg())
    boxes = [e.get("d") for e in root.iter() if e.tag.endswith("path") and e.get("fill-opacity") == ".75"]
    assert sum(d.count("z") for d in boxes) == len(m.lifetimes)
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert {"forward", "recomputed", "gradients", "temporary", "backward"} <= set(texts)
    assert any(f"step {m.peak_step}, " in (text or "") for text in texts)
    assert "recomputed" not in ag.record(lambda: np.sin(ag.tensor([1.0]))).memory().svg()  # a legend of what occurs


def test_the_map_of_a_long_program_stays_small():
    boxes = [(i, i + 5, 64 * (i % 100), 64 + (i > 100)) for i in range(20_000)]
    svg = arena_map({"forward": boxes}, 20_005, 20_005, 30_000, 7, "")
    assert len(svg) < 300_000 and len(re.findall(r"\dz", svg)) == 4000


def test_hostile_names_are_text():
    def formula(x):
        """y = x"""
        return x * 1.0
    formula.__name__ = "<script>alert(1)</script>"
    op = ag.Op(formula)
    op.gradient("x")(lambda g, y, x: g)
    w = parameter(3, name="<script>")
    m = ag.record(lambda: op(w * 1.0).sum()).memory()
    assert "<script" not in m._repr_html_() and "&lt;script&gt;" in m._repr_html_()
    assert ElementTree.fromstring(m.svg()) is not None
