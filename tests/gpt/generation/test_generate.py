"""Writing text: seeds, lengths, what is shown when, strings to stop at, several texts at a time, and the command."""

import io
import sys

import numpy as np
import pytest

from gpt import GPT, CharTokenizer, Checkpoint, GPTConfig, continue_text, generate, save
from gpt.cli import main
from gpt.generation.generate import BATCH, GenerationBatch, Stream, continue_texts, print_order, writes_lines
from gpt.generation.sampling import Sampling


@pytest.fixture
def small(tokenizer):
    """A run whose model varies: its logits are far apart, and depend on the whole context."""
    model, rng = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=1, n_embd=8)), np.random.default_rng(0)
    for t in model.named_arrays().values():
        t.data = t.data + rng.normal(0, 0.4, t.shape)
    return Checkpoint(model, tokenizer)


class Bytes:
    """A tokenizer of UTF-8's bytes, which a character may need several of."""
    vocab_size = 256

    def encode(self, text):
        return np.frombuffer(text.encode(), np.uint8).astype(int)

    def decode(self, tokens):
        return bytes(tokens).decode("utf-8", "replace")


# ---------------------------------------------------------------------- tokens


@pytest.mark.parametrize("settings", [dict(temperature=0), dict(greedy=True), dict(top_k=1), dict(temperature=1e-300),
                                      dict(top_p=1e-9), dict(min_p=1.0)])
def test_greedy_takes_the_likeliest_of_the_models_tokens(small, settings):
    seen, model = [3, 1], small.model.map(lambda t: t.data)
    tokens = list(generate(small.model, np.array(seen), 6, np.random.default_rng(0), **settings))
    for token in tokens:
        assert token == model(np.array([seen]))[0, -1].argmax()
        seen.append(token)
    assert len(set(tokens)) > 1


def test_repetition_counts_what_was_written_and_all_of_the_prompt_also_what_the_model_does_not_see(small):
    model, rng, changed = small.model.map(lambda t: t.data), np.random.default_rng(1), 0
    for length in (2, 12) * 10:
        text = rng.integers(11, size=length).tolist()
        for token in generate(model, text, 6 if length == 2 else 1, rng, greedy=True, repetition_penalty=1.8):
            x = model(np.array([text[-8:]]))[0, -1].tolist()
            less_likely = [(v / 1.8 if v > 0 else v * 1.8) if i in text else v for i, v in enumerate(x)]
            assert token == np.argmax(less_likely)
            changed += token != np.argmax(x)
            text.append(token)
    assert changed > 10


def test_a_model_on_raw_arrays_generates_the_same(model):
    both = [list(generate(m, np.array([1]), 20, np.random.default_rng(0)))
            for m in (model, model.map(lambda t: t.data))]
    assert both[0] == both[1]


@pytest.mark.parametrize("ids, n, settings, error, message", [
    ([], 1, {}, ValueError, "one or more integers"), ([[1]], 1, {}, ValueError, r"one or more integers.*int64\[1, 1\]"),
    ([1.0], 1, {}, ValueError, "float64"), ([11], 1, {}, ValueError, "from 11 to 11, and the model knows.* to 10"),
    ([-1, 2], 1, {}, ValueError, "tokens from -1 to 2"), ([1], -1, {}, ValueError, "n is -1"),
    ([1], 1, {"top_k": -1}, ValueError, "top_k is -1"), ([1], 1, {"heat": 2}, TypeError, "heat")])
def test_arguments_that_make_no_sense_raise_at_the_call(model, ids, n, settings, error, message):
    with pytest.raises(error, match=message):
        generate(model, ids, n, np.random.default_rng(0), **settings)


def test_a_batch_needs_a_generator_for_each_prompt(model):
    for prompts, n in (([[1], [2]], 1), ([], 0)):
        with pytest.raises(ValueError, match="each text needs one of both"):
            GenerationBatch(model, prompts, [np.random.default_rng(0)] * n, Sampling())


