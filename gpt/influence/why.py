"""`gpt why`: the passages of the training text that a prediction goes back to, and the proof by training without them.
"""

import json
import math
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autograd.core.describe import plural
from autograd.view.page import page

from ..checkpoint import Checkpoint, choose, folder_of, load_checkpoint, numbered_checkpoints
from ..data.corpus import Place, locate, open_corpus
from ..data.dataset import IGNORED, LineData
from ..generation.generate import read_prompt
from ..model.gpt import GPT
from ..model.module import Array, raw
from ..optim.parameters import parameter_group
from ..runtime.settings import Settings, overwrite_setting, setting
from ..runtime.writing import check_ours, write_file
from ..training.config import TrainConfig
from ..training.trainer import Trainer
from ..view.show import answer_tokens, labels, prompt_ids
from .passages import Passages
from .retraining import Text, begin_again, reading_order, recorded_config, text_of, text_tokens, train_again
from .scores import Query, Reads, Whitening, score_tokens

SAMPLES = 32  # batches whose gradients tell how the optimizer scales them
MEMORY = 20  # steps at the peak learning rate after which a step's effect has faded to 1/e
FADED = 0.01  # of the largest effect of a step: what was read before is left aside
MARK = "gpt why"  # in a comment at the end of the page
BARS = " ▁▂▃▄▅▆▇█"
SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍"}


@dataclass
class WhyConfig(Settings):
    """The settings of `gpt why`."""

    checkpoint: str = setting("out", "folder or file that gpt train left", positional=True, path=True)
    prompt: str = setting("", "text before the prediction; only its end if it is longer than the context; -: standard "
                          "input; none: text that the model writes", group="text", metavar="TEXT")
    answer: str = setting("", "text after it whose probability is to be explained; none: the likeliest token",
                          group="text", metavar="TEXT")
    data: tuple[str, ...] = setting((), "the text that the model was trained on, if it has moved", group="data",
                                    path=True)
    passages: int = setting(5, "passages to show", at_least=1, group="output")
    prove: bool = setting(False, "train again without the first passages, bit for bit the same run otherwise, and "
                          "without as many random ones", group="proof")
    leave_out: int = setting(20, "passages to leave out", at_least=1, group="proof")
    draws: int = setting(5, "times that random passages are left out", at_least=2, group="proof")
    out: str | None = setting(None, "web page to write, with the characters of the passages coloured: one file, no "
                              "network", group="output", metavar="FILE", path=True)
    overwrite: bool = overwrite_setting()
    json: bool = setting(False, "print one JSON object instead of text", group="output")


@dataclass
class Passage:
    """A passage of the text: its place, its tokens as text, and what each and all of them did, in nats."""
    place: Place
    tokens: list[str]
    scores: list[float]
    score: float


@dataclass
class Proof:
    """Log-probabilities of the answer by models trained again: with the whole text, without the first passages, and
    without as many random ones, once for each draw."""
    n: int
    predicted: float  # the sum of the passages' scores
    same_bits: bool   # whether the model trained with the whole text is the checkpoint's
    whole: float
    without: float
    random: list[float]


@dataclass
class Explanation:
    """The findings of `gpt why`."""
    run: Checkpoint
    query: Query
    note: str
    log_probability: float
    checkpoints: list[int]  # steps after which the gradients were taken
    n_steps: int
    ranked: Passages
    shown: list[Passage] = field(default_factory=list)
    proof: Proof | None = None


def why(config: WhyConfig) -> None:
    """Print the passages of the training text that made a prediction likely: the command `gpt why`.

    Raises OSError or ValueError for a checkpoint that cannot be read, one that was not trained on a text, a text that
    has changed, and a prompt or answer that the tokenizer does not know.
    """
    if config.out:
        check_ours(Path(config.out), MARK, config.overwrite)
    found = explain(config)
    if config.out:
        write_file(Path(config.out), f"{fill_page(found).rstrip()}\n<!-- {MARK} -->\n".encode("utf-8", "replace"))
    if config.json:
        print(json.dumps(as_plain(found)))
        return
    for line in describe(found, shutil.get_terminal_size().columns):
        print(line)
    if config.out:
        print(f"\n{config.out}: the same as a page; open in a browser: {Path(config.out).resolve().as_uri()}")


