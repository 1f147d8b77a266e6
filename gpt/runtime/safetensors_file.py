"""Safetensors files: sizes are checked before anything is read, and arrays are memory-mapped one by one, so that a
second copy of a model is never in memory."""

import errno
import json
import math
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

try:
    from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit
except ImportError:  # Windows, or a browser
    getrlimit = None  # type: ignore[assignment]

# Safetensors dtype -> NumPy dtype; a bfloat16 is the upper half of a float32.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
FLOATS = ("F64", "F32", "F16", "BF16")
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items() if name != "BF16"}
_LARGEST_HEAD = 100_000_000  # bytes, as in the library safetensors
_MOST_AXES = 64  # NumPy's limit; the product of the many axes of a damaged file would take for ever


class Opened:
    """A file that stays open as long as its arrays are needed: even if another file replaces it meanwhile, all is read
    from the same one.  Raises OSError if it cannot be read."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@dataclass(frozen=True)
class Stored:
    """An array in a safetensors file: its dtype, shape and offset."""
    file: Opened
    dtype: str                                                 # safetensors' name of it
    shape: tuple[int, ...]
    offset: int                                                # bytes from the start of the file
    nbytes: int

    @property
    def numpy_dtype(self) -> np.dtype:
        """NumPy dtype.  Raises ValueError for one that NumPy does not have."""
        if self.dtype not in DTYPES:
            raise ValueError(f"the type {self.dtype:.20}")
        return np.dtype(DTYPES[self.dtype])

    @property
    def is_float(self) -> bool:
        """True if `read` returns floating-point numbers."""
        return self.dtype in FLOATS

    def map(self) -> Any:
        """Return the array, memory-mapped; of bfloat16 the bits.  Raises ValueError for a dtype or shape that NumPy
        does not have."""
        return self.flat().reshape(self.shape)

    def flat(self) -> Any:
        """Return the elements of the array, memory-mapped, (n,)."""
        if not self.nbytes:
            return np.empty(0, self.numpy_dtype)
        before = self.offset % mmap.ALLOCATIONGRANULARITY
        try:
            numbers = mmap.mmap(self.file.descriptor, before + self.nbytes, access=mmap.ACCESS_READ,
                                offset=self.offset - before)
        except OSError as error:
            raise MemoryError if error.errno == errno.ENOMEM else error from None
        return np.frombuffer(numbers, self.numpy_dtype, offset=before)

    def read(self) -> Any:
        """Return the array as `map` does, but float16 and bfloat16 widened to float32."""
        if self.dtype != "BF16":
            return self.map().astype(np.float32) if self.dtype == "F16" else self.map()
        wide = np.empty(self.shape, np.float32)
        bits = wide.view(np.uint32)
        bits[...] = self.map()
        bits <<= 16
        return wide


def read_head(file: Path, cure: str = "copy it or train again") -> tuple[dict[str, str], dict[str, Stored]]:
    """Read the header of a safetensors file: its metadata, and its arrays, which fill it without gaps.

    Raises OSError for a file that cannot be read, and ValueError with the `cure` for one that is damaged.
    """
    try:
        opened = Opened(file)
        with open(opened.descriptor, "rb", closefd=False) as read:
            size = os.fstat(opened.descriptor).st_size
            length = int.from_bytes(read.read(8), "little")
            if not 0 < length <= min(_LARGEST_HEAD, size - 8):
                raise ValueError(f"its head is said to have {length:,} bytes of {size:,}")
            head = json.loads(read.read(length))
        if not isinstance(head, dict):
            raise ValueError("its head is no JSON object")
        metadata = head.pop("__metadata__", None) or {}
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are not texts")
        return metadata, _arrays(opened, head, 8 + length, size)
    except OSError as error:
        raise type(error)(f"{file} cannot be read ({error.strerror or error}): check its permissions") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no safetensors file, or damaged ({error!s:.200}): {cure}") from None


def _arrays(file: Opened, head: dict[str, Any], start: int, size: int) -> dict[str, Stored]:
    """Return the arrays that the entries of a header describe.  Raises ValueError for entries that leave gaps, overlap,
    or have other lengths than their shapes."""
    found = []
    for name, entry in head.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(first), int(last)]} if (
                    len(shape) <= _MOST_AXES and all(type(n) is int and n >= 0 for n in shape)):
                found.append((first, last, name, dtype, tuple(shape)))
            case _:
                raise ValueError(f"{name!r:.60} has no type, shape and place")
    arrays, end = {}, 0
    for first, last, name, dtype, axes in sorted(found):
        if first != end or last < first:
            raise ValueError(f"{name!r:.60} does not begin where the array before it ends")
        if dtype in DTYPES and math.prod(axes) * np.dtype(DTYPES[dtype]).itemsize != last - first:
            raise ValueError(f"{name!r:.60} has another length than its shape")
        arrays[name], end = Stored(file, dtype, axes, start + first, last - first), last
    if start + end != size:
        raise ValueError(f"its arrays end at byte {start + end:,} of {size:,}")
    return arrays


def memory_limit() -> float:
    """Return the bytes of memory that this process may use: the machine's, or its own limit; infinite if unknown."""
    memory = math.inf
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if getrlimit is not None and (limit := getrlimit(RLIMIT_AS)[0]) != RLIM_INFINITY:
        memory = min(memory, limit)
    return memory


@contextmanager
def room_for(held: int, where: str | os.PathLike) -> Iterator[None]:
    """Raise OSError if the arrays of a file or folder, of `held` bytes, do not fit into memory: at once if they are
    larger than `memory_limit`, and otherwise for a MemoryError within this."""
    memory = memory_limit()
    problem = OSError(f"{where} holds {held:,} bytes of numbers, for which there is no room in memory: give this "
                      "program more of it, or take a smaller model")
    if held > memory:
        raise problem
    try:
        yield
    except MemoryError:
        raise problem from None


def write_tensors(file: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a safetensors file of these arrays, which may be views: they are made contiguous one by one.  It is flushed
    to the disk when this returns."""
    head: dict[str, Any] = {"__metadata__": metadata}
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))  # which keeps them aligned
    end = 0
    for name, a in arrays.items():
        start, end = end, end + a.nbytes
        head[name] = {"dtype": _NAMES[a.dtype.newbyteorder("<")], "shape": list(a.shape), "data_offsets": [start, end]}
    raw_head = json.dumps(head).encode()
    raw_head += b" " * (-len(raw_head) % 8)
    with open(file, "wb") as opened:
        opened.write(struct.pack("<Q", len(raw_head)) + raw_head)
        for a in arrays.values():
            little = a.astype(a.dtype.newbyteorder("<"), copy=False)
            opened.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
        opened.flush()
        os.fsync(opened.fileno())
