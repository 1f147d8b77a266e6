"""Learning-rate schedules, and the registry from which `--schedule` takes its choices."""

import math
from collections.abc import Callable
from dataclasses import dataclass

DECAY_FRACTION = 0.2  # of the steps after the warm-up, over which "trapezoidal" decays

Rate = Callable[[float, float, float, float], float]


@dataclass(frozen=True)
class Schedule:
    """The course of the learning rate after the warm-up."""
    rate: Rate  # of (progress from 0 to 1, peak, floor, decay fraction)
    help: str  # a phrase about it for the help line of `--schedule`
    summary: str  # for the report of a run, with {floor:g} and {decay_fraction:.0%} to fill in


SCHEDULES: dict[str, Schedule] = {}


def schedule(help: str, summary: str) -> Callable[[Rate], Rate]:
    """Return a decorator that registers a function as the schedule of its name."""
    def register(rate: Rate) -> Rate:
        SCHEDULES[rate.__name__] = Schedule(rate, help, summary)
        return rate
    return register


@schedule("half a cosine down to min_lr", "cosine to {floor:g}")
def cosine(progress: float, peak: float, floor: float, decay_fraction: float) -> float:
    """Return nanoGPT's schedule, half a cosine (Loshchilov & Hutter 2017, "SGDR")."""
    return floor + (peak - floor) * ((1 + math.cos(math.pi * progress)) / 2)


@schedule("a line down to min_lr", "linear to {floor:g}")
def linear(progress: float, peak: float, floor: float, decay_fraction: float) -> float:
    """Return a rate that falls linearly."""
    return floor + (peak - floor) * (1 - progress)


@schedule("warmup-stable-decay (WSD): constant, then a line down to min_lr",
          "constant, and to {floor:g} over the last {decay_fraction:.0%}")
def trapezoidal(progress: float, peak: float, floor: float, decay_fraction: float) -> float:
    """Return the peak, and over the last `decay_fraction` a rate that falls linearly (Hägele et al. 2024)."""
    return floor + (peak - floor) * min(1.0, (1 - progress) / decay_fraction)


@schedule("the peak learning rate", "constant")
def constant(progress: float, peak: float, floor: float, decay_fraction: float) -> float:
    """Return the peak, to the end and beyond."""
    return peak


def learning_rate_at(iter: int, schedule: str, largest: float, least: float, warmup_iters: int,
                     decay_iters: int, falling: float = DECAY_FRACTION) -> float:
    """Return the learning rate of iteration `iter`, counted from 0.

    It rises linearly to `largest` over `warmup_iters`, then follows the schedule, one of `SCHEDULES`, which reaches
    `least` at `decay_iters` and stays there (`largest`, if "constant").  `falling`: the fraction of the steps after the
    warm-up in which "trapezoidal" decays.  Raises ValueError for a schedule that is not registered.
    """
    if iter < warmup_iters:
        return largest * (iter + 1) / (warmup_iters + 1)
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}, and needs to be one of {', '.join(SCHEDULES)}")
    progress = (iter - warmup_iters) / (decay_iters - warmup_iters) if iter < decay_iters else 1.0
    return SCHEDULES[schedule].rate(progress, largest, least, falling)
