"""The matrix products of a training step alone, run by np.matmul: a lower bound on the step's time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import autograd as ag

from ..model.module import Array
from ..runtime.blas import limit_blas_threads
from ..runtime.worker_pool import cores
from .measure import fastest_threads, settled


@dataclass(frozen=True)
class Product:
    """a @ b, for arrays of these shapes in memory, each transposed first if so marked."""
    a: tuple[int, ...]
    b: tuple[int, ...]
    a_transposed: bool = False
    b_transposed: bool = False

    @property
    def out(self) -> tuple[int, ...]:
        """The shape of the result."""
        return (*self.a[:-2], self.a[-1 if self.a_transposed else -2], self.b[-2 if self.b_transposed else -1])

    @property
    def flops(self) -> int:
        """The number of multiplications and additions."""
        return 2 * math.prod(self.out) * self.a[-2 if self.a_transposed else -1]


def list_products(tape: Any) -> list[Product]:
    """List the products of the forward and backward pass of a tape, in order: those of linear layers and attention, the
    latter without skipping what is masked."""
    forward: list[Product] = []
    backward: list[Product] = []
    for t in tape:
        if t.op is not None and (find := _FOUND.get(t.op.name)):
            of_forward, of_backward = find(t)
            forward += of_forward
            backward = of_backward + backward
    return forward + backward


def _of_layer(t: Any) -> tuple[list[Product], list[Product]]:
    """y = x w; dx = g wᵀ; dw = xᵀ g"""
    x, w = t.inputs[:2]
    rows = math.prod(x.shape[:-1])
    (n, m), x_shape = w.shape, (rows, x.shape[-1])
    back = [Product((rows, m), (n, m), b_transposed=True)] * _learns(x)
    return [Product(x_shape, (n, m))], back + [Product(x_shape, (rows, m), a_transposed=True)] * _learns(w)


def _of_attention(t: Any) -> tuple[list[Product], list[Product]]:
    """s = q kᵀ, y = p v; dv = pᵀ g, dp = g vᵀ, dq = ds k, dk = dsᵀ q"""
    q, k, v = (a.shape for a in t.inputs[:3])
    p, g = (*q[:-1], k[-2]), (*q[:-1], v[-1])
    return ([Product(q, k, b_transposed=True), Product(p, v)],
            [Product(p, g, a_transposed=True), Product(g, v, b_transposed=True), Product(p, k),
             Product(p, q, a_transposed=True)])


_FOUND = {"linear": _of_layer, "attention": _of_attention}


def _learns(a: Any) -> bool:
    return isinstance(a, ag.Tensor) and a.requires_grad


class Floor:
    """The products on existing arrays; `run()` returns the milliseconds of all of them in sequence, by BLAS with
    `n_threads` threads."""

    def __init__(self, products: list[Product], dtype: Any = np.float32):
        rng, arrays = np.random.default_rng(0), {}  # type: ignore[var-annotated]

        def array(role: str, shape: tuple[int, ...]) -> Array:  # arrays of one shape share memory
            if (role, shape) not in arrays:
                arrays[role, shape] = rng.standard_normal(shape, dtype)
            return arrays[role, shape]

        self.calls = [(_transpose_if(array("a", p.a), p.a_transposed), _transpose_if(array("b", p.b), p.b_transposed),
                       array("out", p.out)) for p in products]
        self.flops = sum(p.flops for p in products)
        self.n_threads = cores()

    @classmethod
    def of_trainer(cls, trainer: Any) -> Floor:
        """Return the floor of a trainer's steps."""
        ids, targets = trainer.data.train_batch(np.random.default_rng(0), trainer.config.batch_size)
        return cls(list_products(ag.tape(trainer.model.loss(ids, targets))))

    def choose_threads(self) -> int:
        """Use the number of threads that is fastest, and return it."""
        return fastest_threads(self.ms, lambda n: setattr(self, "n_threads", n))

    def ms(self) -> float:
        """Return the milliseconds of `run`, as `settled` measures them."""
        return settled(self.run)

    def run(self) -> float:
        """Compute all products, and return the milliseconds."""
        with limit_blas_threads(self.n_threads):
            began = time.perf_counter()
            for a, b, out in self.calls:
                np.matmul(a, b, out=out)
            return (time.perf_counter() - began) * 1e3


def _transpose_if(a: Array, transposed: bool) -> Array:
    return a.mT if transposed else a
