"""Values, gradients and second gradients against PyTorch's (or JAX's), on generated calls and at chosen edges.

TAPEGRAD_EXAMPLES=1000 tries so many calls of each op, new ones each time, instead of the same few.
`python -m tests.autograd.test_peers` prints how far float32 is from float64, here and in PyTorch.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autograd as ag
from autograd.core.registry import module_of
from tests.peers import TABLE
from tests.strategies import Call, examples, floating, map_arrays, outputs

FUNCTIONS = getattr(ag, "FUNCTIONS", {})
DOUBLE = ("astype", "interp", "cov", "corrcoef")  # what they give is in double precision, as NumPy's
PEERS = [name for name, entry in TABLE.items() if entry.peer is not None]
RELATIVE = 1e-10
ROUNDING = 1e-14  # of an array's largest element: what may be left where its other elements cancel


def test_every_function_with_a_gradient_has_a_peer_or_a_reason():
    ours = {name: op for name, op in ag.REGISTRY.items() if module_of(op.formula).startswith(("autograd.", "numpy"))}
    assert set(TABLE) == {*ours, *FUNCTIONS}
    for name, entry in TABLE.items():
        if entry.why == "no gradient":
            assert name not in ours or not ours[name].differentiable, name
        elif entry.peer is None or entry.largest:
            assert entry.why, name


# ---------------------------------------------------------------------- the three orders, here and there


def directions(arrays, seed):
    """A random array like each: the same numbers for us and for the peer, in float32 and in float64."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=a.shape).astype(np.float32).astype(a.dtype) for a in arrays]


def ours(name, call, order=2, directions=directions):
    """(values, gradients, second gradients): the gradients weighted at random, and those of these, weighted again."""
    args, leaves = call.leaves()
    ys = outputs((TABLE[name].ours or getattr(ag, name))(*args, **call.attrs))
    values = [np.asarray(y.data if isinstance(y, ag.Tensor) else y) for y in ys]
    ys = floating(ys)
    weights = [ag.tensor(w, requires_grad=order > 1) for w in directions(ys, 1)]
    loss = sum((y * w).sum() for y, w in zip(ys, weights))
    loss.backward(keep=True)
    first = [gradient(x) for x in leaves]
    if order == 1:
        return values, first, []
    for x in [*weights, *leaves]:
        x.grad = None
    loss.backward(create_graph=True)
    again = [x.grad for x in leaves]
    for a, b in zip(first, again):  # from arrays, perhaps by a kernel, and from Tensors
        close(0 * a if b is None else b.data, a)
    for x in [*weights, *leaves]:
        x.grad = None
    sum((d * v).sum() for d, v in zip(again, directions(leaves, 2)) if d is not None).backward()
    return values, first, [gradient(x) for x in [*weights, *leaves]]


def gradient(x):
    if x.grad is None:
        return np.zeros(x.shape, x.dtype)
    return x.grad.data if isinstance(x.grad, ag.Tensor) else x.grad


def by_torch(peer, call, order=2):
    """Compute by torch what `ours` computes."""
    torch, xs = pytest.importorskip("torch"), []

    def convert(a):
        x = torch.from_numpy(np.array(a, order="C"))
        if a.dtype.kind == "f":
            xs.append(x.requires_grad_())
        return x

    ys = outputs(peer(*map_arrays(convert, call.args), **{k: map_arrays(convert, a) for k, a in call.attrs.items()}))
    values, ys = [y.detach().numpy() for y in ys], floating(ys)
    weights = [w.requires_grad_() for w in torch_directions(torch, ys, 1)]
    first = torch_gradients(torch, ys, weights, xs)
    second = torch_gradients(torch, first, torch_directions(torch, xs, 2), [*weights, *xs]) if order > 1 else []
    return values, [d.detach().numpy(force=True) for d in first], [d.detach().numpy(force=True) for d in second]


def torch_directions(torch, tensors, seed):
    return [torch.from_numpy(np.asarray(v)) for v in directions([t.detach().numpy() for t in tensors], seed)]


def torch_gradients(torch, ys, weights, xs):
    """Return the weighted gradients of `ys`; 0 where torch sees no connection, as with empty arrays."""
    loss = sum((y * w).sum() for y, w in zip(ys, weights))
    if not loss.requires_grad:
        return [torch.zeros_like(x) for x in xs]
    return torch.autograd.grad(loss, xs, create_graph=True, allow_unused=True, materialize_grads=True)


def by_jax(peer, call):
    """Compute by JAX what `ours` computes."""
    jax = pytest.importorskip("jax")

    def f(xs):
        rest = iter(xs)
        return floating(outputs(peer(*call.replaced(lambda a: next(rest)), **call.attrs)))

    xs = [np.array(a) for a in call.floats()]
    values = [np.asarray(y) for y in outputs(peer(*call.args, **call.attrs))]

    def first(weights, xs):
        return jax.vjp(f, xs)[1](weights)[0]

    weights, directed = directions(floating(values), 1), directions(xs, 2)
    gradients, pullback = jax.vjp(first, weights, xs)
    weighted, again = pullback(directed)
    return values, list(map(np.asarray, gradients)), list(map(np.asarray, [*weighted, *again]))


