"""The settings of a training run."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .. import checkpoint
from ..data.tasks import TASKS
from ..data.tokenizers import TOKENIZERS, VOCAB_SIZE, learned_kinds
from ..model.config import Architecture, GPTConfig
from ..optim.optimizer import OPTIMIZERS
from ..optim.schedule import DECAY_FRACTION, SCHEDULES
from ..runtime.ranks import current
from ..runtime.settings import describe_choices, flag_of, overwrite_setting, setting
from ..runtime.worker_pool import cores
from .recipes import DEFAULT, FINE_TUNING, FINE_TUNING_RATE, FINE_TUNING_WINDOW, RECIPES, TASK_RECIPES

# Settings that resuming cannot change: the model, the data, and those to which the state belongs.
FIXED = ("from_", "task", "digits", "tokenizer", "lines", "val_fraction", "vocab_size", "batches", "batch_size",
         "accumulate", "optimizer", "seed", *[f.name for f in fields(Architecture)])
SHORT_RUN = 300  # seconds: a run that took less is replaced where its command is given again


@dataclass
class TrainConfig(Architecture):
    """All settings of a run; where none are given, those of the recipe "nanogpt" (`from_recipe` knows others).

    Raises ValueError for values that make no sense."""

    data: tuple[str, ...] = setting((), "UTF-8 text files, folders, - for standard input; none: the Python language "
                                    "reference", group="data", path=True)
    task: str = setting("text", "train on text, or on a task whose answers can be checked: sums of two numbers",
                        choices=("text", *TASKS), group="data")
    digits: int = setting(2, "addition: digits of the numbers that are added", at_least=1, group="data")
    tokenizer: str = setting("char", "tokenizer: a token is "
                             f"{', '.join(TOKENIZERS[k].help for k in learned_kinds())}, or what a tokenizer.json "
                             "defines, by its path", choices=learned_kinds(), group="data", path=True)
    vocab_size: int = setting(VOCAB_SIZE, f"{', '.join(k for k in learned_kinds() if TOKENIZERS[k].sized)}: largest "
                              "vocabulary size, learned from the training split", at_least=256, at_most=1_000_000,
                              group="data")
    lines: bool = setting(False, "take each line of the text as an example of its own", group="data")
    val_fraction: float = setting(0.1, "validation split: fraction held out, of the text its end, or of the different "
                                  "lines", above=0, below=1, group="data")
    cache_dir: str | None = setting(None, "folder that caches the tokens of large text; none: the user's cache folder",
                                    group="data", path=True)
    out: str = setting("out", "folder for the checkpoints and metrics.jsonl; one with another run in it is refused, "
                       f"but the same run is replaced if it took less than {SHORT_RUN // 60} minutes", group="output",
                       path=True)
    overwrite: bool = overwrite_setting()
    from_: str | None = setting(None, "fine-tune: begin with the pretrained model in this folder or file (imported, "
                                "tuned or your own), its tokenizer and its context; --block-size is then the length "
                                "of the windows of text", group="model", path=True)
    resume: str | None = setting(None, "resume the run in this folder, or from this checkpoint, with its settings",
                                 group="output", path=True)
    code: str | None = setting(None, "do not train: write the training step, forward, backward and AdamW, as this "
                               "Python file, which trains with NumPy alone", group="output", path=True)
    checkpoint_interval: int = setting(100, "steps between checkpoints", at_least=1, group="output")
    keep: int = setting(2, "number of the last checkpoints to keep, besides the best", at_least=1, group="output")
    recipe: str = setting("nanogpt", "hyperparameters by name: fast, or nanoGPT's own, to the letter; single flags "
                          "override them", choices=tuple(RECIPES), group="training")
    batches: str = setting("random", "sampling of batches: windows of text at random positions, or shuffled epochs "
                           "over the whole text", choices=("random", "shuffled"), group="training")
    batch_size: int = setting(12, "batch size in windows of text: larger ones give a less noisy gradient, and take "
                              "more memory and time a step", at_least=1, at_most=1 << 20, group="training")
    accumulate: int = setting(1, "gradient accumulation steps: batches whose gradients are averaged for one step of "
                              "the optimizer, as a larger batch in the same memory", at_least=1, group="training",
                              at_most=1 << 20)
    max_iters: int = setting(2000, "training steps (iterations)", at_least=1, group="training")
    time_limit: float | None = setting(None, "minutes after which training stops, as after the last step", above=0,
                                       group="training")
    learning_rate: float = setting(1e-3, "peak learning rate: higher learns faster until it diverges", above=0,
                                   group="training")
    embedding_lr: float = setting(0.015, "muon: peak learning rate of embeddings, head, biases and norm gains", above=0,
                                  group="training")
    taps_lr: float = setting(0.04, "muon: peak learning rate of convolution kernels", above=0, group="training")
    min_lr: float = setting(1e-4, "minimum learning rate, at the end of the decay", at_least=0, group="training")
    schedule: str = setting("cosine", "learning rate schedule after the warmup: " + describe_choices(SCHEDULES),
                            choices=tuple(SCHEDULES), group="training")
    falling_share: float = setting(DECAY_FRACTION, "trapezoidal: fraction of steps in the decay (warmdown), of those "
                                   "after the warmup", above=0, at_most=1, group="training")
    warmup_iters: int = setting(100, "warmup steps, in which the learning rate rises: more if the loss jumps at the "
                                "start", at_least=0, group="training")
    lr_decay_iters: int | None = setting(None, "step at which the learning rate decay reaches min_lr; none: max_iters",
                                         at_least=0, group="training")
    optimizer: str = setting("adamw", "optimizer: " + describe_choices(OPTIMIZERS), choices=tuple(OPTIMIZERS),
                             group="training")
    weight_decay: float = setting(0.1, "weight decay (decoupled) of the matrices: more against overfitting", at_least=0,
                                  group="training")
    beta1: float = setting(0.9, "Adam beta1: decay of the first moment, the mean gradient", at_least=0, below=1,
                           group="training")
    beta2: float = setting(0.99, "Adam beta2: decay of the second moment, the mean squared gradient", at_least=0,
                           below=1, group="training")
    momentum: float = setting(0.9, "momentum of sgd and muon", at_least=0, below=1, group="training")
    grad_clip: float = setting(1.0, "gradient clipping: largest global norm of the gradient; 0: no clipping",
                               at_least=0, group="training")
    eval_interval: int = setting(250, "steps between evaluations of the validation loss", at_least=1,
                                 group="evaluation")
    eval_iters: int = setting(20, "batches in an evaluation, drawn at random, but always the same ones; 0: the whole "
                              "validation split", at_least=0, group="evaluation")
    eval_whole: bool = setting(False, "end with the loss on the whole validation split, however long that takes; else "
                               "on as many random batches as take the time of the training, if it has more",
                               group="evaluation")
    ladder: bool = setting(True, "before training, measure what guessing, counting and compressing reach on the text, "
                           "to compare the loss with: a second or two for a megabyte", group="evaluation")
    patience: int | None = setting(None, "early stopping: stop after so many evaluations in a row without a lower "
                                   "validation loss", at_least=1, group="evaluation")
    target_val_loss: float | None = setting(None, "stop once the loss on the whole validation split is at or below "
                                            "this", above=0, group="evaluation")
    seed: int = setting(1337, "random seed: the same seed gives the same run", at_least=0, group="training")
    replicas: int = setting(0, "data-parallel replicas: threads that each compute a slice of a batch; 0: one a core; "
                            "mpiexec -n N python -m gpt train shares each batch among N processes, each with as many",
                            at_least=0, group="training")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr is {self.min_lr}, above learning_rate, which is {self.learning_rate}: "
                             "lower --min-lr too")
        if self.from_ and Path(self.out).resolve() == checkpoint.folder_of(self.from_).resolve():
            raise ValueError(f"--out is {self.out}, where the model lies that the run begins from: choose another one")
        if self.task != "text" and self.batches == "shuffled":
            raise ValueError(f"batches are shuffled windows of a text, and --task {self.task} has none: leave out "
                             "--batches")

    @classmethod
    def from_recipe(cls, recipe: str | None = None, **changes: Any) -> "TrainConfig":
        """Return the settings of a recipe, by default "fast", of the run to `resume`, or for the model to begin
        `from_`, with `changes`.  A task has a recipe of its own, a change of nanoGPT's."""
        if changes.get("resume") is not None:
            return cls._from_run(**changes, **({"recipe": recipe} if recipe else {}))
        if changes.get("from_") is not None:
            return cls._from_model(**changes, **({"recipe": recipe} if recipe else {}))
        if task_recipe := TASK_RECIPES.get(changes.get("task", "text")):
            if recipe not in (None, "nanogpt"):
                raise ValueError(f"--task {changes['task']} has settings of its own, and takes no --recipe {recipe}: "
                                 "leave it out, and change single settings")
            return cls(**{**task_recipe, **changes, "recipe": "nanogpt"})
        recipe = recipe or DEFAULT
        return cls(**{**RECIPES.get(recipe, {}), **changes, "recipe": recipe})

    @classmethod
    def _from_model(cls, from_: str, **changes: Any) -> "TrainConfig":
        cls(from_=from_)  # which raises for an empty one
        fixed = {"recipe", "task", "digits", "tokenizer", "vocab_size", *(f.name for f in fields(Architecture))}
        if given := [flag_of(name) for name in changes if name in fixed - {"block_size", "dropout"}]:
            raise ValueError(f"{', '.join(given)} cannot be chosen for the model of --from, which has its own: leave "
                             "it out")
        config = checkpoint.read_config(from_)
        own = {f.name: getattr(config, f.name) for f in fields(Architecture)}
        rate = changes.get("learning_rate", FINE_TUNING_RATE / config.n_embd)
        settings = {**own, **FINE_TUNING, "block_size": min(config.block_size, FINE_TUNING_WINDOW),
                    "learning_rate": rate, "min_lr": rate / 10, **changes}
        if settings["block_size"] > config.block_size:
            raise ValueError(f"--block-size is {settings['block_size']}, and the model in {from_} sees "
                             f"{config.block_size} tokens at once: lower it")
        return cls(**settings, from_=from_)

    @classmethod
    def _from_run(cls, resume: str, **changes: Any) -> "TrainConfig":
        cls(resume=resume)  # which raises for an empty one
        metadata = checkpoint.read_metadata(resume)
        if "state" not in metadata or not metadata.get("train"):
            raise ValueError(f"{resume} holds weights and nothing to go on from: give a checkpoint of gpt train")
        try:
            settings = cls._parse(metadata["train"])
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{resume} has settings that this version cannot read ({error!s:.300}): start a new "
                             "run, or take another checkpoint of its folder") from None
        fixed = [name for name in changes if name in (*FIXED, "recipe") and changes[name] != settings.get(name)]
        if fixed:
            flags = ", ".join(map(flag_of, fixed))
            raise ValueError(f"{flags} cannot change in a run that goes on: leave it out, or start a new run")
        return cls(**{**settings, "out": str(checkpoint.folder_of(resume)), **changes, "resume": resume})

    @classmethod
    def _parse(cls, plain: Any) -> dict[str, Any]:
        """Return the settings that JSON holds.  Raises AttributeError, TypeError or ValueError if they are invalid."""
        names = {f.name for f in fields(cls)}
        settings = {name: value for name, value in plain.items() if name in names - {"resume", "overwrite", "code"}}
        if settings.get("cache_dir") == "":  # as earlier versions wrote
            del settings["cache_dir"]
        data = settings.get("data", [])
        if not (isinstance(data, list) and all(isinstance(path, str) for path in data)):
            raise TypeError(f"data is {data!r:.40}, and needs to be a list of paths")
        settings["data"] = tuple(data)  # JSON has no tuples
        cls(**settings)
        return settings

    @property
    def resumes_in_place(self) -> bool:
        """True if the run to resume lies in the folder `out`."""
        return self.resume is not None and checkpoint.folder_of(self.resume).resolve() == Path(self.out).resolve()

    @property
    def n_replicas(self) -> int:
        """Number of replicas of a process that have work: at most one for each row of its shard of a batch."""
        return min(self.replicas or cores(), -(-self.batch_size // current().size))

    def model_config(self, vocab_size: int) -> GPTConfig:
        """Return the model's part of the settings."""
        return GPTConfig(vocab_size=vocab_size, **{f.name: getattr(self, f.name) for f in fields(Architecture)})

    def matches(self, model: GPTConfig) -> bool:
        """Return True if a model has this architecture; one begun `from_` may have a context longer than the windows
        of text."""
        window = self.block_size if self.from_ and model.block_size > self.block_size else model.block_size
        return replace(model, block_size=window) == self.model_config(model.vocab_size)
