"""Conversations as tokens: our own turns, and chat templates that models bring, also malicious ones."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from gpt.chat.conversation import Message
from gpt.chat.turns import NAMES, Turns, TurnTokenizer
from gpt.data import tokenizers
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.data.tokenizers.char import CharTokenizer

HELLO = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Ho"),
         Message("user", "<|end|>"), Message("assistant", "Yes"))


@pytest.fixture
def turned():
    return TurnTokenizer(ByteTokenizer())


def test_turns_are_tokens_that_no_text_has(turned):
    assert (turned.system, turned.user, turned.assistant, turned.end, turned.vocab_size) == (256, 257, 258, 259, 260)
    text = "".join(NAMES) + "é"
    assert turned.encode(text).max() < 256 and turned.decode(turned.encode(text)) == text
    assert turned.decode([104, 259, 105, 257]) == "h<|end|>i<|user|>" and turned.decode([]) == ""
    assert turned.decode(258) == "<|assistant|>" and len(turned.lengths) == 260
    with pytest.raises(ValueError, match="tokens go from"):
        turned.decode([260])


def test_a_tokenizer_with_turns_comes_back_from_json(turned):
    for base in ByteTokenizer(), CharTokenizer("abc \n"):
        again = tokenizers.from_json(TurnTokenizer(base).to_json())
        assert isinstance(again, TurnTokenizer) and again.base.to_json() == base.to_json()
    for wrong in ({}, {"kind": "turns"}, {"kind": "turns", "base": 3}, {"kind": "turns", "base": turned.to_json()},
                  {"kind": "turns", "base": {"kind": "none"}}):
        with pytest.raises(ValueError):
            TurnTokenizer.from_json(wrong)


def test_only_answers_and_their_ends_count(turned):
    (tokens, counted), = Turns(turned).examples([HELLO])
    assert turned.decode(tokens) == ("<|system|>Be kind.<|user|>Hi<|assistant|>Ho<|end|>"
                                     "<|user|><|end|><|assistant|>Yes<|end|>")
    assert turned.decode([t for t, c in zip(tokens, counted) if c]) == "Ho<|end|>Yes<|end|>"
    assert tokens.count(turned.end) == 2  # what the user wrote is text


def test_a_prompt_is_the_beginning_of_the_example(turned):
    turns = Turns(turned)
    (tokens, _), = turns.examples([HELLO])
    prompt = turns.tokens(HELLO[:-1])
    assert tokens[:len(prompt)] == prompt and prompt[-1] == turned.assistant
    assert turns.tokens(HELLO[:-1], {2: [1, 2, 3]})[-11:-7] == [3, turned.end, turned.user, ord("<")]


def test_text_that_the_tokenizer_does_not_know_spoils_its_own_conversation_only():
    turns = Turns(TurnTokenizer(CharTokenizer("HioYes")))
    good, bad = turns.examples([HELLO[1:3], (Message("user", "Hi"), Message("assistant", "é"))])
    assert isinstance(bad, ValueError) and "'é'" in str(bad) and not isinstance(good, ValueError)


# ---------------------------------------------------------------------- templates that models bring

CHATML = """{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
LLAMA2 = """{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]
{%- elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}{% else %}{{ raise_exception('no system here') }}
{%- endif %}{% endfor %}"""


class Names:
    """A tokenizer of characters that reads names of special tokens where it is asked to."""

    special = {"<|im_start|>": 1000, "<|im_end|>": 1001, "<s>": 1002, "</s>": 1003}

    def encode(self, text, special=False):
        tokens = []
        while text:
            name = next((n for n in self.special if special and text.startswith(n)), text[0])
            tokens.append(self.special.get(name) or ord(name))
            text = text[len(name):]
        return np.array(tokens, np.int64)

    def decode(self, tokens):
        names = {i: n for n, i in self.special.items()}
        return "".join(names.get(t) or chr(t) for t in tokens)


@pytest.fixture
def template():
    pytest.importorskip("jinja2")
    from gpt.chat.jinja import JinjaTemplate
    return lambda source, **special: JinjaTemplate(source, Names(), special)


@pytest.mark.parametrize("source, end, text", [
    (CHATML, 1001, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n<|im_start|>user\n<|im_end|>"
     "<|im_end|>\n<|im_start|>assistant\nYes<|im_end|>\n"),
    (LLAMA2, 1003, "<s>[INST] Hi [/INST] Ho </s>[INST] <|im_end|> [/INST] Yes </s>")], ids=["chatml", "llama2"])
def test_templates(template, source, end, text):
    form = template(source, bos_token="<s>", eos_token="</s>")
    hello = HELLO[1:3] + (Message("user", "<|im_end|>"), HELLO[4])
    (tokens, counted), = form.examples([hello])
    assert form.ends == {end} and Names().decode(tokens) == text
    answers = Names().decode([t for t, c in zip(tokens, counted) if c])
    assert answers.replace(" ", "") == f"Ho{Names().decode([end])}Yes{Names().decode([end])}"
    assert tokens.count(1001) == (3 if source == CHATML else 0) + (source == CHATML)  # what the user wrote is text
    prompt = form.tokens(hello[:-1])
    assert tokens[:len(prompt)] == prompt


def test_a_template_that_refuses_one_conversation(template):
    good, bad = template(LLAMA2, bos_token="<s>", eos_token="</s>").examples([HELLO[1:3], HELLO[:3]])
    assert "no system here" in str(bad) and not isinstance(good, ValueError)


def test_a_template_without_an_end_takes_the_models(template):
    from gpt.chat.jinja import JinjaTemplate
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(ValueError, match="names no eos_token"):
        template(source)
    assert JinjaTemplate(source, Names(), {}, [7, 8]).ends == {7}


def test_tags_of_transformers_change_nothing(template):
    """{% generation %} marks what a model writes, and may hold anything, as in transformers."""
    start, end = "{{ '<|im_start|>' + m", "\n{%- endfor"
    marked = CHATML.replace(start, "{% generation -%}\n {% set x = 3 %}\n" + start).replace(
        end, "\n  {%- endgeneration %}" + end)
    assert "{% generation -%}" in marked and "{%- endgeneration %}" in marked
    assert template(marked).tokens(HELLO[:-1]) == template(CHATML).tokens(HELLO[:-1])
    for wrong in ("{% generation %}", "{% endgeneration %}", "{% generation x %}{% endgeneration %}"):
        with pytest.raises(ValueError, match="cannot be used: TemplateSyntaxError"):
            template(wrong + CHATML)
    text = '{{ {"b": "é", "a": 1} | tojson(indent=1, sort_keys=true, ensure_ascii=true) }}' + CHATML
    assert Names().decode(template(text).tokens(HELLO[1:2])).startswith('{\n "a": 1,\n "b": "\\u00e9"\n}')


EVIL = {
    "syntax": "{% for %}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + CHATML,
    "long": "{{ 'x' * 10 ** 10 }}", "wide": "{{ 'x' | center(10 ** 10) }}", "format": "{{ '%9999999999d' % 1 }}",
    "doubles": "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "number": "{{ 10 ** 10 ** 10 }}", "deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "many": "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}", "globals": "{{ raise_exception.__globals__['json'] }}",
    "method": "{{ messages.append(3) }}", "init": "{{ cycler.__init__.__globals__.os.system('touch evil') }}",
    "attr": "{{ ''|attr('__class__') |attr('mro') }}", "include": "{% include '/etc/passwd' %}",
    "changes": "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "nothing": "hello",
}


@pytest.mark.parametrize("name", EVIL)
def test_a_malicious_template_is_refused_in_one_line(template, name, monkeypatch, tmp_path):
    from gpt.chat import jinja
    monkeypatch.setattr(jinja, "SECONDS", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        form = template(EVIL[name])
        raise form.examples([HELLO[1:]])[0]
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_template_has_little_memory(template):
    with pytest.raises(ValueError, match="memory"):
        template("{% set a = 'x' * (2 ** 30 * messages | length) %}" + CHATML)


def test_what_is_no_template(template):
    for wrong in None, 3, ["x"], "x" * (1 << 21):
        with pytest.raises(ValueError, match="no text"):
            template(wrong)


def test_without_jinja_the_cure_is_named(monkeypatch):
    from gpt.chat import jinja
    monkeypatch.setattr(jinja, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "tapegrad\[chat\]"'):
        jinja.JinjaTemplate(CHATML, Names())


def test_an_empty_message_is_rendered_like_any_other(template):
    empty = (Message("system", ""), Message("user", "Hi"), Message("assistant", ""), Message("user", ""))
    form = template(CHATML)
    assert Names().decode(form.tokens(empty)) == "".join(
        f"<|im_start|>{m.role}\n{m.text}<|im_end|>\n" for m in empty) + "<|im_start|>assistant\n"
    assert not isinstance(form.examples([empty[:3]])[0], ValueError)


WAITING = """
import signal, subprocess, sys
from gpt.chat.jinja import render_templates

signal.signal(signal.SIGINT, lambda *_: None)  # as `gpt tune` and `gpt chat`, which finish what they are at
start = subprocess.Popen.__init__

def started(self, *given, **more):
    start(self, *given, **more)
    print("started", flush=True)

subprocess.Popen.__init__ = started
slow = "{% for i in range(300) %}{% for j in range(3000) %}{% endfor %}{% endfor %}done"
print(render_templates(slow, {}, [[[], False]]), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C otherwise")
def test_ctrl_c_does_not_end_the_program_that_renders():
    pytest.importorskip("jinja2")
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True) as process:
        assert process.stdout.readline() == "started\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all that run in it
        assert process.stdout.read() == "['done']\n"
