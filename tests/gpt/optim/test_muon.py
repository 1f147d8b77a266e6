"""Muon: orthogonal steps against an SVD, momentum, Adam for what is no matrix, threads, and odd inputs."""

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.kernels.numpy.optimizers import orthogonalize
from gpt import AdamW, Parameters
from gpt.optim.muon import MARGIN, POLYNOMIALS, Muon
from gpt.optim.parameters import parameter_group
from gpt.runtime.worker_pool import SINGLE, WorkerPool


def scanned(sigma):
    """Apply the three polynomials to singular values."""
    for a, b, c in POLYNOMIALS:
        sigma = a * sigma + b * sigma ** 3 + c * sigma ** 5
    return sigma


GRID = np.geomspace(1e-4, 1 / MARGIN, 2_000_001)  # singular values of matrices of norm 1 / MARGIN
VALUES = scanned(GRID)
GAP = np.abs(np.diff(VALUES)).max()  # how much a value can lie beside those of the grid


def band(least):
    """The smallest and the largest value that the polynomials give to singular values from `least` to 1 / MARGIN."""
    assert GRID[0] <= least and GAP < 2e-3
    values = VALUES[np.searchsorted(GRID, least) - 1:]
    return values.min() - GAP, values.max() + GAP


def orthogonal(x, factor=1.0):
    """`orthogonalize` of a stack (k, n, d)."""
    out = np.full_like(x, np.nan)
    squares = np.full((4, len(x), x.shape[2], x.shape[2]), np.nan, x.dtype)
    orthogonalize(x, squares, factor, POLYNOMIALS, MARGIN, out)
    return out


def with_spectrum(rng, n, d, sigma):
    """A matrix (n, d) with these singular values."""
    u, v = (np.linalg.qr(rng.standard_normal((size, d)))[0] for size in (n, d))
    return u * sigma @ v.T


SPECTRA = {"random": None, "equal": np.ones(64), "steep": np.geomspace(1, 2e-3, 64),
           "one large": np.r_[1, np.full(63, .01)]}


# ---------------------------------------------------------------------- against an SVD


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [64, 128, 512])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_singular_values_end_in_the_band_and_directions_stay(spectrum, n, dtype):
    rng, sigma = np.random.default_rng(0), SPECTRA[spectrum]
    x = np.stack([rng.standard_normal((n, 64)) if sigma is None else with_spectrum(rng, n, 64, sigma)
                  for _ in range(3)]).astype(dtype)
    made = orthogonal(x)
    u, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    s /= MARGIN * np.linalg.norm(s, axis=1, keepdims=True)
    low, high = band(s.min())
    values = np.linalg.svd(made, compute_uv=False)
    assert low <= values.min() and values.max() <= high
    expected = u * scanned(s)[:, None, :] @ vt  # the same U and V
    np.testing.assert_allclose(made, expected, rtol=0, atol={4: 1e-3, 8: 1e-11}[x.itemsize] * np.abs(expected).max())


def test_the_band_that_the_docstring_states():
    assert band(0.0014)[0] > 0.18 and band(0.0014)[1] < 1.87
    assert scanned(np.array(1e-3)) > 0.13


def test_float32_is_near_float64_for_tiny_singular_values():
    """Squaring in the Gram matrix loses those below the square root of float32's precision; they count little."""
    x = with_spectrum(np.random.default_rng(0), 128, 64, np.geomspace(1, 1e-9, 64))[None]
    exact, single = orthogonal(x), orthogonal(x.astype(np.float32))
    assert np.abs(single - exact).max() < 2e-3 * np.abs(exact).max()


