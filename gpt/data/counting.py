"""Losses of counting: how well tables of the text foretell it, with some tokens of context (Witten & Bell 1991)."""

from collections.abc import Iterator

import numpy as np

from ..model.module import Array

MOST = 5  # tokens of context
DENSE = 8  # a table may have this many cells for each token; beyond, its keys are sorted


def counting_losses(train: Array, val: Array, vocab_size: int, most: int = MOST) -> Iterator[float]:
    """Yield the mean loss in nats per token on the tokens `val` (m,) of counts over `train` (n,), with 0, 1, … `most`
    tokens of context.

    Each is a table of the tokens that followed a context h, smoothed by the table of the context that is one shorter
    (Witten & Bell 1991; Chen & Goodman 1999, eq. 17), down to the same chance for every token:

        p(w | h) = (n(h, w) + t(h) p(w | shorter h)) / (n(h) + t(h))

    where n(h, w) is how often w followed h, n(h) the sum over w, and t(h) the number of different tokens that did.  A
    context that never occurred passes the shorter one's answer on.  Memory: some 100 bytes per token of `train`.
    """
    p = np.full(len(val), 1 / vocab_size)
    h = np.zeros(len(train), np.int64)  # number of the context before each token: for now all have the empty one
    h_val = np.zeros(len(val), np.int64)  # of those in `val`; -1 for a context that never occurred
    n_contexts = 1
    for _ in range(most + 1):
        keys = h * vocab_size + train[len(train) - len(h):]  # a context and its next token
        found, counts, numbers = _tabulate(keys, n_contexts * vocab_size)
        contexts = (found // vocab_size).astype(np.intp)
        n = np.bincount(contexts, counts, n_contexts)
        t = np.bincount(contexts, minlength=n_contexts)
        place = _find(found, h_val * vocab_size + val, h_val >= 0)  # -1 for a pair that never occurred
        seen = h_val >= 0
        seen[seen] = n[h_val[seen]] > 0  # the text's last context has no next token
        n_h, t_h = n[h_val[seen]], t[h_val[seen]]
        n_hw = np.append(counts, 0)[place[seen]]
        p[seen] = (n_hw + t_h * p[seen]) / (n_h + t_h)
        yield float(-np.log(p).mean())
        # The context of the next token, one longer, is this context and its token.
        h, n_contexts = numbers[:-1], len(found)
        h_val = np.concatenate([[-1], place[:-1]])


def _tabulate(keys: Array, n_keys: int) -> tuple[Array, Array, Array]:
    """Return the different keys, sorted, the count of each, and for every key its place among them."""
    if n_keys > DENSE * len(keys):
        found, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return found, counts, numbers
    table = np.bincount(keys.astype(np.intp), minlength=n_keys)  # NumPy takes no larger integers on 32-bit machines
    found = np.flatnonzero(table)
    places = np.cumsum(table > 0) - 1
    return found, table[found], places[keys]


def _find(found: Array, keys: Array, known: Array) -> Array:
    """Return the place of each key in the sorted `found`, -1 for one that is not there or not `known`."""
    if not len(found):  # a context longer than the text
        return np.full(len(keys), -1)
    place = np.minimum(np.searchsorted(found, keys), len(found) - 1)
    return np.where(known & (found[place] == keys), place, -1)