def close(a, b, top=None):
    """Equal up to RELATIVE of each element; or of `top`, the largest one, where the definition cancels."""
    assert np.shape(a) == np.shape(b)
    scale = np.abs(b, where=np.isfinite(b), out=np.zeros(np.shape(b)))
    allowed = RELATIVE * (scale if top is None else top) + ROUNDING * scale.max(initial=0)
    with np.errstate(invalid="ignore"):
        wrong = ~((a == b) | np.isnan(a) & np.isnan(b) | (abs(a - b) <= allowed))
    assert not wrong.any(), f"{np.asarray(a)[wrong]} is not {np.asarray(b)[wrong]}"


def largest(arrays):
    return max([np.max(abs(a), initial=0) for a in arrays], default=0)


# ---------------------------------------------------------------------- float64


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch warns of empty and of unusual shapes
@pytest.mark.parametrize("name", PEERS)
@examples(20)
@given(data=st.data())
def test_float64(name, data):
    entry = TABLE[name]
    call = data.draw(entry.calls)
    got = ours(name, call)
    expected = (by_jax if entry.library == "jax" else by_torch)(entry.peer, call)
    for order, (as_, bs) in enumerate(zip(got, expected)):
        assert len(as_) == len(bs)
        for a, b in zip(as_, bs):
            close(a, b, largest(bs) if entry.largest and order else None)


# ---------------------------------------------------------------------- float32


def errors_in_ulps(name, call, low):
    """Return the largest error of the float32 results `low` (values, gradients) beside those in float64.

    The unit is the larger of 1 ulp of the result and what moving every input by about 1 ulp does to it: a result that
    the inputs' own rounding makes uncertain (a difference, a sum that cancels) cannot be had more exactly than that.
    """
    call = call.astype(np.float64)
    exact, worst = ours(name, call, order=1), []
    around = [moved_by_an_ulp(name, call, np.random.default_rng(seed)) for seed in range(5)]
    for i in range(2):
        errors = [0.0]
        for j, (a, b) in enumerate(zip(low[i], exact[i])):
            ulp = np.spacing(np.float32(largest(exact[i])) if TABLE[name].largest and i else abs(b).astype(np.float32))
            moves = np.max([abs(other[i][j] - b) for other in around], axis=0)
            errors.append(np.max(abs(a.astype(np.float64) - b) / np.maximum(ulp, moves), initial=0))
        worst.append(max(errors))
    return worst


def moved_by_an_ulp(name, call, rng):
    """`ours` of inputs, and of weights, each about 1 ulp of float32 larger or smaller."""
    def moved(a):  # by no two the same, so that what cancels does not cancel here too
        return np.asarray(a * (1 + EPS * rng.normal(size=a.shape)))

    return ours(name, Call(call.replaced(moved), call.attrs), order=1,
                directions=lambda arrays, seed: [moved(w) for w in directions(arrays, seed)])


EPS = float(np.finfo(np.float32).eps)
GRADUAL = {name: entry for name, entry in TABLE.items() if entry.why not in ("no gradient", "no numbers")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GRADUAL)
@examples(10)
@given(data=st.data())
def test_float32(name, data):
    call = data.draw(GRADUAL[name].calls).astype(np.float32)
    low = ours(name, call, order=1)
    assert {a.dtype for a in [*floating(low[0]), *low[1]]} <= {np.dtype(np.float32)} or name in DOUBLE
    value, gradient = errors_in_ulps(name, call, low)
    assert value <= GRADUAL[name].ulps
    assert gradient <= GRADUAL[name].gradient_ulps


def print_errors(names, n=200):
    """Ours and torch's largest errors in float32 over `n` calls of each function."""
    print(f"{'':20}{'value':>10}{'torch':>10}{'gradient':>10}{'torch':>10}")
    for name in names:
        (a, c), (b, d) = float32_errors(name, GRADUAL[name], n)
        print(f"{name:20}{a:10.1f}{b:10.1f}{c:10.1f}{d:10.1f}", flush=True)


def float32_errors(name, entry, n):
    worst = np.zeros((2, 2))

    @examples(n)
    @given(entry.calls)
    def measure(call):
        call = call.astype(np.float32)
        worst[0] = np.maximum(worst[0], errors_in_ulps(name, call, ours(name, call, order=1)))
        if entry.peer and entry.library == "torch":
            worst[1] = np.maximum(worst[1], errors_in_ulps(name, call, by_torch(entry.peer, call, order=1)))

    measure()
    return worst


# ---------------------------------------------------------------------- edges

