"""Sums: what is trained on, what is held out, and how answers are counted."""

import numpy as np
import pytest

from gpt import GPT, AdamW, GPTConfig, Parameters
from gpt.data.dataset import IGNORED
from gpt.data.tasks import Addition, load_task


def questions(task, ids):
    """The numbers of the questions in ids (n, T), read back from their text."""
    pairs = [task.tokenizer.decode(row).split("=")[0].split("+") for row in ids]
    return [int(a) * task.base + int(b) for a, b in pairs]


def test_text_and_targets():
    task, tokenizer = load_task("addition", 9)
    assert [task.text(n) for n in (1234, 7, 9999)] == ["12+34=64\n", "0+7=7\n", "99+99=891\n"]
    ids, targets = task.examples(np.array([1234, 7, 9999]))
    assert ids.shape == targets.shape == (3, task.block_size) == (3, 9)
    assert [tokenizer.decode(row) for row in ids] == ["12+34=64\n", "0+7=7\n\n\n\n", "99+99=891"]
    assert [tokenizer.decode(row[row != IGNORED]) for row in targets] == ["64\n", "7\n", "891\n"]
    for row, target in zip(ids, targets):  # each target is the token after its place
        assert (row[1:][target[:-1] != IGNORED] == target[:-1][target[:-1] != IGNORED]).all()


@pytest.mark.parametrize("digits, n", [(1, 20), (2, 2000), (4, 2000)])
def test_held_out_questions_are_never_trained_on(digits, n):
    task = Addition(digits)
    assert len(task.held_out) == len(set(task.held_out.tolist())) == n
    a, b = np.divmod(task.held_out, task.base)
    assert set((b * task.base + a).tolist()) == set(task.held_out.tolist()) and (a != b).all()
    assert np.array_equal(task.held_out, Addition(digits).held_out)
    ids, _ = task.train_batch(np.random.default_rng(0), 4000)
    seen = set(questions(task, ids))
    assert not seen & set(task.held_out.tolist()) and len(seen) > (70 if digits == 1 else 2500)
    asked = set(questions(task, task.val_batch(np.random.default_rng(0), 500)[0]))
    assert asked <= set(task.held_out.tolist()) and len(asked) > 10
    everything = [q for ids, _ in task.val_windows(300) for q in questions(task, ids)]
    assert everything == task.held_out.tolist()
    assert f"{task.base ** 2 - n:,} to train on, {n:,} to validate on" in task.description


class Knows:
    """Stands for a model: it knows all answers but those of some questions, of which it gets one digit wrong."""

    def __init__(self, task, wrong):
        self.task, self.wrong = task, wrong

    def map(self, _):
        return self

    def __call__(self, ids):
        out = np.zeros((*ids.shape, 13))
        for row, question in enumerate(questions(self.task, ids)):
            text = self.task.text(question)
            tokens = self.task.tokenizer.encode(text)
            out[row, np.arange(len(tokens) - 1), tokens[1:]] = 1
            if question in self.wrong:
                out[row, len(tokens) - 2] = 0  # the line end, last of all, is missing
                out[row, len(tokens) - 2, tokens[0]] = 1
        return out


def test_accuracy_counts_answers_that_are_right_to_the_end():
    task = Addition(2)
    assert task.accuracy(Knows(task, set())) == 1.0
    assert task.accuracy(Knows(task, set(task.held_out[:500].tolist()))) == 0.75


def test_accuracy_is_that_of_greedy_writing():
    task = Addition(1)
    model = GPT(GPTConfig(vocab_size=13, block_size=task.block_size, n_layer=1, n_head=2, n_embd=32), seed=0)
    parameters, rng = Parameters(model), np.random.default_rng(0)
    optimizer = AdamW(parameters)
    for _ in range(60):
        parameters.zero_grad()
        model.loss(*task.val_batch(rng, 32)).backward()  # learned by heart, some of them
        optimizer.step(3e-3)
    right = 0
    for question in task.held_out.tolist():
        text = task.text(question)
        written = text[:text.index("=") + 1]
        while not written.endswith("\n") and len(written) <= task.block_size:
            ids = task.tokenizer.encode(written)[None]
            written += task.tokenizer.decode(model(ids).data[0, -1].argmax())
        right += written == text
    assert 0 < right < 20 and task.accuracy(model, task.tokenizer) == right / 20


def test_sizes_and_names_that_do_not_fit():
    with pytest.raises(ValueError, match="needs a block_size of 12 or more, and it is 9: raise --block-size"):
        load_task("addition", 9, digits=3)
    with pytest.raises(ValueError, match="no task 'chess': choose one of addition"):
        load_task("chess", 9)
    with pytest.raises(ValueError, match="choose from 1 to 9"):
        Addition(0)
