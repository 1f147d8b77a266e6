"""GGUF files, in which llama.cpp and its relatives keep models: their header is read and checked here, and their
quantized weights are widened by the library `gguf`, an array at a time."""

import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .safetensors_file import FLOATS, Opened, Stored

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_LARGEST_HEAD = 100_000_000  # bytes; one with 262,000 tokens has 15 million
_ALIGNMENT = "general.alignment"
_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "|b1", 10: "<u8", 11: "<i8",
            12: "<f8"}
_TEXT, _LIST = 8, 9
_ROWS = 1 << 14  # numbers that are widened at once, at least: they stay in the cache


def library() -> Any:
    """Import the module `gguf`.  Raises ImportError that says how to install it."""
    try:
        import gguf
    except ImportError:
        raise ImportError('GGUF files need gguf: python -m pip install "tapegrad[gguf]"') from None
    return gguf


@dataclass(frozen=True)
class Quantized(Stored):
    """An array in a GGUF file, each row of which is a sequence of blocks of numbers that share scales."""

    @property
    def numpy_dtype(self) -> np.dtype:
        """The dtype in which the blocks are mapped: bytes."""
        return np.dtype(np.uint8)

    @property
    def is_float(self) -> bool:
        """True if the library can widen this quantization."""
        gguf = library()
        width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[self.dtype]][1]
        try:
            gguf.dequantize(np.zeros((1, width), np.uint8), gguf.GGMLQuantizationType[self.dtype])
        except NotImplementedError:
            return False
        return True

    def read(self) -> Any:
        """Return the array, widened to float32 some rows at a time."""
        gguf, wide = library(), np.empty(self.shape, np.float32)
        rows = wide.reshape(-1, self.shape[-1])
        blocks = self.flat().reshape(len(rows), -1)
        step = 1 + _ROWS // self.shape[-1]
        with np.errstate(all="ignore"):  # NaN and infinity are noticed by who reads
            for start in range(0, len(rows), step):
                rows[start:start + step] = gguf.dequantize(blocks[start:start + step],
                                                           gguf.GGMLQuantizationType[self.dtype])
        return wide


def is_gguf(file: Path) -> bool:
    """Return whether a file is named as a GGUF file, or begins as one: Ollama gives its files no suffix."""
    if file.suffix == ".gguf" or not file.is_file():
        return file.suffix == ".gguf"
    try:
        with open(file, "rb") as opened:
            return opened.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_gguf(file: Path) -> tuple[dict[str, Any], dict[str, Stored]]:
    """Read the header of a GGUF file: its metadata, and its arrays, whose numbers are not read yet.

    Raises OSError for a file that cannot be read, ValueError for one that is damaged, and ImportError without the
    library.
    """
    types = {int(t): (t.name, *sizes) for t, sizes in library().GGML_QUANT_SIZES.items()}
    try:
        opened = Opened(file)
        size = os.fstat(opened.descriptor).st_size
        if not size:
            raise ValueError("it is empty")
        with mmap.mmap(opened.descriptor, min(size, _LARGEST_HEAD), access=mmap.ACCESS_READ) as mapped:
            head = _Head(mapped)
            n_arrays, n_keys = head.begin()
            metadata: dict[str, Any] = {}
            for _ in range(n_keys):
                name = head.text()
                if name in metadata:
                    raise ValueError(f"it has {name!r:.60} twice")
                metadata[name] = head.value(head.number("<I"))
            entries = [head.array() for _ in range(n_arrays)]
        return metadata, _arrays(opened, entries, _start(metadata, head.at), size, types)
    except OSError as error:
        raise type(error)(f"{file} cannot be read ({error.strerror or error}): check path and permissions") from None
    except (ValueError, struct.error) as error:
        raise ValueError(f"{file} is no GGUF file, or damaged ({error!s:.300}): download it again") from None


