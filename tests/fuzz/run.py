"""Runs of a program here and in PyTorch, and the comparison of the answers."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

import autograd as ag
from tests import peers
from tests.fuzz.program import VARIANTS, weights
from tests.layouts import leaf
from tests.replaying import poisoned

try:
    import torch
except ImportError:  # finite differences, and the engine with itself, remain
    torch = None

NOISE = 2.0 ** -30
# Rounding is noise of 2⁻⁵³ of each value, and inside an operation of several: up to this many times as much in all,
# for sums of at most 64 products, in either of two libraries.
SAFETY = 400.0


class Noise:
    """Multiplies a value by 1 ± scale: forward, and thereby its gradient on its way back."""

    def __init__(self, seed, scale, convert=lambda a: a):
        self.rng, self.scale, self.convert = np.random.default_rng(seed), scale, convert

    def __call__(self, t):
        if "float" not in str(t.dtype):
            return t
        return t * self.convert(1 + self.scale * self.rng.choice((-1.0, 1.0), tuple(t.shape)))


# ---------------------------------------------------------------------- here


def functions(program, noisy=None, code="", **names):
    """Execute the text of the program, then `code`, and return the names defined."""
    env = {"np": np, "ag": ag, "weights": weights, "noisy": noisy, **program.constants, **names}
    text = program.functions(noisy=noisy is not None) + code
    exec(compile(text, f"<seed {program.seed}>", "exec"), env)
    return env


def run_ours(program, dtype=np.float64):
    """The answer of the program's own variant, as arrays; None for a gradient that nothing reached."""
    def cast(a):
        return a.astype(dtype) if a.dtype.kind == "f" else a

    arrays = [program.laid_out(name, cast(a)) for name, a in program.leaves.items()]
    env = functions(program, code=VARIANTS[program.variant].code, arrays=arrays, leaf=leaf,
                    leaves=[leaf(a) for a in arrays],
                    weights=lambda shape, phase=1.0: weights(shape, phase).astype(dtype), poisoned=poisoned,
                    **{name: program.laid_out(name, cast(a)) for name, a in program.constants.items()})
    return [a.data if isinstance(a, ag.Tensor) else a for a in env["answer"]]


def run_ours_noisy(program, seed, scale):
    """The gradient in float64, with noise."""
    leaves = [ag.tensor(a, requires_grad=True) for a in program.leaves.values()]
    y = functions(program, Noise(seed, scale))["loss"](*leaves)
    y.backward()
    return [y.data, *[t.grad for t in leaves]]


# ---------------------------------------------------------------------- in PyTorch


def attention(q, k, v, mask, causal, scale):
    """Attention of PyTorch in which a query may see no key."""
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    t, s = scores.shape[-2:]
    seen = torch.ones(t, s, dtype=torch.bool).tril(s - t if causal else s)
    if mask is not None and mask.dtype == torch.bool:
        seen = seen & mask
    elif mask is not None:
        scores = scores + mask
    p = torch.where(seen, scores, -1e30).softmax(-1)
    return torch.where(seen.any(-1, keepdim=True), p, 0.0) @ v


def kron(x, y):
    """Since the gradient of PyTorch's own fails where g has some strides."""
    n = max(x.ndim, y.ndim)
    x, y = (a.reshape((1,) * (n - a.ndim) + a.shape) for a in (x, y))
    blocks = torch.tensordot(x, y, 0).permute([k for i in range(n) for k in (i, n + i)])
    return blocks.reshape([a * b for a, b in zip(x.shape, y.shape)])


PEERS = SimpleNamespace(**{name: entry.peer for name, entry in peers.TABLE.items()})


def run_theirs(program, seed=None):
    """PyTorch's answer of the program's kind; with noise if a seed of it is given."""
    def tensor(a):
        return torch.tensor(a.copy())

    env = {"np": np, "torch": torch, "peers": PEERS, "attention": attention, "kron": kron,
           "weights": lambda shape, phase=1.0: tensor(weights(tuple(shape), phase)),
           "noisy": Noise(seed, NOISE, tensor), **{name: tensor(a) for name, a in program.constants.items()}}
    exec(compile(program.functions("theirs", seed is not None), f"<seed {program.seed}, torch>", "exec"), env)
    loss, leaves = env["loss"], [tensor(a).requires_grad_() for a in program.leaves.values()]
    directions = [env["weights"](t.shape, 2) for t in leaves]
    if program.kind == "jvp":
        answer = torch.autograd.functional.jvp(loss, tuple(leaves), tuple(directions))
    else:
        y = loss(*leaves)
        firsts = torch.autograd.grad(y, leaves, create_graph=program.kind == "hvp", allow_unused=True)
        answer = [y, *firsts]
        if program.kind == "hvp":
            s = sum((g * d).sum() for g, d in zip(firsts, directions) if g is not None)
            answer += torch.autograd.grad(s, leaves, allow_unused=True) if s.requires_grad else [None] * len(leaves)
    return [None if a is None else a.detach().numpy(force=True) for a in answer]


