"""Training that begins with a model there is, by `--from`, and with a tokenizer there is, by `--tokenizer FILE`."""

import json
import re
import shutil

import numpy as np
import pytest

import gpt
from gpt import GPT, Checkpoint, GPTConfig, TrainConfig, train
from gpt.chat.turns import TurnTokenizer
from gpt.cli import main
from gpt.data import dataset as data
from gpt.data import token_file
from gpt.data.tokenizers.bpe import BPETokenizer
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.pretrained.convert import write_pretrained
from gpt.training.train import load_start
from tests.gpt.conftest import TEXT
from tests.tokenizer_files import gpt2_style, llama2_style, llama3_style, unigram_style

QUIET = {"say": lambda line: None}
LLAMA = dict(norm="rms_norm", positions="rotary", gated=True, activation="silu", n_kv_head=1, tied=False)


@pytest.fixture
def theirs(tmp_path):
    """A folder of an imported model of bytes with a context of 48, words of its own and a chat template."""
    config = GPTConfig(vocab_size=256, block_size=48, n_layer=1, n_head=2, n_embd=16, **LLAMA)
    (tmp_path / "folder").mkdir()
    write_pretrained(tmp_path / "folder", Checkpoint(GPT(config, seed=1), ByteTokenizer(), {
        "chat_template": "{{ x }}", "special_tokens": {"eos_token": "z"}, "pretrained": {"eos_token_id": 122}}))
    pytest.importorskip("tokenizers")
    assert main(["import", str(tmp_path / "folder"), "--out", str(tmp_path / "theirs")]) == 0
    return tmp_path / "theirs"


def weights(path):
    return {name: t.data for name, t in gpt.load(path).model.named_arrays().items()}


def flags(path, text_file, out, *more):
    return ["train", "--from", str(path), "--data", text_file, "--out", str(out), "--max-iters", "6", "--batch-size",
            "4", "--eval-interval", "3", "--eval-iters", "1", *map(str, more)]


def test_an_imported_model_is_trained_on_with_its_tokenizer_and_context(theirs, text_file, tmp_path, capsys):
    before = (theirs / "model.safetensors").read_bytes()
    assert main(flags(theirs, text_file, tmp_path / "out", "--block-size", 16)) == 0
    said = capsys.readouterr().out
    assert "context 48" in said and f"run     from {theirs}: 6 steps of 4 x 16" in said
    old, run = gpt.load(theirs), gpt.load(tmp_path / "out")
    assert run.config == old.config and run.tokenizer.to_json() == old.tokenizer.to_json()
    for name in ("chat_template", "special_tokens", "pretrained"):
        assert run.metadata[name] == old.metadata[name], name
    now = weights(tmp_path / "out")
    assert all(np.abs(now[name] - a).max() < 0.1 for name, a in weights(theirs).items())
    assert sum(np.abs(now[name] - a).max() > 0 for name, a in weights(theirs).items()) >= len(now) - 1
    assert (theirs / "model.safetensors").read_bytes() == before
    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "back")]) == 0
    assert json.loads((tmp_path / "back" / "config.json").read_text())["max_position_embeddings"] == 48


def test_a_run_begins_with_the_weights_and_learns(run, text_file, tmp_path):
    source = gpt.load(run[1])
    config = TrainConfig.from_recipe(from_=run[1], data=(text_file,), out=str(tmp_path / "on"), max_iters=30)
    begun, _ = load_start(config, print)
    for name, t in source.model.named_arrays().items():
        assert np.array_equal(begun.model.named_arrays()[name].data, t.data), name
    assert config.block_size == 16 and config.optimizer == "adamw" and config.learning_rate == 0.064 / 16
    assert train(config, **QUIET).metadata["val_loss"] < source.metadata["val_loss"]


