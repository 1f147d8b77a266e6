"""Exercises of chapter 14, what counting knows."""

import numpy as np

from ..judging import choose, equal, exercise, returns


@exercise("14.1", "every cell gets one more, and then each row is divided by its own sum, which has grown by V.")
def _(add_one, why):
    for pairs in (np.array([[3.0, 1], [0, 0]]), np.array([[8.0, 0, 0], [1, 1, 4], [0, 2, 0]])):
        right = (pairs + 1) / (pairs + 1).sum(axis=1, keepdims=True)
        plain = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
        returns(add_one, {"pairs": pairs}, right, {
            "Those are the plain shares, without the one.": plain,
            "Each row has to add up to 1: divide by its sum after adding.": pairs + 1,
            "The sums have to be those of the rows.": (pairs + 1) / (pairs + 1).sum(axis=0, keepdims=True),
            "The sum of a row grows, too, by one for each cell.": (pairs + 1) / np.maximum(
                pairs.sum(axis=1, keepdims=True), 1),
            "That is the chance of the pair, not of one letter after the other.": (pairs + 1) / (pairs + 1).sum()})
    choose("why", why, "a", {"b": "They do: each row is divided by its sum.",
                             "c": "Frequent pairs get less than before, and rare ones more."})


@exercise("14.2", "a bit is ln 2 nats, and the loss of a token is shared among its bytes.")
def _(bits_per_byte, better):
    for loss, size in ((3.2, 4.4), (1.1, 1.02), (2.0, 1.0)):
        right = loss / np.log(2) / size
        returns(bits_per_byte, {"loss": loss, "bytes_per_token": size}, right, {
            "Those are nats per byte: a bit is ln 2 nats.": loss / size,
            "A nat has more than one bit: divide by ln 2.": loss * np.log(2) / size,
            "Those are bits per token: share them among its bytes.": loss / np.log(2),
            "More bytes in a token make it fewer bits per byte.": loss / np.log(2) * size})
    equal("better", {"tokens": 0, "characters": 1}.get(better, 2), 0, None, {
        "1.1 nats are fewer than 3.2, but for 1.02 bytes in place of 4.4.": 1,
        'It is "tokens" or "characters".': 2})


@exercise("14.3", "go through the rungs, keep the lowest so far, and remember n when a rung is lower than it and above "
          "the loss.")
def _(rung):
    rungs = np.array([3.0, 2.0, 2.5, 1.0, 1.2])
    for loss, right in ((3.5, -1), (3.0, -1), (2.7, 0), (1.9, 1), (0.5, 3), (1.1, 1)):
        wrong = {"A loss that only equals a rung is not below it.": int((rungs >= loss).sum()) - 1 if loss == 3 else -9,
                 "A longer context that is worse is no rung.": max(np.flatnonzero(rungs > loss), default=-1),
                 "That is how many rungs the loss is below; n counts from 0.": right + 1}
        returns(rung, {"loss": loss, "rungs": rungs}, right, wrong)