inf, nan = np.inf, np.nan

# Expression, that of torch, x; the value, which is NumPy's, and the gradients of orders 1, 2 …, which are torch's; a
# result's elements are weighted by 1, 2, 3 … before it is differentiated.  Where our gradients are others, `ours` has
# them, and `says` the op whose docstring gives the reason, with words from it.
EDGES = [
    ("np.sqrt(x)", "torch.sqrt(x)", 0.0, 0.0, [inf]),
    ("np.absolute(x)", "torch.absolute(x)", 0.0, 0.0, [0.0, 0.0],
     {"ours": [0.0, nan], "says": ("absolute", "The gradient at 0 is 0")}),
    ("x ** 0", "x ** 0", 0.0, 1.0, [0.0, 0.0, 0.0]),
    ("x ** 1", "x ** 1", 0.0, 0.0, [1.0, 0.0, 0.0]),
    ("x ** 2", "x ** 2", 0.0, 0.0, [0.0, 2.0, 0.0]),
    ("x ** 0.5", "x ** 0.5", 0.0, 0.0, [inf]),
    ("x ** -1", "x ** -1", 0.0, inf, [-inf]),
    ("x ** 2.5", "x ** 2.5", -1.0, nan, [nan]),
    ("x ** np.array([0, 1, 2], x.dtype)", "x ** torch.tensor([0.0, 1.0, 2.0], dtype=x.dtype)", [0.0, 0.0, 0.0],
     [1.0, 0.0, 0.0], [[0.0, 2.0, 0.0], [nan, 0.0, 18.0], [nan, nan, 0.0]],
     {"ours": [[0.0, 2.0, 0.0], [0.0, 0.0, 18.0], [0.0, 0.0, 0.0]], "says": ("power", "at x = 0 too")}),
    ("np.array(0, x.dtype) ** x", "torch.tensor(0.0, dtype=x.dtype) ** x", [0.0, 1.0, 2.0], [1.0, 0.0, 0.0],
     [[0.0, 0.0, 0.0], [nan, nan, nan]], {"ours": [[0.0, 0.0, 0.0], [nan, nan, 0.0]], "says": ("power", "y ≥ 0")}),
    ("np.array(0, x.dtype) ** x", "torch.tensor(0.0, dtype=x.dtype) ** x", [-1.0], [inf], [[-inf]],
     {"ours": [[nan]], "says": ("power", "y ≥ 0")}),
    ("np.exp(x)", "torch.exp(x)", [-inf, inf], [0.0, inf], [[0.0, inf]]),
    ("np.log(x)", "torch.log(x)", [0.0, -1.0, inf], [-inf, nan, inf], [[inf, -2.0, 0.0]]),
    ("np.log2(x)", "torch.log2(x)", [0.0], [-inf], [[inf]]),
    ("np.log10(x)", "torch.log10(x)", [0.0], [-inf], [[inf]]),
    ("np.log1p(x)", "torch.log1p(x)", [-1.0, 0.0, -2.0], [-inf, 0.0, nan], [[inf, 2.0, -3.0]]),
    ("np.reciprocal(x)", "torch.reciprocal(x)", [0.0, inf], [inf, 0.0], [[-inf, 0.0]]),
    ("1 / x", "1 / x", [0.0, -0.0], [inf, -inf], [[-inf, -inf]]),
    ("0 / x", "0 / x", [0.0], [nan], [[nan]]),
    ("x / 0.0", "x / 0.0", [1.0, 0.0, -1.0], [inf, nan, -inf], [[inf, inf, inf]]),
    ("x / x", "x / x", [0.0], [nan], [[nan]]),
    ("np.arcsin(x)", "torch.arcsin(x)", [-1.0, 1.0, 2.0], [-1.5707963267948966, 1.5707963267948966, nan],
     [[inf, inf, nan]]),
    ("np.arccos(x)", "torch.arccos(x)", [-1.0, 1.0, 2.0], [3.141592653589793, 0.0, nan], [[-inf, -inf, nan]]),
    ("np.arctanh(x)", "torch.arctanh(x)", [-1.0, 1.0], [-inf, inf], [[inf, inf]]),
    ("np.arccosh(x)", "torch.arccosh(x)", [1.0, 0.5], [0.0, nan], [[inf, nan]]),
    ("np.arctan(x)", "torch.arctan(x)", [-inf, inf], [-1.5707963267948966, 1.5707963267948966], [[0.0, 0.0]]),
    ("np.tanh(x)", "torch.tanh(x)", [-inf, 400.0], [-1.0, 1.0], [[0.0, 0.0], [0.0, 0.0]]),
    ("ag.sigmoid(x)", "torch.sigmoid(x)", [-inf, -1000.0, 1000.0, inf], [0.0, 0.0, 1.0, 1.0],
     [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]),
    ("ag.erf(x)", "torch.erf(x)", [-inf, 30.0], [-1.0, 1.0], [[0.0, 0.0]]),
    ("np.sin(x) / x", "torch.sin(x) / x", [0.0], [nan], [[nan]]),
    ("np.maximum(x[0], x[1])", "torch.maximum(x[0], x[1])", [1.0, 1.0], 1.0, [[0.5, 0.5]]),
    ("np.maximum(x[0], x[1])", "torch.maximum(x[0], x[1])", [inf, inf], inf, [[0.5, 0.5]]),
    ("np.maximum(x[0], x[1])", "torch.maximum(x[0], x[1])", [nan, 1.0], nan, [[1.0, 1.0]]),
    ("np.minimum(x[0], x[1])", "torch.minimum(x[0], x[1])", [1.0, 1.0], 1.0, [[0.5, 0.5]]),
    ("np.minimum(x[0], x[1])", "torch.minimum(x[0], x[1])", [1.0, nan], nan, [[1.0, 1.0]]),
    ("np.max(x)", "torch.amax(x)", [1.0, 3.0, 3.0], 3.0, [[0.0, 0.5, 0.5]]),
    ("np.max(x)", "torch.amax(x)", [-inf, -inf], -inf, [[0.5, 0.5]]),
    ("np.max(x)", "torch.amax(x)", [1.0, nan, 3.0], nan, [[nan, nan, nan]]),
    ("np.max(x, axis=1)", "torch.amax(x, 1)", [[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]], [2.0, 0.0],
     [[[0.5, 0.5, 0.0], [0.6666666666666666, 0.6666666666666666, 0.6666666666666666]]]),
    ("np.min(x)", "torch.amin(x)", [1.0, 1.0, 3.0], 1.0, [[0.5, 0.5, 0.0]]),
    ("np.min(x)", "torch.amin(x)", [1.0, nan, 3.0], nan, [[nan, nan, nan]]),
    ("np.ptp(x)", "torch.amax(x) - torch.amin(x)", [1.0, 1.0], 0.0, [[0.0, 0.0]]),
    ("np.clip(x, -1, 1)", "torch.clamp(x, -1, 1)", [-1.0, 1.0, 2.0, -2.0, nan, inf], [-1.0, 1.0, 1.0, -1.0, nan, 1.0],
     [[1.0, 2.0, 0.0, 0.0, 0.0, 0.0]]),
    ("np.clip(x, None, 1)", "torch.clamp(x, None, 1)", [1.0, 2.0], [1.0, 1.0], [[1.0, 0.0]]),
    ("np.clip(x, 2, 1)", "torch.clamp(x, 2, 1)", [0.0, 1.0, 1.5, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0, 1.0],
     [[0.0, 0.0, 0.0, 0.0, 0.0]]),
    ("np.clip(x[0], x[1], x[2])", "torch.clamp(x[0], x[1], x[2])", [1.0, 1.0, 2.0], 1.0, [[1.0, 0.0, 0.0]]),
    ("np.clip(x[0], x[1], x[2])", "torch.clamp(x[0], x[1], x[2])", [2.0, 1.0, 2.0], 2.0, [[1.0, 0.0, 0.0]]),
    ("np.clip(x[0], x[1], x[2])", "torch.clamp(x[0], x[1], x[2])", [0.0, 2.0, 1.0], 1.0, [[0.0, 0.0, 1.0]]),
    ("np.clip(x[0], x[1], x[2])", "torch.clamp(x[0], x[1], x[2])", [0.0, 1.0, 1.0], 1.0, [[0.0, 0.0, 0.0]]),
    ("ag.relu(x)", "F.relu(x)", [0.0, inf, -inf], [0.0, inf, 0.0], [[0.0, 2.0, 0.0]]),
    ("ag.relu(x)", "F.relu(x)", [nan], [nan], [[1.0]]),
    ("ag.leaky_relu(x)", "F.leaky_relu(x)", [0.0, nan], [0.0, nan], [[0.01, 0.02]]),
    ("ag.gelu(x)", "F.gelu(x)", [0.0, 40.0, -40.0], [0.0, 40.0, 0.0],
     [[0.5, 2.0, 0.0], [0.7978845608028654, 0.0, 0.0]]),
    ("ag.silu(x)", "F.silu(x)", [0.0, 800.0, -800.0], [0.0, 800.0, 0.0], [[0.5, 2.0, 0.0], [0.5, 0.0, 0.0]]),
    ("ag.softplus(x)", "F.softplus(x)", [0.0, 800.0, -800.0], [0.6931471805599453, 800.0, 0.0], [[0.5, 2.0, 0.0]]),
    ("np.linalg.norm(x)", "torch.linalg.norm(x)", [], 0.0, [[]]),
    ("np.linalg.norm(x)", "torch.linalg.norm(x)", [0.0, 0.0], 0.0, [[0.0, 0.0]]),
    ("np.linalg.norm(x)", "torch.linalg.norm(x)", [inf, 1.0], inf, [[nan, 0.0]]),
    ("np.linalg.norm(x)", "torch.linalg.norm(x)", [0.0, 0.0], 0.0, [[0.0, 0.0], [nan, nan]]),
    ("np.linalg.norm(x, axis=1)", "torch.linalg.norm(x, dim=1)", [[0.0, 0.0], [3.0, 4.0]], [0.0, 5.0],
     [[[0.0, 0.0], [1.2, 1.6]]]),
    ("np.linalg.norm(x, 1)", "torch.linalg.norm(x, 1)", [0.0, 2.0], 2.0, [[0.0, 1.0]]),
    ("np.linalg.norm(x, 4)", "torch.linalg.norm(x, 4)", [0.0, 2.0], 2.0, [[0.0, 1.0], [0.0, 0.0]]),
    ("np.linalg.norm(x, 4)", "torch.linalg.norm(x, 4)", [0.0, 0.0], 0.0, [[0.0, 0.0], [0.0, 0.0]],
     {"ours": [[0.0, 0.0], [nan, nan]], "says": ("norm", "gradient of a zero vector's is 0")}),
    ("np.linalg.norm(x, 1.5)", "torch.linalg.norm(x, 1.5)", [0.0, 1.0], 1.0, [[0.0, 1.0], [nan, 0.0]]),
    ("np.linalg.norm(x, 0.5)", "torch.linalg.norm(x, 0.5)", [0.0, 4.0], 4.0, [[0.0, 1.0], [nan, 0.0]]),
    ("np.linalg.norm(x, 0.5)", "torch.linalg.norm(x, 0.5)", [0.0, 0.0], 0.0, [[0.0, 0.0], [nan, nan]]),
    ("np.linalg.norm(x, -1)", "torch.linalg.norm(x, -1)", [0.0, 2.0], 0.0, [[0.0, 0.0], [nan, 0.0]]),
    ("np.linalg.norm(x, -np.inf)", "torch.linalg.norm(x, -inf)", [2.0, -2.0, 3.0], 2.0, [[0.5, -0.5, 0.0]]),
    ("np.linalg.norm(x, 1)", "torch.linalg.norm(x, 1)", [[2.0, -2.0], [1.0, 1.0]], 3.0, [[[0.5, -0.5], [0.5, 0.5]]]),
    ("np.linalg.norm(x, 2)", "torch.linalg.norm(x, 2)", [[2.0, 0.0], [0.0, 2.0]], 2.0, [[[0.5, 0.0], [0.0, 0.5]]]),
    ("np.linalg.norm(x, 'nuc')", "torch.linalg.norm(x, 'nuc')", [[3.0, 0.0], [0.0, 0.0]], 3.0,
     [[[1.0, 0.0], [0.0, 1.0]]], {"ours": [[[1.0, 0.0], [0.0, 0.0]], [[nan, nan], [nan, nan]]],
                                  "says": ("norm", "singular value at 0 where there is a corner")}),
    ("np.linalg.eigvalsh(x)", "torch.linalg.eigvalsh(x)", [[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0],
     [[[1.0, 0.0], [0.0, 2.0]]]),
    ("np.linalg.det(x)", "torch.linalg.det(x)", [[0.0, 0.0], [0.0, 3.0]], 0.0, [[[3.0, 0.0], [0.0, 0.0]]]),
    ("np.linalg.pinv(x)", "torch.linalg.pinv(x)", [[2.0, 0.0], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.0]],
     [[[-0.25, 0.75], [0.5, 0.0]], [[-2.75, 1.25], [1.25, 0.0]]]),
    ("np.linalg.norm(x, np.inf)", "torch.linalg.norm(x, inf)", [2.0, -2.0, 1.0], 2.0, [[0.5, -0.5, 0.0]]),
    ("np.linalg.norm(x, np.inf)", "torch.linalg.norm(x, inf)", [0.0, 0.0], 0.0, [[0.0, 0.0]]),
    ("np.hypot(x[0], x[1])", "torch.hypot(x[0], x[1])", [0.0, 0.0], 0.0, [[nan, nan]],
     {"ours": [[0.0, 0.0]], "says": ("hypot", "At (0, 0) the gradient is 0")}),
    ("np.hypot(x[0], x[1])", "torch.hypot(x[0], x[1])", [inf, 1.0], inf, [[nan, 0.0]]),
    ("np.arctan2(x[0], x[1])", "torch.arctan2(x[0], x[1])", [0.0, -1.0], 3.141592653589793, [[-1.0, 0.0]]),
    ("np.arctan2(x[0], x[1])", "torch.arctan2(x[0], x[1])", [0.0, 0.0], 0.0, [[0.0, 0.0]]),
    ("np.logaddexp(x[0], x[1])", "torch.logaddexp(x[0], x[1])", [-inf, -inf], -inf, [[nan, nan]],
     {"ours": [[0.0, 0.0]], "says": ("logaddexp", "At (−∞, −∞) the gradient is 0")}),
    ("np.logaddexp(x[0], x[1])", "torch.logaddexp(x[0], x[1])", [inf, inf], inf, [[nan, nan]],
     {"ours": [[0.5, 0.5]], "says": ("logaddexp", "at (∞, ∞) each gets half")}),
    ("np.logaddexp(x[0], x[1])", "torch.logaddexp(x[0], x[1])", [-inf, 1.0], 1.0, [[0.0, 1.0]]),
    ("np.logaddexp(x[0], x[1])", "torch.logaddexp(x[0], x[1])", [inf, -inf], inf, [[1.0, 0.0]]),
    ("np.logaddexp(x[0], x[1])", "torch.logaddexp(x[0], x[1])", [1000.0, 0.0], 1000.0, [[1.0, 0.0]]),
    ("np.remainder(x[0], x[1])", "torch.remainder(x[0], x[1])", [3.0, 3.0], 0.0, [[1.0, -1.0]]),
    ("np.remainder(x[0], x[1])", "torch.remainder(x[0], x[1])", [1.0, 0.0], nan, [[1.0, -inf]]),
    ("ag.softmax(x)", "F.softmax(x, -1)", [[-inf, 0.0, 0.0]], [[0.0, 0.5, 0.5]],
     [[[0.0, -0.25, 0.25]], [[0.0, 0.0, 0.0]]]),
    ("ag.softmax(x)", "F.softmax(x, -1)", [[-inf, -inf]], [[0.0, 0.0]], [[[nan, nan]]],
     {"ours": [[[0.0, 0.0]]], "says": ("softmax", "A row of only −∞ gives 0")}),
    ("ag.softmax(x)", "F.softmax(x, -1)", [[inf, 0.0]], [[1.0, 0.0]], [[[nan, nan]]],
     {"ours": [[[0.0, 0.0]]], "says": ("softmax", "elements at ∞ share 1")}),
    ("ag.log_softmax(x)", "F.log_softmax(x, -1)", [[-inf, 0.0, 0.0]],
     [[-inf, -0.6931471805599453, -0.6931471805599453]], [[[1.0, -1.0, 0.0]]]),
    ("ag.log_softmax(x)", "F.log_softmax(x, -1)", [[-inf, -inf]], [[-inf, -inf]], [[[nan, nan]]],
     {"ours": [[[1.0, 2.0]]], "says": ("log_softmax", "A row of only −∞ gives −∞")}),
    ("ag.logsumexp(x)", "torch.logsumexp(x, -1)", [-inf, 0.0, 0.0], 0.6931471805599453,
     [[0.0, 0.5, 0.5], [0.0, -0.25, 0.25]]),
    ("ag.logsumexp(x)", "torch.logsumexp(x, -1)", [-inf, -inf], -inf, [[nan, nan], [nan, nan]],
     {"ours": [[0.0, 0.0], [0.0, 0.0]], "says": ("logsumexp", "A row of only −∞ gives −∞")}),
    ("ag.logsumexp(x)", "torch.logsumexp(x, -1)", [inf, 0.0], inf, [[nan, 0.0]],
     {"ours": [[1.0, 0.0]], "says": ("logsumexp", "an element ∞ gets the whole gradient")}),
    ("ag.logsumexp(x)", "torch.logsumexp(x, -1)", [], -inf, [[]]),
    ("ag.attention(x, x, x, np.array([[False, False], [True, True]]))",
     "F.scaled_dot_product_attention(x, x, x, torch.tensor([[False, False], [True, True]]))", [[1.0], [2.0]],
     [[0.0], [1.8807970779778822]],
     [[[-0.18156849756979082], [2.3915556683768053]], [[-0.40049734955765626], [0.18077168272245314]]]),
    ("ag.attention(x, x, x, np.array([[-np.inf, -np.inf], [0, 0]], x.dtype))",
     "F.scaled_dot_product_attention(x, x, x, torch.tensor([[-inf, -inf], [0, 0]], dtype=x.dtype))", [[1.0], [2.0]],
     [[0.0], [1.8807970779778822]], [[[-0.18156849756979082], [2.3915556683768053]]]),
    ("ag.cross_entropy(x, np.array([0]))", "F.cross_entropy(x, torch.tensor([0]))", [[-inf, 0.0]], inf,
     [[[-1.0, 1.0]]]),
    ("ag.cross_entropy(x, np.array([1]))", "F.cross_entropy(x, torch.tensor([1]))", [[-inf, 0.0]], 0.0,
     [[[0.0, 0.0]]]),
    ("ag.cross_entropy(x, np.array([-100]))", "F.cross_entropy(x, torch.tensor([-100]))", [[-inf, 0.0]], nan,
     [[[0.0, 0.0]]]),
    ("ag.binary_cross_entropy(x, np.array([0, 1], x.dtype))",
     "F.binary_cross_entropy_with_logits(x, torch.tensor([0, 1], dtype=x.dtype))", [1000.0, -1000.0], 1000.0,
     [[0.5, -0.5]]),
    ('ag.kl_divergence(x, np.array([0, 1], x.dtype), reduction="sum")',
     'F.kl_div(x, torch.tensor([0, 1], dtype=x.dtype), reduction="sum")', [-1.0, 0.0], 0.0, [[0.0, -1.0]]),
    ('ag.kl_divergence(np.log(x), x, reduction="sum")', 'F.kl_div(torch.log(x), x, reduction="sum")', [0.0, 1.0], 0.0,
     [[nan, 0.0]]),
    ("np.std(x)", "torch.std(x, correction=0)", [], nan, [[]]),
    ("np.std(x)", "torch.std(x, correction=0)", [2.0], 0.0, [[0.0]]),
    ("np.std(x)", "torch.std(x, correction=0)", [2.0, 2.0], 0.0, [[0.0, 0.0]]),
    ("np.std(x, ddof=1)", "torch.std(x, correction=1)", [2.0], nan, [[nan]]),
    ("np.var(x)", "torch.var(x, correction=0)", [2.0], 0.0, [[0.0], [0.0]]),
    ("np.var(x)", "torch.var(x, correction=0)", [2.0, 2.0], 0.0, [[0.0, 0.0], [-0.5, 0.5]]),
    ("np.var(x, ddof=1)", "torch.var(x, correction=1)", [2.0], nan, [[nan]]),
    ("np.prod(x)", "torch.prod(x)", [], 1.0, [[]]),
    ("np.prod(x)", "torch.prod(x)", [inf, 0.0], nan, [[0.0, inf]]),
    ("np.prod(x)", "torch.prod(x)", [0.0, 2.0, 3.0], 0.0, [[6.0, 0.0, 0.0], [12.0, 3.0, 2.0], [12.0, 6.0, 4.0]]),
    ("np.prod(x)", "torch.prod(x)", [0.0, 2.0, 0.0], 0.0, [[0.0, 0.0, 0.0], [6.0, 0.0, 2.0], [12.0, 6.0, 4.0]]),
    ("np.prod(x)", "torch.prod(x)", [0.0, 0.0, 0.0], 0.0, [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [12.0, 6.0, 4.0]]),
    ("np.cumprod(x)", "torch.cumprod(x, 0)", [2.0, 0.0, 3.0, 4.0], [2.0, 0.0, 0.0, 0.0],
     [[1.0, 118.0, 0.0, 0.0], [118.0, 269.0, 76.0, 48.0]]),
    ("np.cumprod(x)", "torch.cumprod(x, 0)", [2.0, 0.0, 3.0, 0.0, 5.0], [2.0, 0.0, 0.0, 0.0, 0.0],
     [[1.0, 22.0, 0.0, 0.0, 0.0], [22.0, 725.0, 12.0, 348.0, 0.0]]),
    ("np.sum(x)", "torch.sum(x)", [], 0.0, [[]]),
    ("np.mean(x)", "torch.mean(x)", [], nan, [[]]),
    ("np.var(x)", "torch.var(x, correction=0)", [], nan, [[]]),
    ("np.sort(x)", "torch.sort(x, stable=True).values", [2.0, 1.0, 2.0, 1.0], [1.0, 1.0, 2.0, 2.0],
     [[3.0, 1.0, 4.0, 2.0]]),
    ("np.sort(x)", "torch.sort(x, stable=True).values", [2.0, nan, 1.0], [1.0, 2.0, nan], [[2.0, 3.0, 1.0]]),
    ("np.median(x)", "torch.quantile(x, 0.5)", [1.0, 1.0, 1.0, 3.0], 1.0, [[0.0, 0.5, 0.5, 0.0]]),
    ("np.median(x)", "torch.quantile(x, 0.5)", [1.0, 2.0, 2.0, 2.0, 3.0], 2.0, [[0.0, 0.0, 1.0, 0.0, 0.0]]),
    ("np.median(x)", "torch.quantile(x, 0.5)", [1.0, nan, 2.0], nan, [[0.0, 1.0, 0.0]],
     {"ours": [[0.0, 0.0, 0.0]], "says": ("median", "NaN where an element is")}),
    ("np.where(x > 0, np.sqrt(x), 0)", "torch.where(x > 0, torch.sqrt(x), 0)", [-1.0, 0.0, 4.0], [0.0, 0.0, 2.0],
     [[nan, nan, 0.75]]),
    ("np.where(x == 0, 1, np.sin(x) / x)", "torch.where(x == 0, 1, torch.sin(x) / x)", [0.0], [1.0], [[nan]]),
    ("np.where([True, False], x, np.nan)", "torch.where(torch.tensor([True, False]), x, nan)", [2.0, 3.0], [2.0, nan],
     [[1.0, 0.0]]),
    ("np.where([True, False], x[0], x[1])", "torch.where(torch.tensor([True, False]), x[0], x[1])", [2.0, nan],
     [2.0, nan], [[1.0, 2.0]]),
    ("np.nan_to_num(x)", "torch.nan_to_num(x)", [nan, 1.0], [0.0, 1.0], [[0.0, 2.0]]),
    ("ag.layer_norm(x, None, None)", "F.layer_norm(x, x.shape[-1:])", [[2.0, 2.0]], [[0.0, 0.0]],
     [[[-158.11388300841895, 158.11388300841895]]]),
    ("ag.layer_norm(x, None, None)", "F.layer_norm(x, x.shape[-1:])", [[2.0]], [[0.0]], [[[0.0]]]),
    ("ag.layer_norm(x, None, None, eps=0.0)", "F.layer_norm(x, x.shape[-1:], eps=0.0)", [[2.0, 2.0]], [[nan, nan]],
     [[[nan, nan]]]),
    ("ag.rms_norm(x, None)", "F.rms_norm(x, x.shape[-1:], eps=1e-5)", [[0.0, 0.0]], [[0.0, 0.0]],
     [[[316.2277660168379, 632.4555320336758]]]),
]
EDGE_IDS = [f"{text} at {x}" for text, _, x, *_ in EDGES]


