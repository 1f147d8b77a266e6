"""The same GPT in PyTorch's own functions, to check against and to compare with; it needs the extra `peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...model.gpt import GPT, GPTConfig
from ...model.module import Array

if TYPE_CHECKING:
    from ...training.config import TrainConfig


def to_torch(model: GPT, torch: Any) -> dict[str, Any]:
    """Return the model's arrays as PyTorch tensors, by name."""
    return {name: torch.tensor(t.data.copy(), requires_grad=t.requires_grad)
            for name, t in model.named_arrays().items()}


def loss(w: dict[str, Any], config: GPTConfig, ids: Any, targets: Any, torch: Any) -> Any:
    """Compute the mean cross-entropy of the GPT with weights `w` for integers ids and targets (B, T)."""
    return torch.nn.functional.cross_entropy(logits(w, config, ids, torch).flatten(0, 1), targets.flatten())


def logits(w: dict[str, Any], config: GPTConfig, ids: Any, torch: Any, cache: Any = None, start: int = 0) -> Any:
    """Compute the logits (B, T, V) of the GPT with weights `w` for integers ids (B, T) at positions from `start`.

    cache: from `make_cache`, with the state after the tokens before `start`, and updated with `ids`; then ids are one
    token, or start at 0.
    """
    return Forward(w, config, torch, ids.shape[1], cache, start)(ids)


