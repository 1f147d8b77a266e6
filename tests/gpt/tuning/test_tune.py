"""Instruction tuning: what counts, what is held out, what is kept, and that a model learns to answer."""

import json
import re
import signal

import numpy as np
import pytest

import gpt
from gpt import GPT, CharTokenizer, GPTConfig, TrainConfig, checkpoint, train
from gpt.chat.chat import answer
from gpt.chat.conversation import BUILT_IN, Conversation, Message, read_conversations
from gpt.chat.turns import Turns, TurnTokenizer
from gpt.cli import main
from gpt.data.corpus import default_text
from gpt.data.dataset import IGNORED
from gpt.model.module import raw
from gpt.training.trainer import Trainer
from gpt.tuning import lora
from gpt.tuning.packing import ConversationData, drop_first_turn, encode_conversations, split_held_out
from gpt.tuning.tune import TuneConfig, tune

COLORS = {"snow": "white", "grass": "green", "the sky": "blue", "coal": "black"}
FORMS = ("what color is {}?", "{} has which color?", "tell me the color of {}", "say the color of {}",
         "is {} red?", "name the color of {}", "do you know how {} looks?", "how does {} look?",
         "what is the color of {}?", "{} is of which color?", "of which color is {}?", "which color has {}?",
         "give me the color of {}", "and {}?", "what about {}?", "tell me how {} looks")
PAIRS = [(form.format(thing), color) for thing, color in COLORS.items() for form in FORMS]
TEXT = " ".join(f"{q} {a}.\n" for q, a in PAIRS) * 3


def conversation(*texts, where=""):
    return Conversation(tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)), where)


@pytest.fixture
def turns():
    return Turns(TurnTokenizer(CharTokenizer("abcdefgh ")))


# ---------------------------------------------------------------------- packing


@pytest.fixture
def data(turns):
    rng = np.random.default_rng(0)
    texts = [["".join(rng.choice([*"abcdefgh"], rng.integers(1, 9))) for _ in range(rng.choice([2, 4]))]
             for _ in range(40)]
    examples, said = encode_conversations([conversation(*t) for t in texts], turns, 51)
    assert not said
    return ConversationData(examples[:30], examples[30:], 50)


def test_every_conversation_is_whole_in_a_window_and_comes_once_a_pass(data, turns):
    rng, seen = np.random.default_rng(0), []
    while len(seen) < 60:
        ids, targets = data.train_batch(rng, 3)
        assert ids.shape == targets.shape == (3, 50) and ids.dtype == targets.dtype == np.int64
        for row, aims in zip(ids, targets):
            place = 0
            while place < 50 and row[place] == turns.tokenizer.user:
                i = next(i for i, (t, _) in enumerate(data.train)
                         if place + len(t) <= 51 and (row[place:place + len(t) - 1] == t[:-1]).all())
                tokens, counted = data.train[i]
                wanted = np.where(counted[1:], tokens[1:], IGNORED)
                np.testing.assert_array_equal(aims[place:place + len(tokens) - 1], wanted)
                place += len(tokens)
                seen.append(i)
                if place <= 50:
                    assert aims[place - 1] == IGNORED  # the next question is not to be guessed
    assert sorted(seen[:30]) == list(range(30)) and sorted(seen[30:60]) == list(range(30))
    assert seen[:30] != seen[30:60]  # each pass in an order of its own


def test_noise_is_in_questions_only(data, turns):
    n, rng = turns.tokenizer.base.vocab_size, np.random.default_rng
    data.n_text, changed, could = n, 0, 0
    for i in range(20):
        data.waiting.clear()
        data.noise = 0.0
        ids, targets = data.train_batch(rng(i), 4)
        data.waiting.clear()
        data.noise = 0.3
        noisy, same = data.train_batch(rng(i), 4)
        np.testing.assert_array_equal(same, targets)
        other = noisy != ids
        assert not (other & ((targets != IGNORED) | (ids >= n))).any() and noisy.max() < n + 4
        changed, could = changed + other.sum(), could + ((targets == IGNORED) & (ids < n)).sum()
    assert abs(changed / could - 0.3 * (n - 1) / n) < 0.02


def test_held_out_conversations_stand_alone(data):
    batches = list(data.val_windows(4))
    assert sum(len(ids) for ids, _ in batches) == 10
    assert sum(int((t != IGNORED).sum()) for _, t in batches) == sum(int(c.sum()) for _, c in data.val)
    ids, targets = data.val_batch(np.random.default_rng(0), 5)
    assert ids.shape == targets.shape == (5, data.val_length)


