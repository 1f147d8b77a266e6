"""tokenizer.json files in the styles of known models: text comes back or is refused, special tokens, streams."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.data.tokenizers import decode_on, from_json, tokenizer_file
from gpt.data.tokenizers.bpe import BPETokenizer
from gpt.generation.generate import Stream
from tests.tokenizer_files import STYLES, TEXT, TEXTS, gpt2_style


@pytest.fixture(scope="module", autouse=True)
def _needs_tokenizers():
    pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def of_style(styles):
    return {name: BPETokenizer(copy.deepcopy(made)) for name, made in styles.items()}


@pytest.mark.parametrize("name", STYLES)
def test_files_are_read_as_the_library_reads_them(name, styles, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(styles[name]), encoding="utf-8")
    ours = BPETokenizer.from_file(tmp_path / "tokenizer.json")
    theirs = tokenizer_file.library().Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert ours.vocab_size == theirs.get_vocab_size() == ours.lengths.size
    for text in ["the cat sat", "the dog, by", " x  naïve\n日本"]:
        try:
            tokens = ours.encode(text)
        except ValueError as error:
            assert "changes the text" in str(error) and name in ("unigram", "wordpiece", "wordlevel")
            tokens = ours.encode(text, exact=False)
        assert tokens.tolist() == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(tokens) == theirs.decode(tokens.tolist(), skip_special_tokens=False)
    again = from_json(json.loads(json.dumps(ours.to_json())))
    assert again.to_json() == ours.to_json() and again.special == ours.special


@pytest.mark.parametrize("name, always", [("gpt2", True), ("llama3", True), ("llama2", False), ("unigram", False),
                                          ("wordpiece", False), ("wordlevel", False)])
def test_any_text_comes_back_or_is_refused(name, always, of_style):
    tokenizer = of_style[name]

    @given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("aehT \n\t▁Ġ<s>ś日.1") | st.sampled_from(TEXTS))
    def check(text):
        try:
            tokens = tokenizer.encode(text)
        except ValueError as error:
            assert not always and "\n" not in str(error)
            assert any(why in str(error) for why in ("changes the text", "only as its special", "cannot encode"))
        else:
            assert tokenizer.decode(tokens) == text and not set(tokens.tolist()) & set(tokenizer.special.values())

    check()


def test_texts_that_are_changed_are_refused(of_style):
    with pytest.raises(ValueError, match="changes the text: 'The cat' comes back as 'the cat': write it so, or"):
        of_style["wordpiece"].encode("The cat")
    tokens = of_style["wordpiece"].encode("The cat", exact=False)
    assert of_style["wordpiece"].decode(tokens) == "the cat"
    assert of_style["wordpiece"].decode(of_style["wordpiece"].encode("the cat")) == "the cat"
    for text in ("▁", "a▁b"):  # stands for a space there
        with pytest.raises(ValueError, match="changes the text"):
            of_style["llama2"].encode(text)
    for text in ("Hello 日本 🙂", " two", "  three  ", "x\ny", "\t"):
        assert of_style["llama2"].decode(of_style["llama2"].encode(text)) == text


def test_special_tokens_in_a_text_are_text_unless_asked_for(of_style):
    for name, word in (("gpt2", "<|endoftext|>"), ("llama3", "<|eot_id|>"), ("llama2", "</s>")):
        tokenizer = of_style[name]
        token, text = tokenizer.special[word], f"the{word}cat"
        assert token not in tokenizer.encode(text) and tokenizer.decode(tokenizer.encode(text)) == text
        special = tokenizer.encode(text, special=True).tolist()
        assert special.count(token) == 1 and token not in tokenizer.encode(text)  # asking leaves no trace
        assert tokenizer.decode([token]) == word
    with pytest.raises(ValueError, match="'<s>' only as its special token: leave it out of the text, or pass special"):
        of_style["unigram"].encode("the<s>cat")
    with pytest.raises(ValueError, match="special token"):
        of_style["unigram"].encode("the<s>cat", exact=False)


def test_a_template_is_added_only_when_asked_for(of_style):
    tokenizer = of_style["llama3"]
    assert tokenizer.encode("the", template=True).tolist() == [0, *tokenizer.encode("the")]
    assert tokenizer.encode("", template=True).tolist() == [0] and tokenizer.encode("").shape == (0,)


def test_padding_truncation_and_dropout_are_no_matter(styles):
    made = gpt2_style(padding={"strategy": {"Fixed": 10 ** 9}, "direction": "Right", "pad_to_multiple_of": None,
                               "pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
                      truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0})
    made["model"]["dropout"] = 0.9
    assert BPETokenizer(made).encode(TEXT).tolist() == BPETokenizer(styles["gpt2"]).encode(TEXT).tolist()


def test_added_tokens_that_are_not_special_are_part_of_the_text(styles):
    made = copy.deepcopy(styles["gpt2"])
    token = made["added_tokens"][0] | {"id": 320, "content": "the né", "special": False}
    made["added_tokens"].append(token)
    tokenizer = BPETokenizer(made)
    assert 320 in tokenizer.encode("by the née") and tokenizer.decode(tokenizer.encode("by the née")) == "by the née"
    assert tokenizer.vocab_size == 321 and tokenizer.lengths[320] == 6 and "the né" not in tokenizer.special


@pytest.mark.parametrize("name", STYLES)
def test_streams_show_what_follows_a_prompt(name, of_style):
    tokenizer = of_style[name]
    prompt, text = ("the cat", " sat on the mat") if name in ("wordpiece", "wordlevel") else \
        ("The cat", " sat on\nthe mat 日🚀 x")
    if name == "unigram":
        text = " sat on the mat"
    before, tokens = (tokenizer.encode(t, exact=False).tolist() for t in (prompt, prompt + text))
    assert tokens[:len(before)] == before
    stream = Stream(decode_on(tokenizer))
    pieces = [stream.add(t) for t in tokens[len(before):]] + [stream.rest()]
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)
    assert tokenizer.lengths[tokens[len(before):]].sum() == len(text)


def test_a_part_of_a_character_is_one_sign(of_style):
    for tokenizer in (of_style["llama2"], of_style["gpt2"]):
        tokens = tokenizer.encode("x🚀")
        assert decode_on(tokenizer)(tokens[-3:-1]).count("\ufffd") == 1
        stream = Stream(decode_on(tokenizer))
        assert [stream.add(int(t)) for t in tokens[-3:-1]] == ["", ""] and stream.rest() == "\ufffd"


def test_a_model_may_know_more_tokens(styles, tmp_path):
    for name in ("gpt2", "llama2"):
        (tmp_path / "t.json").write_text(json.dumps(styles[name]))
        tokenizer = BPETokenizer.from_file(tmp_path / "t.json", vocab_size=1000)
        assert tokenizer.vocab_size == 1000 == tokenizer.lengths.size and tokenizer.lengths[-1] == 0
        assert tokenizer.decode([999, *tokenizer.encode("cat"), 998]).strip() == "cat"
        assert from_json(tokenizer.to_json()).to_json() == tokenizer.to_json() and repr(from_json(tokenizer.to_json()))
        for size in (-1, 0, 5, 10 ** 30, "x", True, 1e3):
            with pytest.raises(ValueError, match="take the tokenizer that belongs to it"):
                BPETokenizer.from_file(tmp_path / "t.json", vocab_size=size)


def test_tokens_outside_the_vocabulary(of_style):
    for tokenizer in of_style.values():
        for tokens in ([tokenizer.vocab_size], [-1], [0, 10 ** 9]):
            with pytest.raises(ValueError, match=f"from 0 to {tokenizer.vocab_size - 1}"):
                tokenizer.decode(tokens)


@pytest.mark.parametrize("name, known", [("gpt2", False), ("gpt2", True), ("llama2", False), ("wordpiece", True)])
def test_numbers_may_have_holes(name, known, styles):
    """The numbers of a file are kept, whether the model's vocabulary has its special tokens or not; what no token has
    stands for no text."""
    made = copy.deepcopy(styles[name])
    n = len(made["model"]["vocab"])
    numbers = {"<|a|>": n + 2, "<|b|>": n + 19}
    made["added_tokens"] += [made["added_tokens"][0] | {"id": i, "content": text} for text, i in numbers.items()]
    if known:
        made["model"]["vocab"] |= numbers
    tokenizer, plain = BPETokenizer(made), BPETokenizer(copy.deepcopy(styles[name]))
    assert tokenizer.vocab_size == n + 20 == tokenizer.lengths.size and tokenizer.special == plain.special | numbers
    assert tokenizer.encode("the cat").tolist() == plain.encode("the cat").tolist()
    assert tokenizer.encode("<|b|><|a|>", special=True).tolist() == [n + 19, n + 2]
    ids = plain.encode("the cat").tolist()
    assert tokenizer.decode([n, *ids, n + 1]) == tokenizer.decode(ids) == "the cat" and not tokenizer.lengths[n]
    assert tokenizer.decode(n + 19) == "<|b|>" and from_json(tokenizer.to_json()).to_json() == tokenizer.to_json()
