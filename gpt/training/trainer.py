"""The trainer: a model, its optimizer and its data, advanced a step at a time."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast
from zlib import crc32

import numpy as np

from ..data.dataset import IGNORED, Batch, Data, EpochData
from ..model.gpt import GPT
from ..model.module import Array
from ..optim.optimizer import OPTIMIZERS
from ..optim.parameters import Parameters, clip_scale, global_norm, parameter_group
from ..optim.schedule import learning_rate_at
from ..runtime.ranks import ALONE, Ranks
from ..runtime.worker_pool import SINGLE, WorkerPool
from .anomaly import find_anomaly
from .config import TrainConfig
from .data_parallel import Replicas
from .footprint import RECORDED, step_bytes

WHOLE = "whole validation part"
FORWARD = 3  # batches that are evaluated in the time of a training step, which has a backward pass, too
METRICS = ("iter", "loss", "lr", "grad_norm", "ms", "tokens_per_s")  # of a step


@dataclass
class Evaluation:
    """The result of an evaluation."""
    val_loss: float
    scope: str  # the data it is over: `WHOLE`, or `20 batches`
    best: bool = False  # the lowest loss so far
    last: bool = False  # the run is finished with it


@dataclass
class StepResult:
    """The result of a training step, and of the evaluation after it where there is one."""
    iter: int  # steps taken
    loss: float  # mean over the batches of the step, in nats per token
    lr: float
    grad_norm: float  # before clipping
    ms: float
    tokens_per_s: int
    evaluation: Evaluation | None = None
    interrupted: bool = False  # its evaluation is still to be made
    last: bool = False  # no more steps follow: the run is finished, or was stopped

    @property
    def finished(self) -> bool:
        """True if training is complete with this step."""
        return self.evaluation is not None and self.evaluation.last

    def metrics(self) -> dict[str, Any]:
        """Return a line of metrics.jsonl, with `val_loss` if there is an evaluation."""
        val_loss = {"val_loss": self.evaluation.val_loss} if self.evaluation else {}
        return {name: getattr(self, name) for name in METRICS} | val_loss


class Trainer:
    """A model, its optimizer and its data, advanced a step at a time; of several ranks each has one.

    Raises TypeError if the settings ask for shuffled epochs of data that have none."""

    def __init__(self, config: TrainConfig, model: GPT, data: Data, pool: WorkerPool = SINGLE,
                 ranks: Ranks = ALONE):
        c = self.config = config
        if c.batches == "shuffled" and not isinstance(data, EpochData):
            raise TypeError(f"{type(data).__name__} has no epochs to shuffle: take batches=\"random\"")
        self.model, self.data, self.pool, self.ranks = model, data, pool, ranks
        # the weight decay group: matrices and embeddings, but no convolution kernels
        self.parameters = Parameters(model, lambda t: t.ndim >= 2 and parameter_group(t.name, t) != "convolution")
        self.optimizer = OPTIMIZERS[c.optimizer].from_config(self.parameters, c)
        self.batches = np.random.default_rng([c.seed, 1])
        self.random = [np.random.default_rng([c.seed, 2, ranks.rank * pool.n + i])
                       for i in range(pool.n)]  # for the replicas' dropout
        windows = -(-c.batch_size // (ranks.size * pool.n))  # of a replica
        self.replicas = Replicas(model, self.parameters, pool, self.random if c.dropout else [None] * pool.n,
                                 step_bytes(model, windows, c.block_size) <= RECORDED, ranks)
        self.iter = 0  # steps taken
        self.pending: StepResult | None = None  # the last step, if its evaluation was interrupted
        self.seconds = 0.0  # wall-clock time of training and evaluation so far
        self.best = self.latest = math.inf  # the lowest validation loss, and that of the last evaluation
        self.best_iter, self.without_gain = 0, 0  # the step of the lowest, and evaluations since
        self.recent = deque[tuple[float, float]](maxlen=20)  # the losses and gradient norms of the last steps

    def run(self, stop_requested: Sequence[int] = ()) -> Iterator[StepResult]:
        """Take steps and yield the result of each, until the run is finished: by the number of steps, the time limit,
        the target, or lost patience; or until a signal is in `stop_requested`.

        A signal during an evaluation leaves that pending: the next `run`, also of a trainer that is restored from this
        one's state, begins with it.
        """
        began = time.perf_counter() - self.seconds
        while True:
            result, self.pending = self.pending or self.step(), None
            self.seconds = self.elapsed(began)
            if self.is_over or self.iter % self.config.eval_interval == 0:
                try:
                    self.check_ranks()
                    result.evaluation = self.evaluate(stop_requested)
                except Interrupted:
                    self.pending = result
                    yield replace(result, interrupted=True, last=True)
                    return
                self.seconds = time.perf_counter() - began
            result.last = result.finished or bool(stop_requested)  # read once, so that what is saved is what ends
            yield result
            if result.last:
                return

    def elapsed(self, began: float) -> float:
        """Return the seconds since `began`; those of rank 0 where the end of the run depends on them."""
        seconds = time.perf_counter() - began
        return seconds if self.config.time_limit is None else self.ranks.sum(seconds if self.ranks.leads else 0.0)

    def check_ranks(self) -> None:
        """Raise ValueError unless all ranks have the same weights to the bit."""
        if self.ranks.size > 1:
            self.ranks.agree(**{f"checksum of the weights after {self.iter:,} steps": crc32(self.parameters.data.data)})

    @property
    def is_over(self) -> bool:
        """True after the last step: of max_iters, or within the time limit."""
        c = self.config
        return self.iter == c.max_iters or c.time_limit is not None and self.seconds >= 60 * c.time_limit

    # ------------------------------------------------------------------ a step
    def step(self) -> StepResult:
        """Train on one batch, or on `accumulate` of them."""
        began, c = time.perf_counter(), self.config
        lr = self.learning_rate(self.iter)
        loss, tokens = self.gradient()
        self.ranks.all_reduce(self.parameters.grad)
        norm = self.replicas.norm if c.accumulate == self.ranks.size == 1 else \
            global_norm(self.parameters.grad, self.pool)
        if not math.isfinite(norm):
            self.fail(f"the norm of the gradient is {norm}")
        self.optimizer.step(lr, clip_scale(norm, c.grad_clip or math.inf), self.pool)
        self.replicas.bump_version()
        self.iter += 1
        self.recent.append((loss, norm))
        seconds = time.perf_counter() - began
        return StepResult(self.iter, loss, lr, norm, round(seconds * 1e3, 3), round(tokens / seconds))

    def learning_rate(self, iter: int) -> float:
        """Return the learning rate of the step after `iter` others."""
        c = self.config
        return learning_rate_at(iter, c.schedule, c.learning_rate, c.min_lr, c.warmup_iters,
                                c.lr_decay_iters or c.max_iters, c.falling_share)

    def gradient(self) -> tuple[float, int]:
        """Do the gradient accumulation of one step: add up the gradients of the next `accumulate` batches, and return
        their mean loss and their number of tokens."""
        n, total, tokens, grad = self.config.accumulate, 0.0, 0, self.parameters.grad
        earlier = np.zeros_like(grad) if n > 1 else None  # the weighted gradients of the batches before
        batches = [self.batch(self.iter * n + i) for i in range(n)]
        counted = [int((targets != IGNORED).sum()) for _, targets in batches]
        for self._batch, weight in zip(batches, (k / max(sum(counted), 1) for k in counted)):
            self._before = copy.deepcopy(self.random) if self.config.dropout else self.random
            loss = self.replicas.gradient(*self._batch)
            if not math.isfinite(loss):
                self.fail(f"the loss is {loss}")
            if earlier is not None:
                grad *= weight  # by the targets that count, as if all were one batch
                earlier += grad
            total, tokens = total + loss * weight, tokens + self._batch[0].size
        if earlier is not None:
            grad[:] = earlier
        return total, tokens

    def batch(self, number: int) -> Batch:
        """Return batch `number` of the run, from 0."""
        return draw_batch(self.data, self.config, number, self.batches)

    def fail(self, problem: str) -> None:
        """Raise FloatingPointError, before anything is saved that is not finite, naming the first record of the batch
        that is not."""
        found = ""
        for i, (ids, targets, _) in enumerate(self.replicas.slices(*self._batch)):
            found = found or find_anomaly(lambda: self.model.loss(ids, targets, self._before[i]))  # noqa: B023
        found = next(filter(None, self.ranks.gather(found)), "")
        raise FloatingPointError(f"{problem} at iteration {self.iter + 1}: {found or 'no record is to blame'}; lower "
                                 f"--learning-rate, which is {self.config.learning_rate}, or set --grad-clip")

    # ------------------------------------------------------------------ evaluation
    def validate(self, last: bool = False, stop_requested: Sequence[int] = ()) -> Evaluation:
        """Return the validation loss: over `eval_iters` random batches, or over the whole validation split
        1. if eval_iters is 0,
        2. in the last evaluation, if that takes no longer than the training did or eval_whole is set,
        3. to confirm a target that random batches seem to have reached.

        Raises Interrupted between batches once `stop_requested` holds a signal."""
        c, n = self.config, self.config.eval_iters
        if last and n:
            n = max(n, FORWARD * self.iter * c.accumulate)
            last = c.eval_whole or sum(1 for _ in islice(self.data.val_windows(c.batch_size), n + 1)) <= n
        if n and not last:
            rng = np.random.default_rng([c.seed, 3])  # the same batches each time, so that evaluations compare
            batches = (self.data.val_batch(rng, c.batch_size) for _ in range(n))
            loss = mean_loss(self.replicas.loss, until_stopped(stop_requested, batches))
            if c.target_val_loss is None or loss > c.target_val_loss:
                return Evaluation(loss, f"{n:,} batches")
        windows = self.data.val_windows(c.batch_size)
        return Evaluation(mean_loss(self.replicas.loss, until_stopped(stop_requested, windows)), WHOLE)

    def evaluate(self, stop_requested: Sequence[int] = ()) -> Evaluation:
        """Evaluate after a step, and decide whether the run is finished with it: after the last step, by the target, or
        by lost patience.

        Raises Interrupted as `validate` does: all is then as before."""
        c, last = self.config, self.is_over
        found = compared = self.validate(last, stop_requested)
        if last and c.eval_iters and found.val_loss > self.best:  # perhaps only for its wider scope
            compared = self.validate(False, stop_requested)
        last = last or found.scope == WHOLE and c.target_val_loss is not None and found.val_loss <= c.target_val_loss
        n_without_gain = self.without_gain + 1 if compared.val_loss >= self.best else 0
        if not last and c.patience is not None and n_without_gain >= c.patience:
            found, last = self.validate(True, stop_requested), True
        best = self.update_best(compared.val_loss)  # now that nothing interrupts it any more
        return Evaluation(found.val_loss, found.scope, best, last)

    def update_best(self, val_loss: float) -> bool:
        """Note a validation loss, and return True if it is the lowest so far.  Raises FloatingPointError if it is not
        finite."""
        if not math.isfinite(val_loss):
            raise FloatingPointError(f"the validation loss is {val_loss} at iteration {self.iter}: lower "
                                     f"--learning-rate, which is {self.config.learning_rate}, or --weight-decay")
        lower, self.latest = val_loss < self.best, val_loss
        if lower:
            self.best, self.best_iter = val_loss, self.iter
        self.without_gain = 0 if lower else self.without_gain + 1
        return lower

    # ------------------------------------------------------------------ state to resume from
    @property
    def steps_logged(self) -> int:
        """Number of steps with complete metrics."""
        return self.iter - (self.pending is not None)

    def state(self) -> dict[str, Any]:
        """Return the state that the next step depends on, except arrays, as plain data; a collective call of the ranks.
        """
        own = [random.bit_generator.state for random in self.random]
        best, latest = (loss if math.isfinite(loss) else None for loss in (self.best, self.latest))
        return {"iter": self.iter, "seconds": self.seconds, "best": best, "best_iter": self.best_iter,
                "latest": latest, "without_gain": self.without_gain,
                "row": self.pending and self.pending.metrics(),
                "batches": self.batches.bit_generator.state,
                "dropout": [state for states in (self.ranks.gather(own) if self.config.dropout else [own])
                            for state in states]}

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that the next step depends on, except the parameters."""
        return {f"optimizer.{name}": a for name, a in self.optimizer.state().items()}

    def restore(self, state: Any, arrays: dict[str, Array]) -> None:
        """Restore what `state` and `arrays` returned.  Raises ValueError if it does not fit."""
        own = self.arrays()
        if own.keys() != arrays.keys() or any((own[n].shape, own[n].dtype) != (a.shape, a.dtype)
                                              for n, a in arrays.items()):
            raise ValueError("the optimizer's state does not fit this run: start a new one")
        for name, a in arrays.items():
            own[name][...] = a
        try:
            self.iter, self.without_gain = (check_count(state[name]) for name in ("iter", "without_gain"))
            self.seconds, self.best_iter = check_number(state["seconds"]), check_count(state.get("best_iter", 0))
            self.best, self.latest = (math.inf if state.get(name) is None else check_number(state[name])
                                      for name in ("best", "latest"))  # earlier versions wrote no `latest`
            row = state.get("row")
            numbers: dict[str, Any] = {} if row is None else {name: check_number(row[name]) for name in METRICS}
            self.pending = StepResult(**numbers) if numbers else None
            if self.pending and self.pending.iter != self.iter:
                raise ValueError(f"the metrics of step {self.iter} are those of {self.pending.iter}")
            if not 0 <= int(arrays.get("optimizer.steps", 0)) <= self.iter:
                raise ValueError(f"the optimizer has taken {arrays['optimizer.steps']} of {self.iter} steps")
            self.batches.bit_generator.state = state["batches"]
            saved_states = list(state["dropout"])[self.ranks.rank * self.pool.n:]  # with others the bits differ anyhow
            for random, saved in zip(self.random, saved_states):
                random.bit_generator.state = saved
        except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the state of the run cannot be read ({error!r}): start a new one") from None