@pytest.mark.parametrize("rank", [1, 3])
def test_a_rank_that_is_not_full_stays(rank):
    """A gradient from few tokens: no direction is made of rounding errors."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((1, 128, rank)) @ rng.standard_normal((1, rank, 64))).astype(np.float32)
    values = np.linalg.svd(orthogonal(x)[0], compute_uv=False)
    assert values[:rank].min() > 0.18 and values[rank:].max() < 1e-3


@pytest.mark.parametrize("size", [1e-15, 1e-3, 1.0, 1e15])
def test_the_size_of_a_gradient_does_not_count(size):
    x = np.random.default_rng(0).standard_normal((2, 96, 64)).astype(np.float32)
    np.testing.assert_allclose(orthogonal(x * np.float32(size)), orthogonal(x), atol=1e-5)


def test_zeros_stay_zeros_beside_others():
    x = np.random.default_rng(0).standard_normal((2, 96, 64)).astype(np.float32)
    x[0] = 0
    made = orthogonal(x)
    assert not made[0].any() and np.linalg.norm(made[1]) > 5


# ---------------------------------------------------------------------- the optimizer


def small(**changes):
    """A model with blocks of several shapes: its projections are narrower than a block, as wide, and wider."""
    settings = dict(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=80, convolution=2, smear=True, tied=False)
    model = gpt.GPT(gpt.GPTConfig(**{**settings, **changes}), seed=3, dtype=np.float64)
    return model, Parameters(model)


def blocks_of(name, w):
    """The blocks of a matrix, as Muon's description cuts it: plainly, one by one."""
    by_rows, n = name.endswith("attn.c_proj.weight"), w.shape[0 if name.endswith("attn.c_proj.weight") else 1]
    for start in range(0, n, 64):
        yield (slice(start, start + 64), slice(None)) if by_rows else (slice(None), slice(start, start + 64))


def polar(u):
    """Three steps of the iteration as it is published, on the matrix itself."""
    x = u / (1.01 * np.linalg.norm(u))
    for a, b, c in POLYNOMIALS:
        x = a * x + b * (x @ x.T) @ x + c * (x @ x.T) @ (x @ x.T) @ x
    return x


