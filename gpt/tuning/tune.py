"""Instruction tuning (supervised fine-tuning, SFT) of a model on conversations: of all its weights, or by LoRA."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

import autograd as ag

from .. import checkpoint
from ..chat.chat import answer
from ..chat.conversation import UNKNOWN_HELD_OUT, Conversation, read_conversations
from ..chat.template import Template
from ..chat.turns import NAMES, Turns, TurnTokenizer, template_of
from ..checkpoint import Checkpoint
from ..model.gpt import GPT, Architecture
from ..model.module import raw
from ..runtime.environment import fastest_kernels
from ..runtime.malloc import keep_freed_memory
from ..runtime.ranks import current
from ..runtime.safetensors_file import memory_limit
from ..runtime.screen import announce, command_line, escape_line
from ..runtime.settings import Settings, overwrite_setting, setting
from ..runtime.signals import Stopped, stop_on_signal
from ..runtime.worker_pool import WorkerPool, cores
from ..training.config import TrainConfig
from ..training.footprint import step_bytes
from ..training.metrics import FILE as METRICS
from ..training.metrics import Metrics
from ..training.report import report_steps
from ..training.run_folder import check_run, output_folder
from ..training.train import KEPT, check_settings, take_part
from ..training.trainer import Trainer, mean_loss
from . import lora
from .grow import extend_vocab_and_context
from .packing import ConversationData, Example, encode_conversations, split_held_out

CONTEXT = 256  # least context length of a tuned model with rotary positions: question and answer have to fit
MEMORY = 1 << 30  # bytes that a step may take beside the weights before fewer windows are computed at once
# Before greetings were added, 7 epochs had 47 of 74 held-out questions of the package answered right, and 14 73 of 88.
EPOCHS, STEPS = 14, (100, 1000)
NOISE = 0.1  # with it 67 of 76 held-out questions of pairs.jsonl alone were answered right, and without 63
SHOWN = 3  # held-out questions that are answered before and after
UNSURE = "I do not know"  # begins the answers to questions outside of what comes with the package
ANSWER_TOKENS = 120  # at most, of an answer that is shown or counted
RANDOM_VAL = 20  # batches in an evaluation of many held-out conversations; of fewer, all are taken


@dataclass
class TuneConfig(Settings):
    """The settings of `gpt tune`.  Raises ValueError for values that make no sense."""

    checkpoint: str = setting("out", "folder that gpt train or gpt import left, or a .safetensors file in it",
                              positional=True, path=True)
    data: tuple[str, ...] = setting((), "conversations: JSON, JSON Lines or CSV files of questions and answers, of "
                                    "messages with roles, or of plain text; none: some 2,400 that come with the "
                                    "package", group="data", path=True)
    strict: bool = setting(False, "stop at the first record that cannot be used, instead of leaving it out",
                           group="data")
    val_fraction: float = setting(0.1, "validation split: fraction of the different questions that is held out",
                                  above=0, below=1, group="data")
    block_size: int | None = setting(None, "context length: longest window of conversations, in tokens; none: the "
                                     f"model's, which tuning extends to {CONTEXT} at least where positions are rotary",
                                     at_least=8, group="training", at_most=1 << 20)
    lora_rank: int | None = setting(None, "LoRA rank: learn two low-rank matrices beside each linear layer, instead of "
                                    "all weights; those that gpt import has left in few bits stay so, and would "
                                    "otherwise be widened to float32", at_least=1, group="LoRA")
    lora_alpha: float | None = setting(None, "LoRA alpha: their product is scaled by alpha / rank; none: twice the "
                                       "rank", above=0, group="LoRA")
    merge: bool = setting(False, "merge LoRA into the weights at the end, and save whole weights", group="LoRA")
    batch_size: int = setting(8, "batch size in windows of conversations; a large batch is computed a few at a time "
                              "(gradient accumulation)", at_least=1, at_most=1 << 20, group="training")
    max_iters: int | None = setting(None, f"training steps (iterations); none: as many as make {EPOCHS} epochs over "
                                    f"the conversations, but {STEPS[0]} at least and {STEPS[1]:,} at most", at_least=1,
                                    group="training")
    time_limit: float | None = setting(None, "minutes after which training stops, as after the last step", above=0,
                                       group="training")
    learning_rate: float | None = setting(None, "peak learning rate; none: 0.256 / n_embd, and five times that for "
                                          "LoRA", above=0, group="training")
    weight_decay: float = setting(0.1, "weight decay (decoupled) of the matrices: more against overfitting", at_least=0,
                                  group="training")
    noise: float | None = setting(None, "input noise: fraction of the questions' tokens that are replaced by random "
                                  f"ones in training; none: {NOISE}, but 0 for a model with a chat template of its own",
                                  at_least=0, below=1, group="training")
    eval_interval: int = setting(50, "steps between evaluations of the validation loss; the weights with the lowest "
                                 "are kept", at_least=1, group="evaluation")
    seed: int = setting(1337, "random seed: the same seed gives the same run", at_least=0, group="training")
    replicas: int = setting(0, "data-parallel replicas: threads that each compute a part of every batch; 0: one a core",
                            at_least=0, group="training")
    out: str = setting("tuned", "folder for the tuned model and metrics.jsonl", group="output", path=True)
    overwrite: bool = overwrite_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora_rank is None and (self.merge or self.lora_alpha is not None):
            raise ValueError("--merge and --lora-alpha belong to LoRA: give --lora-rank, too")


def tune(config: TuneConfig, say: Callable[[str], None] = announce) -> Checkpoint:
    """Fine-tune the model at `config.checkpoint` on conversations, into `config.out`: the command `gpt tune`.

    Ctrl-C or SIGTERM finishes the step and raises Stopped, a KeyboardInterrupt; the best weights so far stay.  Raises
    OSError or ValueError for files that cannot be used, and FloatingPointError for a loss that is not finite.
    """
    keep_freed_memory()
    conversations = read_conversations(config.data, config.strict, say)
    if Path(config.out).resolve() == checkpoint.folder_of(config.checkpoint).resolve():
        raise ValueError(f"--out is {config.out}, where the model lies that is to be tuned: choose another folder")
    chosen, note = checkpoint.choose(config.checkpoint)
    if note:  # which may be another one when the LoRA is saved
        say(f"note    taking {note}")
        config = replace(config, checkpoint=str(chosen))
    with output_folder(config.out, current()) as out:
        note = check_run(out, config.overwrite, "tune", asdict(config)) if current().leads else ""
        if note:
            say(note)
        return tune_with(config, conversations, out, say, replaces=bool(note))


def tune_with(config: TuneConfig, conversations: Sequence[Conversation], out: Path, say: Callable[[str], None],
              replaces: bool) -> Checkpoint:
    """Tune into the folder `out`.  `replaces`: it holds another run, which this one replaces."""
    run, whole, data, held_out = prepare(config, conversations, say)
    c, ranks = train_config(config, run, data), current()
    check_memory(run, c)
    with fastest_kernels(), WorkerPool(c.n_replicas) as pool:
        check_settings(config, ranks)
        ranks.agree(data=data.description)
        trainer = Trainer(c, run.model, data, pool, ranks)
        say_plan(config, run, c, data, say)
        before = trainer.validate(last=True).val_loss
        if not ranks.leads:
            return take_part(run, trainer)
        say(f"loss    {before:.4f} on {data.val_description}, before tuning")
        first_answers = answer_all(Checkpoint(whole, run.tokenizer, run.metadata), held_out)
        learn(config, run, trainer, Metrics(out / METRICS, 0, replaces), say)
    del run, whole, trainer  # before the best weights are read
    load = lora.load_lora if config.lora_rank and not config.merge else checkpoint.load_checkpoint
    tuned = load(saved_file(config, out), packed=True)
    after = tuned.metadata["val_loss"]
    for question, was, now in zip(held_out, first_answers, answer_all(tuned, held_out)):
        say(f"\n  question  {question.messages[-2].text}\n  before    {was}\n  after     {now}")
    say(f"\nloss    {after:.4f} on {data.val_description}, {after / before:.1%} of the {before:.4f} before tuning")
    if not config.data:
        say_outside(tuned, say)
    say(f"model in {saved_file(config, out)}; to talk to it:\n\n    {command_line('chat', out)}\n")
    return tuned


def say_plan(config: TuneConfig, run: Checkpoint, c: TrainConfig, data: ConversationData,
             say: Callable[[str], None]) -> None:
    """Say what is learned, and in which steps."""
    rank = f", LoRA of rank {config.lora_rank}" if config.lora_rank else ""
    learned = sum(t.size for t in run.model.named_arrays().values() if t.requires_grad)
    say(f"model   {run.config.n_layer} layers, {run.config.n_embd} dimensions, context {run.config.block_size}: "
        f"{learned:,} parameters are learned{rank}")
    at_once = f", {c.batch_size} at once to save memory" if c.accumulate > 1 else ""
    noise = f", noise {data.noise:g}" if data.noise else ""
    say(f"run     {c.max_iters:,} steps of {config.batch_size} windows of {data.block_size:,} tokens{at_once}, "
        f"AdamW at {c.learning_rate:g}{noise}")


def prepare(config: TuneConfig, conversations: Sequence[Conversation],
            say: Callable[[str], None]) -> tuple[Checkpoint, GPT, ConversationData, list[Conversation]]:
    """Return the model to tune, the same without LoRA, the data, and some of the held-out conversations."""
    source = Path(config.checkpoint)
    if config.lora_rank and checkpoint.adapter_beside(checkpoint.file_of(source)):
        raise ValueError(f"{source} is a LoRA itself, and one cannot stand on another: tune its base, or tune it once "
                         "with --merge")
    run = checkpoint.load_checkpoint(source, say, packed=bool(config.lora_rank))
    n_new = 0 if template_of(run) else len(NAMES)
    if n_new:
        run.tokenizer = TurnTokenizer(run.tokenizer)
    least = config.block_size or (CONTEXT if run.config.positions == "rotary" else 0)
    whole = run.model = extend_vocab_and_context(run.model, n_new, max(least, run.config.block_size))
    if config.lora_rank:
        run.model = lora.add_lora(run.model, config.lora_rank, config.lora_alpha or 2.0 * config.lora_rank, n_new,
                                  config.seed)
    template = template_of(run)
    assert template is not None
    data, held_out = make_data(config, conversations, template, run.model, say)
    run.metadata = {name: run.metadata[name] for name in KEPT if name in run.metadata} | {"tune": asdict(config)}
    return run, whole, data, held_out[:SHOWN]


def make_data(config: TuneConfig, conversations: Sequence[Conversation], template: Template, model: GPT,
              say: Callable[[str], None]) -> tuple[ConversationData, list[Conversation]]:
    """Return conversations as data, and those that are held out, in random order."""
    longest = config.block_size or model.config.block_size
    examples, notes = encode_conversations(conversations, template, longest + 1)
    for note in notes:
        say(f"note    {note}")
    used = [(c, e) for c, e in zip(conversations, examples) if e is not None]
    if not used:
        raise ValueError(f"no conversation can be used: {notes[0]}")
    held_out = split_held_out([c for c, _ in used], config.val_fraction, config.seed)
    train = [pair for pair, held in zip(used, held_out) if not held]
    val = [pair for pair, held in zip(used, held_out) if held]
    source = ", ".join(config.data) or "the questions and answers that come with the package"
    data = ConversationData(
        [e for _, e in train], [e for _, e in val], window_length(config, [e for _, e in train], model, longest),
        f"{source}: {len(train):,} conversations to train on, {len(val):,} with other questions held out",
        f"held-out questions {describe_overlap([c for c, _ in train], [c for c, _ in val])}")
    if isinstance(template, Turns):
        data.noise, data.n_text = NOISE if config.noise is None else config.noise, template.tokenizer.base.vocab_size
    elif config.noise:
        raise ValueError("--noise is not for a model with a chat template of its own: leave it out")
    say(f"data    {escape_line(data.description)}; the loss is of the answers, {data.trained_fraction:.1%} of the "
        "tokens; windows are filled with whole conversations")
    order = np.random.default_rng([config.seed, 5]).permutation(len(val))
    return data, [val[i][0] for i in order if not val[i][0].is_plain]


def window_length(config: TuneConfig, examples: Sequence[Example], model: GPT, longest: int) -> int:
    """Return the tokens of a window: as many as the longest example needs, and more where memory lets several of them
    share one."""
    length = max(len(tokens) for tokens, _ in examples) - 1
    shared = min(longest, CONTEXT)
    return max(length, shared) if step_bytes(model, config.batch_size, shared) <= MEMORY else length


def describe_overlap(train: Sequence[Conversation], val: Sequence[Conversation]) -> str:
    """Return a phrase about the held-out questions whose answers were trained on."""
    answers = {c.messages[-1].text for c in train}
    n = sum(c.messages[-1].text in answers for c in val)
    if n == len(val):
        return "whose answers were trained on"
    return f"of which {n:,} of {len(val):,} have answers that were trained on" if n else "with answers of their own"


def train_config(config: TuneConfig, run: Checkpoint, data: ConversationData) -> TrainConfig:
    """Return the settings of the trainer."""
    rate = config.learning_rate or (5 if config.lora_rank else 1) * 0.256 / run.config.n_embd
    architecture = {f.name: getattr(run.config, f.name) for f in fields(Architecture)}
    architecture["block_size"] = max(data.block_size, data.val_length)
    windows = RANDOM_VAL * config.batch_size
    in_epochs = EPOCHS * sum(len(tokens) for tokens, _ in data.train) / (config.batch_size * data.block_size)
    steps = config.max_iters or min(max(round(in_epochs), STEPS[0]), STEPS[1])
    window = step_bytes(run.model, 1, architecture["block_size"])
    at_once = next(n for n in range(config.batch_size, 0, -1)
                   if n == 1 or config.batch_size % n == 0 and n * window <= MEMORY)
    return TrainConfig(**architecture, batch_size=at_once, accumulate=config.batch_size // at_once,
                       max_iters=steps, time_limit=config.time_limit, learning_rate=rate, min_lr=rate / 10,
                       schedule="cosine", warmup_iters=min(20, steps // 10), optimizer="adamw", beta1=0.9,
                       beta2=0.99, weight_decay=config.weight_decay, grad_clip=1.0, eval_interval=config.eval_interval,
                       eval_iters=windows // at_once if len(data.val) > windows else 0, seed=config.seed,
                       replicas=min(config.replicas or cores(), at_once), out=config.out)


def check_memory(run: Checkpoint, c: TrainConfig) -> None:
    """Raise ValueError, before anything is computed, if tuning would take more memory than there is."""
    arrays = run.model.named_arrays().values()
    learned = sum(raw(t).nbytes for t in arrays if t.requires_grad)
    needed = sum(raw(t).nbytes for t in arrays) + (3 + c.n_replicas) * learned + \
        step_bytes(run.model, c.batch_size, c.block_size)
    if needed > (limit := memory_limit()):
        raise ValueError(f"tuning would take about {needed / 1e9:.1f} GB of memory, and there are {limit / 1e9:.1f}: "
                         "give --lora-rank 8, which learns less, or shorter windows by --block-size")


def learn(config: TuneConfig, run: Checkpoint, trainer: Trainer, log: Metrics, say: Callable[[str], None]) -> None:
    """Train, and keep the weights with the lowest held-out loss in the folder of the metrics."""
    first, out = True, log.path.parent
    with stop_on_signal() as signals, log:
        stop_requested = trainer.ranks.watch(signals)
        for result in report_steps(trainer, trainer.run(stop_requested), say):
            log.write(result.metrics())
            if result.evaluation and result.evaluation.best or result.last and first:
                run.metadata |= {"iter": result.iter, "seconds": round(trainer.seconds, 1),
                                 "metrics": log.pending.name,
                                 **({"val_loss": result.evaluation.val_loss} if result.evaluation else {})}
                log.sync()
                save(config, run, out, first)
                log.publish()
                first = False
    if not result.finished:
        raise Stopped(f"stopped after {result.iter:,} steps; the best weights so far are in {saved_file(config, out)}",
                      stop_requested[0])


def save(config: TuneConfig, run: Checkpoint, out: Path, first: bool) -> None:
    """Write the tuned model, or its LoRA; the `first` takes the place of another run's checkpoints in the folder."""
    if saved_file(config, out).name == lora.FILE:
        lora.save_lora(out, run.model, run.tokenizer, run.metadata, config.checkpoint, first)
    else:
        model = lora.merge_lora(run.model) if config.lora_rank else run.model
        checkpoint.save_checkpoint(out, model, run.tokenizer, run.metadata, first=first)