def test_the_fraction_that_is_trained_on(turns):
    examples, _ = encode_conversations([conversation("abc", "de")], turns, 99)
    assert ConversationData(examples, examples, 50).trained_fraction == 3 / 7  # [user] a b c [assistant] d e [end]


def test_what_is_cut_and_left_out_is_said(turns):
    conversations = [conversation("a" * 9, "b" * 9, "c", "d", where="one"), conversation("a", "é", where="two"),
                     conversation("a" * 30, "b", where="three"), conversation("a", "b", where="four")]
    examples, said = encode_conversations(conversations, turns, 12)
    assert [e is not None for e in examples] == [True, False, False, True]
    assert turns.tokenizer.decode(examples[0][0]) == "<|user|>c<|assistant|>d<|end|>"
    assert len(said) == 3 and "two: " in said[0] and "three, with 34 tokens" in said[1] and "one" in said[2]
    assert all(line.startswith("1 of 4") for line in said) and "--block-size" in said[1]


def test_the_first_turn_goes_and_the_system_stays():
    system, *rest = (Message("system", "s"), *conversation("a", "b", "c", "d").messages)
    assert drop_first_turn((system, *rest)) == (system, *rest[2:]) and drop_first_turn((system, *rest[2:])) == ()
    assert drop_first_turn(rest) == tuple(rest[2:])


def test_equal_questions_are_in_the_same_part():
    conversations = [conversation(f"q{i % 10}", f"a{i}") for i in range(50)]
    held = split_held_out(conversations, 0.2, 0)
    assert held.sum() == 10 and (held.reshape(5, 10) == held[:10]).all()
    assert split_held_out(conversations, 0.001, 0).sum() == 5 and split_held_out(conversations, 0.999, 0).sum() == 45
    assert (split_held_out(conversations, 0.2, 1) != held).any()
    with pytest.raises(ValueError, match="one question only"):
        split_held_out(conversations[:1] * 3, 0.5, 0)


# ---------------------------------------------------------------------- the command


@pytest.fixture
def source(tmp_path):
    """A base model, untrained, and a file of conversations."""
    tokenizer = CharTokenizer(TEXT)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=64, n_layer=1, n_head=2, n_embd=16,
                          positions="rotary"))
    (tmp_path / "base").mkdir()
    gpt.save(tmp_path / "base", model, tokenizer, {"train": {"lines": False}})
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps({"prompt": q, "response": a}) for q, a in PAIRS))
    return tmp_path


def settings(source, **more):
    return {"checkpoint": str(source / "base"), "data": (str(source / "pairs.jsonl"),), "out": str(source / "tuned"),
            "max_iters": 12, "eval_interval": 4, "batch_size": 2, "learning_rate": 3e-3, **more}


