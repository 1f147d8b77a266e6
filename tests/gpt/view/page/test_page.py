"""The page of a model: what is in its file, how large that is, and what is refused; the browser is the other file's."""

import base64
import json
import re
import zlib
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest

import gpt
from gpt import CharTokenizer, GPTConfig
from gpt.chat.turns import TurnTokenizer
from gpt.checkpoint import Checkpoint
from gpt.cli import main
from gpt.data import tokenizers
from gpt.data.tokenizers.bpe import BPETokenizer
from gpt.model.module import raw
from gpt.runtime.settings import setting
from gpt.tuning import lora
from gpt.tuning.grow import extend_vocab_and_context
from gpt.view.page import page as page_module
from gpt.view.page.page import check_choices, describe_tokenizer, pack_weights, page_data, round_weights
from tests.gpt.view.page.models import SIGNS, saved, varied, written
from tests.tokenizer_files import STYLES


def unpack(data):
    """The weights of a page's data by name, as the page unpacks them."""
    firsts, seconds = np.frombuffer(zlib.decompress(base64.b64decode(data["weights"])), np.uint8).reshape(2, -1)
    numbers, arrays = np.stack([firsts, seconds], -1).view(">f2").reshape(-1).astype(np.float64), {}
    for name, shape in data["arrays"].items():
        arrays[name], numbers = numbers[:np.prod(shape)].reshape(shape), numbers[np.prod(shape):]
    assert not len(numbers)
    return arrays


# ---------------------------------------------------------------------- the file


def test_the_file_holds_the_rounded_weights_and_logits_of_numpy(config, tokenizer, tmp_path, capsys):
    model = varied(config)
    text, data = written(tmp_path, model, tokenizer, "--prompt", "the c")
    arrays = unpack(data)
    assert arrays.keys() == model.named_arrays().keys()
    for name, t in model.named_arrays().items():
        np.testing.assert_array_equal(arrays[name].reshape(t.shape), t.data.astype(np.float16))
        t.data = t.data.astype(np.float16).astype(np.float32)
    ids = np.array(data["check"]["ids"])
    assert len(ids) == 8 and tokenizer.encode(data["check"]["text"])[-8:].tolist() == ids.tolist()
    np.testing.assert_allclose(data["check"]["logits"], model.map(raw)(ids[None])[0, -1], atol=2e-5)
    assert data["text"] == "the c" and data["config"]["n_layer"] == 2
    assert re.search(r"changes logits by 0\.0\d+ at most: the likeliest token stays the same at \d of 8 places",
                     capsys.readouterr().out)


def test_frequencies_of_rope_are_not_rounded(config):
    model = varied(replace(config, positions="rotary", n_embd=32))
    data = page_data(Checkpoint(model, CharTokenizer("the cats do.\n")), "", "name")
    assert data["frequencies"] == raw(model.frequencies).tolist() != np.float16(raw(model.frequencies)).tolist()
    assert "frequencies" not in data["arrays"]


def test_the_default_model_takes_less_than_a_megabyte(config, tokenizer, tmp_path):
    text, data = written(tmp_path, varied(config), tokenizer)
    model = varied(gpt.TrainConfig.from_recipe().model_config(103))
    packed = pack_weights({name: raw(t) for name, t in model.named_arrays().items()})[1]
    assert model.n_parameters > 240_000 and 550_000 < len(text) - len(data["weights"]) + len(packed) < 1_000_000


def test_signs_of_a_vocabulary_are_no_markup(config, tmp_path):
    tokenizer = CharTokenizer(SIGNS)
    text, data = written(tmp_path, varied(replace(config, vocab_size=tokenizer.vocab_size)), tokenizer)
    assert data["tokenizer"]["tokens"] == list(tokenizer.characters) and data["name"] == "<i>run"
    assert text.count("</script>") == 2 and text.count("<!--") == 2 and "<i>" not in text and text.isascii() is False
    assert "default-src 'none'" in text and not re.search("https?://", text)


