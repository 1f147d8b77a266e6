"""Arrays packed as files of models have them, by the definitions of the formats, a number at a time or nearly so."""

import struct

import numpy as np

import autograd as ag
from autograd.core.packed import FORMATS

NAMES = list(FORMATS)


def pack(a, name):
    """Pack an array (n, m) of float32 into rows of a format."""
    a = np.asarray(a, np.float32)
    if name == "F16":
        rows = a.astype("<f2").view(np.uint8)
    elif name == "BF16":
        rows = (a.view(np.uint32) >> 16).astype("<u2").view(np.uint8)
    else:
        rows = np.stack([np.concatenate([_block(x, name) for x in row.reshape(-1, 32)]) for row in a])
    return ag.Packed(np.ascontiguousarray(rows), name)


def _block(x, name):
    """The bytes of 32 numbers."""
    if name == "Q8_0":
        scale = np.float16(abs(x).max() / 127)
        q = np.rint(x / (scale or 1)).clip(-127, 127).astype(np.int8)
        return np.frombuffer(scale.tobytes() + q.tobytes(), np.uint8)
    low = x.min() if name == "Q4_1" else 0
    scale = np.float16((x.max() - low) / 15 if name == "Q4_1" else abs(x).max() / 7)
    q = np.rint((x - low) / (scale or 1) + (0 if name == "Q4_1" else 8)).clip(0, 15).astype(np.uint8)
    head = scale.tobytes() + (np.float16(low).tobytes() if name == "Q4_1" else b"")
    return np.frombuffer(head + (q[:16] | q[16:] << 4).tobytes(), np.uint8)


def read(packed):
    """The array of float32 that packed rows stand for, a number at a time."""
    n, n_bytes = FORMATS[packed.format][:2]
    rows = [[row[k:k + n_bytes].tobytes() for k in range(0, len(row), n_bytes)] for row in packed.rows]
    wide = np.array([[x for block in row for x in _numbers(block, packed.format)] for row in rows], np.float32)
    return wide.T if packed.transposed else wide


def _numbers(block, name):
    if name == "BF16":
        return [struct.unpack("<f", b"\0\0" + block)[0]]
    scale = struct.unpack_from("<e", block)[0]
    if name == "F16":
        return [scale]
    if name == "Q8_0":
        return [np.float32(scale) * q for q in struct.unpack_from("<32b", block, 2)]
    offset = struct.unpack_from("<e", block, 2)[0] if name == "Q4_1" else 0
    q = [b & 15 for b in block[-16:]] + [b >> 4 for b in block[-16:]]
    return [np.float32(scale) * (i - (8 if name == "Q4_0" else 0)) + np.float32(offset) for i in q]


def pack_model(model, name):
    """Return a GPT with its matrices packed, as `gpt import` leaves them, and the same with these numbers widened."""
    tables = ("wte.weight", "wpe.weight")

    def packed(t):
        if t.ndim != 2 or (t.shape[1] if t.name in tables else t.shape[0]) % FORMATS[name].n:
            return t
        return pack(t.data, name) if t.name in tables else pack(np.ascontiguousarray(t.data.T), name).T

    made = model.map(packed)
    wide = made.map(lambda a: ag.tensor(read(a), requires_grad=True) if isinstance(a, ag.Packed) else a)
    return made, wide


def assert_program_equals_tape(loss, argument, leaf):
    """Check that a captured program gives the bits of the tape, with the gradient of a leaf; return the tape's loss."""
    eager = loss(argument)
    eager.backward()
    right, leaf.grad = leaf.grad, None
    program = ag.record(loss, argument)
    for _ in range(2):
        assert program(argument) == eager.data
        program.backward()
        np.testing.assert_array_equal(leaf.grad, right)
    return eager
