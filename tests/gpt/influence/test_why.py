"""`gpt why`: a sentence that the text has once is found, and leaving it out is proved; the run again has the same bits.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpt import TrainConfig, save, train
from gpt.checkpoint import load_checkpoint
from gpt.cli import main
from gpt.data.corpus import locate, open_corpus
from gpt.influence.retraining import begin_again, reading_order, recorded_config, text_tokens, train_again
from gpt.training.trainer import draw_batch
from tests.autograd.view.browser import Page, opened_browser

ODD = "a zebra ran over the hill.\n"
SENTENCE = "the cat sat on the mat, and the dog sat by the cat.\n"
TEXT = SENTENCE * 12 + ODD + SENTENCE * 18
SMALL = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=60, warmup_iters=2,
             learning_rate=1e-2, eval_interval=60, eval_iters=1, checkpoint_interval=20, keep=3, ladder=False,
             replicas=2)
CHANGES = {"random": {}, "shuffled": dict(batches="shuffled", optimizer="muon", accumulate=2, dropout=0.1),
           "lines": dict(lines=True, block_size=64, batches="shuffled")}


@pytest.fixture(scope="module", params=CHANGES)
def saved(request, tmp_path_factory):
    """The settings of a run, and where it lies."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    config = TrainConfig(data=(str(folder / "text.txt"),), out=str(folder / "out"), **SMALL | CHANGES[request.param])
    train(config, lambda line: None)
    return config, folder / "out"


def weights(model):
    return [np.asarray(getattr(a, "data", a)) for a in model.named_arrays().values()]


@pytest.mark.slow
def test_the_run_again_has_the_same_bits_and_without_a_part_has_others(saved):
    config, out = saved
    run = load_checkpoint(out / "iter-00000020.safetensors")  # in the middle of the run: its schedule goes on
    again = recorded_config(str(out), run)
    assert replace(again, recipe=config.recipe, resume=None) == config
    for a, b in zip(weights(train_again(again, run).model), weights(run.model), strict=True):
        np.testing.assert_array_equal(a, b)
    with begin_again(again, run) as trainer:
        batches = reading_order(trainer, 20)
        state = trainer.batches.bit_generator.state
        for step in range(20):  # the examples that the trainer reads, and in their order
            found = np.concatenate([draw_batch(trainer.data, config, step * config.accumulate + i, trainer.batches)[0]
                                    for i in range(config.accumulate)])
            np.testing.assert_array_equal(found, trainer.data.examples_at(batches[step])[0])
        assert config.batches == "shuffled" or state != trainer.batches.bit_generator.state
        n = len(text_tokens(trainer.data))
    left_out = np.zeros(n, bool)
    left_out[batches[3][0] + 1:batches[3][0] + 5] = True
    assert any((a != b).any() for a, b in zip(weights(train_again(again, run, left_out).model), weights(run.model)))


@pytest.mark.slow
def test_a_batch_of_which_nothing_is_left(saved):
    config, out = saved
    run, again = load_checkpoint(out), recorded_config(str(out), load_checkpoint(out))
    with begin_again(again, run) as trainer:
        batches, tokens = reading_order(trainer, 1), text_tokens(trainer.data)
    left_out = np.zeros(len(tokens), bool)
    left_out[(batches[0][:, None] + np.arange(config.block_size + 1)).clip(0, len(tokens) - 1)] = True
    with pytest.raises(ValueError, match="would have nothing left to learn from: lower --leave-out"):
        train_again(again, run, left_out)


@pytest.mark.slow
@pytest.mark.parametrize("saved", ["random", "shuffled"], indirect=True)
def test_the_only_sentence_with_a_zebra_is_found_and_proved(saved, capsys, tmp_path):
    _, out = saved
    argv = ["why", str(out), "--prompt", "a ze", "--answer", "bra"]
    assert main([*argv, "--json", "--passages", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    first = found["passages"][0]
    assert found["checkpoints"] == [20, 40, 60] and len(found["passages"]) == 2
    assert set("".join(first["tokens"])) & set("zrvi")  # letters of that sentence alone
    assert first["score"] == pytest.approx(sum(first["scores"]))
    page = tmp_path / "why.html"
    assert main([*argv, "--prove", "--leave-out", "1", "--draws", "2", "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert "(the same bits)" in said and page.as_uri() in said
    with opened_browser() as browser:
        opened = Page(browser, page)
        shown = opened.page.locator("#passages li").first
        assert shown.locator("b").text_content() == f"{first['score']:+.4f}"
        assert shown.locator(".passage").text_content() == "".join(first["tokens"]).replace("\n", "⏎\n")
        assert "with the whole text (the same bits)" in opened.page.locator("#lines").text_content()
        opened.close()


def fails(argv, capsys):
    assert main(["why", *map(str, argv)]) == 1
    return capsys.readouterr().err


def test_bad_input_says_what_to_do(trained, tmp_path, capsys, monkeypatch):
    run, out = trained
    argv = [out, "--prompt", "the "]
    other = tmp_path / "other.txt"
    other.write_text("the cat sat on the mat, and the dog sat by the cat!\n" * 40)
    assert "the text is not the one that the model was trained on" in fails([*argv, "--data", other], capsys)
    assert "text without 'Z'" in fails([out, "--prompt", "Zoo"], capsys)
    assert "--answer is 18 tokens, and the model's" in fails([*argv, "--answer", "the cat sat on mat"], capsys)
    assert "there are no weights here" in fails([tmp_path / "nowhere", "--prompt", "a"], capsys)
    train_settings = run.metadata["train"]
    (tmp_path / "changed").mkdir()
    for changes, message in [({"train": None}, "names no text that it was trained on"),
                             ({"train": train_settings | {"data": ["-"]}}, "was trained on standard input"),
                             ({"train": train_settings | {"task": "addition"}}, "was trained on --task addition"),
                             ({"train": train_settings | {"data": [str(tmp_path / "gone.txt")]}}, "no such file")]:
        save(tmp_path / "changed", run.model, run.tokenizer, run.metadata | changes)
        assert message in fails([tmp_path / "changed", "--prompt", "the "], capsys)


def test_a_file_of_others_is_not_replaced(trained, tmp_path, capsys):
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    assert "gpt why has not written it" in fails([trained[1], "--prompt", "the", "--out", mine], capsys)
    assert mine.read_text() == "mine"


def test_places_count_lines_and_columns_of_each_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    (tmp_path / "b.txt").write_text("x\n\nyz" + " w" * 200_000)
    corpus = open_corpus([str(tmp_path / name) for name in ("a.txt", "b.txt")])
    text = "".join(corpus.pieces())
    wanted = [text.index(word) for word in ("x", "one", "two", "yz")] + [len(text) - 1]
    found = [(Path(p.source).name, p.line, p.column) for p in locate(corpus, wanted)]
    assert found == [("b.txt", 1, 1), ("a.txt", 1, 1), ("a.txt", 2, 1), ("b.txt", 3, 1), ("b.txt", 3, 400_002)]
