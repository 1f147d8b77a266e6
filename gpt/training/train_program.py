"""`gpt train --code`: the training step of a GPT as one file that trains with NumPy alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import autograd as ag

from ..checkpoint import Checkpoint
from ..data.dataset import TextData
from ..model.gpt import GPT
from ..runtime.screen import announce
from .config import TrainConfig
from .recipes import RECIPES
from .train import load_start, prepare_data, train

LOOP = '''
# {line}
# Training: AdamW (Loshchilov & Hutter 2019) on random windows of the text, whose tokens are in the file too.

WEIGHTS = {weights}
STEPS, WARMUP, PEAK, FLOOR = {steps}, {warmup}, {peak}, {floor}  # the learning rate rises, then falls as a cosine
BETA1, BETA2, EPS, DECAY, CLIP = {beta1}, {beta2}, 1e-8, {decay}, {clip}


def batch(rng, tokens):
    """Return the tokens of random windows, and the token after each: two arrays (batch, length)."""
    starts = rng.integers(len(tokens) - {length}, size=({batch_size}, 1))
    windows = tokens[starts + np.arange({length} + 1)].astype(np.int64)
    return windows[:, :-1], windows[:, 1:]


def learning_rate(step):
    """Return the learning rate of a step, counted from 0."""
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    return FLOOR + (PEAK - FLOOR) * (1 + math.cos(math.pi * min((step - WARMUP) / max(STEPS - WARMUP, 1), 1))) / 2


def adamw(p, g, m, v, lr, t):
    """Update the weights p, and the moments m and v of their gradient g, in place: step t of AdamW, counted from 1."""
    m += (1 - BETA1) * (g - m)
    v += (1 - BETA2) * (g * g - v)
    p -= lr * (DECAY * p * (p.ndim >= 2) + m / (1 - BETA1 ** t) / (np.sqrt(v / (1 - BETA2 ** t)) + EPS))


def train(steps=STEPS, seed={seed}):
    """Train the weights for some steps; yield the loss of each, and the weights."""
    rng, tokens = np.random.default_rng(seed), NUMBERS["tokens"]
    weights = {{name: LEAVES[name].copy() for name in WEIGHTS}}
    m, v = [{{name: np.zeros_like(p) for name, p in weights.items()}} for _ in range(2)]
    for step in range(steps):
        ids, targets = batch(rng, tokens)
        loss, gradients = forward_backward(**weights, ids=ids, targets=targets)
        norm = math.sqrt(sum((g.astype(float) ** 2).sum() for g in gradients.values()))
        scale = min(1.0, CLIP / norm) if CLIP and norm else 1.0
        for name, p in weights.items():
            adamw(p, gradients[name] * np.float32(scale), m[name], v[name], learning_rate(step), step + 1)
        yield loss, weights


if __name__ == "__main__":
    for step, (loss, weights) in enumerate(train()):
        if step % 10 == 0 or step == STEPS - 1:
            print(f"step {{step}}, loss {{loss:.4f}}")
    np.savez(FILE.with_name(FILE.stem + "_trained.npz"), **weights)
'''


def train_or_write(config: TrainConfig, say: Callable[[str], None] = announce) -> Checkpoint | None:
    """Train a GPT, or with `config.code` write a program that does: the command `gpt train`."""
    if config.code is None:
        return train(config, say)
    write_program(config, say)
    return None


def write_program(config: TrainConfig, say: Callable[[str], None]) -> None:
    """Write the file `config.code`, and the weights and tokens beside it.  Raises ValueError for data without windows
    of text, and for a path that is no Python file's."""
    path = Path(config.code or "")
    if path.suffix != ".py":
        raise ValueError(f"--code is {config.code}, and the program needs the name of a Python file: --code train.py")
    start, _ = load_start(config, say)
    data, tokenizer = prepare_data(config, start.tokenizer if start else None)
    if not isinstance(data, TextData):
        raise ValueError("--code writes a program that trains on windows of a text: leave out --task and --lines")
    model = start.model if start else GPT(config.model_config(tokenizer.vocab_size), seed=config.seed)
    ids, targets = data.train_batch(np.random.default_rng(config.seed), config.batch_size)
    loss = model.loss(ag.tensor(ids, name="ids"), ag.tensor(targets, name="targets"))
    code = ag.tape(loss).code()
    own = config.optimizer == "adamw"
    rates = {name: getattr(config, name) if own else RECIPES["nanogpt"][name]
             for name in ("learning_rate", "min_lr", "warmup_iters", "weight_decay", "grad_clip")}
    weights = [t.name for t in code.gradients]
    head = code.source.rpartition('if __name__ == "__main__":')[0].rstrip() + "\n\n"
    text = head + LOOP.format(
        line="-" * 70, weights=_in_rows(weights), steps=config.max_iters, warmup=rates["warmup_iters"],
        peak=rates["learning_rate"], floor=rates["min_lr"], beta1=config.beta1, beta2=config.beta2,
        decay=rates["weight_decay"], clip=rates["grad_clip"], length=ids.shape[1], batch_size=config.batch_size,
        seed=config.seed)
    if "import math\n" not in text:
        text = text.replace("import numpy as np\n", "import math\n\nimport numpy as np\n", 1)
    path.write_text(text, encoding="utf-8")
    np.savez(path.with_suffix(".npz"), tokens=np.asarray(data.train), **code.numbers)
    say(f"wrote   {path}, {len(text.splitlines())} lines that train with NumPy alone, and {path.with_suffix('.npz')} "
        f"with the weights and the text; python {path}")
    if not own:
        say(f"note    it trains with AdamW at nanoGPT's learning rate, and not with {config.optimizer}")


def _in_rows(names: list[str]) -> str:
    """Return a list of names as source, some in a row."""
    rows, row = [], ""
    for name in names:
        if len(row) + len(name) > 104:
            rows.append(row)
            row = ""
        row += f'"{name}", '
    return "[" + "\n           ".join([*(r.rstrip() for r in rows), row.rstrip(", ")]) + "]"
