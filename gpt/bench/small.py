"""Rows on small costs: the import, an operation on the tape, and a token of text."""

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
from .measure import Disagreement, Row, Side, Worker, attempt, in_turns, need, run_fresh
from .peers import pytorch as peers
from .race import nanogpt_config, set_torch_threads, start_model

HIPS = "GPT_BENCH_HIPS"  # the variable with the folder of HIPS autograd


def import_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield the import of the engine in a fresh process, beside that of NumPy alone."""
    def import_side(package: str) -> Side:
        code = f"import time; t = time.perf_counter(); import {package}; print(time.perf_counter() - t)"
        return Side(f"import {package}", lambda: run_fresh(code) * 1e3)

    sides = in_turns(rounds, [import_side("autograd"), import_side("numpy")])
    yield Row("import", "the engine, in a fresh process", "ms", sides)


# ---------------------------------------------------------------------- an operation


def op_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield the time of an operation, in the forward and backward pass of a chain of 1,000 multiplications and
    additions on arrays of 4 elements."""
    for both, words in ((False, "one input"), (True, "both inputs")):
        with ExitStack() as stack:
            sides = [Side("tapegrad", ours_on_chain(both)),
                     *[attempt("PyTorch eager", partial(torch_on_chain, both))] * ("torch" in asked),
                     *[attempt("HIPS autograd", partial(hips_on_chain, both, stack))] * ("hips" in asked)]
            yield Row("op", f"a recorded operation, {words} with gradient", "µs", in_turns(rounds, sides))


def chain_inputs() -> tuple[Any, Any, Any]:
    """Return the start of the chain, the factor and the summand, each (4,)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=4), rng.uniform(0.999, 1.001, 4), 1e-3 * rng.normal(size=4)


def time_chain(make: Callable[[Any, bool], Any], ones: Any, both: bool) -> Callable[[], float]:
    """Return a function that measures the microseconds of an operation, on arrays that `make` converts to a
    framework's."""
    def run() -> float:
        x, scale, shift = chain_inputs()
        y, a, b = make(x, True), make(scale, both), make(shift, both)
        began = perf_counter()
        for _ in range(500):
            y = y * a
            y = y + b
        y.backward(ones)
        return (perf_counter() - began) / 1000 * 1e6
    return run


def ours_on_chain(both: bool) -> Callable[[], float]:
    """Return the measurement of the engine here."""
    return time_chain(lambda a, learns: ag.tensor(a, requires_grad=learns), np.ones(4), both)


def torch_on_chain(both: bool) -> Callable[[], float]:
    """Return the measurement of PyTorch.  Raises ImportError if it is not installed."""
    need("torch")
    import torch
    ones = torch.ones(4, dtype=torch.float64)
    return time_chain(lambda a, learns: torch.tensor(a, requires_grad=learns), ones, both)


# Runs in a process of its own, since its import name is that of the engine here.
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
    """Return the measurement of HIPS autograd, in a process that `stack` ends.  Raises ImportError if it is not
    found."""
    folder = os.environ.get(HIPS, "")
    if not (Path(folder) / "autograd" / "numpy").is_dir() or not folder:
        raise ImportError("not found: python -m pip install --no-deps --target FOLDER autograd, and name the FOLDER in "
                          f"the variable {HIPS}")
    worker = stack.enter_context(Worker(HIPS_CHAIN.format(both=both), PYTHONPATH=folder))
    worker()
    return worker


# ---------------------------------------------------------------------- a token


def sample_rows(rounds: int, asked: Sequence[str], n: int = 500, **changes: Any) -> Iterator[Row]:
    """Yield the speed of generation past the window, with the KV cache and without; greedy tokens of PyTorch must be
    ours."""
    keep_freed_memory()
    config = nanogpt_config(**{"block_size": 256, **changes})
    model = start_model(config)
    for cache, length, text in ((True, n, "with a cache"), (False, max(n // 5, 1), "without a cache")):
        sides = [Side("tapegrad", partial(our_speed, model, length, cache)),
                 *[torch_side(model, length, cache) for peer in asked if peer == "torch"]]
        yield Row("sample", f"tokens written {text}, {config.n_layer} layers, {config.n_embd} dimensions, context "
                  f"{config.block_size}", "tokens/s", in_turns(min(rounds, 10), sides), more_is_better=True)


def our_speed(model: GPT, n: int, cache: bool) -> float:
    """Measure the tokens per second of `generate`."""
    began = perf_counter()
    for _ in generate(model, np.zeros(1, int), n, np.random.default_rng(0), cache=cache):
        pass
    return n / (perf_counter() - began)


def torch_side(model: GPT, n: int, cache: bool) -> Side:
    """Return PyTorch's side, with the number of threads that is fastest, after its greedy tokens were found to be
    ours."""
    name = "PyTorch eager"

    def make() -> Callable[[], float]:
        nonlocal name
        run = torch_speed(model, n, cache)
        name += f", {set_torch_threads(lambda: 1 / run())}"
        return run

    side = attempt(name, make)
    side.name = name
    return side


def torch_speed(model: GPT, n: int, cache: bool) -> Callable[[], float]:
    """Return the measurement of PyTorch's tokens per second.  Raises Disagreement if its greedy tokens are not ours."""
    need("torch")
    import torch
    weights = peers.to_torch(model, torch)

    def generate_tokens(n: int, choose: Callable[[Any], Any]) -> list[int]:
        return peers.generate_tokens(weights, model.config, n, choose, torch, cache)

    few = min(n, 50)
    ours = list(generate(model, np.zeros(1, int), few, np.random.default_rng(0), greedy=True))
    if generate_tokens(few, lambda logits: logits.argmax()) != ours:
        raise Disagreement(f"no race: of {few} greedy tokens some are others than ours")

    def run() -> float:
        began = perf_counter()
        generate_tokens(n, lambda logits: torch.multinomial(torch.softmax(logits, 0), 1))
        return n / (perf_counter() - began)

    return run