def saved_file(config: TuneConfig, out: Path) -> Path:
    """Return the file that holds the tuned model, or its LoRA."""
    return out / (lora.FILE if config.lora_rank and not config.merge else checkpoint.FILE)


def say_outside(run: Checkpoint, say: Callable[[str], None]) -> None:
    """Say how a model answers questions outside of those that come with the package, which it is tuned to."""
    template = template_of(run)
    assert template is not None
    conversations = read_conversations([str(UNKNOWN_HELD_OUT)])
    examples, _ = encode_conversations(conversations, template, CONTEXT)
    usable = [(c, e) for c, e in zip(conversations, examples) if e is not None]
    if usable:
        data = ConversationData([], [e for _, e in usable], CONTEXT)
        loss = mean_loss(lambda *batch: ag.no_grad(run.model.loss)(*batch).data, data.val_windows(8))
        unsure = sum(said.startswith(UNSURE) for said in answer_all(run, [c for c, _ in usable]))
        say(f"loss    {loss:.4f} on {len(usable)} questions outside of all these; to {unsure} of them it answers "
            f"{UNSURE!r}")


def answer_all(run: Checkpoint, conversations: Sequence[Conversation]) -> list[str]:
    """Return greedy answers to the last questions of conversations, each in a line."""
    return [" ".join(answer(run, list(c.messages[:-1]), ANSWER_TOKENS).split()) for c in conversations]
