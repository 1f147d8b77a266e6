"""Muon: weight matrices learn by orthogonal steps, and all other parameters by Adam."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import autograd as ag

from ..model.module import Array
from ..runtime.worker_pool import SINGLE, WorkerPool
from .optim import Parameters

WIDTH = 64  # features of a block
AT_ONCE = 8  # blocks of a matrix that are computed together: as many as stay in a core's cache
PIECE = 1 << 16  # numbers that Adam takes at once
# The polynomials aX + b(XXᵀ)X + c(XXᵀ)²X, the best of their degree one after the other for singular values from 0.001
# to 1 (Amsel et al. 2025, "The Polar Express", Algorithm 1), and how far above 1 rounding may not push them.
POLYNOMIALS = ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518))
MARGIN = 1.01


class Muon:
    """Momentum, orthogonalised block by block, for the matrices inside attention and MLP (Jordan et al. 2024, "Muon: An
    optimizer for hidden layers in neural networks"), and Adam (Kingma & Ba 2015) for everything else.

    A matrix W (n_in, n_out) is cut into blocks of 64 output features, the output projection of attention into blocks
    of 64 input features (those are what heads wrote).  For each block, with gradient g:

        m ← μm + (1−μ)g,  u = (1−μ)g + μm           Nesterov's momentum
        W ← W − lr·λW − lr·O,  O ≈ U Vᵀ             where u = U S Vᵀ

    so that all directions are learned at one speed, the rare ones too.  O is found without an SVD: X = u / (1.01‖u‖)
    has singular values in [0, 1), and p(X) = aX + b(XXᵀ)X + c(XXᵀ)²X turns each, σ, into aσ + bσ³ + cσ⁵ and leaves U
    and V as they are.  Three such steps bring those above 0.0014 to between 0.18 and 1.87: near 1 is near enough.

    All three steps are polynomials of the Gram matrix A = XᵀX, of 64 x 64, and such commute: with P = aI + bA + cA², a
    step is X ← XP and A ← P²A.  So X is touched twice only, for A at the start and for X(P₁P₂P₃) at the end.

    Adam's learning rate is that of Muon times `embedding_ratio` for embeddings, head, gains and biases, and times
    `taps_ratio` for the taps of convolutions.  Weight decay is decoupled (Loshchilov & Hutter 2019), and for those
    parameters that `Parameters` says.
    """

    def __init__(self, parameters: Parameters, momentum: float = 0.9, betas: tuple[float, float] = (0.9, 0.99),
                 eps: float = 1e-8, weight_decay: float = 0.0, embedding_ratio: float = 1.0, taps_ratio: float = 1.0):
        self.parameters, self.momentum, self.betas, self.eps = parameters, momentum, betas, eps
        self.weight_decay, self.ratios = weight_decay, {"embedding": embedding_ratio, "taps": taps_ratio}
        self.m = np.zeros_like(parameters.data)
        self.v = np.zeros(sum(t.size for name, t in parameters.tensors.items() if kind(name, t) != "matrix"),
                          parameters.data.dtype)  # of Adam's parameters, one after the other
        self.steps = np.zeros((), np.int64)  # taken; an array, to be saved and filled like the others
        self._work: dict[int, list[list[Any]]] = {}  # by the size of a pool: the work of each thread

    def step(self, lr: float, scale: float = 1.0, pool: WorkerPool = SINGLE) -> None:
        """Update the parameters from their gradients times `scale`, the matrices with learning rate `lr`."""
        self.steps += 1
        if pool.n not in self._work:
            self._work[pool.n] = self._divided(pool.n)

        def part(i: int) -> None:
            with np.errstate(all="ignore"):  # weights that are not finite are told of when they are to be saved
                for work in self._work[pool.n][i]:
                    work.step(self, lr, scale)

        pool.run(part)
        self.parameters.bump_version()

    def state(self) -> dict[str, Array]:
        """The arrays that the next step depends on, to be saved and filled again."""
        return {"m": self.m, "v": self.v, "steps": self.steps}

    def _divided(self, n: int) -> list[list[Any]]:
        """The work of n threads, the largest parts given out first, each to the thread that has least to do."""
        shares: list[list[Any]] = [[] for _ in range(n)]
        for work in sorted(self._parts(), key=lambda work: -work.cost):
            min(shares, key=lambda share: sum(other.cost for other in share)).append(work)
        for share in shares:
            _lend_room([work for work in share if isinstance(work, Blocks)], self.m.dtype)
        return shares

    def _parts(self) -> Iterator[Any]:
        flat, start, v_start = self.parameters, 0, 0
        for name, t in flat.tensors.items():
            end, decay = start + t.size, self.weight_decay * (start < flat.n_decayed)
            if (of := kind(name, t)) == "matrix":
                by_rows = name.endswith("attn.c_proj.weight")
                m = self.m[start:end].reshape(t.shape)
                for part, d in _cuts(t.shape[0 if by_rows else 1]):
                    at = (part, slice(None)) if by_rows else (slice(None), part)
                    yield Blocks(flat.views[name][at], flat.grads[name][at], m[at], d, by_rows, decay)
            else:
                for a in range(start, end, PIECE):
                    b = min(a + PIECE, end)
                    v = self.v[v_start:v_start + b - a]
                    v_start += b - a
                    yield Piece(flat.data[a:b], flat.grad[a:b], self.m[a:b], v, self.ratios[of], decay)
            start = end


def kind(name: str, t: Any) -> str:
    """What kind of parameter it is: "matrix" of attention or MLP, "taps" of a convolution, or else "embedding"."""
    layer = name.split(".")[-2:-1]
    if layer in (["conv"], ["smear"]):
        return "taps"
    return "matrix" if t.ndim == 2 and layer and layer[0].startswith("c_") else "embedding"


class Piece:
    """Adam's part of a flat array."""

    def __init__(self, p: Array, g: Array, m: Array, v: Array, ratio: float, decay: float):
        self.arrays, self.ratio, self.decay = (p, g, m, v), ratio, decay
        self.cost = 20 * p.size

    def step(self, of: Muon, lr: float, scale: float) -> None:
        t, (beta1, beta2) = int(of.steps), of.betas
        ag.kernels.adamw_step(*self.arrays, lr * self.ratio, beta1, beta2, of.eps, self.decay, 1 - beta1 ** t,
                              1 - beta2 ** t, scale)


class Blocks:
    """Blocks of one shape, which lie beside each other in one matrix: its part `p`, gradient `g` and momentum `m`."""

    room: Array  # for what a step computes on the way

    def __init__(self, p: Array, g: Array, m: Array, d: int, by_rows: bool, decay: float):
        self.arrays, self.decay = [self._stack(a, d, by_rows) for a in (p, g, m)], decay
        k, small, large = len(self.arrays[0]), *sorted(self.arrays[0].shape[1:])
        self.cost = k * small ** 2 * (9 * small + 2 * large)

    @staticmethod
    def _stack(a: Array, d: int, by_rows: bool) -> Array:
        """The blocks of an array, as a view (k, rows, columns) of it."""
        return a.reshape(-1, d, a.shape[1]) if by_rows else a.reshape(len(a), -1, d).swapaxes(0, 1)

    def step(self, of: Muon, lr: float, scale: float) -> None:
        ag.kernels.muon_step(*self.arrays, self.room, lr, of.momentum, self.decay, scale, POLYNOMIALS, MARGIN)


def _cuts(n: int) -> Iterator[tuple[slice, int]]:
    """Parts of n features, and the width of the blocks in each: some of WIDTH, and last one of what is left over."""
    whole = n // WIDTH * WIDTH
    for start in range(0, whole, AT_ONCE * WIDTH):
        yield slice(start, min(start + AT_ONCE * WIDTH, whole)), WIDTH
    if whole < n:
        yield slice(whole, n), n - whole


def _lend_room(blocks: Iterable[Blocks], dtype: Any) -> None:
    """Room for what one thread's steps compute on the way, which it uses again for each."""
    room = np.empty(max((ag.kernels.room_of(*b.arrays[0].shape) for b in blocks), default=0), dtype)
    for b in blocks:
        b.room = room
