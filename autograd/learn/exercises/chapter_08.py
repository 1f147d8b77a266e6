"""Exercises of chapter 8, a GPT step by step."""

import numpy as np

from ..judging import ask, equal, exercise, require, returns, yes_or_no


@exercise("8.1", "biases add 3C + C in attention, 4C + C in the MLP, C in each norm: two norms per layer, and one at "
          "the end.")
def _(n_parameters, small, large):
    for V, T, C, L in ((10, 8, 4, 1), (50257, 1024, 768, 12), (50257, 1024, 1600, 48), (23, 36, 48, 3)):
        bare = (V + T) * C + L * (12 * C**2 + 2 * C) + C
        right = (V + T) * C + L * (12 * C**2 + 13 * C) + 2 * C
        returns(n_parameters, {"V": V, "T": T, "C": C, "L": L}, right, {
            "That is the model without biases.": bare,
            "The last norm has a bias, too.": right - C,
            "The norms of a layer have biases, too.": right - 2 * C * L,
            "The linear layers have biases, too.": right - 9 * C * L,
            "E serves twice, and is counted once.": right + V * C}, tolerance=1e-12)
    equal("small, the share of E in the smallest model,", small, 50257 * 768 / 124_439_808, tolerance=0.02)
    equal("large, the share of E in the largest model,", large, 50257 * 1600 / 1_557_611_200, tolerance=0.05)


@exercise("8.2", "count the pairs (tokens[i], tokens[i+1]); divide each row by its sum; then the mean of −ln p over "
          "all pairs, each as often as it occurs.")
def _(bigram_loss, agrees):
    rng = np.random.default_rng(0)
    for tokens, V in ((np.array([0, 1, 0, 1, 1, 0]), 2), (rng.integers(4, size=50), 4), (np.array([2, 0, 2, 0, 1]), 5)):
        n = np.zeros((V, V))
        np.add.at(n, (tokens[:-1], tokens[1:]), 1)
        rows, columns = (np.maximum(n.sum(axis=axis, keepdims=True), 1) for axis in (1, 0))

        def loss(p, n=n):
            return -(n * np.log(np.where(n > 0, p, 1))).sum() / n.sum()

        returns(bigram_loss, {"tokens": tokens, "V": V}, loss(n / rows), {
            "Each row of n is divided by its own sum: p is a distribution over what comes next.": loss(n / n.sum()),
            "The sum goes along a row, over what comes next: axis 1.": loss(n / columns),
            "A pair counts as often as it occurs.": -np.log((n / rows)[n > 0]).mean(),
            "The loss is a mean over the pairs.": loss(n / rows) * n.sum(),
            "The loss is in nats: the natural logarithm.": loss(n / rows) / np.log(2)}, tolerance=1e-6)
    yes_or_no("agrees", agrees, False, "a model that sees one character does not see the subject when it decides about "
              "the verb's `s`")


@exercise("8.3", "it is `forward` for one token: append this token's k and v to the lists, and let q look at all that "
          "they hold, joined along the axis of positions.")
def _(step, arrays):
    tokens, kept = np.array([0, 5, 3, 7, 5]) % len(arrays.wte.weight), [([], []) for _ in arrays.h]
    for place, token in enumerate(tokens):
        right = arrays(tokens[None, :place + 1])[0, -1]
        given = ask(step, {"m": arrays, "token": token, "place": place, "kept": kept})
        equal(f"step(m, token {token}, place {place}, kept)", given, right, None, tolerance=1e-6)
        require(all(len(keys) == len(values) == place + 1 for keys, values in kept),
                f"after place {place} each layer keeps {place + 1} keys and values, and these have "
                f"{[(len(keys), len(values)) for keys, values in kept]}")