@pytest.mark.parametrize("kind", tokenizers.learned_kinds())
def test_each_tokenizer_of_gpt_train_is_described(kind):
    if kind == "bpe":
        pytest.importorskip("tokenizers")
    tokenizer = tokenizers.learn(kind, "the cat sat on the mat. " * 20, 300)
    described = describe_tokenizer(tokenizer.to_json())
    assert described["kind"] == kind and described["special"] == []
    assert len(described.get("tokens", range(256))) == tokenizer.vocab_size
    turns = describe_tokenizer(TurnTokenizer(tokenizer).to_json())["special"]
    assert [i for _, i in turns] == [*range(tokenizer.vocab_size, tokenizer.vocab_size + 4)]


def test_a_foreign_tokenizer_is_refused():
    pytest.importorskip("tokenizers")
    taken = set()
    for name, make_it in STYLES.items():
        try:
            describe_tokenizer(BPETokenizer(make_it()).to_json())
            taken.add(name)
        except ValueError as error:
            assert "gpt page knows tokens of characters, bytes and words" in str(error)
    assert taken == {"gpt2"}


def test_an_architecture_that_the_page_does_not_compute_is_refused(config):
    @dataclass(kw_only=True)
    class Newer(GPTConfig):
        window: int = setting(0, "a choice that came later")

    check_choices(Newer(**asdict(config)))
    with pytest.raises(ValueError, match="gpt page does not compute --window 3, which this model has"):
        check_choices(Newer(**asdict(config), window=3))
    config.activation = "mish"
    with pytest.raises(ValueError, match="--activation mish"):
        check_choices(config)


def test_bad_input_is_said_in_a_line(config, tokenizer, tmp_path, capsys, monkeypatch):
    def error(*argv):
        assert main(["page", *map(str, argv)]) == 1
        return capsys.readouterr().err

    folder, out = saved(tmp_path / "run", varied(config), tokenizer).parent, tmp_path / "page.html"
    assert "there are no weights here" in error(tmp_path / "none", "--out", out)
    assert "cannot be written" in error(folder, "--out", tmp_path / "none" / "page.html")
    assert "'x' (U+0078)" in error(folder, "--out", out, "--prompt", "x")
    out.write_text("mine")
    assert "gpt page has not written it" in error(folder, "--out", out) and out.read_text() == "mine"
    assert main(["page", str(folder), "--out", str(out), "--overwrite"]) == 0
    assert main(["page", str(folder), "--out", str(out)]) == 0  # its own
    monkeypatch.setattr(page_module, "LARGEST", 1000)
    assert "has 3,684 weights: its page would have 7.4 kB" in error(folder, "--out", tmp_path / "large.html")
    model = varied(config)
    model.ln_f.weight.data = np.full(12, 7e4, np.float32)
    with pytest.raises(ValueError, match="ln_f.weight has a weight that is not finite, or beyond 65,504"):
        round_weights(model)


def test_the_page_of_a_lora_has_the_merged_weights(tmp_path, tokenizer):
    config = GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=8)
    source = saved(tmp_path / "base", varied(config), tokenizer)
    model = lora.add_lora(extend_vocab_and_context(gpt.load(source).model, 4), rank=2, alpha=4.0, n_new=4)
    for t in model.named_arrays().values():
        t.data = raw(t) + np.float32(0.125)
    (tmp_path / "lora").mkdir()
    lora.save_lora(tmp_path / "lora", model, TurnTokenizer(tokenizer), {}, source)
    assert main(["page", str(tmp_path / "lora"), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    merged = gpt.load(tmp_path / "lora").model.named_arrays()
    arrays = unpack(json.loads(re.search('id="data">(.*?)</script>', text, re.DOTALL)[1]))
    assert {name: a.size for name, a in arrays.items()} == {name: t.size for name, t in merged.items()}
    np.testing.assert_array_equal(arrays["wte.weight"], raw(merged["wte.weight"]).astype(np.float16))