def test_it_goes_on_to_the_bit_without_the_first_model(theirs, text_file, tmp_path):
    assert main(flags(theirs, text_file, tmp_path / "whole", "--block-size", 16)) == 0
    assert main([*flags(theirs, text_file, tmp_path / "half", "--block-size", 16), "--checkpoint-interval", "3"]) == 0
    shutil.rmtree(theirs)
    assert main(["train", "--resume", str(tmp_path / "half" / "iter-00000003.safetensors"), "--max-iters", "6"]) == 0
    half = weights(tmp_path / "half")
    assert all(np.array_equal(half[name], a) for name, a in weights(tmp_path / "whole").items())


@pytest.mark.slow
def test_a_tuned_model_keeps_its_turns(text_file, tmp_path, capsys):
    tokenizer = TurnTokenizer(ByteTokenizer())
    config = GPTConfig(vocab_size=260, block_size=32, n_layer=1, n_head=2, n_embd=16, positions="rotary")
    (tmp_path / "tuned").mkdir()
    gpt.save(tmp_path / "tuned", GPT(config, seed=1), tokenizer, {"tune": {}})
    assert main(flags(tmp_path / "tuned", text_file, tmp_path / "out")) == 0
    assert gpt.load(tmp_path / "out").tokenizer.to_json() == tokenizer.to_json()
    assert main(["tune", str(tmp_path / "tuned"), "--lora-rank", "2", "--max-iters", "2", "--out",
                 str(tmp_path / "lora")]) == 0
    assert main(flags(tmp_path / "lora", text_file, tmp_path / "more", "--block-size", 32)) == 0
    assert gpt.load(tmp_path / "more").config.vocab_size == 260


