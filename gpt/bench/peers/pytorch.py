"""The same GPT in PyTorch's own functions, to check against and to race; it needs the extra `peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...model.gpt import GPT, GPTConfig
from ...model.module import Array

if TYPE_CHECKING:
    from ...training.config import TrainConfig


def weights(model: GPT, torch: Any) -> dict[str, Any]:
    """Return the model's numbers as PyTorch tensors, by their names."""
    return {name: torch.tensor(t.data.copy(), requires_grad=t.requires_grad)
            for name, t in model.named_arrays().items()}


def loss(w: dict[str, Any], config: GPTConfig, ids: Any, targets: Any, torch: Any) -> Any:
    """Mean cross-entropy of the GPT with weights `w` for integers ids and targets (B, T)."""
    return torch.nn.functional.cross_entropy(logits(w, config, ids, torch).flatten(0, 1), targets.flatten())


def logits(w: dict[str, Any], config: GPTConfig, ids: Any, torch: Any, kept: Any = None, start: int = 0) -> Any:
    """Return the logits (B, T, V) of the GPT with weights `w` for integers ids (B, T) at positions from `start`.

    kept: `room` for what is remembered of the tokens before `start`, to which that of `ids` is added; then ids are one
    token, or start at 0.
    """
    F, c, T = torch.nn.functional, config, ids.shape[1]
    n_kv_head, activation = c.n_kv_head or c.n_head, activations(F)[c.activation]

    def norm(x: Any, name: str) -> Any:
        if c.norm == "rms_norm":
            return F.rms_norm(x, (c.n_embd,), w.get(f"{name}.weight"), c.norm_eps)
        return F.layer_norm(x, (c.n_embd,), w.get(f"{name}.weight"), w.get(f"{name}.bias"), c.norm_eps)

    def linear(x: Any, name: str) -> Any:
        return F.linear(x, w[f"{name}.weight"].T, w.get(f"{name}.bias"))

    def convolved(x: Any, name: str) -> Any:
        if f"{name}.weight" not in w:
            return x
        taps = w[f"{name}.weight"]
        n = len(taps) - 1
        every = F.pad(x, (0, 0, n, 0)) if start == 0 else torch.cat([kept[name], x], dim=1)
        if kept is not None:
            kept[name] = every[:, T:]
        return sum(taps[k] * every[:, n - k:n - k + T] for k in range(n + 1))

    def heads(x: Any, turned: bool) -> Any:                    # (B, T, H d) -> (B, H, T, d)
        x = x.unflatten(-1, (-1, c.head_size)).transpose(1, 2)
        if turned and c.qk_norm:
            x = F.rms_norm(x, (c.head_size,), None, c.norm_eps)
        if turned and c.positions == "rotary":
            angles = torch.arange(start, start + T, dtype=x.dtype)[:, None] * w["frequencies"]
            a, b = x.chunk(2, dim=-1)
            x = torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)
        return x

    def attention(x: Any, name: str) -> Any:
        sizes = [c.n_embd, n_kv_head * c.head_size, n_kv_head * c.head_size]
        q, k, v = linear(convolved(x, f"{name}.conv"), f"{name}.c_attn").split(sizes, dim=-1)
        q, k, v = heads(q, True), heads(k, True), heads(v, False)
        if kept is not None:
            kept[name][0, :, :, start:start + T], kept[name][1, :, :, start:start + T] = k, v
            k, v = kept[name][:, :, :, :start + T]
        if n_kv_head < c.n_head:
            k, v = (part.repeat_interleave(c.n_head // n_kv_head, dim=1) for part in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        return linear(y.transpose(1, 2).flatten(2), f"{name}.c_proj")

    def mlp(x: Any, name: str) -> Any:
        x = convolved(x, f"{name}.conv")
        hidden = linear(x, f"{name}.c_fc")
        hidden = activation(linear(x, f"{name}.c_gate")) * hidden if c.gated else activation(hidden)
        return linear(hidden, f"{name}.c_proj")

    x = F.embedding(ids, w["wte.weight"])
    if "wpe.weight" in w:
        x = x + w["wpe.weight"][start:start + T]
    x = convolved(x, "smear")
    if c.norm_embedding:
        x = norm(x, "norm")
    for i in range(c.n_layer):
        x = x + attention(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn")
        x = x + mlp(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp")
    return norm(x, "ln_f") @ (w["wte.weight"].T if c.tied else w["lm_head.weight"])


def activations(F: Any) -> dict[str, Callable[[Any], Any]]:
    """Those of an MLP, by their names here; F is torch.nn.functional."""
    return {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu,
            "squared_relu": lambda x: F.relu(x).square(), "silu": F.silu}


def room(config: GPTConfig, batch_size: int, dtype: Any, torch: Any) -> dict[str, Any]:
    """What `logits` remembers, by the names of modules: of attention keys and values (2, B, G, block_size, d), and of a
    convolution its last inputs, once there are some."""
    shape = 2, batch_size, config.n_kv_head or config.n_head, config.block_size, config.head_size
    return {f"h.{i}.attn": torch.empty(shape, dtype=dtype) for i in range(config.n_layer)}


def adamw(w: dict[str, Any], torch: Any, **settings: Any) -> Any:
    """PyTorch's AdamW for the learned ones among `w`, which decays matrices only."""
    learned = [t for t in w.values() if t.requires_grad]
    return torch.optim.AdamW([{"params": [t for t in learned if t.ndim >= 2]},
                              {"params": [t for t in learned if t.ndim < 2], "weight_decay": 0.0}], **settings)


class TorchTraining:
    """Training in PyTorch from the weights of `model`: its fused AdamW, and its loss as it is or compiled."""

    def __init__(self, config: TrainConfig, model: GPT, compiled: bool = False):
        import torch
        self.torch, self.config, self.model_config = torch, config, model.config
        self.weights = weights(model, torch)
        self.learned = [t for t in self.weights.values() if t.requires_grad]
        self.optimizer = adamw(self.weights, torch, betas=(config.beta1, config.beta2),
                               weight_decay=config.weight_decay, fused=True)

        def of_batch(w: dict[str, Any], ids: Any, targets: Any) -> Any:
            return loss(w, model.config, ids, targets, torch)

        self.loss = torch.compile(of_batch) if compiled else of_batch

    def update(self, ids: Array, targets: Array, lr: float) -> float:
        """Take a step on a batch of integers (B, T); its loss."""
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
        """Return the parameters now, by their names."""
        return {name: t.detach().numpy().copy() for name, t in self.weights.items()}

    def kept_bytes(self, ids: Array, targets: Array) -> int:
        """Return the bytes that a forward pass keeps for the backward one: the storages of all saved tensors, each
        once, but for parameters and the batch."""
        torch, storages = self.torch, {}
        ids, targets = torch.from_numpy(ids), torch.from_numpy(targets)

        def save(t: Any) -> Any:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage()  # kept, so that no address comes twice
            return t

        with torch.autograd.graph.saved_tensors_hooks(save, lambda t: t):
            loss = self.loss(self.weights, ids, targets)
        for t in [*self.weights.values(), ids, targets]:
            storages.pop(t.untyped_storage().data_ptr(), None)
        del loss
        return sum(storage.nbytes() for storage in storages.values())


def write(w: dict[str, Any], config: GPTConfig, n: int, choose: Callable[[Any], Any], torch: Any,
          cache: bool = True) -> list[int]:
    """Generate `n` tokens after token 0, each chosen from its logits (V,), with or without a KV cache.  As in
    `DecodingState`, a full window drops its older half."""
    window = config.block_size
    kept = room(config, 1, w["wte.weight"].dtype, torch) if cache else None
    text, ids, read = [], [0], 0
    with torch.inference_mode():
        for _ in range(n):
            new = torch.tensor([ids[read:]])
            token = int(choose(logits(w, config, new, torch, kept, read)[0, -1]))
            text.append(token)
            read = len(ids) if cache else 0
            if len(ids) == window:
                ids, read = ids[-(window // 2):], 0
            ids.append(token)
    return text