def test_damaged_weights_say_so(model):
    broken = model.map(lambda t: np.full(t.shape, np.nan))
    with pytest.raises(ValueError, match="weights are damaged"):
        list(generate(broken, np.array([1]), 1, np.random.default_rng(0)))


# ---------------------------------------------------------------------- text


def test_text_is_seeded_and_of_the_length_asked_for(small):
    one, again, other = ("".join(continue_text(small, "the", 50, seed=s)) for s in (1, 1, 2))
    assert len(one) == 50 and one == again != other and set(one) <= set(small.tokenizer.characters)
    assert "".join(continue_text(small, "the", 0)) == ""


def test_no_prompt_starts_a_line(small):
    assert "".join(continue_text(small, "", 20, seed=1)) == "".join(continue_text(small, "\n", 20, seed=1))
    other = Checkpoint(GPT(GPTConfig(vocab_size=2)), CharTokenizer("ab"))  # knows no newline
    assert len("".join(continue_text(other, "", 5))) == 5


@pytest.mark.parametrize("prompt, n, settings, error, message", [
    ("the Ω", 5, {}, ValueError, r"'Ω' \(U\+03A9\)"), ("the", -2, {}, ValueError, "n is -2"),
    ("the", 5, {"stop": "t"}, TypeError, "stop is 't', and needs to be a sequence"),
    ("the", 5, {"stop": ["t", ""]}, ValueError, "stop has an empty text"),
    ("the", 5, {"top_p": 3.0}, ValueError, "top_p is 3.0")])
def test_text_that_cannot_be_written_raises_at_the_call(small, prompt, n, settings, error, message):
    with pytest.raises(error, match=message):
        continue_text(small, prompt, n, **settings)


def test_characters_of_several_bytes_are_shown_whole():
    text = "naïve: 5 € for 😀 and \ufffd; 漢字\u0301"
    stream = Stream(Bytes().decode)
    pieces = [stream.add(int(token)) for token in Bytes().encode(text)]
    assert "".join(pieces) + stream.rest() == text
    assert [p for p in pieces if "\ufffd" in p] == ["\ufffd;"]  # a real one has to wait until it is known to be one


def test_bytes_that_are_no_text_are_shown_as_decode_shows_them():
    rng = np.random.default_rng(0)
    for _ in range(300):
        tokens = rng.choice([0x41, 0x80, 0xBF, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0xFF], size=12).tolist()
        stream, shown = Stream(Bytes().decode), ""
        for i, token in enumerate(tokens):
            shown += stream.add(token)
            assert Bytes().decode(tokens[:i + 1]).startswith(shown)
            assert len(Bytes().decode(tokens[:i + 1])) - len(shown) <= 1  # and never later than it has to be
        assert shown + stream.rest() == Bytes().decode(tokens)


def first_stop(text, stops):
    """The text before the string of `stops` that is complete first (the longest of those that end there)."""
    for end in range(1, len(text) + 1):
        if ending := [s for s in stops if text[:end].endswith(s)]:
            return text[:end - max(map(len, ending))], True
    return text, False


def test_a_string_to_stop_at_is_never_shown_in_part():
    rng, stopped = np.random.default_rng(1), 0
    for _ in range(1500):
        text = "".join(rng.choice(list("abc"), size=14))
        stops = ["".join(rng.choice(list("abc"), size=rng.integers(1, 6))) for _ in range(rng.integers(1, 4))]
        words = [text[i:j] for i, j in zip([0, 3, 4, 9], [3, 4, 9, 14])] if rng.random() < 0.5 else list(text)
        expected, ends = first_stop(text, stops)
        stream, shown = Stream(lambda tokens, words=words: "".join(words[t] for t in tokens), stops), ""
        for token in range(len(words)):
            shown += stream.add(token)
            read = "".join(words[:token + 1])
            hidden = [k for s in stops for k in range(1, len(s)) if read.endswith(s[:k])]
            assert expected.startswith(shown) and (stream.ended or len(read) - len(shown) == max(hidden, default=0))
            if stream.ended:
                break
        assert (shown if stream.ended else shown + stream.rest(), stream.ended) == (expected, ends)
        stopped += ends
    assert 200 < stopped < 1400