def notes(edge):
    return edge[5] if len(edge) > 5 else {}


def counted(y):
    return np.arange(1.0, y.size + 1).reshape(y.shape).astype(y.dtype)


def our_derivatives(text, x, order, dtype):
    """[value, gradient, gradient of the gradient …], and the value that arrays give."""
    x = ag.tensor(np.array(x, dtype), requires_grad=True)
    y = eval(text, {"np": np, "ag": ag, "x": x})
    found = [y.data]
    for _ in range(order):
        (y * counted(y.data)).sum().backward(create_graph=True)
        y, x.grad = x.grad, None
        found.append(y.data)
        y = y if y.requires_grad else np.where(False, x, y)  # a constant can be differentiated too
    return found, eval(text, {"np": np, "ag": ag, "x": np.array(x.data)})


def torch_derivatives(text, x, order):
    torch = pytest.importorskip("torch")
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = eval(text, {"torch": torch, "F": torch.nn.functional, "x": x, "inf": inf, "nan": nan})
    found = []
    for _ in range(order):
        y, = torch_gradients(torch, [y], [torch.from_numpy(counted(y.detach().numpy(force=True)))], [x])
        found.append(y.detach().numpy(force=True))
    return found


@pytest.mark.slow_but_every(3)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("edge", EDGES, ids=EDGE_IDS)
def test_edge(edge, dtype):
    text, _, x, value, gradients, *_ = edge
    expected = notes(edge).get("ours", gradients)
    (got, *found), of_arrays = our_derivatives(text, x, len(expected), dtype)
    assert {a.dtype for a in (got, *found)} == {np.dtype(dtype)}
    np.testing.assert_array_equal(got, of_arrays)
    for a, b in zip([got, *found], [value, *expected], strict=True):
        largest = np.max(np.abs(b), initial=0, where=np.isfinite(b))  # of single precision: terms cancel
        rtol, atol = (1e-12, 0) if dtype == np.float64 else (1e-5, 2e-5 * largest)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("edge", EDGES, ids=EDGE_IDS)