def test_tuning_lowers_the_loss_of_held_out_answers(source):
    said = []
    run = tune(TuneConfig(**settings(source)), said.append)
    text = "\n".join(said)
    assert "% of the tokens" in text and "before tuning" in text and "held out" in text
    rows = [json.loads(line) for line in (source / "tuned" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["val_loss"] for row in rows if "val_loss" in row]
    before = float(next(line for line in said if "before tuning" in line).split()[1])
    assert len(rows) == 12 and len(losses) == 3 and min(losses) < before
    assert run.metadata["val_loss"] == min(losses) and "train" not in run.metadata
    assert run.config.block_size == 256 and run.config.vocab_size == len(set(TEXT)) + 4
    again = gpt.load(source / "tuned")
    assert {n: raw(t).tolist() for n, t in again.model.named_arrays().items()} == \
        {n: raw(t).tolist() for n, t in run.model.named_arrays().items()}
    assert isinstance(again.tokenizer, TurnTokenizer)
    assert sum(line.count("question  ") for line in said) == 3


@pytest.mark.parametrize("own, words", [(0, "whose answers were trained on,"), (4, "with answers of their own,"),
                                        (2, "have answers that were trained on,")])
def test_the_held_out_figure_says_what_it_is_of(source, own, words):
    """Of 32 questions those about `own` of the four things have answers that no other has."""
    pairs = [(q, f"{a} {q}" if i // len(FORMS) < own else a) for i, (q, a) in enumerate(PAIRS)]
    (source / "pairs.jsonl").write_text("\n".join(json.dumps({"prompt": q, "response": a}) for q, a in pairs))
    said = []
    tune(TuneConfig(**settings(source, val_fraction=0.4, max_iters=2)), said.append)
    lines = [line for line in said if line.strip().startswith("loss")]
    assert len(lines) == 2 and all(words in line for line in lines), lines


@pytest.mark.slow
def test_of_our_own_questions_those_outside_are_told_apart(tmp_path):
    tokenizer = CharTokenizer(default_text()[0])
    gpt.save(tmp_path, GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=64, n_layer=1, n_head=2,
                                     n_embd=16, positions="rotary")), tokenizer)
    said = []
    tune(TuneConfig(checkpoint=str(tmp_path), out=str(tmp_path / "t"), max_iters=1, batch_size=1), said.append)
    assert "on 40 questions outside of all these; to 0 of them it answers 'I do not know'" in said[-2]
    assert "questions outside" not in "".join(said[:-2])


def test_the_best_weights_are_kept(source):
    """With steps much too large the loss rises, and what is left is what was best."""
    run = tune(TuneConfig(**settings(source, learning_rate=0.3, max_iters=20, eval_interval=2)), lambda line: None)
    rows = [json.loads(line) for line in (source / "tuned" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["iter"]: row["val_loss"] for row in rows if "val_loss" in row}
    assert run.metadata["iter"] == min(losses, key=losses.get) and run.metadata["val_loss"] == min(losses.values())


def test_a_tuned_model_can_be_tuned_again(source):
    tune(TuneConfig(**settings(source)), lambda line: None)
    again = settings(source, checkpoint=str(source / "tuned"), out=str(source / "twice"))
    run = tune(TuneConfig(**again), lambda line: None)
    assert run.config.vocab_size == len(set(TEXT)) + 4


@pytest.mark.parametrize("merge", [False, True])
def test_lora(source, merge):
    base = (source / "base" / checkpoint.FILE).read_bytes()
    run = tune(TuneConfig(**settings(source, lora_rank=2, merge=merge)), lambda line: None)
    assert (source / "base" / checkpoint.FILE).read_bytes() == base
    names = {file.name for file in (source / "tuned").iterdir()}
    assert names == {"metrics.jsonl", checkpoint.FILE if merge else lora.FILE}
    again = gpt.load(source / "tuned")
    ids = np.arange(20)[None]
    np.testing.assert_allclose(raw(again.model(ids)), raw(run.model(ids)), rtol=1e-5, atol=1e-6)
    untuned, new = gpt.load(source / "base").model.named_arrays(), again.model.named_arrays()
    same = {n for n in untuned if raw(untuned[n]).shape == new[n].shape and (raw(untuned[n]) == raw(new[n])).all()}
    assert {"ln_f.weight", "frequencies"} <= same and "h.0.attn.c_attn.weight" not in same
    assert (raw(new["wte.weight"])[:-4] == raw(untuned["wte.weight"])).all()
    if not merge:
        assert (source / "tuned" / lora.FILE).stat().st_size < len(base) / 2
        assert main(["sample", str(source / "tuned"), "--max-new-tokens", "3"]) == 0
        with pytest.raises(ValueError, match="cannot stand on another"):
            tune(TuneConfig(**settings(source, checkpoint=str(source / "tuned"), out=str(source / "b"), lora_rank=2)))


def test_of_two_tunings_in_a_folder_the_last_one_is_left(source):
    for rank, file in (None, checkpoint.FILE), (2, lora.FILE), (None, checkpoint.FILE):
        tune(TuneConfig(**settings(source, lora_rank=rank, max_iters=4, overwrite=True)), lambda line: None)
        assert {f.name for f in (source / "tuned").iterdir()} == {"metrics.jsonl", file}


@pytest.mark.parametrize("flags, words", [
    (["--out", "{}/base"], "choose another folder"), (["--data", "{}/none.json"], "check the path"),
    (["--merge"], "--lora-rank"), (["--lora-rank", "99"], "lora_rank"), (["--block-size", "8"], "raise --block-size"),
    (["--data", "{}/unknown.jsonl"], "no conversation can be used"), (["{}/nothing"], "gpt train")])
def test_mistakes_are_told_in_a_line(source, flags, words, capsys):
    (source / "unknown.jsonl").write_text('{"prompt": "é", "response": "é"}')
    argv = ["tune", str(source / "base"), "--data", str(source / "pairs.jsonl"), "--out", str(source / "new")]
    flags = [flag.format(source) for flag in flags]
    if flags[0] == "--data":
        argv[2:4] = []
    if not flags[0].startswith("--"):
        argv[1:2] = []
    before = (source / "base" / checkpoint.FILE).read_bytes()
    assert main(argv + flags) == 1
    err = capsys.readouterr().err.strip()
    assert words in err and len(err.splitlines()) == 1
    assert (source / "base" / checkpoint.FILE).read_bytes() == before


def test_learned_positions_cannot_be_extended(source, capsys):
    tokenizer = CharTokenizer(TEXT)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=64, n_layer=1, n_head=2, n_embd=16))
    gpt.save(source / "base", model, tokenizer)
    with pytest.raises(ValueError, match="has learned 64 positions"):
        tune(TuneConfig(**settings(source, block_size=65)), lambda line: None)
    assert tune(TuneConfig(**settings(source)), lambda line: None).config.block_size == 64


