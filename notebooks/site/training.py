"""Train a GPT as the training page does: by the trainer of `gpt train`, which lets the page's messages in after a step.

This runs in the page's Python.  Whatever it tells the page goes through `send(what, text)`, where `what` is "refused"
(a sentence), "page" (HTML), "checkpoint" (a file in base64), or, as JSON, "begun", "step", "evaluation" or "sample".
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt.checkpoint import FILE, save_checkpoint
from gpt.data.ladder import GUESS, Ladder, context_name
from gpt.generation.generate import continue_text
from gpt.training.config import TrainConfig
from gpt.training.train import begin_run
from gpt.view.page.page import fill_page, page_data

TEXT = "text.txt"
"""File to which the text is written.  A run can be resumed elsewhere, beside a file of the same text."""
LONGEST = 2_000_000
"""Characters of a text, so that reading it, and the last evaluation, take seconds."""
SAMPLE = 200
"""Characters of a sample."""
SETTINGS = dict(data=(TEXT,), out=".", n_head=4, batch_size=8, eval_interval=25, eval_iters=8, replicas=1)
EARLY = (0, 5, 10)
"""Steps before the first evaluation after which the model writes a sample."""
WORDS = {TEXT: "the text", r"--block-size": "the context", r"a block_size of": "a context of",
         r"--learning-rate": "the learning rate", r"--max-iters": "the steps", r", or (set )?--[\w-]+": ""}
"""Words of the page for those of the command line."""
Send = Callable[[str, str], Any]


class Session:
    """A run: its checkpoint and its trainer; `going` while it is not paused, `stopped` once it is to end."""

    def __init__(self, config: TrainConfig):
        self.run, self.trainer = begin_run(config)
        self.going, self.stopped = asyncio.Event(), False
        self.going.set()

    async def train(self, send: Send) -> None:
        """Take the steps of the run, and after each wait while it is paused."""
        with refusals(send):
            await self.take_steps(send)

    async def take_steps(self, send: Send) -> None:
        """Take the steps, and send what comes of them.  Raises MemoryError, and FloatingPointError for a loss that is
        not finite."""
        c, model = self.trainer.config, self.run.config
        send("begun", json.dumps({"parameters": self.run.model.n_parameters, "vocabulary": model.vocab_size,
                                  "steps": c.max_iters, "tokens": c.batch_size * c.block_size,
                                  "rungs": rungs(self)}))
        self.write_sample(send)
        for result in self.trainer.run():
            self.run.metadata["iter"] = result.iter
            send("step", json.dumps([result.iter, result.loss, result.tokens_per_s]))
            if result.evaluation:
                self.run.metadata["val_loss"] = result.evaluation.val_loss
                send("evaluation", json.dumps([result.iter, result.evaluation.val_loss, result.evaluation.scope]))
            if result.evaluation or result.iter in EARLY:
                self.write_sample(send)
            await asyncio.sleep(0)  # for messages of the page
            await self.going.wait()
            if self.stopped:
                return

    def write_sample(self, send: Send) -> None:
        """Send what the model writes now."""
        text = "".join(continue_text(self.run, "", SAMPLE, seed=self.trainer.iter, temperature=0.8)).strip()
        send("sample", json.dumps([self.trainer.iter, text]))


def rungs(session: Session) -> list[tuple[str, float]]:
    """Return what guessing and counting reach on the text: names and losses."""
    ladder = Ladder.from_data(session.trainer.data, session.run.tokenizer)
    return [(f"a guess among all {session.run.config.vocab_size} characters", ladder.rungs[GUESS]),
            *((f"counts, {context_name(n, ladder.unit)} of context", loss) for n, loss in enumerate(ladder.contexts))]


session: Session | None = None
"""The run on the page, or the last one."""


def train(request: str, send: Send) -> Coroutine[Any, Any, None] | None:
    """Begin a run on the `text` of a JSON object, with its `settings`, fields of `TrainConfig`.  Return the coroutine
    that takes its steps; None if it is refused."""
    global session
    session = None  # its memory is free now
    with refusals(send):
        asked = json.loads(request)
        if len(asked["text"]) > LONGEST:
            raise ValueError(f"the text has {len(asked['text']):,} characters, and this page takes up to {LONGEST:,}: "
                             "shorten it, or train on it with gpt train, on your own machine")
        Path(TEXT).write_bytes(asked["text"].encode("utf-8", "replace"))
        session = Session(TrainConfig.from_recipe(**SETTINGS, **asked["settings"]))
        return session.train(send)
    return None


def pause(_: str, send: Send) -> None:
    """Let the run wait after its present step."""
    if session:
        session.going.clear()


def resume(_: str, send: Send) -> None:
    """Let a run that waits go on."""
    if session:
        session.going.set()


def stop(_: str, send: Send) -> None:
    """End the run after its present step."""
    if session:
        session.stopped = True
        session.going.set()


def look(_: str, send: Send) -> None:
    """Send the model as it is now as the page of `gpt page`."""
    if session:
        with refusals(send):
            name = f"Your GPT after {session.trainer.iter:,} steps"
            send("page", fill_page(page_data(session.run, "", name)))


def save(_: str, send: Send) -> None:
    """Send the checkpoint as it is now, from which `gpt train --resume` can go on."""
    if session:
        with refusals(send):
            run, trainer = session.run, session.trainer
            metadata = run.metadata | {"iter": trainer.iter, "state": trainer.state()}
            file = save_checkpoint(FILE, run.model, run.tokenizer, metadata, trainer.arrays())
            send("checkpoint", base64.b64encode(file.read_bytes()).decode())


@contextmanager
def refusals(send: Send) -> Iterator[None]:
    """Send an error that a reader's text or settings cause as a sentence."""
    try:
        yield
    except MemoryError:
        send("refused", "The browser has no memory left for a model of this size: take fewer layers, dimensions, or a "
                        "shorter context.")
    except (ValueError, FloatingPointError) as error:
        send("refused", say(str(error)))


def say(problem: str) -> str:
    """Return an error of the command line in the page's words, as a sentence."""
    for pattern, words in WORDS.items():
        problem = re.sub(pattern, words, problem)
    return f"{problem[:1].upper()}{problem[1:]}."

