"""The number of BLAS threads during generation: the one that is fastest at the moment.

The threads of a matrix product wait for each other by spinning.  If other programs use the cores, too, a descheduled
thread holds up all others, and a token takes ten times as long as with one thread.  This cannot be predicted; so the
layers, which all take the same time, are timed with other numbers of threads now and then.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Self, TypeVar

from autograd.core.mode import current_mode

from ..runtime.blas import blas_libraries

Step = TypeVar("Step")
TRIAL = 16    # steps of a trial of another number of threads
LOSS = 2      # lost steps after which a trial ends early
GAIN = 0.9    # share of the former time with which a trial wins
REST = 64     # steps between trials, at least
SHARE = 32    # trials may lose 1/32 of the time: after a lost one this many times its loss passes
CROWDED = 4   # steps in a row, each of twice the usual time, after which other programs are assumed
_CHOOSING = threading.Lock()  # the number holds for the whole process: one thread at a time chooses it


class Pace:
    """Search for the fastest number of threads, 1 to `most`, for steps of equal work: `n` is the number for the next
    step, whose seconds `note` is told.

    It begins with all threads, or with `begin` if given, then tries one, and keeps the faster.  Later it tries half or
    twice as many, and one again when steps suddenly take twice as long.  A trial ends when it has lost; the more time
    it has lost, the later is the next one.
    """

    def __init__(self, most: int, begin: int = 0):
        self.most, self.n = most, begin or most
        self.chosen = self.n
        self.mean, self.least = 0.0, math.inf   # seconds of a step as chosen: lately, and at best
        self.slow: list[float] = []             # of the last steps that took twice that
        self.steps = 0                          # since the choice
        self.left = float(REST if begin else 1)  # until a trial begins or ends
        self.trial, self.spent = 1, 0.0         # steps of a trial, and the seconds they have taken
        self.fewer = True                       # the next trial is with fewer threads

    def note(self, seconds: float) -> None:
        """Take note of the seconds of a step, and choose the number of threads for the next one."""
        self.left -= 1
        if self.n != self.chosen:
            self._note_trial(seconds)
            return
        self.steps += 1
        self.mean += (seconds - self.mean) / min(self.steps, TRIAL)
        if self.chosen > 1 and seconds > 2 * self.least:
            self.slow.append(seconds)
        elif self.slow:
            self.slow = []
        if self.steps >= TRIAL:
            self.least = min(self.least, self.mean)
        if len(self.slow) == CROWDED:
            self.mean, self.slow = sum(self.slow) / CROWDED, []
            self._start_trial(1, 1)
        elif self.left <= 0 and self.steps == 1:
            self._start_trial(1, 1)
        elif self.left <= 0:
            self.fewer = self.chosen == self.most or self.fewer and self.chosen > 1
            self._start_trial(self.chosen // 2 if self.fewer else min(2 * self.chosen, self.most), TRIAL)
            self.fewer = not self.fewer

    def _start_trial(self, n: int, trial: int) -> None:
        self.n, self.trial, self.left, self.spent = n, trial, trial, 0.0

    def _note_trial(self, seconds: float) -> None:
        self.spent += seconds
        done = self.trial - self.left
        lost = self.spent - done * self.mean
        if self.left > 0 and lost < LOSS * self.mean:
            return
        if self.left <= 0 and self.spent < GAIN * done * self.mean:
            self.fewer = self.n < self.chosen   # as it has helped
            self.chosen, self.mean, self.least = self.n, self.spent / done, math.inf
            self.steps, self.left = TRIAL, max(TRIAL, SHARE * -lost / self.mean * (done == 1))
        else:
            self.n, self.left = self.chosen, max(REST, SHARE * lost / self.mean)


class Threads:
    """Control of the BLAS threads within `with threads:`, in which `each(steps, size)` goes through steps and times
    them; afterwards the former number holds again.

    If NumPy's products use one thread, by a variable or by a `WorkerPool`, or while another thread chooses, nothing is
    changed.  Steps of up to `alone` tokens have one thread: those on packed weights are no products of NumPy's.
    """

    def __init__(self, alone: int = 0) -> None:
        self.alone = alone
        self.paces: dict[int, Pace] = {}  # by the size of steps: a power of two
        self.latest: Pace | None = None
        self.size, self.began, self.most = 1, 0.0, 1
        self.chooses, self.rested = False, REST  # times that it was entered since one thread was found

    def __enter__(self) -> Self:
        if self.rested < REST:  # one thread is left alone, and asking takes a while
            self.rested += 1
            return self
        self.chooses = _CHOOSING.acquire(blocking=False)
        self.most = max((each.get_num_threads() for each in _libraries()), default=1) if self.chooses else 1
        self.now, self.rested = self.most, 0 if self.chooses and self.most == 1 else REST
        return self

    def __exit__(self, *error: Any) -> None:
        if self.chooses:
            if self.now != self.most:
                self._use(self.most)
            self.chooses = False
            _CHOOSING.release()

    def each(self, steps: Iterable[Step], size: int) -> Iterator[Step]:
        """Yield steps of equal work, on `size` tokens; the time until the next one is asked for counts as the step's.
        In a program that is being recorded, they are timed in each of its calls."""
        run = current_mode().executor.run
        run(self._begin, size)
        for step in steps:
            yield step
            run(self._next, size)

    def _begin(self, size: int) -> None:
        if self.most == 1:
            return
        if size <= self.alone:
            self.latest = None
            if self.now != 1:
                self._use(1)
            return
        pace = self.paces.get(power := size.bit_length())
        if pace is None or pace.most != self.most:
            latest = self.latest.chosen if self.latest and self.latest.most == self.most else 0
            pace = self.paces[power] = Pace(self.most, latest)
        self.latest, self.began = pace, time.perf_counter()
        if pace.n != self.now:
            self._use(pace.n)

    def _next(self, size: int) -> None:
        if self.most == 1 or self.latest is None:
            return
        ended = time.perf_counter()
        self.latest.note((ended - self.began) / size)
        self.began = ended
        if self.latest.n != self.now:
            self._use(self.latest.n)

    def _use(self, n: int) -> None:
        for each in _libraries():
            each.set_num_threads(n)
        self.now = n


class Paced(list):
    """A model's layers, which `threads` times as the model goes through them."""

    def __init__(self, layers: Iterable[Any], threads: Threads):
        super().__init__(layers)
        self.threads = threads

    def __iter__(self) -> Iterator[Any]:
        return self.threads.each(super().__iter__(), self.threads.size)


@cache
def _libraries() -> list[Any]:
    return blas_libraries()
