"""Tapes written as NumPy programs."""

import ast
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.core.tree import tree_leaves, tree_map
from autograd.view.code.numbers import number_text
from tests.autograd.common import leaf
from tests.autograd.view.code.bare import expected, run_bare
from tests.fuzz.draw import draw_program
from tests.layouts import LAYOUTS
from tests.samples import SAMPLES


def body_of(code, name="forward_backward"):
    """Return the lines of a function of the program, without comments and docstring."""
    tree = next(f for f in ast.parse(str(code)).body if isinstance(f, ast.FunctionDef) and f.name == name)
    return ast.unparse(tree.body[1:]).splitlines()


def run(code, **leaves):
    program = {"__name__": "program", "__file__": "program.py"}
    exec(str(code), program)
    return program["forward_backward"](**leaves)


# ---------------------------------------------------------------------- how it reads


def test_a_neuron_as_a_person_would_write_it():
    a, b, c = leaf(2.0, "a"), leaf(-3.0, "b"), leaf(10.0, "c")
    d = a * b + c
    out = np.tanh(d)
    code = ag.tape(out).code()
    assert body_of(code) == textwrap.dedent("""\
        h1 = a * b
        d = h1 + c
        out = np.tanh(d)
        d_out = np.ones_like(out)
        d_d = d_out * sech2(d)
        d_h1 = d_d
        d_c = d_d
        d_a = d_h1 * b
        d_b = d_h1 * a
        return (out, {'a': d_a, 'b': d_b, 'c': d_c})""").splitlines()
    text = str(code)
    assert "def forward_backward(a=A, b=B, c=C):" in text and "A = np.array(2.0)\n" in text
    assert "d_b = d_h1 * a                                                # ∂L/∂y = g ⊙ x\n" in text
    assert text.count("def ") == 2 and "import math" not in text  # sech2, and nothing that is not needed
    assert "It gives the same bits as backward() does." in text and code.rounding == 0.0


def test_an_mlp_as_a_person_would_write_it():
    x, y = np.arange(6.0).reshape(3, 2), np.array([[0.0], [1.0], [1.0]])
    w1, b1 = ag.tensor(np.full((2, 4), 0.1), requires_grad=True), ag.tensor(np.zeros(4), requires_grad=True)
    w2, b2 = ag.tensor(np.full((4, 1), 0.1), requires_grad=True), ag.tensor(np.zeros(1), requires_grad=True)
    hidden = np.tanh(x @ w1 + b1)
    prediction = hidden @ w2 + b2
    loss = ((prediction - y) ** 2).mean()
    assert body_of(ag.tape(loss).code()) == textwrap.dedent("""\
        h1 = x @ w1
        h2 = h1 + b1
        hidden = np.tanh(h2)
        h3 = hidden @ w2
        prediction = h3 + b2
        h4 = prediction - y_given
        h5 = h4 ** 2
        loss = np.mean(h5)
        d_loss = np.ones_like(loss)
        d_h5 = np.broadcast_to(d_loss / 3, h5.shape)
        d_h4 = d_h5 * (2 * h4)
        d_prediction = d_h4
        d_h3 = d_prediction
        d_b2 = d_prediction.sum(axis=0)
        d_hidden = d_h3 @ w2.mT
        d_w2 = hidden.mT @ d_h3
        d_h2 = d_hidden * sech2(h2)
        d_h1 = d_h2
        d_b1 = d_h2.sum(axis=0)
        d_w1 = x.mT @ d_h1
        return (loss, {'w1': d_w1, 'b1': d_b1, 'w2': d_w2, 'b2': d_b2})""").replace("y_given", "y").splitlines()


def test_uses_of_one_value_are_added_up_and_broadcast_axes_summed():
    x, s = leaf(np.ones((2, 3)), "x"), leaf(2.0, "s")
    y = x * x + s
    code = ag.tape(y.sum()).code()
    assert "d_x = d_h1 * x + d_h1 * x" in body_of(code) and "d_s = d_y.sum()" in body_of(code)


def test_an_op_with_several_results():
    x = leaf(np.arange(6.0), "x")
    a, b, _ = np.split(x, 3)
    code = ag.tape((a * b).sum()).code()
    assert body_of(code)[0] == "a, b, h1_2 = np.split(x, 3)"
    assert run(code)[1]["x"].tolist() == [2.0, 3.0, 0.0, 1.0, 0.0, 0.0]


