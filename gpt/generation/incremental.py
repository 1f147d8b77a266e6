"""Incremental decoding: the window of tokens that a model sees, and a GPT with a KV cache."""

from collections.abc import Sequence

import numpy as np

from ..model.gpt import GPT, Linear
from ..model.module import Array, raw
from .kv_cache import MLP, Attention, ConvState, Norm, RowMean, TokenChunk, linear, rotations
from .pace import Threads

NO_WARNING = np.errstate(over="ignore", invalid="ignore")  # `sample_token` raises if logits are not finite
FOLD = 1 << 26   # bytes of weights up to which they are folded: see `IncrementalGPT`
CAPACITY = 1024  # tokens that the KV cache holds at first
PREFILL = 512    # tokens of a prompt that are read at once


class DecodingState:
    """Texts that grow by a token at a time, and the logits of the next token of each.

    prompts: for each text integers (T,), T at least 1.  The model sees the last block_size tokens of a prompt.  Once a
    text has filled this window, the next token drops the older half of it: the model then sees block_size // 2 tokens
    and the new one, at positions from 0, and the window fills again.  (A window that slid by one would give every token
    a new position, and so new keys and values: all of it would be computed again for each token.)

    With `cache` only new tokens are read, and the keys and values of earlier ones come from the KV cache; without it
    the model reads the whole window each time.  Both see the same tokens at the same positions, so the logits are the
    same up to rounding.  Texts of different lengths lie in rows that start at position 0 and are padded on the right,
    where the causal mask hides what follows the last token.
    """

    def __init__(self, model: GPT, prompts: Sequence[Array], cache: bool = True):
        self.model, self.window = model.map(raw), model.config.block_size
        self.texts = [np.asarray(ids)[-self.window:].tolist() for ids in prompts]
        self.n_cached = [0] * len(self.texts)  # tokens of each text that are in the cache
        self.cache = IncrementalGPT(self.model, len(self.texts)) if cache else None

    @NO_WARNING
    def logits(self) -> Array:
        """Compute the logits of the next token of each text, (B, V)."""
        if self.cache is None:
            every = self.model(pad_rows(self.texts))
            return every[np.arange(len(every)), [len(text) - 1 for text in self.texts]]
        empty = [i for i, n in enumerate(self.n_cached) if n == 0]
        if len(empty) in (0, len(self.n_cached)):
            return self._read(self.cache, range(len(self.n_cached)), slice(None))
        others = [i for i, n in enumerate(self.n_cached) if n]
        logits = np.empty((len(self.n_cached), self.model.config.vocab_size), self.cache.dtype)
        for rows in (empty, others):
            logits[rows] = self._read(self.cache, rows, np.array(rows))
        return logits

    def _read(self, cache: "IncrementalGPT", rows: Sequence[int], index: slice | Array) -> Array:
        """Return the logits of some rows; of each the cache holds no token, or all but the last."""
        start = [self.n_cached[i] for i in rows]
        new = [self.texts[i][self.n_cached[i]:] for i in rows]
        for i in rows:
            self.n_cached[i] = len(self.texts[i])
        return cache(pad_rows(new), start, [len(ids) for ids in new], index)

    def append(self, tokens: Sequence[int] | Array) -> None:
        """Append a token to each text, (B,)."""
        for i, (text, token) in enumerate(zip(self.texts, tokens)):
            if len(text) == self.window:
                del text[:self.window - self.window // 2]
                self.n_cached[i] = 0
            text.append(int(token))

    def keep(self, rows: Sequence[int] | Array) -> None:
        """Drop all texts but these, given by index."""
        self.texts, self.n_cached = [self.texts[i] for i in rows], [self.n_cached[i] for i in rows]
        if self.cache is not None:
            self.cache.keep(np.asarray(rows))


def pad_rows(texts: Sequence[Sequence[int]]) -> Array:
    """Return texts as the rows of an array, with zeros after the shorter ones."""
    longest = max(map(len, texts))
    return np.array([[*text, *[0] * (longest - len(text))] for text in texts])


class IncrementalGPT:
    """A GPT with a KV cache for `batch_size` rows, which reads only new tokens: the forward pass of `GPT.__call__` on
    plain arrays (a test compares the two).

    For models of up to `FOLD` bytes, norm gains and biases and the 1/√d of attention are folded into a copy of the next
    layer's weights, to save calls of NumPy, which count for a single token.  The mean that layer norms subtract is
    taken out of the embedding and of all weights that write to the residual stream.  Larger models are bound by memory,
    not by calls, and use the weights as they are.

    The KV cache grows with the texts: 8 n_layer n_kv_head d bytes a token of each row in single precision.
    """

    @NO_WARNING
    def __init__(self, model: GPT, batch_size: int):
        c, table = model.config, model.wte.weight
        self.config, self.batch_size, self.dtype = c, batch_size, table.dtype
        fold = sum(a.nbytes for a in model.named_arrays().values()) <= FOLD
        self.wte, self.wpe, self.frequencies = table, model.wpe, model.frequencies
        self.smear = ConvState(model.smear, batch_size) if model.smear else None
        self.norm = Norm(model.norm, c.n_embd, self.dtype) if model.norm else None
        self.mean = RowMean(c.n_embd, self.dtype) if fold and c.norm == "layer_norm" else None
        self.h = [(Attention(block, c, batch_size, self.dtype, fold), MLP(block, c, batch_size, self.dtype, fold))
                  for block in model.h]
        self.ln_f, self.head = Norm(model.ln_f, c.n_embd, self.dtype, fold), model.lm_head or Linear(table.T, None)
        if fold:
            self.head, = self.ln_f.fold_into(self.head)
        convs = [self.smear, *[layer.conv for layers in self.h for layer in layers]]
        self.convs = [conv for conv in convs if conv is not None]
        self.threads = Threads()
        self._grow(min(c.block_size, CAPACITY))

    def __call__(self, ids: Array, start: Sequence[int], count: Sequence[int], rows: slice | Array = slice(None)
                 ) -> Array:
        """Return the logits (R, V) of some rows after new tokens `ids` (R, T), which begin at position `start[r]`; all
        but the first `count[r]`, at least 1, are padding.  A row that begins at 0 is reset."""
        if 0 in start and self.convs:
            reset = np.arange(self.batch_size)[rows][np.array(start) == 0]
            for conv in self.convs:
                conv.state[reset] = 0
        with self.threads:
            if ids.shape[1] == 1:
                last = self._read(ids, start, count, rows)
            else:
                last = np.empty((len(ids), self.config.n_embd), self.dtype)
                for begin in range(0, ids.shape[1], PREFILL):
                    block = ids[:, begin:begin + PREFILL]
                    T = block.shape[1]
                    x = self._read(block, [s + begin for s in start], [min(max(n - begin, 0), T) for n in count], rows)
                    ends = [r for r, n in enumerate(count) if begin < n <= begin + T]
                    last[ends] = x[[r * T + count[r] - begin - 1 for r in ends]]
            return linear(self.ln_f(last), self.head)              # (R, C) -> (R, V)

    def _read(self, ids: Array, start: Sequence[int], count: Sequence[int], rows: slice | Array) -> Array:
        """Return the last block's output for new tokens, (R T, C)."""
        chunk = TokenChunk(ids, start, count, rows, self.batch_size, self.config, self.dtype)
        if chunk.end > self.capacity:
            self._grow(min(max(2 * self.capacity, chunk.end), self.config.block_size))
        x = self.wte.take(ids.ravel().astype(np.intp, copy=False), 0)  # (R T, C)
        if self.wpe is not None:
            x += self.wpe.weight[chunk.positions]
        if self.rotations is not None:
            chunk.rotation = self.rotations[0][chunk.positions], self.rotations[1][chunk.positions]
        if self.smear is not None:
            x = self.smear(x, chunk)
        if self.norm is not None:
            x = self.norm(x)
        if self.mean is not None:
            x -= self.mean(x)
        for attn, mlp in self.threads.each(self.h, ids.size):
            x += attn(x, chunk)
            x += mlp(x, chunk)
        return x

    def keep(self, rows: Array) -> None:
        """Drop all rows but these."""
        self.batch_size = len(rows)
        for conv in self.convs:
            conv.state = conv.state[rows]
        for attn, _ in self.h:
            attn.kv = attn.kv[:, rows]

    def _grow(self, n: int) -> None:
        """Grow the KV cache to n tokens, a layer at a time, since its old arrays take memory meanwhile."""
        self.capacity = n
        self.rotations = None if self.frequencies is None else rotations(self.frequencies, n)
        for attn, _ in self.h:
            attn.grow(n)
