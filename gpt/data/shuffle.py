"""Examples in shuffled order, epoch after epoch, each in an order of its own that takes no memory."""

import functools

import numpy as np

from ..model.module import Array

ROUNDS = 6
BLOCK = 1024  # examples whose order is found at a time, since that takes hardly longer than for one batch


def permute(indices: Array, n: int, seed: int, epoch: int) -> Array:
    """Map indices in an epoch's order to examples, both from 0 to n - 1, by the permutation of n that `seed` and
    `epoch` determine.

    A Feistel network (Luby & Rackoff 1988) permutes the numbers of 2w bits, with 2²ʷ at least n; it is applied again to
    results of n or more, until they are below n (cycle walking: Black & Rogaway 2002), up to four times on average.
    """
    # `rng.permutation`, kept for an epoch, would do with fewer lines, and with 10 s and 1.1 GB for the 156 million
    # windows of 10 billion tokens, which else stay on the disk; and a run that is resumed would get another order.
    w = np.uint64(max(1, (int(n - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(w)) - 1)
    keys = np.random.default_rng([seed, 4, epoch]).integers(1 << 64, size=ROUNDS, dtype=np.uint64)
    found = np.asarray(indices).astype(np.uint64)
    out = np.ones(found.shape, bool)
    while out.any():
        left, right = found[out] >> w, found[out] & low
        for key in keys:
            left, right = right, left ^ mix_bits(right + key) & low
        found[out] = left << w | right
        out = found >= n
    return found.astype(np.int64)


def mix_bits(x: Array) -> Array:
    """Apply the finalizer of SplitMix64 (Steele et al. 2014): every bit of a uint64 depends on all."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shuffled_examples(first: int, n_examples: int, n: int, seed: int) -> tuple[Array, Array]:
    """Return epochs and indices of the examples `first` to `first` + n_examples - 1, in epochs of n examples each."""
    last = first + n_examples - 1
    blocks = np.concatenate([_shuffled_block(block, n, seed) for block in range(first // BLOCK, last // BLOCK + 1)])
    start = first % BLOCK
    return np.arange(first, last + 1) // n, blocks[start:start + n_examples]


@functools.lru_cache(4)
def _shuffled_block(block: int, n: int, seed: int) -> Array:
    """Return the indices, each within its epoch, of the examples from block · BLOCK to (block + 1) · BLOCK - 1."""
    row = np.arange(block * BLOCK, (block + 1) * BLOCK)
    indices = np.concatenate([permute(row[row // n == epoch] % n, n, seed, epoch)
                              for epoch in range(row[0] // n, row[-1] // n + 1)])
    indices.flags.writeable = False
    return indices


def windows_per_epoch(n: int, block_size: int) -> int:
    """Count the windows of n tokens that do not overlap, for an epoch that begins at any token of the first window."""
    return max(1, (n - 1) // block_size - 1)


def shuffled_starts(n: int, block_size: int, seed: int, first: int, batch_size: int) -> Array:
    """Return where the windows `first` to `first` + batch_size - 1 begin, in epochs over n tokens.

    The windows of an epoch lie side by side, from a random one of the first block_size tokens on, and come in random
    order.
    """
    k = windows_per_epoch(n, block_size)
    n_offsets = min(block_size, n - k * block_size)
    epochs, indices = shuffled_examples(first, batch_size, k, seed)
    return np.array([_offset(int(epoch), n_offsets, seed) for epoch in epochs]) + block_size * indices


@functools.lru_cache(4)
def _offset(epoch: int, n_offsets: int, seed: int) -> int:
    """Draw the token at which an epoch begins."""
    return int(np.random.default_rng([seed, 5, epoch]).integers(n_offsets))