class _Head:
    """A reader of the bytes of a header, one value after another.  Each method raises ValueError for bytes that are not
    there, before it takes memory for them."""

    def __init__(self, data: mmap.mmap):
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        """Return the next `n` bytes."""
        if n > len(self.data) - self.at:
            raise ValueError(f"its header is longer than the {len(self.data):,} bytes that are there")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form: str) -> int:
        """Return the next number of a format of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        """Return the next text."""
        return self.take(self.number("<Q")).decode()

    def begin(self) -> tuple[int, int]:
        """Return the number of arrays and of keys, from the start of the file."""
        if (magic := self.take(4)) != MAGIC:
            raise ValueError(f"it begins with {magic!r} instead of {MAGIC!r}")
        if (version := self.number("<I")) not in _VERSIONS:
            raise ValueError("it is big-endian: the program gguf-convert-endian, which comes with the library gguf, "
                             "turns it around" if version & 0xFFFF == 0 else
                             f"it is of version {version}, and the known ones are {_VERSIONS}")
        return self.number("<Q"), self.number("<Q")

    def value(self, kind: int) -> Any:
        """Return the next value, of a type that is given by its number."""
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            kind, n = self.number("<I"), self.number("<Q")
            if kind == _TEXT:
                return [self.text() for _ in range(n)]
            return self.numbers(kind, n).tolist()
        return self.numbers(kind, 1).tolist()[0]

    def numbers(self, kind: int, n: int) -> np.ndarray:
        """Return the next `n` numbers; float32 as the float64 of the same shortest decimal."""
        if kind not in _SCALARS:
            raise ValueError(f"it has a value of type {kind}, which is not known, or a list of lists")
        dtype = np.dtype(_SCALARS[kind])
        found = np.frombuffer(self.take(n * dtype.itemsize), dtype)
        return found.astype(str).astype(np.float64) if kind == 6 and n == 1 else found

    def array(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return the next array's name, shape, the number of its type, and its offset."""
        name, n_axes = self.text(), self.number("<I")
        if not 0 < n_axes <= 4:
            raise ValueError(f"{name!r:.60} has {n_axes:,} axes")
        shape = [self.number("<Q") for _ in range(n_axes)][::-1]
        return name, tuple(shape), self.number("<I"), self.number("<Q")


def _start(metadata: dict[str, Any], at: int) -> int:
    """Return the offset at which the arrays begin: the next multiple of the alignment."""
    alignment = metadata.get(_ALIGNMENT, 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20:
        raise ValueError(f"its {_ALIGNMENT} is {alignment!r:.20}")
    return -(-at // alignment) * alignment


def _arrays(file: Opened, entries: list[tuple[str, tuple[int, ...], int, int]], start: int, size: int,
            types: dict[int, tuple[str, int, int]]) -> dict[str, Stored]:
    """Return the arrays of a header's entries.  Raises ValueError for entries that overlap, lie outside of the file, or
    whose rows are no whole blocks."""
    arrays: dict[str, Stored] = {}
    end = 0
    for name, shape, kind, first in sorted(entries, key=lambda entry: entry[3]):
        if kind not in types:
            raise ValueError(f"{name!r:.60} is of type {kind}, which the library gguf does not know: update it")
        dtype, block, width = types[kind]
        if name in arrays or not math.prod(shape) or shape[-1] % block:
            raise ValueError(f"{name!r:.60} is there twice, is empty, or has rows of {shape[-1]:,} numbers, and "
                             f"{dtype} has blocks of {block}")
        nbytes = math.prod(shape) // block * width
        if first < end or start + first + nbytes > size:
            raise ValueError(f"{name!r:.60} overlaps with another array, or ends at byte {start + first + nbytes:,} of "
                             f"{size:,}")
        plain = dtype in FLOATS or block == 1
        arrays[name] = (Stored if plain else Quantized)(file, dtype, shape, start + first, nbytes)
        end = first + nbytes
    return arrays
