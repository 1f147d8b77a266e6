"""Muon: orthogonalized momentum steps for weight matrices, and Adam for all other parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self

import numpy as np

import autograd as ag

from ..model.module import Array
from ..runtime.worker_pool import SINGLE, WorkerPool
from .optimizer import Optimizer
from .parameters import Parameters, parameter_group

WIDTH = 64  # features of a block
BATCH = 8  # blocks of a matrix that are computed together: as many as fit into a core's cache
SHARD = 1 << 16  # parameters that one `AdamWShard` updates
# The polynomials aX + b(XXᵀ)X + c(XXᵀ)²X, applied one after the other, optimal of their degree for singular values from
# 0.001 to 1 (Amsel et al. 2025, "The Polar Express", Algorithm 1), and a margin for rounding that exceeds 1.
POLYNOMIALS = ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518))
MARGIN = 1.01


class Muon(Optimizer, name="muon"):
    """Momentum, orthogonalized block by block, for the matrices inside attention and MLP (Jordan et al. 2024, "Muon: An
    optimizer for hidden layers in neural networks"), and Adam (Kingma & Ba 2015) for everything else.

    A matrix W (n_in, n_out) is cut into blocks of 64 output features, the output projection of attention into blocks
    of 64 input features (the outputs of the heads).  For each block, with gradient g:

        m ← μm + (1−μ)g,  u = (1−μ)g + μm           Nesterov momentum
        W ← W − lr·λW − lr·O,  O ≈ U Vᵀ             where u = U S Vᵀ

    so that all directions are learned at one speed, the rare ones too.  O is found without an SVD: X = u / (1.01‖u‖)
    has singular values in [0, 1), and p(X) = aX + b(XXᵀ)X + c(XXᵀ)²X maps each singular value σ to aσ + bσ³ + cσ⁵ and
    leaves U and V as they are.  Three such steps map those above 0.0014 to between 0.18 and 1.87, near enough to 1.

    All three steps are polynomials of the Gram matrix A = XᵀX, of 64 x 64, which commute: with P = aI + bA + cA², a
    step is X ← XP and A ← P²A.  So X is read twice only, for A at the start and for X(P₁P₂P₃) at the end.

    Adam's learning rate is Muon's times `embedding_ratio` for embeddings, head, gains and biases, and times
    `taps_ratio` for convolution kernels.  Weight decay is decoupled (Loshchilov & Hutter 2019), and applies to the
    decayed part of `Parameters`.
    """

    help = "orthogonalized momentum for matrices, Adam for the rest"

    def __init__(self, parameters: Parameters, momentum: float = 0.9, betas: tuple[float, float] = (0.9, 0.99),
                 eps: float = 1e-8, weight_decay: float = 0.0, embedding_ratio: float = 1.0, taps_ratio: float = 1.0):
        self.parameters, self.momentum, self.betas, self.eps = parameters, momentum, betas, eps
        self.weight_decay, self.ratios = weight_decay, {"embedding": embedding_ratio, "convolution": taps_ratio}
        self.m = np.zeros_like(parameters.data)
        n_adam = sum(t.size for name, t in parameters.tensors.items() if parameter_group(name, t) != "matrix")
        self.v = np.zeros(n_adam, parameters.data.dtype)  # of Adam's parameters, one after the other
        self.steps = np.zeros((), np.int64)  # taken so far; an array, so that it is saved and filled like the others
        self._work: dict[int, list[list[Work]]] = {}  # number of workers -> the work of each

    @classmethod
    def from_config(cls, parameters: Parameters, config: Any) -> Self:
        return cls(parameters, config.momentum, (config.beta1, config.beta2), weight_decay=config.weight_decay,
                   embedding_ratio=config.embedding_lr / config.learning_rate,
                   taps_ratio=config.taps_lr / config.learning_rate)

    def describe(self, lr: float) -> str:
        n: Counter[str] = Counter()
        for name, t in self.parameters.tensors.items():
            n[parameter_group(name, t)] += t.size
        return (f"Muon at {lr:g} for matrices ({n['matrix']:,} parameters), Adam at {lr * self.ratios['embedding']:g} "
                f"for embeddings ({n['embedding']:,})"
                + (f", at {lr * self.ratios['convolution']:g} for taps of convolutions ({n['convolution']:,})"
                   if n["convolution"] else ""))

    def step(self, lr: float, scale: float = 1.0, pool: WorkerPool = SINGLE) -> None:
        """Update the parameters from their gradients times `scale`, the matrices with learning rate `lr`."""
        self.steps += 1
        if pool.n not in self._work:
            self._work[pool.n] = self._divide_work(pool.n)

        def work(i: int) -> None:
            with np.errstate(all="ignore"):  # saving raises for weights that are not finite
                for each in self._work[pool.n][i]:
                    each.step(self, lr, scale)

        pool.run(work)
        self.parameters.bump_version()

    def state(self) -> dict[str, Array]:
        return {"m": self.m, "v": self.v, "steps": self.steps}

    def _divide_work(self, n: int) -> list[list[Work]]:
        """Return the work of n workers: the most expensive first, each given to the worker with the least so far."""
        workers: list[list[Work]] = [[] for _ in range(n)]
        for work in sorted(self._all_work(), key=lambda work: -work.cost):
            min(workers, key=lambda worker: sum(other.cost for other in worker)).append(work)
        for worker in workers:
            _share_workspace([work for work in worker if isinstance(work, MuonBlocks)], self.m.dtype)
        return workers

    def _all_work(self) -> Iterator[Work]:
        flat, start, v_start = self.parameters, 0, 0
        for name, t in flat.tensors.items():
            end, decay = start + t.size, self.weight_decay * (start < flat.n_decayed)
            if (group := parameter_group(name, t)) == "matrix":
                by_rows = name.endswith("attn.c_proj.weight")
                m = self.m[start:end].reshape(t.shape)
                for features, width in _split_features(t.shape[0 if by_rows else 1]):
                    at = (features, slice(None)) if by_rows else (slice(None), features)
                    yield MuonBlocks(flat.views[name][at], flat.grads[name][at], m[at], width, by_rows, decay)
            else:
                for a in range(start, end, SHARD):
                    b = min(a + SHARD, end)
                    v = self.v[v_start:v_start + b - a]
                    v_start += b - a
                    yield AdamWShard(flat.data[a:b], flat.grad[a:b], self.m[a:b], v, self.ratios[group], decay)
            start = end


class Work(Protocol):
    """A part of a step that one worker does; `cost` is its estimated time, in arbitrary units."""

    cost: int

    def step(self, muon: Muon, lr: float, scale: float) -> None: ...


class AdamWShard:
    """A shard of the parameters that Adam updates."""

    def __init__(self, p: Array, g: Array, m: Array, v: Array, ratio: float, decay: float):
        self.arrays, self.ratio, self.decay = (p, g, m, v), ratio, decay
        self.cost = 20 * p.size

    def step(self, muon: Muon, lr: float, scale: float) -> None:
        t, (beta1, beta2) = int(muon.steps), muon.betas
        ag.kernels.adamw_step(*self.arrays, lr * self.ratio, beta1, beta2, muon.eps, self.decay, 1 - beta1 ** t,
                              1 - beta2 ** t, scale)


class MuonBlocks:
    """Adjacent blocks of one shape in one matrix: a part of the parameters `p`, gradient `g` and momentum `m`."""

    workspace: Array  # for intermediate results of a step

    def __init__(self, p: Array, g: Array, m: Array, width: int, by_rows: bool, decay: float):
        self.arrays, self.decay = [self._stack(a, width, by_rows) for a in (p, g, m)], decay
        k, small, large = len(self.arrays[0]), *sorted(self.arrays[0].shape[1:])
        self.cost = k * small ** 2 * (9 * small + 2 * large)

    @staticmethod
    def _stack(a: Array, width: int, by_rows: bool) -> Array:
        """Return the blocks of an array, as a view (k, rows, columns) of it."""
        return a.reshape(-1, width, a.shape[1]) if by_rows else a.reshape(len(a), -1, width).swapaxes(0, 1)

    def step(self, muon: Muon, lr: float, scale: float) -> None:
        ag.kernels.muon_step(*self.arrays, self.workspace, lr, muon.momentum, self.decay, scale, POLYNOMIALS, MARGIN)


def _split_features(n: int) -> Iterator[tuple[slice, int]]:
    """Yield slices of n features, and the width of the blocks in each: WIDTH, and in the last one the remainder."""
    whole = n // WIDTH * WIDTH
    for start in range(0, whole, BATCH * WIDTH):
        yield slice(start, min(start + BATCH * WIDTH, whole)), WIDTH
    if whole < n:
        yield slice(whole, n), n - whole


def _share_workspace(blocks: Iterable[MuonBlocks], dtype: Any) -> None:
    """Give the blocks of one worker, which takes them one after the other, the same workspace."""
    workspace = np.empty(max((ag.kernels.muon_workspace_size(*b.arrays[0].shape) for b in blocks), default=0), dtype)
    for b in blocks:
        b.workspace = workspace
