"""The rows of small things: the import, an operation on the tape, and a token of text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import autograd as ag

from ..generation.generate import generate
from ..model.gpt import GPT
from ..runtime.malloc import keep_freed_memory
from .measure import Disagreement, Row, Side, Worker, attempt, fresh, in_turns, need
from .peers import pytorch as peers
from .race import config_of, start, torch_threads

HIPS = "GPT_BENCH_HIPS"  # the variable that says in which folder HIPS autograd is


def import_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield a fresh process importing the engine, and one importing only NumPy."""
    def side(package: str) -> Side:
        code = f"import time; t = time.perf_counter(); import {package}; print(time.perf_counter() - t)"
        return Side(f"import {package}", lambda: fresh(code) * 1e3)

    yield Row("import", "the engine, in a fresh process", "ms", in_turns(rounds, [side("autograd"), side("numpy")]))


# ---------------------------------------------------------------------- an operation


def op_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield a chain of 1,000 multiplications and additions on arrays of 4 elements, forward and backward, an
    operation."""
    for both, words in ((False, "one input"), (True, "both inputs")):
        with ExitStack() as stack:
            sides = [Side("tapegrad", ours_on_chain(both)),
                     *[attempt("PyTorch eager", partial(torch_on_chain, both))] * ("torch" in asked),
                     *[attempt("HIPS autograd", partial(hips_on_chain, both, stack))] * ("hips" in asked)]
            yield Row("op", f"a recorded operation, {words} with gradient", "µs", in_turns(rounds, sides))


def chain() -> tuple[Any, Any, Any]:
    """What the chain starts from, multiplies with and adds, each (4,)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=4), rng.uniform(0.999, 1.001, 4), 1e-3 * rng.normal(size=4)


def timed_chain(make: Callable[[Any, bool], Any], ones: Any, both: bool) -> Callable[[], float]:
    """Return the microseconds of an operation, for arrays that `make` turns into a framework's own."""
    def run() -> float:
        x, scale, shift = chain()
        y, a, b = make(x, True), make(scale, both), make(shift, both)
        began = perf_counter()
        for _ in range(500):
            y = y * a
            y = y + b
        y.backward(ones)
        return (perf_counter() - began) / 1000 * 1e6
    return run


def ours_on_chain(both: bool) -> Callable[[], float]:
    return timed_chain(lambda a, learns: ag.tensor(a, requires_grad=learns), np.ones(4), both)


def torch_on_chain(both: bool) -> Callable[[], float]:
    need("torch")
    import torch
    ones = torch.ones(4, dtype=torch.float64)
    return timed_chain(lambda a, learns: torch.tensor(a, requires_grad=learns), ones, both)


# In a process of its own, since it is imported by the name that our engine has.
HIPS_CHAIN = """
import time
import autograd.numpy as np
from autograd import make_vjp
from numpy.random import default_rng
rng = default_rng(0)
x, scale, shift = rng.normal(size=4), rng.uniform(0.999, 1.001, 4), 1e-3 * rng.normal(size=4)

def chain(y, a, b):
    for _ in range(500):
        y = y * a
        y = y + b
    return y

if {both}:
    def back(): return make_vjp(lambda given: chain(*given))((x, scale, shift))
else:
    def back(): return make_vjp(lambda y: chain(y, scale, shift))(x)

def run():
    began = time.perf_counter()
    vjp, _ = back()
    vjp(np.ones(4))
    return (time.perf_counter() - began) / 1000 * 1e6
"""


def hips_on_chain(both: bool, stack: ExitStack) -> Callable[[], float]:
    """HIPS autograd in another process, which `stack` ends.  Raises ImportError where it is not."""
    folder = os.environ.get(HIPS, "")
    if not (Path(folder) / "autograd" / "numpy").is_dir() or not folder:
        raise ImportError("not found: python -m pip install --no-deps --target FOLDER autograd, and name the FOLDER in "
                          f"the variable {HIPS}")
    worker = stack.enter_context(Worker(HIPS_CHAIN.format(both=both), PYTHONPATH=folder))
    worker()
    return worker


# ---------------------------------------------------------------------- a token


def sample_rows(rounds: int, asked: Sequence[str], n: int = 500, **changes: Any) -> Iterator[Row]:
    """Tokens of text past the window, with the cache and without; PyTorch's are the same ones where it is greedy."""
    keep_freed_memory()
    config = config_of(**{"block_size": 256, **changes})
    model = start(config)
    for cache, length, how in ((True, n, "with a cache"), (False, max(n // 5, 1), "without a cache")):
        sides = [Side("tapegrad", partial(ours_written, model, length, cache)),
                 *[torch_writing(model, length, cache) for peer in asked if peer == "torch"]]
        yield Row("sample", f"tokens written {how}, {config.n_layer} layers, {config.n_embd} dimensions, context "
                  f"{config.block_size}", "tokens/s", in_turns(min(rounds, 10), sides), more_is_better=True)


def ours_written(model: GPT, n: int, cache: bool) -> float:
    """Tokens a second."""
    began = perf_counter()
    for _ in generate(model, np.zeros(1, int), n, np.random.default_rng(0), cache=cache):
        pass
    return n / (perf_counter() - began)


def torch_writing(model: GPT, n: int, cache: bool) -> Side:
    """PyTorch writing, on the number of threads that is fastest, once its greedy text has been ours."""
    name = "PyTorch eager"

    def make() -> Callable[[], float]:
        nonlocal name
        run = torch_written(model, n, cache)
        name += f", {torch_threads(lambda: 1 / run())}"
        return run

    side = attempt(name, make)
    side.name = name
    return side


def torch_written(model: GPT, n: int, cache: bool) -> Callable[[], float]:
    """What gives PyTorch's tokens a second.  Raises Disagreement if it would write another text."""
    need("torch")
    import torch
    weights = peers.weights(model, torch)

    def write(n: int, choose: Callable[[Any], Any]) -> list[int]:
        return peers.write(weights, model.config, n, choose, torch, cache)

    few = min(n, 50)
    ours = list(generate(model, np.zeros(1, int), few, np.random.default_rng(0), greedy=True))
    if write(few, lambda logits: logits.argmax()) != ours:
        raise Disagreement(f"no race: of {few} greedy tokens some are others than ours")

    def run() -> float:
        began = perf_counter()
        write(n, lambda logits: torch.multinomial(torch.softmax(logits, 0), 1))
        return n / (perf_counter() - began)

    return run