@pytest.mark.parametrize("n", [1, 2, 3])
def test_muon_is_its_formula(n):
    (_, flat), rng, lr, decay = small(), np.random.default_rng(1), 0.02, 0.3
    optimizer = Muon(flat, 0.8, (0.7, 0.95), 1e-6, decay, embedding_ratio=0.5, taps_ratio=3.0)
    start = {name: view.copy() for name, view in flat.views.items()}
    p, m, v = start, dict.fromkeys(start, 0), dict.fromkeys(start, 0)
    with WorkerPool(n) as pool:
        for t, scale in enumerate([0.25, 2.0, 0.5], 1):
            flat.grad[:] = rng.standard_normal(flat.grad.size)
            gradients = {name: scale * g for name, g in flat.grads.items()}
            optimizer.step(lr, scale, pool)
            for name, tensor in flat.tensors.items():
                group = parameter_group(name, tensor)
                g, rate = gradients[name], lr * {"embedding": 0.5, "convolution": 3.0, "matrix": 1}[group]
                p[name] = p[name] * (1 - rate * decay * (tensor.ndim >= 2))
                if group == "matrix":
                    m[name] = 0.8 * m[name] + 0.2 * g
                    u = 0.2 * g + 0.8 * m[name]
                    for at in blocks_of(name, u):
                        p[name][at] -= lr * polar(u[at])
                else:
                    m[name], v[name] = 0.7 * m[name] + 0.3 * g, 0.95 * v[name] + 0.05 * g ** 2
                    p[name] = p[name] - rate * m[name] / (1 - 0.7 ** t) / (np.sqrt(v[name] / (1 - 0.95 ** t)) + 1e-6)
                np.testing.assert_allclose(flat.views[name], p[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_every_parameter_of_any_model_has_an_optimizer():
    model, flat = small(bias=True, gated=True, n_kv_head=1, qk_norm=True, norm="layer_norm")
    groups, layers = {name: parameter_group(name, t) for name, t in flat.tensors.items()}, ("h.0", "h.1")
    matrices = {"attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_gate.weight", "mlp.c_proj.weight"}
    assert {name for name, group in groups.items() if group == "matrix"} == {
        f"{layer}.{name}" for layer in layers for name in matrices}
    assert {name for name, group in groups.items() if group == "convolution"} == {
        "smear.weight", *[f"{layer}.{inner}.conv.weight" for layer in layers for inner in ("attn", "mlp")]}
    before = {name: view.copy() for name, view in flat.views.items()}
    flat.grad[:] = 1
    Muon(flat).step(0.01)
    assert all((flat.views[name] != before[name]).all() for name in before)
    assert all(np.array_equal(t.data, flat.views[name]) for name, t in model.named_arrays().items() if name in before)


def test_a_model_with_biases_alone():
    model = gpt.Linear(ag.tensor(np.ones((3, 2))), ag.tensor(np.ones(2), requires_grad=True))
    flat = Parameters(model)
    flat.grad[:] = [1, -2]
    Muon(flat, embedding_ratio=2.0).step(0.01)
    np.testing.assert_allclose(flat.data, [0.98, 1.02], rtol=1e-6)


def test_as_many_threads_as_there_are_give_the_same_bits():
    results = []
    for n in (1, 2, 3, 8):
        _, flat = small()
        with WorkerPool(n) as pool:
            optimizer = Muon(flat)
            for seed in range(3):
                flat.grad[:] = np.random.default_rng(seed).standard_normal(flat.grad.size)
                optimizer.step(0.01, pool=pool)
        results.append(flat.data.tobytes() + optimizer.m.tobytes() + optimizer.v.tobytes())
    assert len(set(results)) == 1


def test_the_state_is_all_that_a_step_depends_on():
    (_, flat), rng = small(), np.random.default_rng(0)
    first = Muon(flat)
    for _ in range(2):
        flat.grad[:] = rng.standard_normal(flat.grad.size)
        first.step(0.01)
    second, before, gradient = Muon(flat), flat.data.copy(), flat.grad.copy()
    for name, a in first.state().items():
        second.state()[name][...] = a
    first.step(0.01)
    expected, flat.data[:], flat.grad[:] = flat.data.copy(), before, gradient
    second.step(0.01)
    np.testing.assert_array_equal(flat.data, expected)
    assert first.v.size == sum(t.size for name, t in flat.tensors.items() if parameter_group(name, t) != "matrix")


def test_a_step_between_forward_and_backward_is_caught():
    model, flat = small()
    loss = model.loss(np.zeros((1, 3), int), np.ones((1, 3), int))
    Muon(flat).step(1e-3)
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()


def test_without_gradients_nothing_moves():
    _, flat = small()
    before = flat.data.copy()
    Muon(flat).step(0.1)
    np.testing.assert_array_equal(flat.data, before)


def test_blocks_do_not_see_each_other():
    """A head's queries keep their speed, however large the gradients of another head's are."""
    moved = []
    for size in (1.0, 1e6):
        _, flat = small(n_embd=128)
        w, g = flat.views["h.0.attn.c_attn.weight"], flat.grads["h.0.attn.c_attn.weight"]
        before, g[:] = w.copy(), np.random.default_rng(0).standard_normal(g.shape)
        g[:, 64:128] *= size
        Muon(flat).step(0.01, pool=SINGLE)
        moved.append((w - before)[:, :64].copy())
    np.testing.assert_array_equal(*moved)


def test_muon_learns_where_a_direction_is_rare():
    """A linear map whose inputs are a thousand times smaller in one direction: AdamW's rate fits one of them only."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 8)) * np.geomspace(1, 1e-2, 8) @ np.linalg.qr(rng.standard_normal((8, 8)))[0]
    target = rng.standard_normal((8, 8))
    left = {}
    for make in (Muon, AdamW):
        model = Layer(gpt.Linear(ag.tensor(np.zeros((8, 8)), requires_grad=True), None))
        flat = Parameters(model)
        optimizer = make(flat)
        for i in range(200):
            flat.grad[:] = (x.T @ (x @ (model.c_fc.weight.data - target))).ravel()
            optimizer.step(0.1 * (1 - i / 200))
        left[make] = np.abs(np.asarray(model.c_fc.weight.data) - target).max()
    assert left[Muon] < 0.2 < left[AdamW]


class Layer(gpt.Module):
    """A matrix under a name of the GPT's."""

    def __init__(self, c_fc):
        self.c_fc = c_fc

    def named_arrays(self):
        return {"mlp.c_fc.weight": self.c_fc.weight}
