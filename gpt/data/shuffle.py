"""Examples in a shuffled order that takes no memory: a pass after another, each in an order of its own."""

import functools

import numpy as np

from ..model.module import Array

ROUNDS = 6
AHEAD = 1024  # examples whose order is found at a time, since many take hardly longer than a batch of them


def shuffled(places: Array, n: int, seed: int, number: int) -> Array:
    """Where the examples at `places` of a pass are, both from 0 to n - 1: one of the orders of n, which `seed` and the
    pass's `number` choose.

    A Feistel network (Luby & Rackoff 1988) permutes the numbers of 2w bits, 2²ʷ at least n; one that is sent to n or
    beyond is sent on from there, until it is below (Black & Rogaway 2002), which takes up to four turns on average.
    """
    w = np.uint64(max(1, (int(n - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(w)) - 1)
    keys = np.random.default_rng([seed, 4, number]).integers(1 << 64, size=ROUNDS, dtype=np.uint64)
    found = np.asarray(places).astype(np.uint64)
    out = np.ones(found.shape, bool)
    while out.any():
        left, right = found[out] >> w, found[out] & low
        for key in keys:
            left, right = right, left ^ mixed(right + key) & low
        found[out] = left << w | right
        out = found >= n
    return found.astype(np.int64)


def mixed(x: Array) -> Array:
    """The finalizer of SplitMix64 (Steele et al. 2014): every bit of a uint64 depends on all."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def passes(first: int, n_examples: int, n: int, seed: int) -> tuple[Array, Array]:
    """The examples `first`, `first` + 1, … of an endless row of passes over n: the number of the pass that each is of,
    and which one of it."""
    last = first + n_examples - 1
    ahead = np.concatenate([_ahead(part, n, seed) for part in range(first // AHEAD, last // AHEAD + 1)])
    start = first % AHEAD
    return np.arange(first, last + 1) // n, ahead[start:start + n_examples]


@functools.lru_cache(4)
def _ahead(part: int, n: int, seed: int) -> Array:
    """Which ones of their passes the AHEAD examples from number part · AHEAD on are."""
    row = np.arange(part * AHEAD, (part + 1) * AHEAD)
    places = np.concatenate([shuffled(row[row // n == number] % n, n, seed, number)
                             for number in range(row[0] // n, row[-1] // n + 1)])
    places.flags.writeable = False
    return places


def windows_a_pass(n: int, block_size: int) -> int:
    """How many windows of n tokens do not overlap: as many wherever in its first window a pass begins."""
    return max(1, (n - 1) // block_size - 1)


def shuffled_starts(n: int, block_size: int, seed: int, first: int, batch_size: int) -> Array:
    """Where the windows number `first` to `first` + batch_size - 1 begin, of passes over n tokens: those of a pass lie
    side by side, from a random place of the first block_size on, and come in a random order."""
    k = windows_a_pass(n, block_size)
    free = min(block_size, n - k * block_size)  # places where a pass can begin
    numbers, places = passes(first, batch_size, k, seed)
    return np.array([_begin(int(number), free, seed) for number in numbers]) + block_size * places


@functools.lru_cache(4)
def _begin(number: int, free: int, seed: int) -> int:
    """Where a pass begins."""
    return int(np.random.default_rng([seed, 5, number]).integers(free))