class Forward:
    """A forward pass of the GPT with weights `w` over T tokens at positions from `start`."""

    def __init__(self, w: dict[str, Any], config: GPTConfig, torch: Any, T: int, cache: Any, start: int):
        self.w, self.config, self.torch, self.F = w, config, torch, torch.nn.functional
        self.T, self.cache, self.start = T, cache, start
        self.n_kv_head = config.n_kv_head or config.n_head
        self.activation = activations(self.F)[config.activation]

    def __call__(self, ids: Any) -> Any:                       # (B, T) -> (B, T, V)
        c, w = self.config, self.w
        x = self.F.embedding(ids, w["wte.weight"])
        if "wpe.weight" in w:
            x = x + w["wpe.weight"][self.start:self.start + self.T]
        x = self.convolution(x, "smear")
        if c.norm_embedding:
            x = self.norm(x, "norm")
        for i in range(c.n_layer):
            scalars = w.get(f"h.{i}.scalars")
            y = self.attention(self.norm(x, f"h.{i}.ln_1"), f"h.{i}.attn")
            x = x + (y if scalars is None else y * scalars[0])
            y = self.mlp(self.norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp")
            x = x + (y if scalars is None else y * scalars[1])
        return self.norm(x, "ln_f") @ (w["wte.weight"].T if c.tied else w["lm_head.weight"])

    def norm(self, x: Any, name: str) -> Any:
        """Apply the layer norm or RMS norm `name`."""
        c, weight, bias = self.config, self.w.get(f"{name}.weight"), self.w.get(f"{name}.bias")
        if c.norm == "rms_norm":
            return self.F.rms_norm(x, (c.n_embd,), weight, c.norm_eps)
        return self.F.layer_norm(x, (c.n_embd,), weight, bias, c.norm_eps)

    def linear(self, x: Any, name: str) -> Any:
        """Apply the linear layer `name`."""
        return self.F.linear(x, self.w[f"{name}.weight"].T, self.w.get(f"{name}.bias"))

    def convolution(self, x: Any, name: str) -> Any:
        """Apply the causal convolution `name`, if the model has it."""
        if f"{name}.weight" not in self.w:
            return x
        weight, T = self.w[f"{name}.weight"], self.T
        n = len(weight) - 1
        padded = self.F.pad(x, (0, 0, n, 0)) if self.start == 0 else self.torch.cat([self.cache[name], x], dim=1)
        if self.cache is not None:
            self.cache[name] = padded[:, T:]
        return sum(weight[k] * padded[:, n - k:n - k + T] for k in range(n + 1))

    def attention(self, x: Any, name: str) -> Any:
        """Apply the attention `name`, with grouped queries and the KV cache."""
        c, T = self.config, self.T
        sizes = [n * c.head_size for n in (c.n_head, self.n_kv_head, self.n_kv_head)]
        q, k, v = self.linear(self.convolution(x, f"{name}.conv"), f"{name}.c_attn").split(sizes, dim=-1)
        gains = self.w[f"{name}.norm.weight"].chunk(2) if c.qk_norm_gain else (None, None)
        q, k, v = self.position(self.heads(q), gains[0]), self.position(self.heads(k), gains[1]), self.heads(v)
        if self.cache is not None:
            kv, end = self.cache[name], self.start + T
            kv[0, :, :, self.start:end], kv[1, :, :, self.start:end] = k, v
            k, v = kv[:, :, :, :end]
        if self.n_kv_head < c.n_head:
            k, v = (a.repeat_interleave(c.n_head // self.n_kv_head, dim=1) for a in (k, v))
        y = self.F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        return self.linear(y.transpose(1, 2).flatten(2), f"{name}.c_proj")

    def heads(self, x: Any) -> Any:                            # (B, T, H d) -> (B, H, T, d)
        """Split into heads."""
        return x.unflatten(-1, (-1, self.config.head_size)).transpose(1, 2)

    def position(self, x: Any, gain: Any) -> Any:              # (B, H, T, d) -> (B, H, T, d)
        """Normalize queries or keys, with a gain (d,) or none, and rotate them by their positions, as the model asks.
        """
        c = self.config
        if c.qk_norm:
            x = self.F.rms_norm(x, (c.head_size,), gain, c.norm_eps)
        if c.positions == "rotary":
            positions = self.torch.arange(self.start, self.start + self.T, dtype=x.dtype)
            angles = positions[:, None] * self.w["frequencies"]
            a, b = x.chunk(2, dim=-1)
            x = self.torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)
        return x

    def mlp(self, x: Any, name: str) -> Any:
        """Apply the MLP `name`."""
        x = self.convolution(x, f"{name}.conv")
        hidden = self.linear(x, f"{name}.c_fc")
        if self.config.gated:
            hidden = self.activation(self.linear(x, f"{name}.c_gate")) * hidden
        else:
            hidden = self.activation(hidden)
        return self.linear(hidden, f"{name}.c_proj")


def activations(F: Any) -> dict[str, Callable[[Any], Any]]:
    """Return the activations of an MLP by our names; F is torch.nn.functional."""
    return {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu,
            "squared_relu": lambda x: F.relu(x).square(), "silu": F.silu}


def make_cache(config: GPTConfig, batch_size: int, dtype: Any, torch: Any) -> dict[str, Any]:
    """Return an empty cache for `logits`, by module: keys and values (2, B, G, block_size, d) of attention, to which
    the last inputs of convolutions are added."""
    shape = 2, batch_size, config.n_kv_head or config.n_head, config.block_size, config.head_size
    return {f"h.{i}.attn": torch.empty(shape, dtype=dtype) for i in range(config.n_layer)}


def adamw(w: dict[str, Any], torch: Any, **settings: Any) -> Any:
    """Return PyTorch's AdamW for the parameters among `w`, with weight decay of matrices only."""
    learned = [t for t in w.values() if t.requires_grad]
    return torch.optim.AdamW([{"params": [t for t in learned if t.ndim >= 2]},
                              {"params": [t for t in learned if t.ndim < 2], "weight_decay": 0.0}], **settings)


class TorchTraining:
    """Training in PyTorch from the weights of `model`, by its fused AdamW, with the loss eager or compiled."""

    def __init__(self, config: TrainConfig, model: GPT, compiled: bool = False):
        import torch
        self.torch, self.config, self.model_config = torch, config, model.config
        self.weights = to_torch(model, torch)
        self.learned = [t for t in self.weights.values() if t.requires_grad]
        self.optimizer = adamw(self.weights, torch, betas=(config.beta1, config.beta2),
                               weight_decay=config.weight_decay, fused=True)

        def batch_loss(w: dict[str, Any], ids: Any, targets: Any) -> Any:
            return loss(w, model.config, ids, targets, torch)

        self.loss = torch.compile(batch_loss) if compiled else batch_loss

    def update(self, ids: Array, targets: Array, lr: float) -> float:
        """Take a step on a batch of integers (B, T), and return its loss."""
        torch = self.torch
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.weights, torch.from_numpy(ids), torch.from_numpy(targets))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learned, self.config.grad_clip)
        self.optimizer.step()
        return loss.item()

    def numbers(self) -> dict[str, Array]:
        """Return the current parameters by name."""
        return {name: t.detach().numpy().copy() for name, t in self.weights.items()}

    def saved_bytes(self, ids: Array, targets: Array) -> int:
        """Return the bytes that a forward pass saves for the backward pass: the storages of all saved tensors, each
        once, without parameters and the batch."""
        torch, storages = self.torch, {}
        ids, targets = torch.from_numpy(ids), torch.from_numpy(targets)

        def save(t: Any) -> Any:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage()  # alive, so that no address is reused
            return t

        with torch.autograd.graph.saved_tensors_hooks(save, lambda t: t):
            loss = self.loss(self.weights, ids, targets)
        for t in [*self.weights.values(), ids, targets]:
            storages.pop(t.untyped_storage().data_ptr(), None)
        del loss
        return sum(storage.nbytes() for storage in storages.values())


def generate_tokens(w: dict[str, Any], config: GPTConfig, n: int, choose: Callable[[Any], Any], torch: Any,
                    cache: bool = True) -> list[int]:
    """Generate `n` tokens after token 0, each chosen from its logits (V,), with or without a KV cache.  As in
    `DecodingState`, a full window drops its older half."""
    window = config.block_size
    state = make_cache(config, 1, w["wte.weight"].dtype, torch) if cache else None
    text, ids, n_read = [], [0], 0
    with torch.inference_mode():
        for _ in range(n):
            new = torch.tensor([ids[n_read:]])
            token = int(choose(logits(w, config, new, torch, state, n_read)[0, -1]))
            text.append(token)
            n_read = len(ids) if cache else 0
            if len(ids) == window:
                ids, n_read = ids[-(window // 2):], 0
            ids.append(token)
    return text
