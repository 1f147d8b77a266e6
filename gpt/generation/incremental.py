"""Texts as the model sees them: the window of the last tokens, and the keys and values kept of those already read."""

from collections.abc import Sequence

import numpy as np

from ..model.gpt import GPT, Linear
from ..model.module import Array, raw
from .kv_cache import MLP, Attention, Mean, New, Norm, Taps, linear, rotations
from .pace import Threads

NO_WARNING = np.errstate(over="ignore", invalid="ignore")  # who draws from logits says if they are not finite
FOLD = 1 << 26   # bytes of weights up to which a changed copy of them is made: see `Cache`
ROOM = 1024      # tokens for whose keys and values there is room at first
PIECE = 512      # tokens of a prompt that are read at once


class Context:
    """Texts that grow by a token at a time, and the logits of the next token of each.

    prompts: for each text integers (T,), T at least 1.  The model sees the last block_size tokens of a prompt.  Once a
    text has filled the window, the next token drops the older half of it: the model then sees block_size // 2 tokens
    and the new one, at positions from 0, and the window fills again.  (A window that slid by one would give every token
    a new position, and so new keys and values: all of it would have to be read again for each token.)

    With `cache` only new tokens are read, and attention looks up the keys and values of the earlier ones; without it
    the model reads the whole window each time.  Both see the same tokens at the same positions, so the logits are the
    same up to rounding.  Texts of different lengths lie in rows that start at position 0 and are padded on the right,
    where the causal mask hides what follows the last token.
    """

    def __init__(self, model: GPT, prompts: Sequence[Array], cache: bool = True):
        self.model, self.window = model.map(raw), model.config.block_size
        self.texts = [np.asarray(ids)[-self.window:].tolist() for ids in prompts]
        self.read = [0] * len(self.texts)  # how many tokens of each the cache knows
        self.cache = Cache(self.model, len(self.texts)) if cache else None

    @NO_WARNING
    def logits(self) -> Array:
        """The logits of the next token of each text, (B, V)."""
        if self.cache is None:
            every = self.model(padded(self.texts))
            return every[np.arange(len(every)), [len(text) - 1 for text in self.texts]]
        anew = [i for i, read in enumerate(self.read) if read == 0]
        if len(anew) in (0, len(self.read)):
            return self._read(self.cache, range(len(self.read)), slice(None))
        others = [i for i, read in enumerate(self.read) if read]
        logits = np.empty((len(self.read), self.model.config.vocab_size), self.cache.dtype)
        for rows in (anew, others):
            logits[rows] = self._read(self.cache, rows, np.array(rows))
        return logits

    def _read(self, cache: "Cache", rows: Sequence[int], index: slice | Array) -> Array:
        """Logits of some rows, none of whose tokens are in the cache, or all but the last."""
        start = [self.read[i] for i in rows]
        new = [self.texts[i][self.read[i]:] for i in rows]
        for i in rows:
            self.read[i] = len(self.texts[i])
        return cache(padded(new), start, [len(ids) for ids in new], index)

    def append(self, tokens: Sequence[int] | Array) -> None:
        """Add a token to each text, (B,)."""
        for i, (text, token) in enumerate(zip(self.texts, tokens)):
            if len(text) == self.window:
                del text[:self.window - self.window // 2]
                self.read[i] = 0
            text.append(int(token))

    def keep(self, rows: Sequence[int] | Array) -> None:
        """Go on with these texts only."""
        self.texts, self.read = [self.texts[i] for i in rows], [self.read[i] for i in rows]
        if self.cache is not None:
            self.cache.keep(np.asarray(rows))


def padded(texts: Sequence[Sequence[int]]) -> Array:
    """Texts as the rows of an array, with zeros after the shorter ones."""
    longest = max(map(len, texts))
    return np.array([[*text, *[0] * (longest - len(text))] for text in texts])


class Cache:
    """A GPT that reads only new tokens: the mathematics of `GPT.__call__`, to which a test holds it, on plain arrays,
    with memory of the earlier tokens of `batch_size` rows.

    For a single token each call of NumPy counts, so what can be computed once is, for models of up to `FOLD` bytes,
    which then take twice their memory: what a norm multiplies with and adds goes into the linear layer after it, and
    the 1/√d of attention into the queries.  A layer norm also takes the mean out of x, which is the embedding and what
    attention and MLP add to it: it is taken out of the embedding, and out of their weights, instead.  Larger models are
    read from the weights that are there, and wait for memory, not for calls.

    Room for keys and values grows with the texts: 8 n_layer n_kv_head d bytes a token of each row in single precision.
    """

    @NO_WARNING
    def __init__(self, model: GPT, batch_size: int):
        c, table = model.config, model.wte.weight
        self.config, self.batch_size, self.dtype = c, batch_size, table.dtype
        fold = sum(a.nbytes for a in model.named_arrays().values()) <= FOLD
        self.wte, self.wpe, self.frequencies = table, model.wpe, model.frequencies
        self.smear = Taps(model.smear, batch_size) if model.smear else None
        self.norm = Norm(model.norm, c.n_embd, self.dtype) if model.norm else None
        self.mean = Mean(c.n_embd, self.dtype) if fold and c.norm == "layer_norm" else None
        self.h = [(Attention(block, c, batch_size, self.dtype, fold), MLP(block, c, batch_size, self.dtype, fold))
                  for block in model.h]
        self.ln_f, self.head = Norm(model.ln_f, c.n_embd, self.dtype, fold), model.lm_head or Linear(table.T, None)
        if fold:
            self.head, = self.ln_f.into(self.head)
        every = [self.smear, *[part.conv for parts in self.h for part in parts]]
        self.taps = [taps for taps in every if taps is not None]
        self.threads = Threads()
        self._make_room(min(c.block_size, ROOM))

    def __call__(self, ids: Array, start: Sequence[int], count: Sequence[int], rows: slice | Array = slice(None)
                 ) -> Array:
        """Logits (R, V) of some rows after new tokens: ids (R, T), from position `start[r]` on, and of T only the first
        `count[r]`, at least 1.  What is known of a row that starts at 0 is forgotten."""
        if 0 in start and self.taps:
            anew = np.arange(self.batch_size)[rows][np.array(start) == 0]
            for taps in self.taps:
                taps.before[anew] = 0
        with self.threads:
            if ids.shape[1] == 1:
                last = self._read(ids, start, count, rows)
            else:
                last = np.empty((len(ids), self.config.n_embd), self.dtype)
                for begin in range(0, ids.shape[1], PIECE):
                    piece = ids[:, begin:begin + PIECE]
                    T = piece.shape[1]
                    x = self._read(piece, [s + begin for s in start], [min(max(n - begin, 0), T) for n in count], rows)
                    ends = [r for r, n in enumerate(count) if begin < n <= begin + T]
                    last[ends] = x[[r * T + count[r] - begin - 1 for r in ends]]
            return linear(self.ln_f(last), self.head)              # (R, C) -> (R, V)

    def _read(self, ids: Array, start: Sequence[int], count: Sequence[int], rows: slice | Array) -> Array:
        """What the last layer gives for new tokens, (R T, C)."""
        new = New(ids, start, count, rows, self.batch_size, self.config, self.dtype)
        if new.end > self.room:
            self._make_room(min(max(2 * self.room, new.end), self.config.block_size))
        x = self.wte.take(ids.ravel(), 0)                          # (R T, C)
        if self.wpe is not None:
            x += self.wpe.weight[new.places]
        if self.rotations is not None:
            new.rotation = self.rotations[0][new.places], self.rotations[1][new.places]
        if self.smear is not None:
            x = self.smear(x, new)
        if self.norm is not None:
            x = self.norm(x)
        if self.mean is not None:
            x -= self.mean(x)
        for attn, mlp in self.threads.each(self.h, ids.size):
            x += attn(x, new)
            x += mlp(x, new)
        return x

    def keep(self, rows: Array) -> None:
        """Go on with these rows only."""
        self.batch_size = len(rows)
        for taps in self.taps:
            taps.before = taps.before[rows]
        for attn, _ in self.h:
            attn.kept = attn.kept[:, rows]

    def _make_room(self, n: int) -> None:
        """Room for n tokens; a layer at a time, since for a moment it takes that of before, too."""
        self.room = n
        self.rotations = None if self.frequencies is None else rotations(self.frequencies, n)
        for attn, _ in self.h:
            attn.make_room(n)
