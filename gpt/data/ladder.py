"""The ladder under a loss: what guessing, counting and compressing reach on the same text, without any training."""

import math
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Self

import numpy as np

from ..model.module import Array
from .counting import counting_losses
from .dataset import TextData
from .tokenizers import Tokenizer

GUESS = "guess"
MOST_COUNTED = 1 << 22  # tokens of the training part, which take some 400 MB and two seconds
MOST_VALIDATED = 1 << 18  # tokens of the validation part
MOST_COMPRESSED = 1 << 20  # bytes of the training part, the last ones; xz takes a second for them
RUNS = 64  # pieces of a long text that are counted
COMPRESSORS = {"bz2": "bz2", "xz": "lzma"}  # name -> its module, which some builds of Python lack


@dataclass
class Ladder:
    """Losses on the validation part of a text that need no model, in nats per token.

    rungs: name -> loss, from `guess`, the same chance for each token, over `0 characters` of context, the frequencies
    alone, to `5 characters`, and the compressors `bz2` and `xz`, where Python has them, which have seen the training
    part.
    note: what of a long text was counted; empty if it was all.
    """
    rungs: dict[str, float]
    unit: str = "characters"         # of context
    bytes_per_token: float = 1.0     # of the validation part
    note: str = field(default="", kw_only=True)

    @classmethod
    def from_data(cls, data: TextData, tokenizer: Tokenizer) -> Self:
        """Count and compress a text."""
        train = _spread(data.train, MOST_COUNTED)
        val = np.asarray(data.val[:MOST_VALIDATED])
        data.release()
        unit = getattr(tokenizer, "unit", "tokens")
        rungs = {GUESS: math.log(tokenizer.vocab_size)}
        for n, loss in enumerate(counting_losses(train, val, tokenizer.vocab_size)):
            rungs[context_name(n, unit)] = loss
        seen, new = (tokenizer.decode(part).encode("utf-8", "replace") for part in (data.train[-MOST_COMPRESSED:], val))
        data.release()
        seen = seen[-MOST_COMPRESSED:]
        for name, module in COMPRESSORS.items():
            try:
                compress = import_module(module).compress
            except ImportError:
                continue
            n_bytes = len(compress(seen + new)) - len(compress(seen))
            rungs[name] = 8 * math.log(2) * max(n_bytes, 0) / len(val)
        note = "" if len(train) == len(data.train) else (f"counted on {len(train):,} of the {len(data.train):,} tokens "
                                                         "to train on, so all of them would give a little less")
        rungs = {name: round(loss, 4) for name, loss in rungs.items()}
        return cls(rungs, unit, round(len(new) / len(val), 4), note=note)

    @classmethod
    def from_json(cls, data: Any) -> Self | None:
        """Return the ladder that `to_json` wrote, or None for anything else."""
        try:
            rungs = {str(name): float(loss) for name, loss in data["rungs"].items()}
            return cls(rungs, str(data["unit"]), float(data["bytes_per_token"]), note=str(data["note"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Return the ladder as plain data."""
        return {"rungs": self.rungs, "unit": self.unit, "bytes_per_token": self.bytes_per_token, "note": self.note}

    @property
    def contexts(self) -> list[float]:
        """The losses of counting with 0, 1, … tokens of context, as far as each is lower than the one before."""
        found: list[float] = []
        while (loss := self.rungs.get(context_name(len(found), self.unit))) is not None:
            if found and loss >= found[-1]:
                break
            found.append(loss)
        return found

    def place(self, loss: float) -> str:
        """Say between which two rungs of counting a loss stands."""
        contexts = self.contexts
        beaten = sum(rung > loss for rung in contexts)
        if not loss < self.rungs[GUESS]:  # NaN, too
            return f"no better than a guess, {self.rungs[GUESS]:.3f}"
        here = (f"better than counts with {context_name(beaten - 1, self.unit)} of context, {contexts[beaten - 1]:.3f}"
                if beaten else f"better than a guess, {self.rungs[GUESS]:.3f}")
        if beaten == len(contexts):
            return f"{here}, the best of counting"
        return f"{here}; {beaten} give{'s' * (beaten == 1)} {contexts[beaten]:.3f}"

    def describe(self) -> str:
        """Return all rungs in a line."""
        counts = [loss for name, loss in self.rungs.items() if name not in (GUESS, *COMPRESSORS)]
        scale = f"nats per {self.unit.removesuffix('s')}"
        text = (f"{scale}: a guess {self.rungs[GUESS]:.3f}; counts with 0 to {len(counts) - 1} {self.unit} of context "
                f"{', '.join(f'{loss:.3f}' for loss in counts)}"
                + "".join(f"; {name} {self.rungs[name]:.3f}" for name in COMPRESSORS if name in self.rungs))
        if self.unit != "characters":
            best = min(counts)
            text += f" (the best count is {self.bits_per_byte(best):.3f} bits per byte)"
        return text + (f"; {self.note}" if self.note else "")

    def bits_per_byte(self, loss: float) -> float:
        """Convert nats per token into bits per byte of UTF-8 text, which compare models with different tokenizers."""
        return loss / math.log(2) / self.bytes_per_token


def context_name(n: int, unit: str) -> str:
    """Return the name of a rung of counting: `0 characters`, `1 character`."""
    return f"{n} {unit.removesuffix('s') if n == 1 else unit}"


def _spread(tokens: Array, most: int) -> Array:
    """Return a text's tokens, or of a longer one `most` of them, in runs that are spread over it evenly."""
    if len(tokens) <= most:
        return np.asarray(tokens)
    starts = np.linspace(0, len(tokens) - most // RUNS, RUNS).astype(int)
    return np.concatenate([tokens[start:start + most // RUNS] for start in starts])