# ---------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class Failure:
    """A failure: in a word that stays the same while a program is shrunk, and in full."""

    kind: str
    text: str


def parts_of_answer(program):
    """Return the names of the arrays of an answer."""
    names = [f"the gradient of {name}" for name in program.leaves]
    seconds = [f"the second derivative by {name}" for name in program.leaves]
    return {"jvp": ["the value", "the slope"], "hvp": ["the value", *names, *seconds]}.get(
        program.kind, ["the value", *names])


def compare(program):
    """(Failure or None, notes): what is compared with what is up to the variant."""
    single = program.kind == "float32"
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ours = run_ours(program, np.float32 if single else np.float64)
        except Exception as error:
            return Failure(f"raises {type(error).__name__}", f"the engine raises {type(error).__name__}: {error}"), ()
        if single:
            return differences(program, ours, run_ours(replace(program, variant="backward")), 2.0 ** -24,
                               lambda seed: run_ours_noisy(program, seed, 2.0 ** -20), 2.0 ** -20)
        if torch is None:
            return None, ("no torch",)
        try:
            theirs = run_theirs(program)
        except Exception as error:
            return Failure("PyTorch raises", f"PyTorch raises {type(error).__name__}: {error}"), ()
        return differences(program, ours, theirs, 2.0 ** -53, lambda seed: run_theirs(program, seed), NOISE)


def differences(program, ours, theirs, unit, noisy_run, scale):
    """Compare two answers, to 1e-10 of the largest element in float64.

    Where that is not met, and in float32, the bound is what rounding can do: the program is run thrice with noise of
    `scale` on each value (and gradient) wherever it is used, which moves an array of the answer by at most D.
    Rounding, noise of `unit`, moves it by about D · unit / scale; SAFETY times that is allowed.  And as values and
    weights are of the order of 1, an operation may cancel terms of that size within itself: SAFETY · unit is allowed
    always.
    """
    notes, moved, double = [], None, unit < 1e-10
    for i, (name, a, b) in enumerate(zip(parts_of_answer(program), ours, theirs, strict=True)):
        if a is None and b is None:
            continue
        a, b = np.zeros_like(b) if a is None else a, np.zeros_like(a) if b is None else b
        what = name.split()[1]
        if np.shape(a) != np.shape(b):
            return Failure(what, f"{name} has shape {np.shape(a)}, and not {np.shape(b)}"), ()
        error = abs(a - b).max(initial=0) if np.isfinite(b).all() else math.nan
        size = abs(b).max(initial=0)
        allowed = 1e-10 * size if double else 0.0
        if error <= allowed:
            continue
        if math.isfinite(size):
            moved = moved or [noisy_run(seed) for seed in range(3)]
            largest = max(0 if run[i] is None else abs(run[i] - b).max(initial=0) for run in moved)
            allowed += SAFETY * (unit / scale * largest + unit * (1 + size))
            notes += ["bound by conditioning"] * double
        told = f"by {error:.3g}, where {allowed:.3g} is allowed and its largest element is {size:.3g}"
        if not error <= allowed:
            return Failure(f"{what} differs", f"{name} differs: {told}"), ()
        if not allowed <= 0.1 * max(size, 1):
            return Failure(f"{what} is", f"{name} is too ill-conditioned to compare: {told}"), ()
    return None, tuple(dict.fromkeys(notes))


def by_differences(program):
    """Compare the gradients of the results with finite differences: (Failure or None, notes)."""
    if any(s.operation == "detach" for s in program.statements):
        return None, ("no differences of what is detached",)
    try:
        with np.errstate(all="ignore"):
            ag.check_grads(functions(program)["f"], *program.leaves.values(), order=1, seed=program.seed)
    except AssertionError as error:
        return Failure("finite differences", f"check_grads: {error}"), ()
    except ValueError as error:  # within a step of a kink
        return (None, ("near a kink",)) if "kink" in str(error) else (Failure("raises ValueError", str(error)), ())
    return None, ()


def check(program, numeric=None):
    """(Failure or None, notes) of everything that applies; `numeric`: with finite differences, or as the seed says."""
    failure, notes = compare(program)
    if failure is None and (program.seed % 10 == 0 if numeric is None else numeric):
        failure, more = by_differences(program)
        notes = (*notes, "finite differences", *more)
    return failure, notes