def test_a_string_to_stop_at_may_begin_within_a_character_that_is_not_whole():
    stream = Stream(Bytes().decode, ["é!"])
    assert [stream.add(int(t)) for t in "aé!".encode()] == ["a", "", "", ""] and stream.ended and stream.rest() == ""
    stream = Stream(Bytes().decode, ["é!"])
    assert [stream.add(int(t)) for t in "aé".encode()] == ["a", "", ""] and stream.rest() == "é"


def test_text_ends_at_a_token_that_ends_one(small):
    """Also where a string to stop at has begun, of which nothing is kept back."""
    free = "".join(continue_text(small, "a", 60))
    ids = small.tokenizer.encode(free).tolist()
    for n in (1, 20):
        small.metadata["pretrained"] = {"eos_token_id": [10 ** 9, "x", None, True, ids[n]]}
        text = free[:ids.index(ids[n])]
        assert small.ends == [ids[n]] and "".join(continue_text(small, "a", 60)) == text
        assert "".join(continue_text(small, "a", 60, stop=[text[-2:] + "???"])) == text
    small.metadata["pretrained"] = {"eos_token_id": ids[20]}
    assert small.ends == [ids[20]]


def test_text_ends_where_it_stops(small):
    full = "".join(continue_text(small, "the", 60, seed=3))
    stop = full[20:22]
    assert "".join(continue_text(small, "the", 60, seed=3, stop=[stop])) == full[:full.index(stop)]
    assert "".join(continue_text(small, "the", 60, seed=3, stop=["absent"])) == full


def collected(pieces):
    texts, ended = {}, []
    for i, piece in pieces:
        assert i not in ended
        if piece is None:
            ended.append(i)
        else:
            texts[i] = texts.get(i, "") + piece
    return texts, ended


@pytest.mark.parametrize("stop", [(), ("e",), ("th", "s ")])
def test_texts_at_a_time_are_those_one_by_one(small, stop):
    prompts = ["the", "cats do the cats", "", "s", "do"]
    texts, ended = collected(continue_texts(small, prompts, 30, [[1, i] for i in range(5)], stop=stop))
    alone = ["".join(continue_text(small, p, 30, [1, i], stop=stop)) for i, p in enumerate(prompts)]
    assert [texts.get(i, "") for i in range(5)] == alone and sorted(ended) == list(range(5))
    assert len(set(alone)) > 3


def test_nothing_is_computed_for_a_text_that_has_ended(small, monkeypatch):
    rows, keep = [], GenerationBatch.keep
    monkeypatch.setattr(GenerationBatch, "keep", lambda self, going: rows.append(len(going)) or keep(self, going))
    steps, draw = [], GenerationBatch.__next__
    monkeypatch.setattr(GenerationBatch, "__next__", lambda self: steps.append(len(self.rngs)) or draw(self))
    collected(continue_texts(small, ["the"] * 6, 300, range(6), stop=["e"]))
    assert len(steps) < 300 and steps == sorted(steps, reverse=True) and set(rows) == set(steps) - {6} and len(rows) > 2


# ---------------------------------------------------------------------- the command


def test_texts_are_printed_one_after_the_other_the_first_as_it_is_written():
    pieces = [(0, "a"), (1, "x"), (2, "p"), (2, None), (0, "b"), (0, None), (1, "y"), (1, None)]
    shown = print_order(iter(pieces), iter(["0:", "1:", "2:"]))
    assert list(shown) == ["0:", "a", "b", "\n", "1:x", "y", "\n", "2:p", "\n"]


@pytest.fixture
def saved(small, tmp_path):
    save(tmp_path, small.model, small.tokenizer)
    return str(tmp_path)


