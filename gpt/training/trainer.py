"""The trainer: a model, its optimizer and its data, advanced a step at a time."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.dataset import IGNORED, Batch
from ..model.gpt import GPT
from ..model.module import Array
from ..optim.optimizer import OPTIMIZERS
from ..optim.parameters import Parameters, clip_scale, global_norm, parameter_group
from ..optim.schedule import learning_rate_at
from ..runtime.worker_pool import SINGLE, WorkerPool
from .anomaly import blame
from .data_parallel import Replicas
from .footprint import RECORDED, step_bytes

if TYPE_CHECKING:
    from .train import TrainConfig

WHOLE = "whole validation part"
FORWARD = 3  # batches that are evaluated in the time of a step, which goes back, too
METRICS = ("iter", "loss", "lr", "grad_norm", "ms", "tokens_per_s")  # of a step
JUDGED = ("best", "best_iter", "latest", "without_gain")  # what an evaluation changes


class Trainer:
    """A model, its optimizer and its data, advanced a step at a time."""

    def __init__(self, config: TrainConfig, model: GPT, data: Any, pool: WorkerPool = SINGLE):
        c = self.config = config
        self.model, self.data, self.pool = model, data, pool
        self.parameters = Parameters(model, lambda t: t.ndim >= 2 and parameter_group(t.name, t) != "convolution")
        self.optimizer = OPTIMIZERS[c.optimizer].from_config(self.parameters, c)
        self.batches = np.random.default_rng([c.seed, 1])
        self.random = [np.random.default_rng([c.seed, 2, i]) for i in range(pool.n)]  # of the replicas' dropout
        windows = -(-c.batch_size // pool.n)  # of a replica
        self.replicas = Replicas(model, self.parameters, pool, self.random if c.dropout else [None] * pool.n,
                                 step_bytes(model, windows, c.block_size) <= RECORDED)
        self.iter = 0  # steps taken
        self.row: dict[str, Any] | None = None  # the metrics of the last one, if its evaluation was interrupted
        self.finished = False  # whether training is over, and not only this call of it
        self.seconds = 0.0  # that they took, with evaluations
        self.best = self.latest = math.inf  # the lowest validation loss, and that of the last evaluation
        self.lately = deque[tuple[float, float]](maxlen=20)  # the losses and gradient norms of the last steps
        self.over = ""  # over what that was
        self.best_iter, self.without_gain = 0, 0  # the step of the lowest, and evaluations since

    def step(self) -> dict[str, Any]:
        """Train on one batch, or on `accumulate` of them; what metrics.jsonl says of it."""
        began, c = time.perf_counter(), self.config
        lr = learning_rate_at(self.iter, c.schedule, c.learning_rate, c.min_lr, c.warmup_iters,
                              c.lr_decay_iters or c.max_iters, c.falling_share)
        loss, tokens = self.gradient()
        norm = self.replicas.norm if c.accumulate == 1 else global_norm(self.parameters.grad, self.pool)
        if not math.isfinite(norm):
            self.fail(f"the norm of the gradient is {norm}")
        self.optimizer.step(lr, clip_scale(norm, c.grad_clip or math.inf), self.pool)
        self.replicas.bump_version()
        self.iter += 1
        self.lately.append((loss, norm))
        seconds = time.perf_counter() - began
        return {"iter": self.iter, "loss": loss, "lr": lr, "grad_norm": norm, "ms": round(seconds * 1e3, 3),
                "tokens_per_s": round(tokens / seconds)}

    def gradient(self) -> tuple[float, int]:
        """The mean loss of the next batch, or of `accumulate` of them together, whose gradient is then that of the
        parameters; and how many tokens there were."""
        n, total, tokens, grad = self.config.accumulate, 0.0, 0, self.parameters.grad
        earlier = np.zeros_like(grad) if n > 1 else None  # the gradients of the batches before
        batches = [self.batch(self.iter * n + i) for i in range(n)]
        counted = [int((targets != IGNORED).sum()) for _, targets in batches]
        for self._batch, share in zip(batches, (k / max(sum(counted), 1) for k in counted)):
            self._before = copy.deepcopy(self.random) if self.config.dropout else self.random
            loss = self.replicas.gradient(*self._batch)
            if not math.isfinite(loss):
                self.fail(f"the loss is {loss}")
            if earlier is not None:
                grad *= share  # of the places that count, as if all were one batch
                earlier += grad
            total, tokens = total + loss * share, tokens + self._batch[0].size
        if earlier is not None:
            grad[:] = earlier
        return total, tokens

    def batch(self, number: int) -> Batch:
        """The batch of this number, from 0: the next one that `batches` draws, or its part of a shuffled pass."""
        c = self.config
        if c.batches == "shuffled":
            return self.data.shuffled_batch(c.seed, number * c.batch_size, c.batch_size)
        return self.data.train_batch(self.batches, c.batch_size)

    def fail(self, what: str) -> None:
        """Raise FloatingPointError, before anything is saved that is not finite, with the first record of the batch
        that is not."""
        found = ""
        for i, (ids, targets, _) in enumerate(self.replicas.slices(*self._batch)):
            found = found or blame(lambda: self.model.loss(ids, targets, self._before[i]))  # noqa: B023
        raise FloatingPointError(f"{what} at iteration {self.iter + 1}: {found or 'no record is to blame'}; lower "
                                 f"--learning-rate, which is {self.config.learning_rate}, or set --grad-clip")

    @property
    def recorded(self) -> int:
        """Steps whose metrics are complete."""
        return self.iter - (self.row is not None)

    def validate(self, last: bool = False, asked: Sequence[int] = ()) -> tuple[float, str]:
        """The validation loss, and over what: the whole part where eval_iters is 0, in the last evaluation if that
        takes no longer than the training or eval_whole is set, and to confirm that an estimate from random batches has
        truly reached the target.  Raises Interrupted between batches once `asked` holds something."""
        c, n = self.config, self.config.eval_iters
        if last and n:
            n = max(n, FORWARD * self.iter * c.accumulate)
            last = c.eval_whole or sum(1 for _ in islice(self.data.val_windows(c.batch_size), n + 1)) <= n
        if n and not last:
            rng = np.random.default_rng([c.seed, 3])  # the same batches each time, so that evaluations compare
            batches = (self.data.val_batch(rng, c.batch_size) for _ in range(n))
            loss = evaluate(self.replicas.loss, until(asked, batches))
            if c.target_val_loss is None or loss > c.target_val_loss:
                return loss, f"{n:,} batches"
        return evaluate(self.replicas.loss, until(asked, self.data.val_windows(c.batch_size))), WHOLE

    def evaluation(self, last: bool, asked: Sequence[int]) -> tuple[float, bool, bool, str]:
        """The validation loss, whether it is the lowest so far, whether the run ends with it, and over what it is.
        Raises Interrupted, and then all is as before."""
        c, before = self.config, {name: getattr(self, name) for name in JUDGED}
        try:
            val_loss, over = self.validate(last, asked)
            worse = last and c.eval_iters and val_loss > self.best  # maybe because others are of some batches only
            best = self.judge(self.validate(False, asked)[0] if worse else val_loss)
            last = last or over == WHOLE and c.target_val_loss is not None and val_loss <= c.target_val_loss
            if not last and c.patience is not None and self.without_gain >= c.patience:
                (val_loss, over), last = self.validate(True, asked), True
        except Interrupted:
            vars(self).update(before)
            raise
        self.over = over
        return val_loss, best, last, over

    def judge(self, val_loss: float) -> bool:
        """Note a validation loss; whether it is the lowest so far.  Raises FloatingPointError if it is not finite."""
        if not math.isfinite(val_loss):
            raise FloatingPointError(f"the validation loss is {val_loss} at iteration {self.iter}: lower "
                                     f"--learning-rate, which is {self.config.learning_rate}, or --weight-decay")
        lower, self.latest = val_loss < self.best, val_loss
        if lower:
            self.best, self.best_iter = val_loss, self.iter
        self.without_gain = 0 if lower else self.without_gain + 1
        return lower

    # ------------------------------------------------------------------ to go on from
    def state(self) -> dict[str, Any]:
        """What the next step depends on besides arrays, as plain data."""
        best, latest = (loss if math.isfinite(loss) else None for loss in (self.best, self.latest))
        return {"iter": self.iter, "seconds": self.seconds, "best": best, "best_iter": self.best_iter,
                "latest": latest, "without_gain": self.without_gain, "row": self.row,
                "batches": self.batches.bit_generator.state,
                "dropout": [random.bit_generator.state for random in self.random]}

    def arrays(self) -> dict[str, Array]:
        """What the next step depends on besides the parameters, as arrays."""
        return {f"optimizer.{name}": a for name, a in self.optimizer.state().items()}

    def restore(self, state: Any, arrays: dict[str, Array]) -> None:
        """Take over what `state` and `arrays` gave.  Raises ValueError if it does not fit."""
        own = self.arrays()
        if own.keys() != arrays.keys() or any((own[n].shape, own[n].dtype) != (a.shape, a.dtype)
                                              for n, a in arrays.items()):
            raise ValueError("the optimizer's state does not fit this run: start a new one")
        for name, a in arrays.items():
            own[name][...] = a
        try:
            self.iter, self.without_gain = (count(state[name]) for name in ("iter", "without_gain"))
            self.seconds, self.best_iter = number(state["seconds"]), count(state.get("best_iter", 0))
            self.best, self.latest = (math.inf if state.get(name) is None else number(state[name])
                                      for name in ("best", "latest"))  # earlier versions wrote no `latest`
            self.row = state.get("row")
            if self.row is not None and [number(self.row[name]) for name in METRICS][0] != self.iter:
                raise ValueError(f"the metrics of step {self.iter} are those of {self.row['iter']}")
            if not 0 <= int(arrays.get("optimizer.steps", 0)) <= self.iter:
                raise ValueError(f"the optimizer has taken {arrays['optimizer.steps']} of {self.iter} steps")
            self.batches.bit_generator.state = state["batches"]
            for random, saved in zip(self.random, list(state["dropout"])):  # other numbers of replicas differ anyhow
                random.bit_generator.state = saved
        except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the state of the run cannot be read ({error!r}): start a new one") from None


def count(value: Any) -> int:
    """A whole number that JSON gave.  Raises ValueError for anything else, and beyond what a run can count to."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def number(value: Any) -> float:
    """A finite number that JSON gave.  Raises ValueError for anything else."""
    if type(value) not in (int, float) or not -math.inf < value < math.inf:
        raise ValueError(f"{value!r:.40} is no number")
    return value


class Interrupted(Exception):
    """An evaluation was asked to end before its time."""


def until(asked: Sequence[int], batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches.  Raises Interrupted before the next one once `asked` holds something."""
    for batch in batches:
        if asked:
            raise Interrupted
        yield batch


def evaluate(loss: Callable[[Array, Array], Any], batches: Iterator[Batch]) -> float:
    """Mean loss a token, in nats, over batches (ids, targets), given the mean `loss` of each."""
    total, n = 0.0, 0
    for ids, targets in batches:
        counted = int((targets != IGNORED).sum())
        total += float(loss(ids, targets)) * counted if counted else 0.0
        n += counted
    return total / n


