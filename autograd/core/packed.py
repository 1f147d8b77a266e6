"""Matrices of weights in few bits a number, as they lie in files of models: they stay bytes, and are widened to float32
a block of rows at a time where they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

STEP = 1 << 18  # numbers that are widened at once: as float32 they stay in a core's cache
FEW = 4  # vectors, for each of which a compiled loop widens in registers; for more, a matrix product is faster


class Format(NamedTuple):
    """Blocks of `n` numbers in `n_bytes` bytes; llama.cpp's are float16 scales, and then integers of 8 or 4 bits.
    `widen` computes from bytes (…, n_bytes) the numbers (…, n)."""

    n: int
    n_bytes: int
    n_scales: int
    widen: Callable[[Any], Any]


def _scale(blocks: Any, i: int) -> Any:
    """Return the i-th scale of each block, (…, 1)."""
    return np.ascontiguousarray(blocks[..., 2 * i:2 * i + 2]).view("<f2").astype(np.float32)


def _nibbles(blocks: Any, start: int) -> Any:
    """Return the integers of 4 bits in the bytes from `start` on: the lower halves of all, then the upper ones."""
    return np.concatenate([blocks[..., start:] & 15, blocks[..., start:] >> 4], -1).astype(np.float32)


FORMATS = {
    "F16": Format(1, 2, 1, lambda blocks: _scale(blocks, 0)),
    "BF16": Format(1, 2, 0, lambda blocks: (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)),
    "Q8_0": Format(32, 34, 1, lambda blocks: blocks[..., 2:].view(np.int8) * _scale(blocks, 0)),
    "Q4_0": Format(32, 18, 1, lambda blocks: (_nibbles(blocks, 2) - np.float32(8)) * _scale(blocks, 0)),
    "Q4_1": Format(32, 20, 2, lambda blocks: _nibbles(blocks, 4) * _scale(blocks, 0) + _scale(blocks, 1)),
}


class Packed(np.lib.mixins.NDArrayOperatorsMixin):
    """A constant matrix of float32 that is kept in few bits a number.

    rows: the bytes of each row, (n, bytes), in blocks of a format: "F16", "BF16", "Q8_0", "Q4_0" or "Q4_1".  `.T` is
    the transpose, on the same bytes: the weight (n_in, n_out) of a linear layer is that of n_out rows, so that each
    output reads one.

        w = ag.Packed(rows, "Q8_0").T
        y = ag.linear(x, w, None)                                 # gradients flow to x

    Matrix products, `linear` and `embedding` widen some rows at a time, and Numba's kernels in registers; whatever else
    reads it (`np.asarray(w)`, `w + 1`) gets the whole array, widened.
    """

    __slots__ = ("rows", "format", "transposed", "shape", "name")
    ndim, dtype, requires_grad = 2, np.dtype(np.float32), False

    def __init__(self, rows: Any, format: str, transposed: bool = False):
        if format not in FORMATS:
            raise ValueError(f"{format!r} is none of the formats {', '.join(FORMATS)}: widen the array to float32")
        n, n_bytes = FORMATS[format][:2]
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] % n_bytes or not rows.flags.c_contiguous:
            raise ValueError(f"{format} takes rows of whole blocks of {n_bytes} bytes, in C order, and not "
                             f"{rows.dtype}{list(rows.shape)}")
        self.rows, self.format, self.transposed = rows.view(), format, transposed
        self.rows.flags.writeable = False
        shape = len(rows), rows.shape[1] // n_bytes * n
        self.shape, self.name = shape[::-1] if transposed else shape, ""

    @property
    def T(self) -> Packed:
        """The transpose, on the same bytes."""
        return Packed(self.rows, self.format, not self.transposed)

    mT = T

    @property
    def size(self) -> int:
        """Count of numbers."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.rows.nbytes

    @property
    def is_finite(self) -> bool:
        """False if one of its scales, or of its numbers in half precision, is NaN or infinite."""
        n_bytes, n_scales = FORMATS[self.format][1:3]
        blocks = self.rows.reshape(-1, n_bytes)
        if not n_scales:  # bfloat16
            return bool(((blocks.view("<u2") & 0x7F80) != 0x7F80).all())
        return bool(np.isfinite(np.ascontiguousarray(blocks[:, :2 * n_scales]).view("<f2")).all())

    def widen(self, index: Any = slice(None)) -> Any:
        """Return some of the rows that it is kept in, all by default, as an array of float32: `rows[index]` widened."""
        rows = self.rows[index]
        n_bytes = FORMATS[self.format].n_bytes
        blocks = rows.reshape(*rows.shape[:-1], rows.shape[-1] // n_bytes, n_bytes)
        return FORMATS[self.format].widen(blocks).reshape(*rows.shape[:-1], -1)

    def steps(self) -> Iterator[slice]:
        """Yield slices of the rows that it is kept in, each of some STEP numbers."""
        n, step = len(self.rows), max(1, STEP // max(self.size // max(len(self.rows), 1), 1))
        return (slice(start, min(start + step, n)) for start in range(0, n, step))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        whole = np.empty(self.shape, dtype or np.float32)
        rows = whole.T if self.transposed else whole
        for some in self.steps():
            rows[some] = self.widen(some)
        return whole

    def astype(self, dtype: Any) -> Any:
        """Return the whole array, widened, as `dtype`."""
        return np.asarray(self, dtype)

    __hash__ = object.__hash__  # type: ignore[assignment]  # by identity

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index] if self.transposed or isinstance(index, tuple) else self.widen(index)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        x, *others = inputs
        if ufunc is np.matmul and method == "__call__" and others[0] is self and np.ndim(x) and not options:
            return _product(np.asarray(x), self)
        return getattr(ufunc, method)(*[np.asarray(a) if type(a) is Packed else a for a in inputs], **options)

    def __repr__(self) -> str:
        return f"Packed({self.format} {list(self.shape)}, {self.nbytes:,} bytes)"


def _product(x: Any, w: Packed) -> Any:
    """Return x w for x (…, n) and w (n, m)."""
    if x.shape[-1] != w.shape[0]:
        raise ValueError(f"matmul: shapes {x.shape} and {w.shape} do not match: the last axis of the first needs "
                         f"{w.shape[0]} elements")
    y = np.zeros((*x.shape[:-1], w.shape[1]), np.result_type(x, np.float32))
    for some in w.steps():
        if w.transposed:  # each row of bytes gives an element of y
            y[..., some] = x @ w.widen(some).T
        else:
            y += x[..., some] @ w.widen(some)
    return y
