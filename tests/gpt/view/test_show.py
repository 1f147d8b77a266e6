"""A model run on a prompt: the text, the page and the graph of `gpt show`."""

import io
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.view.text import totals
from gpt import GPT, GPTConfig, checkpoint
from gpt.cli import main
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.data.tokenizers.word import WordTokenizer
from gpt.view.show import gradient_norms, labels, next_tokens, prompt_ids, train_briefly


@pytest.fixture
def saved(tmp_path, config, tokenizer):
    """A checkpoint of a model with 11 tokens, a context of 8 and 2 layers with 2 heads, and the model."""
    model = GPT(config, seed=3)
    return str(gpt.save(tmp_path, model, tokenizer).parent), model


@pytest.fixture
def loaded(saved):
    return gpt.load(saved[0])


def show(capsys, *argv):
    """Return the lines it printed, label -> text, and the data of its page."""
    assert main(["show", *argv]) == 0
    out = capsys.readouterr().out
    page = open(argv[argv.index("--out") + 1] + "/tape.html", encoding="utf-8").read()
    data = json.loads(re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.S)[1])
    return {line[:9].strip(): line[10:] for line in out.splitlines() if line[0] != " "}, out, data


def fails(argv, capsys):
    assert main(argv) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("gpt: error: "), lines
    return lines[0]


def test_a_prompt(saved, tmp_path, capsys):
    folder, model = saved
    said, out, data = show(capsys, folder, "--prompt", "the cat", "--out", str(tmp_path / "seen"))
    ids = gpt.load(folder).tokenizer.encode("the cat")
    loss = model.loss(ids[None, :-1], ids[None, 1:])
    loss.backward()
    assert said["prompt"] == "'the cat', 7 tokens"
    assert said["loss"].startswith(f"{loss.item():.4f} nats per token (perplexity {np.exp(loss.item()):.4g})")
    assert said["loss"].endswith("the mean over 6 tokens, each predicted from those before it")
    tape = ag.tape(model.loss(ids[None], np.append(ids[1:], -100)[None]))
    assert said["tape"] == data["title"] == totals(tape)  # with what it keeps for the backward
    memory = tape.memory()
    peak, when = said["memory"].split(" kB at the peak, ")
    assert float(peak) == pytest.approx(memory.peak / 1000, rel=0.05)  # what formulas hold in passing varies a little
    assert re.fullmatch(r"step \d+, (forward|backward) of %\d+ \w+; parameters 15.0 kB", when)
    norms = sorted(((np.linalg.norm(t.grad), name) for name, t in model.named_arrays().items()), reverse=True)
    listed = re.findall(r"^ {12}(\S+) +(\S+)  ([\dx ]+)$", out, re.M)
    assert [name for _, name, _ in listed] == [name for _, name in norms[:5]]
    assert [float(norm) for norm, _, _ in listed] == pytest.approx([norm for norm, _ in norms[:5]], rel=1e-3)
    assert said["gradients"].startswith(f"norm {np.sqrt(sum(n**2 for n, _ in norms)):.4g} in all")


def test_the_page_and_the_graph(saved, tmp_path, capsys):
    out = tmp_path / "seen"
    _, text, data = show(capsys, saved[0], "--prompt", "the cat", "--out", str(out))
    assert data["tokens"] == list("the cat")
    maps = [r["weights"] for r in data["records"] if r["op"] == "attention"]
    assert [(m["count"], len(m["pictures"]), m["queries"], m["keys"]) for m in maps] == [(2, 2, 7, 7)] * 2
    assert not data["notes"] and all(r["gradient"] for r in data["records"] if r["step"] >= 0)  # nothing is missing
    assert (out / "show.html").resolve().as_uri() in text and str(out / "tape.svg") in text
    if shutil.which("dot"):
        assert "<svg" in (out / "tape.svg").read_text()


def test_without_graphviz_it_says_how_to_get_it(saved, tmp_path, capsys, monkeypatch):
    out = tmp_path / "seen"
    show(capsys, saved[0], "--prompt", "the cat", "--out", str(out))
    (out / "tape.svg").write_text("<svg/>\n<!-- gpt show -->\n")  # where there was no Graphviz then, either
    monkeypatch.setattr("autograd.view.graph.render.graphviz.Source.pipe", missing)
    monkeypatch.setattr("autograd.view.graph.render.importlib.util.find_spec", lambda name: None)
    _, text, _ = show(capsys, saved[0], "--prompt", "the cat", "--out", str(out))
    assert f"{out / 'tape.svg'} was not written: a graph needs Graphviz, which pip install" in text
    assert sorted(file.name for file in out.iterdir()) == ["show.html", "tape.html"]


def missing(*args, **kwargs):
    import graphviz
    raise graphviz.ExecutableNotFound(["dot"])


# ---------------------------------------------------------------------- prompts


def test_a_single_token_is_followed_by_the_likeliest(saved, loaded, tmp_path, capsys):
    logits = saved[1](loaded.tokenizer.encode("t")[None]).data[0, -1]
    likeliest = loaded.tokenizer.decode(logits.argmax())
    said, _, data = show(capsys, saved[0], "--prompt", "t", "--out", str(tmp_path / "seen"))
    assert said["prompt"] == "'t', 1 token" and data["tokens"] == ["t"]
    assert f"that of {likeliest!r}, the likeliest token to follow the only one of the prompt" in said["loss"]
    assert said["loss"].startswith(f"{-np.log(np.exp(logits).max() / np.exp(logits).sum()):.4f} ")