def check_count(value: Any) -> int:
    """Return a value from JSON that is a whole number of a possible size.  Raises ValueError for any other."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def check_number(value: Any) -> float:
    """Return a value from JSON that is a finite number.  Raises ValueError for any other."""
    if type(value) not in (int, float) or not -math.inf < value < math.inf:
        raise ValueError(f"{value!r:.40} is no number")
    return value


class Interrupted(Exception):
    """An evaluation was stopped before its end."""


def until_stopped(stop_requested: Sequence[int], batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches.  Raises Interrupted before the next one once `stop_requested` holds a signal."""
    for batch in batches:
        if stop_requested:
            raise Interrupted
        yield batch


def mean_loss(loss: Callable[[Array, Array], Any], batches: Iterator[Batch]) -> float:
    """Return the mean loss a token, in nats, over batches (ids, targets), given the mean `loss` of each."""
    total, n = 0.0, 0
    for ids, targets in batches:
        counted = int((targets != IGNORED).sum())
        total += float(loss(ids, targets)) * counted if counted else 0.0
        n += counted
    return total / n


def draw_batch(data: Data, config: TrainConfig, number: int, rng: np.random.Generator) -> Batch:
    """Return batch `number` of a run, from 0: its rows of a shuffled epoch, or the next one that `rng` draws."""
    if config.batches == "shuffled":
        return cast(EpochData, data).shuffled_batch(config.seed, number * config.batch_size, config.batch_size)
    return data.train_batch(rng, config.batch_size)
