"""Texts as the model sees them: the window of the last tokens, and what a cache keeps of those already read."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

import autograd as ag
from autograd.core.packed import FEW
from autograd.program.program import Program

from ..model.gpt import GPT
from ..model.module import Array, raw
from .kv_cache import Cache
from .pace import Paced, Threads

NO_WARNING = np.errstate(over="ignore", invalid="ignore")  # `sample_token` raises if logits are not finite
CAPACITY = 1024  # tokens that the KV cache holds at first
PREFILL = 512    # tokens of a prompt that are read at once
IDLE = 1 << 24   # bytes of a KV cache that is kept for the next texts of its model
SMALL = 1 << 13  # numbers in the residual stream up to which a prefill costs calls more than arithmetic


class DecodingState:
    """Texts that grow by a token at a time, and the logits of the next token of each.

    prompts: for each text integers (T,), T at least 1.  The model sees the last block_size tokens of a prompt.  Once a
    text has filled the window, the next token drops the older half of it: the model then sees block_size // 2 tokens
    and the new one, at positions from 0, and the window fills again.  (A window that slid by one would give every token
    a new position, and so new keys and values: all of it would have to be read again for each token.)

    With `cache` only new tokens are read, and attention looks up the keys and values of the earlier ones; without it
    the model reads the whole window each time.  Both see the same tokens at the same positions, so the logits are the
    same up to rounding.  Texts of different lengths are padded on the right, where the causal mask hides what follows
    the last token.

    What is read again in the same shape is read by a program: the model's forward pass on a cache, recorded for one new
    token of each text (decoding), so that a token costs calls of kernels and little else; of a small model also the
    prompt that is left of a full window (prefill).  The next texts of the model use these programs again.
    """

    def __init__(self, model: GPT, prompts: Sequence[Array], cache: bool = True):
        self.model, self.window = model.map(raw), model.config.block_size
        self.texts = [np.asarray(ids)[-self.window:].tolist() for ids in prompts]
        self.n_new = [len(text) for text in self.texts]  # tokens at the end of each text that the cache has not seen
        self.reader = Reader.take(model, self.model, len(self.texts)) if cache else None
        if self.reader is not None:
            self.model = self.reader.model
            weakref.finalize(self, self.reader.give_back, model).atexit = False

    @NO_WARNING
    def logits(self) -> Array:
        """Compute the logits of the next token of each text, (B, V)."""
        if (reader := self.reader) is None:
            x = self.model.stream(pad_rows(self.texts))
            return self.model.logits(x[np.arange(len(x)), [len(text) - 1 for text in self.texts]])
        with reader.threads:
            reader.make_room(max(map(len, self.texts)), self.window)
            logits = self._prefill(reader) if max(self.n_new) > 1 or not reader.cache.arrays else None
            if logits is None:  # of texts with one new token, or none: the last is read once more
                ids, starts = [text[-1:] for text in self.texts], [len(text) - 1 for text in self.texts]
                logits = reader.read(GPT.__call__, np.array(ids), starts)[:, 0].copy()
        self.n_new = [0] * len(self.texts)
        return logits

    def append(self, tokens: Sequence[int] | Array) -> None:
        """Append a token to each text, (B,)."""
        for i, (text, token) in enumerate(zip(self.texts, tokens)):
            if len(text) == self.window:
                del text[:self.window - self.window // 2]
                self.n_new[i] = len(text)
            text.append(int(token))
            self.n_new[i] += 1

    def cut(self, length: int) -> None:
        """Drop all tokens of each text after the first `length`."""
        self.n_new = [max(0, n - max(0, len(text) - length)) for text, n in zip(self.texts, self.n_new)]
        self.texts = [text[:length] for text in self.texts]

    def keep(self, rows: Sequence[int] | Array) -> None:
        """Drop all texts but these, given by index."""
        self.texts, self.n_new = [self.texts[i] for i in rows], [self.n_new[i] for i in rows]
        if self.reader is not None:
            self.reader.keep(rows)

    def _prefill(self, reader: "Reader") -> Array | None:
        """Read the new tokens of the texts that have several.  Return the logits, if those are all."""
        starts = [len(text) - n for text, n in zip(self.texts, self.n_new)]
        several = [i for i, n in enumerate(self.n_new) if n > 1 or not reader.cache.arrays]
        for start in {starts[i] for i in several}:
            rows = [i for i in several if starts[i] == start]
            every = len(rows) == len(self.texts)
            some, new = None if every else reader.cache.take(rows), [self.texts[i][start:] for i in rows]
            ids, last = pad_rows(new), [np.empty(0)] * len(rows)
            for begin in range(0, ids.shape[1], PREFILL):
                x = reader.read(GPT.stream, ids[:, begin:begin + PREFILL], [start + begin], some)  # (R, T, C)
                for i, text in enumerate(new):
                    if begin < len(text) <= begin + PREFILL:
                        last[i] = x[i, len(text) - begin - 1].copy()
            if some is None:
                with ag.no_grad():
                    return self.model.logits(np.stack(last))
            reader.cache.put(rows, some)
        return None


class Reader:
    """A model that reads tokens into a KV cache: by its forward pass on arrays or, what is read again in the same
    shape, by that recorded as a program.  A `DecodingState` has it to itself; once that is gone, the next one of the
    same model takes it over, with its programs."""

    _idle: WeakKeyDictionary[GPT, "Reader"] = WeakKeyDictionary()

    def __init__(self, model: GPT, arrays: GPT, key: Any):
        packed = any(type(a) is ag.Packed for a in arrays.named_arrays().values())
        self.threads = Threads(alone=FEW if packed else 0)
        self.key, self.cache = key, Cache(min(CAPACITY, model.config.block_size))
        self.source, self.model = weakref.ref(model), arrays
        self.model.h = Paced(self.model.h, self.threads)
        self.programs: dict[Any, Program | None] = {}  # by function and shape of ids; None: called once so far

    @classmethod
    def take(cls, model: GPT, arrays: GPT, n_texts: int) -> "Reader":
        """Return the idle reader of a model, or a new one if its arrays, the kernels or the number of texts differ."""
        places = [((a.rows if type(a) is ag.Packed else a).__array_interface__["data"], a.shape, a.dtype)
                  for a in arrays.named_arrays().values()]
        key, reader = (n_texts, ag.kernels.in_use(), places), cls._idle.pop(model, None)
        return reader if reader is not None and reader.key == key else cls(model, arrays, key)

    def give_back(self, model: GPT) -> None:
        """Keep the reader for the next texts of its model."""
        if sum(a.nbytes for a in self.cache.arrays) <= IDLE:
            self._idle[model] = self

    def make_room(self, n: int, most: int) -> None:
        """Grow the cache to n positions or more, but not more than `most`, if it has fewer."""
        if n > self.cache.room:
            self.cache.grow(min(max(2 * self.cache.room, n), most))
            self.programs.clear()  # which write into the old arrays

    def keep(self, rows: Sequence[int] | Array) -> None:
        """Drop all texts but these from the cache."""
        self.key, self.cache = (len(rows), *self.key[1:]), self.cache.take(rows)
        self.programs.clear()

    def read(self, forward: Callable[..., Any], ids: Array, starts: list[int], cache: Cache | None = None) -> Array:
        """Return `forward(model, ids, cache)`, on a cache of its own or the one given: a program's own memory, if it is
        by a program."""
        key, (_, T), own = (forward, ids.shape), ids.shape, cache is None
        cache = self.cache if cache is None else cache
        cache.move(starts, T)
        self.threads.size = ids.size
        if own and (program := self.programs.get(key)) is not None:
            return program.replay(ids, cache.positions)
        with ag.no_grad():
            large = T > 1 and ids.size * self.model.config.n_embd > SMALL
            if large or not own or key not in self.programs:
                self.programs.setdefault(key)
                return forward(self.model, ids, cache)
            program = self.programs[key] = self._record(forward, ids)
            return program(ids, cache.positions.astype(cache.dtype))

    def _record(self, forward: Callable[..., Any], ids: Array) -> Program:
        """Record `forward(model, ids, cache)` as a program of the ids and their positions."""
        model, cache = self.source().map(leaf), self.cache  # type: ignore[union-attr]  # its texts keep it alive
        model.h = Paced(model.h, self.threads)

        def step(ids: Array, positions: Array) -> Array:
            cache.given = positions
            try:
                return forward(model, ids, cache)
            finally:
                cache.given = None

        return ag.record(step, ids, cache.positions.astype(cache.dtype))


def pad_rows(texts: Sequence[Sequence[int]]) -> Array:
    """Return texts as the rows of an array, with zeros after the shorter ones."""
    longest = max(map(len, texts))
    return np.array([[*text, *[0] * (longest - len(text))] for text in texts])


def leaf(a: Array) -> Array:
    """Return a Tensor that lies in the memory of an array; a Tensor, and packed weights, as they are."""
    t: Any = a if isinstance(a, (ag.Tensor, ag.Packed)) else ag.tensor(a)
    if t is not a and a.flags.writeable:
        t.use_buffers(a)
    return t