@pytest.mark.parametrize("more, says", [
    (["--n-layer", 2], "--n-layer cannot be chosen for the model of --from"), (["--recipe", "fast"], "--recipe cannot"),
    (["--tokenizer", "char"], "--tokenizer cannot"), (["--vocab-size", 300], "--vocab-size cannot"),
    (["--task", "addition"], "--task cannot"), (["--positions", "learned", "--bias"], "--positions, --bias cannot"),
    (["--block-size", 49], "--block-size is 49, and the model in .* sees 48 tokens at once: lower it"),
    (["--from", "nowhere"], "nowhere.*: there are no weights here"), (["--from", ""], "--from is empty"),
    (["--resume", "OUT"], "--from cannot change in a run that goes on"),
    (["--out", "THEIRS"], "where the model lies that the run begins from"),
], ids=str)
def test_what_makes_no_sense_with_from(theirs, text_file, tmp_path, capsys, more, says):
    if "--resume" in more:
        assert main(flags(theirs, text_file, tmp_path / "out")) == 0
    names = {"OUT": str(tmp_path / "out"), "THEIRS": str(theirs)}
    other = str(tmp_path / "folder") if "--resume" in more else str(theirs)
    assert main([*flags(other, text_file, tmp_path / "out"), *(names.get(m, str(m)) for m in more)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("gpt: error: ") and re.search(says, error), error
    assert (tmp_path / "out").exists() == ("--resume" in more)


def test_settings_of_another_model_are_refused(theirs, text_file, tmp_path):
    with pytest.raises(ValueError, match="not those of .*from_recipe"):
        train(TrainConfig(from_=str(theirs), data=(text_file,), out=str(tmp_path / "out")), **QUIET)


def test_dropout_may_be_chosen(theirs, text_file, tmp_path):
    assert main(flags(theirs, text_file, tmp_path / "out", "--dropout", 0.2)) == 0
    assert gpt.load(tmp_path / "out").config.dropout == 0.2


# ---------------------------------------------------------------------- a tokenizer from a file


@pytest.fixture
def files(tmp_path):
    """Tokenizers in files by their names."""
    pytest.importorskip("tokenizers")

    def write(make):
        (tmp_path / f"{make.__name__}.json").write_text(json.dumps(make()), encoding="utf-8")
        return str(tmp_path / f"{make.__name__}.json")
    return write


@pytest.mark.parametrize("make", [gpt2_style, llama2_style, llama3_style])
def test_a_new_model_with_a_tokenizer_from_a_file(make, files, tiny, tmp_path):
    file = files(make)
    settings = tiny | dict(tokenizer=file, max_iters=6, eval_interval=3, checkpoint_interval=3)
    whole = train(TrainConfig(**settings), **QUIET)
    tokenizer = BPETokenizer.from_file(file)
    assert whole.tokenizer.to_json() == tokenizer.to_json() and whole.config.vocab_size == tokenizer.vocab_size
    found, _ = data.load_data(tiny["data"], tokenizer, 16)
    assert np.concatenate([found.train, found.val]).tolist() == tokenizer.encode(TEXT).tolist()
    shutil.move(file, tmp_path / "elsewhere")
    half = train(TrainConfig.from_recipe(resume=f"{tiny['out']}/iter-00000003.safetensors", max_iters=6), **QUIET)
    for name, t in whole.model.named_arrays().items():
        assert np.array_equal(half.model.named_arrays()[name].data, t.data), name
    assert main(["export", tiny["out"], "--out", str(tmp_path / "made")]) == 0
    made = BPETokenizer.from_file(tmp_path / "made" / "tokenizer.json")
    assert made.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_a_large_text_is_kept_for_each_tokenizer(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "IN_MEMORY", 100)
    (tmp_path / "a.txt").write_text(TEXT)
    kept = {}
    for make in (gpt2_style, llama3_style):
        tokenizer = BPETokenizer.from_file(files(make))
        for again in (0, 1):
            found, same = data.load_data([str(tmp_path / "a.txt")], tokenizer, 8, cache_dir=tmp_path / "cache")
            assert same.to_json() == tokenizer.to_json() and ("are kept for" in capsys.readouterr().err) == (not again)
        kept[make] = np.concatenate([found.train, found.val]).tolist()
        assert kept[make] == tokenizer.encode(TEXT).tolist()
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2 and kept[gpt2_style] != kept[llama3_style]


def test_a_text_that_a_tokenizer_changes_is_learned_and_told(files, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("the cat 🚀.\n" * 50)
    tokenizer = BPETokenizer.from_file(files(unigram_style))
    found, _ = data.load_data([str(tmp_path / "a.txt")], tokenizer, 8)
    assert "note    this tokenizer changes the text: '" in (said := capsys.readouterr().err) and said.count("\n") == 1
    right = tokenizer.encode("the cat 🚀.\n" * 50, exact=False)
    assert np.concatenate([found.train, found.val]).tolist() == right.tolist()


@pytest.mark.parametrize("value, status, says", [
    ("cahr", 2, "invalid choice: 'cahr'; did you mean char.*or give the path of a file"),
    ("none.json", 1, "none.json"), ("", 1, "--tokenizer is empty"), ("./x/", 1, "x")])
def test_a_tokenizer_that_is_none(value, status, says, text_file, tmp_path, capsys):
    try:
        argv = ["train", "--data", text_file, "--tokenizer", value, "--out", str(tmp_path / "out")]
        assert main(argv) == status == 1
    except SystemExit as stop:
        assert stop.code == status == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("gpt: error: ") and re.search(says, error), error


def test_lines_need_a_token_for_their_end(files, tiny, tmp_path):
    for make in (llama2_style, llama3_style):
        with pytest.raises(ValueError, match="--lines needs a tokenizer in which a line end is always the same token"):
            train(TrainConfig(**tiny | dict(tokenizer=files(make), lines=True, block_size=60)), **QUIET)
    learned = BPETokenizer.learn(TEXT, 300)
    (tmp_path / "lines.txt").write_text("the cat\nthe dog\nthe mat\n")
    found, _ = data.load_data([str(tmp_path / "lines.txt")], learned, 60, lines=True)
    assert found.tokens[0] == learned.encode("\n")[0]
    assert token_file.tokenize(learned, lambda _: [TEXT])[0] is learned