def test_torch_at_the_edge(edge):
    _, text, x, _, gradients, *_ = edge
    for a, b in zip(torch_derivatives(text, x, len(gradients)), gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=0)


@pytest.mark.parametrize("edge", [edge for edge in EDGES if notes(edge)], ids=lambda edge: f"{edge[0]} at {edge[2]}")
def test_a_difference_from_torch_is_explained(edge):
    name, words = notes(edge)["says"]
    op = ag.REGISTRY.get(name)
    assert words in (f"{op.__doc__} {op.formula.__doc__}" if op else FUNCTIONS[name].__doc__)


@pytest.mark.parametrize("text, x, error, words", [
    ("np.max(x)", [], ValueError, "zero-size array|no elements to choose from"),
    ("np.linalg.inv(x)", [[1.0, 2.0], [2.0, 4.0]], np.linalg.LinAlgError, "Singular matrix"),
])
def test_what_numpy_refuses_is_refused(text, x, error, words):
    for x_ in (np.array(x), ag.tensor(x, dtype=float, requires_grad=True)):
        with pytest.raises(error, match=words):
            eval(text, {"np": np, "ag": ag, "x": x_})


if __name__ == "__main__":
    import sys
    import warnings

    warnings.simplefilter("ignore")
    print_errors(sys.argv[1:] or GRADUAL)
