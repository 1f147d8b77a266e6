"""The same GPT and its training in JAX, to compare with; it needs the extra `peers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...model.gpt import GPT, GPTConfig
from ...model.module import Array

if TYPE_CHECKING:
    from ...training.config import TrainConfig

# The choices that it implements; it would silently ignore any other.
CHOICES = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "bias", "dropout", "activation", "positions")


def check(config: GPTConfig) -> None:
    """Raise ValueError for a model that this twin does not implement."""
    plain = GPTConfig(**{name: getattr(config, name) for name in CHOICES})
    if config != plain or config.activation not in ("gelu", "relu") or config.positions == "rotary":
        raise ValueError("the twin in JAX is nanoGPT's model, and this one has made other choices: leave out jax")


class JaxTraining:
    """Training in JAX from the weights of `model`: a step is one compiled function, which donates its arguments."""

    def __init__(self, config: TrainConfig, model: GPT):
        import jax
        import jax.numpy as jnp
        check(model.config)
        self.weights = {name: jnp.array(t.data) for name, t in model.named_arrays().items()}
        self.moments = [{name: jnp.zeros_like(w) for name, w in self.weights.items()} for _ in range(2)]
        self.steps = 0

        def step(weights: Any, moments: Any, ids: Any, targets: Any, lr: Any, t: Any) -> Any:
            value, grads = jax.value_and_grad(loss)(weights, model.config, ids, targets)
            norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in grads.values()))
            scale = jnp.where(norm > config.grad_clip, config.grad_clip / (norm + 1e-6), 1.0)
            weights, moments = adamw(config, weights, moments, {name: scale * g for name, g in grads.items()}, lr, t)
            return value, weights, moments

        self._step = jax.jit(step, donate_argnums=(0, 1))

    def update(self, ids: Array, targets: Array, lr: float) -> float:
        """Take a step on a batch of integers (B, T), and return its loss."""
        self.steps += 1
        value, self.weights, self.moments = self._step(self.weights, self.moments, ids.astype(np.int32),
                                                       targets.astype(np.int32), lr, float(self.steps))
        next(iter(self.weights.values())).block_until_ready()  # the loss is ready before the weights
        return float(value)

    def numbers(self) -> dict[str, Array]:
        """Return the current parameters by name."""
        return {name: np.array(w) for name, w in self.weights.items()}


def loss(w: dict[str, Any], config: GPTConfig, ids: Any, targets: Any) -> Any:
    """Compute the mean cross-entropy of the GPT with weights `w` for integers ids and targets (B, T)."""
    import jax
    import jax.numpy as jnp

    def norm(x: Any, name: str) -> Any:
        x = x - x.mean(-1, keepdims=True)
        y = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"]
        return y + w[f"{name}.bias"] if f"{name}.bias" in w else y

    def linear(x: Any, name: str) -> Any:
        y = x @ w[f"{name}.weight"]
        return y + w[f"{name}.bias"] if f"{name}.bias" in w else y

    B, T = ids.shape
    x = w["wte.weight"][ids] + w["wpe.weight"][:T]
    for i in range(config.n_layer):
        qkv = linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").reshape(B, T, 3, config.n_head, -1)
        y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], is_causal=True)
        x = x + linear(y.reshape(B, T, -1), f"h.{i}.attn.c_proj")
        y = linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        y = jax.nn.gelu(y, approximate=False) if config.activation == "gelu" else jax.nn.relu(y)
        x = x + linear(y, f"h.{i}.mlp.c_proj")
    logits = norm(x, "ln_f") @ w["wte.weight"].T
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1).mean()


def adamw(config: TrainConfig, weights: Any, moments: Any, grads: Any, lr: Any, t: Any) -> tuple[Any, Any]:
    """Return the weights and moments after step t of AdamW, with weight decay of matrices only."""
    import jax.numpy as jnp
    m, v, new = {}, {}, {}
    for name, w in weights.items():
        g = grads[name]
        m[name] = config.beta1 * moments[0][name] + (1 - config.beta1) * g
        v[name] = config.beta2 * moments[1][name] + (1 - config.beta2) * g * g
        step = m[name] / (1 - config.beta1 ** t) / (jnp.sqrt(v[name] / (1 - config.beta2 ** t)) + 1e-8)
        new[name] = w * (1 - lr * config.weight_decay * (w.ndim >= 2)) - lr * step
    return new, [m, v]