def test_rules_and_formulas_are_functions_with_their_docstrings():
    x = leaf(np.ones((2, 3)), "x")
    text = str(ag.tape(ag.softmax(x).max()).code())
    assert '    """Probabilities along `axis`.  y = exp(x) / Σ exp(x)' in text
    assert "def softmax_backward(g, y, axis=-1):" in text
    assert "widen" not in text and "narrow" not in text and "raise" not in text  # what these arrays do not need
    half = ag.tensor(np.ones((2, 3)), np.float16, requires_grad=True)
    assert "astype(np.float16)" in str(ag.tape(ag.softmax(half).max()).code())


# ---------------------------------------------------------------------- bits, in a bare process


def taped(a):
    return ag.tensor(a, requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a


def loss_of_sample(name, sample):
    """Return a loss of a sample; None if nothing in it requires a gradient."""
    args, kwargs = (sample[:-1], sample[-1]) if sample and isinstance(sample[-1], dict) else (sample, {})
    try:
        made = getattr(ag, name)(*tree_map(taped, list(args)), **tree_map(taped, kwargs))
    except TypeError:  # an attribute that is an array
        made = getattr(ag, name)(*tree_map(taped, list(args)), **kwargs)
    loss = 0
    for y in tree_leaves(made):
        if isinstance(y, ag.Tensor) and y.requires_grad:
            loss = loss + (y * np.cos(np.arange(y.size)).reshape(y.shape)).sum()
    return loss if isinstance(loss, ag.Tensor) else None


def codes_of(names):
    with np.errstate(all="ignore"):
        losses = [loss_of_sample(name, sample) for name in names for sample in SAMPLES[name]]
    return [ag.tape(loss).code() for loss in losses if loss is not None]


def test_the_first_ops_in_a_bare_process(tmp_path):
    codes = codes_of(["add", "where", "softmax", "split"])
    assert run_bare(tmp_path, codes) == [*map(expected, codes)] and len(codes) > 20


@pytest.mark.slow
def test_every_sample_in_a_bare_process(tmp_path):
    codes = codes_of(SAMPLES)
    assert len(codes) > 1500
    assert run_bare(tmp_path, codes) == [*map(expected, codes)]


@pytest.mark.slow
def test_random_programs_and_second_derivatives_in_a_bare_process(tmp_path):
    codes = []
    for seed in range(40):
        program = draw_program(seed)
        leaves = {name: ag.tensor(a, requires_grad=True, name=name) for name, a in program.leaves.items()}
        env = {"np": np, "ag": ag, **program.constants, **leaves}
        with np.errstate(all="ignore"):
            exec("\n".join(s.line() for s in program.statements), env)
            loss = sum(env[r].sum() for r in program.results)
            if seed % 2:
                loss.backward(create_graph=True)
                squares = [(t.grad * t.grad).sum() for t in leaves.values() if isinstance(t.grad, ag.Tensor)]
                loss = next((s for s in squares if s.requires_grad), loss)
        codes.append(ag.tape(loss).code())
    assert run_bare(tmp_path, codes) == [*map(expected, codes)]


GPTS = {
    "nanoGPT's": {},
    "the default": dict(norm="rms_norm", norm_gain=False, qk_norm=True, positions="rotary", activation="squared_relu",
                        tied=False, smear=True, convolution=3, norm_embedding=True),
    "Llama's": dict(norm="rms_norm", positions="rotary", gated=True, activation="silu", n_kv_head=1, tied=False),
}


def loss_of_gpt(**settings):
    small = {"n_layer": 3, "n_head": 2, "n_embd": 8, "block_size": 6, "vocab_size": 11}
    model = gpt.GPT(gpt.GPTConfig(**small | settings))
    ids = np.random.default_rng(0).integers(0, 11, (2, 7))
    return model.loss(ids[:, :-1], ids[:, 1:])


@pytest.mark.slow
def test_gpts_in_a_bare_process_with_their_blocks_in_a_loop(tmp_path):
    codes = [ag.tape(loss_of_gpt(**settings)).code() for settings in GPTS.values()]
    assert run_bare(tmp_path, codes) == [*map(expected, codes)]
    for code in codes:
        assert 0 < code.rounding < 1e-5  # kernels
        text = "\n".join(body_of(code))
        assert text.count("for names in BLOCKS:") == 1 and "for names, saved in zip(BLOCKS[::-1]" in text


# ---------------------------------------------------------------------- repeated scopes


def chain(blocks, skip=False):
    """A loss of layers in scopes of their own, made by the functions `blocks`."""
    x, kept = leaf([0.1, 0.2, 0.3], "x") * 1.0, []
    for i, block in enumerate(blocks):
        with ag.scope(f"layers.{i}"):
            x = block(x, leaf([0.1 * i, 0.2, 0.3], f"layers.{i}.w"))
        kept.append(x)
    return (x * kept[0]).sum() if skip else x.sum()


def layer(x, w):
    h = x * w
    y = np.tanh(h)
    x = x + y
    return x


def other_layer(x, w):
    h = x * w
    y = np.sin(h)
    x = x + y
    return x


def test_repeated_scopes_are_a_loop():
    code = ag.tape(chain([layer] * 4)).code()
    assert body_of(code, "block") == ["h = h1 * w", "y = np.tanh(h)", "x = h1 + y", "return (x, (h, h1))"]
    assert body_of(code, "block_backward") == [
        "h, h1 = saved", "d_h1 = d_x", "d_y = d_x", "d_h = d_y * sech2(h)", "d_h1 = d_h1 + d_h * w", "d_w = d_h * h1",
        "return (d_h1, d_w)"]
    text = str(code)
    assert 'BLOCKS = [[f"layers.{i}.{name}" for name in ("w",)] for i in range(4)]' in text
    assert text.count("np.tanh(") == 1 and "layers_3_w=LAYERS_3_W" in text
    deeper = ag.tape(chain([layer] * 9)).code()
    assert len(str(deeper).splitlines()) - len(text.splitlines()) < 12  # more leaves than are parameters by their names
    assert set(run(code)[1]) == {"x", *[f"layers.{i}.w" for i in range(4)]}


@pytest.mark.parametrize("loss", [chain([layer, other_layer, layer]), chain([layer] * 3, skip=True)])
def test_scopes_that_differ_or_are_read_from_outside_are_written_out(loss):
    code = ag.tape(loss).code()
    assert "BLOCKS" not in str(code) and "layers_0_w" in str(code)
    assert set(run(code)[1]) == {"x", "layers.0.w", "layers.1.w", "layers.2.w"}


def test_a_weight_that_all_scopes_share():
    w, x = leaf([0.5, 0.6, 0.7], "w"), leaf([0.1, 0.2, 0.3], "x")
    y = x
    for _ in range(3):
        with ag.scope("cell"):
            y = layer(y, w)
    y.sum().backward()
    result, gradients = run(ag.tape(y.sum()).code())
    assert np.array_equal(gradients["w"], w.grad) and np.array_equal(gradients["x"], x.grad)


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "u1", "?"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_are_written_to_the_bit_and_in_their_memory_order(dtype, layout):
    rng = np.random.default_rng(0)
    for shape in ((), (3,), (2, 3), (2, 1, 3), (0, 2)):
        a = (rng.normal(size=shape) * 100).astype(dtype)
        if a.dtype.kind == "f" and a.size > 2:
            a.flat[:3] = np.nan, -np.inf, -0.0
        a = np.array(LAYOUTS[layout](a))  # as a leaf owns it
        b = eval(number_text("a", a, 0), {"np": np})
        assert b.dtype == a.dtype and b.shape == a.shape and b.tobytes() == a.tobytes()
        strides = [[m for m, n in zip(each.strides, a.shape) if n > 1] for each in (a, b)]
        assert strides[0] == strides[1] or not a.size


def test_large_arrays_are_in_a_file_beside_the_program(tmp_path):
    x = leaf(np.random.default_rng(0).normal(size=(20, 30)).T, "x", np.float32)
    ids = ag.tensor(np.arange(30)[::-1].copy(), name="ids")
    loss = np.sin(x[ids]).mean()
    code = ag.tape(loss).code()
    code.save(tmp_path / "program.py")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    norm = np.linalg.norm(code.gradients[code.tape[0]])
    assert done.stdout.splitlines() == [f"loss {code.result!s}", f"|d_x| = {norm:.6g}"]
    (tmp_path / "program.npz").unlink()  # without the file, random numbers
    again = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert again.stdout != done.stdout and again.stdout.startswith("loss 0.")


def test_any_name_of_a_leaf():
    names = ['a "b"', "lambda", "x²", "α", "3", "+", "h.0.w", "sum", "np", "back\\slash", "x", "d_x", "loss",
             "forward_backward", "zip"]
    for few in (names[:7], names):
        leaves = [leaf([float(i), 1.0], name) for i, name in enumerate(few)]
        total = 0
        for t in leaves:
            total = total + t * t
        result, gradients = run(ag.tape(total.sum()).code())
        assert list(gradients) == few and [g[0] for g in gradients.values()] == [2.0 * i for i in range(len(few))]


def test_other_numbers_than_those_of_the_tape():
    x, w = leaf([1.0, 2.0], "x"), leaf([3.0, 4.0], "w")
    code = ag.tape((x * w).sum()).code()
    result, gradients = run(code, w=np.array([5.0, 6.0]))
    assert result == 17 and gradients["x"].tolist() == [5.0, 6.0] and gradients["w"].tolist() == [1.0, 2.0]


# ---------------------------------------------------------------------- any op, any tape

SCALE = 3.0


def test_an_op_of_ones_own_with_what_it_refers_to():
    power = 2

    def helped(x):
        return x ** power * SCALE

    cube = ag.Op(lambda x: helped(x) * x)
    cube.gradient("x")(lambda g, y, x: g * 3 * ag.square(x) * SCALE)
    x = leaf([1.0, 2.0], "x")
    text = str(code := ag.tape(cube(x).sum()).code())
    assert "SCALE = 3.0" in text and "def helped(x):" in text and "autograd" not in text
    assert run(code)[1]["x"].tolist() == [9.0, 36.0]


def test_a_function_of_another_library():
    special = pytest.importorskip("scipy.special")
    expit = ag.Op(special.expit)
    expit.gradient("x")(lambda g, y, x: g * y * (1 - y))
    text = str(ag.tape(expit(leaf([1.0, 2.0], "x")).sum()).code())
    assert "it needs NumPy and scipy." in text and "expit(x)" in text


def test_an_op_without_source():
    env = {"ag": ag}
    exec("op = ag.Op(lambda x: x * 2)\nop.gradient('x')(lambda g, y, x: g * 2)", env)
    with pytest.raises(ValueError, match="the source of .* cannot be read"):
        ag.tape(env["op"](leaf([1.0])).sum()).code()


def test_a_rule_that_is_not_pure_is_noticed():
    rng = np.random.default_rng(0)
    noisy = ag.Op(lambda x: x + 0)
    noisy.gradient("x")(lambda g, y, x: g * (1 + len(rng.normal(size=3)) * rng.random()))
    with pytest.raises((RuntimeError, ValueError), match="other bits|cannot be written"):
        ag.tape(noisy(leaf([1.0])).sum()).code()


def test_the_tape_stays_as_it_is():
    x = leaf([1.0, 2.0], "x")
    h = np.sin(x)
    loss = h.sum()
    loss.backward()
    before = x.grad.copy()
    ag.tape(loss).code()
    assert h._array is None and np.array_equal(x.grad, before)
    with pytest.raises(ValueError, match="has 2 roots that require one"):
        ag.tape(h, loss).code()
    x.data = x.data * 2
    with pytest.raises(RuntimeError, match="'x'"):
        ag.tape(loss).code()


# ---------------------------------------------------------------------- ag.source


def test_source_of_a_gradient():
    def f(x, w, scale=2.0):
        y = np.sin(x) * w["a"]
        return (y * y).sum() * scale

    args = np.array([1.0, 2.0]), {"a": np.array([3.0, 4.0])}
    code = ag.source(ag.grad(f, argnums=(0, 1)), *args)
    result, gradients = run(code)
    expected_x, expected_w = ag.grad(f, argnums=(0, 1))(*args)
    assert np.array_equal(gradients["x"], expected_x) and np.array_equal(gradients["w"], expected_w["a"])
    assert "def forward_backward(x=X, w=W):" in str(code)
    with pytest.raises(TypeError, match="0 backward passes ran in this call"):
        ag.source(f, *args)
    with pytest.raises(TypeError, match="2 backward passes ran in this call"):
        ag.source(ag.jacobian(lambda x: x * x), args[0])
