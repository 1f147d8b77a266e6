"""Small chats for the tests of the page: random, endless, and hostile ones."""

import numpy as np

from gpt import GPT, GPTConfig
from gpt.chat.chat import Chat
from gpt.chat.turns import TurnTokenizer
from gpt.checkpoint import Checkpoint
from gpt.data.tokenizers.char import CharTokenizer
from gpt.generation.sampling import Sampling

LETTERS = CharTokenizer("abcdefgh \n")
HOSTILE = ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "\x1b[2J", "\u202eevil\u2066",
           "\ud800", "&lt;b&gt;", "\u0300" * 50, "W" * 3000, "javascript:alert(3)", "{{data}}", "\u2028\0", " ", "\n"]


class Texts:
    """A tokenizer whose tokens stand for the given texts; it reads a letter as one of them."""

    def __init__(self, texts):
        self.texts, self.vocab_size = texts, len(texts)

    def encode(self, text):
        return np.array([ord(c) % len(self.texts) for c in text], np.int64)

    def decode(self, tokens):
        return "".join(self.texts[i] for i in np.atleast_1d(tokens))


def made(given=LETTERS, always=None, block_size=64, **settings):
    """A chat with a small model of random weights; or of one that always writes the token `always`."""
    tokenizer = TurnTokenizer(given) if settings.pop("tuned", True) else given
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=block_size, n_layer=2, n_head=2, n_embd=16,
                          tied=False, bias=True, positions="rotary", n_kv_head=1), seed=3)
    rng = np.random.default_rng(0)
    for t in model.named_arrays().values():
        if t.requires_grad:
            t.data = t.data + rng.normal(0, 0.4, t.shape).astype(np.float32)
    w, b = np.array(model.lm_head.weight.data), np.array(model.ln_f.bias.data)
    w[:, given.vocab_size:] = -2  # no answer ends soon
    w *= settings.pop("spread", 1)
    model.lm_head.weight.data, model.ln_f.bias.data = w, b + 1
    if always is not None:  # all that the head reads is ones
        model.ln_f.weight.data, model.ln_f.bias.data = np.zeros(16, np.float32), np.ones(16, np.float32)
        model.lm_head.weight.data = 9 * np.eye(tokenizer.vocab_size, dtype=np.float32)[[always] * 16]
    n, system = settings.pop("n", 12), settings.pop("system", "")
    return Chat(Checkpoint(model, tokenizer), Sampling(**{"temperature": 1.0, **settings}), n, system)