def explain(config: WhyConfig) -> Explanation:
    """Find the passages of the training text behind a prediction, and prove it if that is asked for; raises as `why`.
    """
    run = load_checkpoint(config.checkpoint)
    training = recorded_config(str(choose(config.checkpoint)[0]), run, config.data)
    answer = answer_tokens(run, config.answer)
    ids, note = prompt_ids(run, read_prompt(config.prompt), max(1, len(answer)))
    query = Query(ids, answer if len(answer) else run.model.map(raw)(ids[None])[0, -1].argmax(keepdims=True))
    kept = kept_checkpoints(config.checkpoint, run)
    with begin_again(training, run) as trainer:
        data, batches = text_of(trainer), reading_order(trainer, run.metadata["iter"])
        rates = fading_rates(trainer, len(batches))
        first = int(np.argmax(rates > FADED * rates.max()))  # the step before which all has faded
        kept = {i: each for i, each in kept.items() if i > first}
        directions = [steepest(trainer, each, query, batches[first:]) for each in kept.values()]
        models = [each.model.map(raw) for each in kept.values()]
        reads = near_checkpoints(data, batches, rates, first, list(kept))
        tokens = score_tokens(models, directions, reads, data, trainer.pool)
    ranked = Passages.rank(batches[first:], data, tokens)
    log_p = float(query.log_probability(run.model).data)
    found = Explanation(run, query, note, log_p, list(kept), len(batches) - first, ranked)
    found.shown = read_passages(found, training, data, tokens, config.passages)
    if config.prove:
        n = min(config.leave_out, len(ranked) // 2)
        found.proof = prove(found, training, len(tokens), n, config.draws)
    return found


def kept_checkpoints(path: str, run: Checkpoint) -> dict[int, Checkpoint]:
    """Return the checkpoints of a run that its folder keeps, up to the one that is asked about, by their steps."""
    last = run.metadata["iter"]
    earlier = [load_checkpoint(file) for file in numbered_checkpoints(folder_of(path))]
    same = {each.metadata["iter"]: each for each in earlier
            if each.metadata.get("data") == run.metadata["data"] and each.config == run.config}
    return {i: each for i, each in sorted(same.items()) if i < last} | {last: run}


def steepest(trainer: Trainer, at: Checkpoint, query: Query, batches: list[Array]) -> GPT:
    """Return the direction in which the run's optimizer would go from a checkpoint to make the answer likelier, a step
    of learning rate 1, to first order: the gradient, whitened by the gradients of some of the run's batches."""
    gradient, flat = query.gradient(at.model), trainer.parameters
    if trainer.config.optimizer == "sgd":
        return gradient
    arrays, ratios = at.model.named_arrays(), getattr(trainer.optimizer, "ratios", {})
    for name, view in flat.views.items():
        view[...] = raw(arrays[name])
    flat.bump_version()
    trainer.replicas.bump_version()

    def sample() -> Iterator[dict[str, Array]]:
        for i in np.linspace(0, len(batches) - 1, SAMPLES).astype(int):
            trainer.replicas.gradient(*text_of(trainer).examples_at(batches[i]))
            yield flat.grads

    whiten = Whitening(sample())
    names = {id(t): name for name, t in at.model.named_arrays().items()}
    found = {name: whiten(name, g) * ratios.get(parameter_group(name, g), 1.0)
             for name, g in gradient.named_arrays().items() if name in flat.views}
    return at.model.map(lambda t: found.get(names[id(t)], np.zeros_like(raw(t))).astype(t.dtype))


def fading_rates(trainer: Trainer, n_steps: int) -> Array:
    """Return the learning rates of a run's first steps, (n_steps,), times what is left at the end of what each taught,
    since later steps go on from there: 1/e after MEMORY steps at the peak rate, or as many more at a lower one."""
    rates = np.array([trainer.learning_rate(i) for i in range(n_steps)])
    later = rates[::-1].cumsum()[::-1] - rates
    return rates * np.exp(-later / (MEMORY * rates.max()))


def near_checkpoints(data: Text, batches: list[Array], rates: Array, first: int, steps: list[int]) -> list[Reads]:
    """Share out the batches of a run, from step `first` on, among its checkpoints after `steps`, each to the nearest.
    """
    nearest = np.abs(np.arange(len(batches))[:, None] + 1 - np.array(steps)).argmin(1)
    reads = []
    for k in range(len(steps)):
        near = [i for i in np.flatnonzero(nearest == k) if i >= first]
        counts = [(data.examples_at(batches[i])[1] != IGNORED).sum() for i in near]
        weights = [np.full(len(batches[i]), rates[i] / n) for i, n in zip(near, counts)]
        reads.append(Reads(np.concatenate([np.zeros(0, np.int64), *(batches[i] for i in near)]),
                           np.concatenate([np.zeros(0), *weights])))
    return reads


def read_passages(found: Explanation, training: TrainConfig, data: Any, scores: Array, n: int) -> list[Passage]:
    """Return the first `n` passages with their places in the text."""
    lengths, tokens = found.run.tokenizer.lengths, text_tokens(data)
    ends = [(start + 1, start + length + 1) for start, length in zip(found.ranked.starts[:n], found.ranked.lengths[:n])]
    padding = isinstance(data, LineData)  # a line end before the text
    characters = [int(lengths[tokens[:first].astype(np.intp)].sum()) - padding for first, _ in ends]
    places = locate(open_corpus(training.data), characters)
    return [Passage(place, labels(found.run.tokenizer, tokens[first:last]), scores[first:last].tolist(), float(score))
            for place, (first, last), score in zip(places, ends, found.ranked.scores)]


def prove(found: Explanation, training: TrainConfig, n_tokens: int, n: int, draws: int) -> Proof:
    """Train again with all of the text, without the first `n` passages, and without as many random ones, `draws` times.

    Raises ValueError if a batch would be empty."""
    ranked, query = found.ranked, found.query

    def log_probability(chosen: Any) -> tuple[float, Any]:
        left_out = ranked.mask(chosen, n_tokens)
        again = train_again(training, found.run, left_out if left_out.any() else None)
        return float(query.log_probability(again.model)), again.model

    first = np.arange(n)
    whole, model = log_probability([])
    arrays = [m.named_arrays().values() for m in (model, found.run.model.map(raw))]
    same = all(np.array_equal(a, b) for a, b in zip(*arrays))
    without, _ = log_probability(first)
    random = [log_probability(ranked.draw(n, [training.seed, 6, i]))[0] for i in range(draws)]
    return Proof(n, float(ranked.scores[:n].sum()), same, whole, without, random)


# ---------------------------------------------------------------------- in words


def describe(found: Explanation, width: int) -> Iterator[str]:
    """Yield lines of at most `width` characters on an explanation."""
    run, query = found.run, found.query
    prompt, answer = run.tokenizer.decode(query.ids), "".join(labels(run.tokenizer, query.answer))
    yield f"prompt    {prompt[-width + 20:]!r}, {plural(len(query.ids), 'token')}{found.note}"
    yield f"answer    {answer!r}, probability {percent(found.log_probability)}"
    reading = (f"{say_read(found)}  A score of +0.1 says: without this passage in training, the probability would be "
               f"about 10 % smaller (0.1 nats), by the gradients at {plural(len(found.checkpoints), 'checkpoint')}.")
    yield from textwrap.wrap(reading, width, initial_indent="why       ", subsequent_indent=" " * 10)
    for number, passage in enumerate(found.shown, 1):
        place = passage.place
        yield ""
        yield f"{number:3}  {passage.score:+.4f}  {place.source}, line {place.line:,}, column {place.column:,}"
        yield from draw_passage(passage, width - 5)
    if found.proof:
        yield ""
        yield from describe_proof(found.proof, answer)


def say_read(found: Explanation) -> str:
    """Return a sentence on the passages that were looked at."""
    return (f"{len(found.shown)} of the {plural(len(found.ranked), 'passage')} that the last {found.n_steps:,} steps "
            "read (what earlier ones taught has faded), those that did most for it.")


def draw_passage(passage: Passage, width: int) -> Iterator[str]:
    """Yield the text of a passage in lines, each over bars that show how much its characters did for the answer."""
    most = max(max(passage.scores), 1e-30)
    text = bars = ""
    for token, score in zip(passage.tokens, passage.scores):
        shown = "".join(SIGNS.get(c, c if c.isprintable() else "·") for c in token)
        text, bars = text + shown, bars + BARS[round(8 * max(score, 0) / most)] * len(shown)
    for start in range(0, len(text), width):
        yield f"     {text[start:start + width]}"
        yield f"     {bars[start:start + width]}".rstrip()


def describe_proof(proof: Proof, answer: str) -> Iterator[str]:
    """Yield lines on a proof."""
    changes = np.array(proof.random) - proof.whole
    bits = "the same bits" if proof.same_bits else \
        "not the same bits: other libraries, or a run resumed with other settings"
    yield f"proof     trained again, the probability of {answer!r} is"
    yield f"          {percent(proof.whole):>8}  with the whole text ({bits})"
    yield (f"          {percent(proof.without):>8}  without the first {plural(proof.n, 'passage')}: "
           f"{proof.without - proof.whole:+.3f} nats (scores: {-proof.predicted:+.3f})")
    yield (f"          {percent(proof.whole + changes.mean()):>8}  without {proof.n} random ones: "
           f"{changes.mean():+.3f} nats ({changes.min():+.3f} to {changes.max():+.3f}, {len(changes)} draws)")
    right = proof.without < min(proof.random)
    yield ("          Leaving out the first ones " + ("hurt more than each of the random draws." if right else
           "did not hurt more than each of the random draws: here the scores are not borne out."))


def percent(log_probability: float) -> str:
    """Return a probability as text."""
    return f"{math.exp(log_probability):.2%}"


def as_plain(found: Explanation) -> dict[str, Any]:
    """Return an explanation as plain data."""
    run, proof = found.run, found.proof
    passages = [{"source": p.place.source, "line": p.place.line, "column": p.place.column, "score": p.score,
                 "tokens": p.tokens, "scores": p.scores} for p in found.shown]
    return {"prompt": run.tokenizer.decode(found.query.ids), "answer": run.tokenizer.decode(found.query.answer),
            "log_probability": found.log_probability, "checkpoints": found.checkpoints, "steps": found.n_steps,
            "passages_read": len(found.ranked), "passages": passages, "proof": vars(proof) if proof else None}


def fill_page(found: Explanation) -> str:
    """Return a page on an explanation."""
    data = as_plain(found)
    lines = list(describe_proof(found.proof, data["answer"])) if found.proof else []
    data |= {"read": say_read(found), "lines": [line[10:] for line in lines]}
    return page(Path(__file__).parent, "why", "Which text taught it", data, ["why.js"])
