"""Examples in a shuffled order that takes no memory: a pass after another, each in an order of its own."""

import numpy as np

from .module import Array

ROUNDS = 6


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


def passes(first: int, n_examples: int, n: int, seed: int) -> list[tuple[int, Array]]:
    """The examples `first`, `first` + 1, … of an endless row of passes over n: the number of each pass that they are
    of, and which ones of it."""
    row = np.arange(first, first + n_examples)
    return [(number, shuffled(row[row // n == number] % n, n, seed, number))
            for number in range(first // n, (first + n_examples - 1) // n + 1)]


def windows_a_pass(n: int, block_size: int) -> int:
    """How many windows of n tokens do not overlap: as many wherever in its first window a pass begins."""
    return max(1, (n - 1) // block_size - 1)


def shuffled_starts(n: int, block_size: int, seed: int, first: int, batch_size: int) -> Array:
    """Where the windows number `first` to `first` + batch_size - 1 begin, of passes over n tokens: those of a pass lie
    side by side, from a random place of the first block_size on, and come in a random order."""
    k = windows_a_pass(n, block_size)
    free = min(block_size, n - k * block_size)  # places where a pass can begin
    return np.concatenate([int(np.random.default_rng([seed, 5, number]).integers(free)) + block_size * places
                           for number, places in passes(first, batch_size, k, seed)])