def printed(capsys, *argv):
    assert main(["sample", *argv]) == 0
    return capsys.readouterr().out


def test_samples_differ_and_each_is_the_same_however_many_there_are(saved, capsys):
    argv = (saved, "--prompt", "the", "--max-new-tokens", "12", "--seed", "4")
    many = printed(capsys, *argv, "--num-samples", str(BATCH + 3)).removesuffix("\n").split("\n" + "-" * 40 + "\n")
    assert len(many) == BATCH + 3 and len(set(many)) > BATCH and {len(text) for text in many} == {15}
    few = printed(capsys, *argv, "--num-samples", "2").removesuffix("\n").split("\n" + "-" * 40 + "\n")
    assert few == many[:2]
    assert printed(capsys, *argv) == many[0] + "\n"


def test_every_setting_reaches_the_draw(saved, small, capsys):
    base = (saved, "--prompt", "the", "--max-new-tokens", "40")
    plain = printed(capsys, *base)
    for settings in (["--temperature", "3"], ["--top-k", "2"], ["--top-p", "0.2"], ["--min-p", "0.9"], ["--greedy"],
                     ["--repetition-penalty", "5"], ["--stop", plain[10:12]], ["--seed", "2"]):
        assert printed(capsys, *base, *settings) != plain, settings
    assert printed(capsys, *base) == plain == "the" + "".join(continue_text(small, "the", 40, temperature=0.8)) + "\n"


@pytest.mark.parametrize("settings", [{"lines": True}, {"task": "addition"}])
def test_a_model_of_lines_writes_one_a_text(small, tmp_path, capsys, settings):
    argv = (str(tmp_path), "--prompt", "the", "--num-samples", "3", "--max-new-tokens", "200")
    save(tmp_path, small.model, small.tokenizer, {"train": {"lines": False, "task": "text"}})
    whole = printed(capsys, *argv).removesuffix("\n").split("\n" + "-" * 40 + "\n")
    assert all("\n" in text for text in whole)
    save(tmp_path, small.model, small.tokenizer, {"train": settings})
    assert printed(capsys, *argv) == "".join(text[:text.index("\n")] + "\n" for text in whole)
    stopped = printed(capsys, *argv, "--stop", "s").removesuffix("\n")  # at this instead
    assert stopped == "\n".join((text + "s")[:text.find("s")] for text in whole)


def test_what_stands_for_a_value_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--prompt TEXT" in shown and "--stop TEXT [TEXT ...]" in shown and "--top-p X" in shown
    assert "none: the end of the line, for a model trained with --lines or on a task" in shown


@pytest.mark.parametrize("about", [{}, {"train": None}, {"train": []}, {"train": {"lines": 1, "task": 3}}, []])
def test_a_run_that_says_nothing_of_lines(small, about):
    assert not writes_lines(Checkpoint(small.model, small.tokenizer, about))


def test_several_strings_to_stop_at(saved, capsys):
    full = printed(capsys, saved, "--prompt", "the", "--max-new-tokens", "60")[3:-1]
    stops = [full[30:33], full[12:14]]
    expected, ended = first_stop(full, stops)
    assert ended and printed(capsys, saved, "--prompt", "the", "--max-new-tokens", "60", "--stop", *stops) == \
        f"the{expected}\n"


@pytest.mark.parametrize("given, prompt", [("the cats\n", "the cats"), ("the\r\ncats", "the\ncats"), ("\n\n", "\n"),
                                           ("\ufeffthe", "the"), ("", "")])
def test_a_prompt_from_standard_input(saved, capsys, monkeypatch, given, prompt):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert printed(capsys, saved, "--prompt", "-") == printed(capsys, saved, "--prompt", prompt)


def test_standard_input_that_is_no_text(saved, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the \xff")))
    assert main(["sample", saved, "--prompt", "-"]) == 1
    assert "standard input is not UTF-8 text (byte 0xff at 4)" in capsys.readouterr().err