def test_ctrl_c_keeps_the_best_so_far(source, monkeypatch, capsys):
    step = Trainer.step

    def stopping(self):
        if self.iter == 6:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(Trainer, "step", stopping)
    given = settings(source)
    argv = ["tune", given["checkpoint"], "--data", *given["data"], "--out", given["out"], "--max-iters", "50",
            "--eval-interval", "4", "--batch-size", "2"]
    assert main(argv) == 130
    assert "stopped after 7 steps" in capsys.readouterr().err
    assert gpt.load(source / "tuned").metadata["iter"] == 4


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """The folder of a trained model of a small text."""
    folder = tmp_path_factory.mktemp("tiny_model")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    shape = dict(n_layer=2, n_head=2, n_embd=64, block_size=64, positions="rotary")
    train(TrainConfig(data=(str(folder / "text.txt"),), out=str(folder / "out"), max_iters=400, batch_size=8,
                      seed=1, learning_rate=3e-3, eval_interval=400, eval_iters=1, **shape), lambda line: None)
    return folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("rank, steps", [(None, 400), (16, 500)])
def test_a_tiny_model_learns_to_answer_what_it_was_not_asked_in_these_words(tiny_model, tmp_path, rank, steps):
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps({"prompt": q, "response": a}) for q, a in PAIRS))
    said = []
    run = tune(TuneConfig(checkpoint=str(tiny_model), data=(str(tmp_path / "pairs.jsonl"),), lora_rank=rank,
                          out=str(tmp_path / "tuned"), max_iters=steps, eval_interval=50, block_size=128, seed=1,
                          val_fraction=0.25), said.append)
    before, after = (float(line.split()[1]) for line in said if line.strip().startswith("loss"))
    assert after < before / 2
    data = read_conversations([str(tmp_path / "pairs.jsonl")])
    held = [c for c, out in zip(data, split_held_out(data, 0.25, 1)) if out]
    right = sum(answer(run, c.messages[:-1], 20) == c.messages[-1].text for c in held)
    assert len(held) == 16 and right >= 12


@pytest.mark.long
def test_by_default_a_model_says_that_it_does_not_know_what_it_was_not_taught(tmp_path):
    """Of the questions that come with the package, most are answered; of those outside of them, few."""
    base, said = str(tmp_path / "base"), []
    train(TrainConfig.from_recipe(out=base), lambda line: None)
    run = tune(TuneConfig(checkpoint=base, out=str(tmp_path / "tuned")), said.append)
    unsure, asked = re.search(r"on (\d+) questions outside.* to (\d+) of them", said[-2]).groups()[::-1]
    assert int(unsure) >= 0.75 * int(asked)
    data = read_conversations([str(BUILT_IN)])[::7]
    right = sum(answer(run, c.messages[:-1], 80) == c.messages[-1].text for c in data)
    assert right >= 0.9 * len(data)


def test_a_template_that_writes_no_answer_is_told(source, monkeypatch):
    examples = Turns.examples
    monkeypatch.setattr(Turns, "examples", lambda self, conversations: [
        (m[0], [False] * len(m[0])) for m in examples(self, conversations)])
    with pytest.raises(ValueError, match="no conversation can be used.*the chat template writes no answer"):
        tune(TuneConfig(**settings(source)), lambda line: None)