def test_of_a_prompt_longer_than_the_context_its_end(saved, tmp_path, capsys):
    said, _, data = show(capsys, saved[0], "--prompt", "the cat sat" * 30, "--out", str(tmp_path / "seen"))
    assert said["prompt"] == "' cat sat', 8 tokens: the last of 330, since the context is 8"
    assert data["tokens"] == list(" cat sat")


def test_a_prompt_as_long_as_the_context_is_whole(loaded):
    ids, note = prompt_ids(loaded, "the cats")
    assert loaded.tokenizer.decode(ids) == "the cats" and note == ""


def test_without_a_prompt_the_model_writes_one(loaded):
    ids, note = prompt_ids(loaded, "")
    again, _ = prompt_ids(loaded, "")
    assert len(ids) == 8 and note == ", written by the model" and ids.tolist() == again.tolist()


def test_without_a_prompt_in_a_context_of_one(tokenizer):
    model = GPT(GPTConfig(vocab_size=11, block_size=1, n_layer=1, n_head=1, n_embd=4))
    ids, _ = prompt_ids(checkpoint.Checkpoint(model, tokenizer), "")
    assert ids.shape == (1,)


def test_a_prompt_from_standard_input(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a cat\n")))
    said, _, _ = show(capsys, saved[0], "--prompt", "-", "--out", str(tmp_path / "seen"))
    assert said["prompt"] == "'a cat', 5 tokens"


def test_each_token_is_to_be_predicted_but_the_first(loaded):
    targets, _ = next_tokens(loaded, np.array([3, 1, 4, 1]))
    assert targets.tolist() == [1, 4, 1, -100]


def test_labels_of_tokens():
    assert labels(ByteTokenizer(), ByteTokenizer().encode("aé")) == ["a", "byte 195", "byte 169"]
    words = WordTokenizer.learn("the cat the cat\n")
    assert labels(words, words.encode("the cat\n")) == ["the", " ", "cat", "\n"]


# ---------------------------------------------------------------------- without a checkpoint


def test_a_new_model_is_trained_two_steps(tmp_path, capsys):
    run = train_briefly()
    untrained = GPT(run.config, seed=1337)
    ids = run.tokenizer.encode("The value of the expression is")
    assert run.model.loss(ids[None, :-1], ids[None, 1:]).item() < untrained.loss(ids[None, :-1], ids[None, 1:]).item()
    said, _, data = show(capsys, "--out", str(tmp_path / "seen"))
    assert said["model"].startswith("new, trained 2 steps on the default text: ")
    assert "32 tokens, written by the model" in said["prompt"] and len(data["tokens"]) == 32
    assert [file.name for file in tmp_path.iterdir()] == ["seen"]  # and the model is not saved


def test_gradients_of_the_steps_before_do_not_count(saved, loaded, tmp_path, capsys, monkeypatch):
    for t in loaded.model.named_arrays().values():
        t.grad = np.full(t.shape, 7.0)
    monkeypatch.setattr("gpt.view.show.train_briefly", lambda: loaded)
    prompt = ("--prompt", "the cat", "--out", str(tmp_path / "seen"))
    assert show(capsys, *prompt)[0]["gradients"] == show(capsys, saved[0], *prompt)[0]["gradients"]


def test_gradients_that_are_no_numbers_come_first(model, ids):
    model.loss(ids, ids).backward()
    model.ln_f.weight.grad = np.full(12, np.nan)
    assert gradient_norms(model)[0][1:] == ("ln_f.weight", "12")
    assert np.diff([norm for norm, _, _ in gradient_norms(model)[1:]]).max() <= 0


def test_weights_that_are_not_finite_are_shown(saved, tmp_path, capsys, tokenizer):
    saved[1].ln_f.weight.data = np.full(12, np.nan)
    folder = str(gpt.save(tmp_path, saved[1], tokenizer).parent)
    said, _, _ = show(capsys, folder, "--prompt", "the cat", "--out", str(tmp_path / "seen"))
    assert said["loss"].startswith("nan nats per token:") and said["gradients"].startswith("norm nan in all")


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(("argv", "message"), [
    (["nowhere"], "there are no weights here: train some with gpt train"),
    (["HERE", "--prompt", "Zoo"], "text without 'Z' (U+005A)"),
    (["HERE", "--out", ""], "--out is empty"),
    (["HERE", "--out", "HERE/model.safetensors"], "choose another folder with --out"),
])
def test_mistakes_are_one_line(saved, capsys, argv, message):
    assert message in fails(["show", *(word.replace("HERE", saved[0]) for word in argv)], capsys)


def test_nothing_is_written_after_a_mistake(saved, tmp_path, capsys):
    fails(["show", saved[0], "--prompt", "Zoo", "--out", str(tmp_path / "seen")], capsys)
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize("name", ["show.html", "tape.html", "tape.svg"])
def test_a_file_that_cannot_be_written(saved, tmp_path, capsys, name):
    if name == "tape.svg" and not shutil.which("dot"):
        pytest.importorskip("pygraphviz")
    (tmp_path / "seen" / name).mkdir(parents=True)
    argv = ["show", saved[0], "--prompt", "the cat", "--out", str(tmp_path / "seen")]
    assert f"{tmp_path / 'seen' / name} is there already, and gpt show has not written it" in fails(argv, capsys)
    error = fails([*argv, "--overwrite"], capsys)
    assert f"{tmp_path / 'seen' / name} cannot be written" in error and "choose another place with --out" in error
