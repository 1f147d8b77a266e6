"""The content of a checkpoint, in words and as JSON."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

import gpt
from autograd.core.describe import format_bytes
from gpt import GPT, GPTConfig, checkpoint
from gpt.cli import main
from gpt.runtime.safetensors_file import Stored
from gpt.tuning import lora
from gpt.view.info import describe, shown


@pytest.fixture
def saved(tmp_path, config, tokenizer):
    model = GPT(config)
    about = {"train": {"out": "x", "n_layer": 2, "max_iters": 20_000, "learning_rate": 1e-3, "data": ["a.txt", "b"],
                       "patience": None, "resume": ""},
             "iter": 150, "val_loss": 1.5, "environment": {"numpy": "2.1.0", "python": "3.12.1"}}
    return gpt.save(tmp_path, model, tokenizer, about), model


def fails(argv, capsys):
    assert main(argv) == 1
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("gpt: error: ") and not captured.out, lines
    return lines[0]


def test_what_it_says(saved, capsys, tmp_path):
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    file, model = saved
    text = " ".join(out.split())
    for words in (f"{file}: {format_bytes(os.path.getsize(file))}",
                  "model block_size 8, n_layer 2, n_head 2, n_embd 12, vocab_size 11 tokenizer",
                  r"char, 11 tokens: '\n .acdehost'", f"{model.n_parameters:,} in float32",
                  "training out x, max_iters 20000, learning_rate 0.001, data a.txt b", "iter 150",
                  "val loss 1.5000 nats per token (perplexity 4.482)", "environment numpy 2.1.0, python 3.12.1",
                  "weights only", "token embedding, and the head 11 x 12", "c_attn 12 x 36, c_proj 12 x 12"):
        assert words in text, words
    assert "patience" not in text and "resume" not in text
    assert "n_layer 2" not in text.split("max_iters")[1]  # of the model, and said there
    assert max(map(len, out.splitlines())) <= max(100, len(str(file)) + 60)


def test_as_json(saved, capsys):
    file, model = saved
    assert main(["info", str(file), "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known == describe(file)
    assert known["bytes"] == os.path.getsize(file) and known["config"]["n_embd"] == 12
    assert known["about"]["iter"] == 150 and known["training_state"] == {"numbers": 0}


def test_parts_add_up_to_the_parameters(saved):
    parts = describe(saved[0])["parts"]
    assert [p["name"] for p in parts] == ["wte", "wpe", "h.*.ln_1", "h.*.attn", "h.*.ln_2", "h.*.mlp", "ln_f"]
    assert sum(p["numbers"] for p in parts) == saved[1].n_parameters
    attention = parts[3]
    assert attention["numbers"] == 2 * (12 * 36 + 12 * 12)  # of both blocks
    assert attention["shapes"] == {"c_attn.weight": [12, 36], "c_proj.weight": [12, 12]}


def test_blocks_in_their_order(tmp_path, tokenizer):
    config = GPTConfig(vocab_size=11, block_size=4, n_layer=12, n_head=1, n_embd=4, bias=True)
    model = GPT(config, dtype=np.float64)
    parts = describe(gpt.save(tmp_path, model, tokenizer))["parts"]
    assert len(parts) == 7 and {d for p in parts for d in p["dtypes"]} == {"float64"}
    assert sum(p["numbers"] for p in parts) == model.n_parameters


def test_what_is_not_learned_is_no_parameter(tmp_path, tokenizer, capsys):
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=12, positions="sinusoidal"))
    gpt.save(tmp_path, model, tokenizer)
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{model.n_parameters:,} in float32" in out and "position table, not learned" in out


def test_what_training_goes_on_from_is_counted_apart(tmp_path, config, tokenizer, capsys):
    about = {"state": {"iter": 3, "best": 1.25, "seconds": 12.5, "batches": {"state": 2**100}}, "saved": True}
    gpt.save(tmp_path, model := GPT(config), tokenizer, about, {"m": np.zeros(50), "v": np.zeros((5, 10))})
    assert main(["info", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "what training goes on from (100 numbers)" in out and f"{model.n_parameters:,} in float32" in out
    assert "best val loss 1.2500 nats per token" in out and "seconds 12.5" in out
    assert str(2**100) not in out and "saved yes" not in out


def test_no_array_is_loaded(saved, monkeypatch):
    monkeypatch.setattr(Stored, "map", None)
    assert describe(saved[0])["about"]["iter"] == 150


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 1000, -1])
def test_a_file_that_was_cut_off(saved, capsys, kept):
    whole = saved[0].read_bytes()
    saved[0].write_bytes(whole[:kept])
    error = fails(["info", str(saved[0])], capsys)
    assert "is no safetensors file, or damaged" in error and str(saved[0]) in error


def metadata(**changes):
    good = {"format": checkpoint.FORMATS[0], "config": "{}", "tokenizer": "{}", "about": "{}"}
    return {k: v for k, v in (good | changes).items() if v is not None}


@pytest.mark.parametrize(("given", "message"), [
    (None, "not one that gpt train wrote"), ({"format": "pt"}, "not one that gpt train wrote"),
    (metadata(format="tapegrad gpt 99"), "update tapegrad"),
    (metadata(config="{"), "cannot read"), (metadata(config="[]"), "is no JSON object"),
    (metadata(about=None), "cannot read: 'about'"), (metadata(tokenizer="[" * 100_000), "cannot read")])
def test_a_file_that_holds_something_else(tmp_path, capsys, given, message):
    file = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(3)}, file, given)
    assert message in fails(["info", str(tmp_path)], capsys)


def test_what_is_odd_is_shown_and_does_no_harm(tmp_path, capsys):
    save_file({"h.x": np.zeros(3), "other.\x1b[2J": np.zeros((), np.float16), "empty": np.zeros((0, 2))},
              tmp_path / "model.safetensors",
              metadata(about=json.dumps({"train": 3, "val_loss": 1e9, "note\x1b": "\x1b[31m", "none": None})))
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and r"other.\x1b[2J"[:5] in out and "val loss" in out and r"\x1b[31m" in out


@pytest.mark.parametrize("piece", ["²", "٣", "9" * 5000, "", "-1", "1.", "①"])
def test_a_number_that_is_none_in_the_name_of_an_array(tmp_path, capsys, piece):
    save_file({f"h.{piece}": np.zeros(3), "h.0.x": np.zeros(3)}, tmp_path / "model.safetensors", metadata())
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "h.*.x " in out and piece.partition(".")[0][:60] in out


@pytest.mark.parametrize(("name", "message"), [
    ("nowhere", "there is no checkpoint here"), ("metrics.jsonl", "is no checkpoint: give the folder"),
    ("folder.safetensors", "there is no checkpoint here")])
def test_where_there_is_none(tmp_path, capsys, name, message):
    (tmp_path / "metrics.jsonl").write_text("{}")
    (tmp_path / "folder.safetensors").mkdir()
    assert message in fails(["info", str(tmp_path / name)], capsys)


def test_what_train_leaves(run, capsys):
    assert main(["info", run[1]]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("batch_size 8", "max_iters 30", "iter 30", "val loss", "best val loss", "and what training goes on"):
        assert words in out, words


@pytest.mark.parametrize(("value", "text"), [
    (None, "none"), (True, "yes"), (0, "0"), (1, "1"), (0.1, "0.1"), ("", "none"), ([], "none"), (["a", 1], "a 1"),
    ("\x1b[0m", r"\x1b[0m"), ({"a": 1}, '{"a": 1}')])
def test_values_in_a_line(value, text):
    assert shown(value) == text


def test_of_lora_its_own_numbers_and_its_base(model, tokenizer, tmp_path, capsys):
    base = gpt.save(tmp_path / "base.safetensors", model, tokenizer)
    adapted = lora.add_lora(model, 2, 4.0)
    lora.save_lora(tmp_path, adapted, tokenizer, {"iter": 3}, base)
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    text = " ".join(out.split())
    assert str(tmp_path / lora.FILE) in "".join(out.split()) and "lora rank 2, alpha 4, base base.safetensors" in text
    assert "c_attn.A 12 x 2, c_attn.B 2 x 36" in text
