"""The base of the optimizers, and the registry from which `--optimizer` takes its choices."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

from ..model.module import Array
from ..runtime.worker_pool import SINGLE, WorkerPool
from .parameters import Parameters

OPTIMIZERS: dict[str, type["Optimizer"]] = {}


class Optimizer(ABC):
    """Base of an optimizer on flat `Parameters`: `class AdamW(Optimizer, name="adamw")` is `--optimizer adamw`.

    `help`: a phrase about it for the help line of `--optimizer`.
    """

    help: ClassVar[str]
    parameters: Parameters

    def __init_subclass__(cls, name: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        OPTIMIZERS[name] = cls

    @classmethod
    @abstractmethod
    def from_config(cls, parameters: Parameters, config: Any) -> Self:
        """Return the optimizer with the hyperparameters of a `TrainConfig`."""

    @abstractmethod
    def step(self, lr: float, scale: float = 1.0, pool: WorkerPool = SINGLE) -> None:
        """Update the parameters from their gradients times `scale`, with learning rate `lr`."""

    @abstractmethod
    def state(self) -> dict[str, Array]:
        """Return the arrays that the next step depends on: a checkpoint saves them, and resuming fills them."""

    def describe(self, lr: float) -> str:
        """Return a phrase for the report of a run with the peak learning rate `lr`: `AdamW at 0.001`."""
        return f"{type(self).__name__} at {lr:g}"
