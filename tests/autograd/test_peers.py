"""Values and gradients against PyTorch's, in float64, for every op that it has too."""

import numpy as np
import pytest

import autograd as ag
from tests.samples import SAMPLES

from .test_ops import as_leaves, map_arrays, outputs, seeds, split_attrs

torch = pytest.importorskip("torch")
F = torch.nn.functional


def reduced(function):
    """A torch reduction with NumPy's names for the settings; all axes if none is given."""
    def call(x, axis=None, keepdims=False, **how):
        return function(x, dim=tuple(range(x.ndim)) if axis is None else axis, keepdim=keepdims, **how)
    return call


def axes(function):
    def call(x, axis=-1):
        if isinstance(axis, tuple):
            return function(x.reshape(-1), dim=0).reshape(x.shape)
        return function(x, dim=axis)
    return call


def transpose(x, axes=None):
    return x.permute(tuple(axes) if axes else tuple(range(x.ndim))[::-1])


def split(x, parts, axis=0):
    return torch.tensor_split(x, parts if isinstance(parts, int) else tuple(parts), dim=axis)


def concatenate(xs, axis=0):
    return torch.cat([x.reshape(-1) for x in xs]) if axis is None else torch.cat(list(xs), dim=axis)


def layer_norm(x, weight, bias, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def attention(q, k, v, mask=None, causal=False, scale=None):
    if causal:
        n, m = q.shape[-2], k.shape[-2]
        sees = torch.ones(n, m, dtype=torch.bool).tril(m - n)
        mask = torch.where(sees, 0.0 if mask is None else mask, -torch.inf)
    if mask is not None:
        mask = mask.expand(q.shape[-2], k.shape[-2]) if mask.ndim < 2 or mask.shape[-2:] != (q.shape[-2],
                                                                                             k.shape[-2]) else mask
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale)


def scatter_add(x, index, shape=()):
    y = torch.zeros(shape, dtype=x.dtype)
    where = torch.arange(y.numel()).numpy().reshape(shape)[tuple(i.numpy() if hasattr(i,
                                                                                      "numpy") else i for i in index)]
    return y.reshape(-1).index_add(0, torch.as_tensor(np.ravel(where)),
                                   x.expand(np.shape(where)).reshape(-1)).reshape(shape)


def number(x):
    """torch.where and torch.maximum take no Python numbers, or make float32 of them."""
    return x if torch.is_tensor(x) else torch.tensor(x, dtype=torch.bool if x is True else torch.float64)


def cross_entropy(logits, targets, **how):
    """torch wants the classes on axis 1."""
    rows, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    loss = F.cross_entropy(rows, wanted, **how)
    return loss.reshape(targets.shape) if how.get("reduction") == "none" else loss


PEERS = {
    "add": torch.add, "subtract": lambda x, y: torch.sub(number(x), y), "multiply": torch.mul,
    "divide": lambda x, y: torch.div(number(x), y), "power": torch.pow, "negative": torch.neg, "absolute": torch.abs,
    "maximum": lambda x, y: torch.maximum(number(x), number(y)),
    "where": lambda c, x, y: torch.where(number(c), number(x), number(y)), "exp": torch.exp, "log": torch.log,
    "sqrt": torch.sqrt, "tanh": torch.tanh, "erf": torch.erf, "relu": F.relu, "gelu": F.gelu, "copy": torch.clone,
    "matmul": torch.matmul, "linear": lambda x, w, b: F.linear(x, w.mT, b), "sum": reduced(torch.sum),
    "mean": reduced(torch.mean),
    "var": reduced(lambda x, dim, keepdim, ddof=0: torch.var(x, dim=dim, keepdim=keepdim, correction=ddof)),
    "max": reduced(torch.amax), "reshape": torch.reshape, "transpose": transpose, "swapaxes": torch.swapaxes,
    "broadcast_to": torch.broadcast_to, "concatenate": concatenate, "split": split,
    "getitem": lambda x, index: x[index], "scatter_add": scatter_add, "embedding": F.embedding,
    "softmax": axes(F.softmax), "log_softmax": axes(F.log_softmax), "cross_entropy": cross_entropy,
    "layer_norm": layer_norm, "attention": attention,
}


def has_peer(name, sample):
    """torch takes no axes to mean all of them, and has no negative steps."""
    if name == "getitem":
        return not any(isinstance(i, slice) and (i.step or 1) < 0 for i in sample[1])
    return split_attrs(sample)[1].get("axis") != ()


CASES = [pytest.param(name, sample, id=f"{name}-{i}")
         for name in PEERS for i, sample in enumerate(SAMPLES[name]) if has_peer(name, sample)]


def test_every_differentiable_op_has_a_peer():
    assert {name for name in SAMPLES if ag.REGISTRY[name].differentiable} - set(PEERS) == {"astype"}


@pytest.mark.filterwarnings("ignore:var.*degrees of freedom")
@pytest.mark.parametrize("name, sample", CASES)
def test_against_torch(name, sample):
    args, attrs = split_attrs(sample)
    if name in ("reshape", "broadcast_to"):
        args = (args[0], (args[1],) if isinstance(args[1], int) else args[1])
    ours, leaves = as_leaves(args)
    peers = []

    def to_torch(a):
        peer = torch.from_numpy(np.array(a))
        if a.dtype.kind == "f":
            peers.append(peer.requires_grad_())
        return peer

    theirs = map_arrays(to_torch, args)
    ys = outputs(ag.REGISTRY[name](*ours, **attrs))
    zs = outputs(PEERS[name](*theirs, **{key: map_arrays(to_torch, a) for key, a in attrs.items()}))
    for y, z in zip(ys, zs, strict=True):
        np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-10, atol=1e-13)
    sum((y * w).sum() for y, w in zip(ys, seeds(ys))).backward()
    sum((z * torch.from_numpy(w)).sum() for z, w in zip(zs, seeds(ys))).backward()
    for leaf, peer in zip(leaves, peers, strict=True):
        np.testing.assert_allclose(leaf.grad, peer.grad.numpy() if peer.grad is not None else 0, rtol=1e-10, atol=1e-13)
