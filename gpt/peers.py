"""The same GPT in PyTorch's own functions, to check against and to race; it needs the extra `peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .model import GPT, GPTConfig
from .module import Array

if TYPE_CHECKING:
    from .train import TrainConfig


def weights(model: GPT, torch: Any) -> dict[str, Any]:
    """The model's numbers as PyTorch tensors, by their names."""
    return {name: torch.tensor(t.data.copy(), requires_grad=t.requires_grad)
            for name, t in model.named_arrays().items()}


def loss(w: dict[str, Any], config: GPTConfig, ids: Any, targets: Any, torch: Any) -> Any:
    """Mean cross-entropy of the GPT with weights `w` for integers ids and targets (B, T)."""
    return torch.nn.functional.cross_entropy(logits(w, config, ids, torch).flatten(0, 1), targets.flatten())


def logits(w: dict[str, Any], config: GPTConfig, ids: Any, torch: Any, kept: Any = None, start: int = 0) -> Any:
    """The logits (B, T, V) of the GPT with weights `w` for integers ids (B, T) at positions from `start`.

    kept: keys and values (L, 2, B, H, block_size, C/H) of the tokens before `start`, to which those of `ids` are added;
    then ids are one token, or start at 0.
    """
    F = torch.nn.functional

    def norm(x: Any, name: str) -> Any:
        return F.layer_norm(x, (config.n_embd,), w[f"{name}.weight"], w.get(f"{name}.bias"))

    def linear(x: Any, name: str) -> Any:
        return F.linear(x, w[f"{name}.weight"].T, w.get(f"{name}.bias"))

    T = ids.shape[1]
    x = F.embedding(ids, w["wte.weight"]) + w["wpe.weight"][start:start + T]
    for i in range(config.n_layer):
        q, k, v = (part.unflatten(-1, (config.n_head, -1)).transpose(1, 2)
                   for part in linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").chunk(3, dim=-1))
        if kept is not None:
            kept[i, 0, :, :, start:start + T], kept[i, 1, :, :, start:start + T] = k, v
            k, v = kept[i, :, :, :, :start + T]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        x = x + linear(y.transpose(1, 2).flatten(2), f"h.{i}.attn.c_proj")
        y = linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        x = x + linear(F.gelu(y) if config.activation == "gelu" else F.relu(y), f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


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
        """The parameters now, by their names."""
        return {name: t.detach().numpy().copy() for name, t in self.weights.items()}

    def kept_bytes(self, ids: Array, targets: Array) -> int:
        """The bytes that a forward pass keeps for the backward one: the storages of all saved tensors, each once, but
        for parameters and the batch."""
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
    """`n` tokens after token 0, each chosen from its logits (V,); with a cache only new tokens are read.  As `Context`
    does, a full window forgets its older half."""
    window, shape = config.block_size, (config.n_layer, 2, 1, config.n_head, config.block_size,
                                        config.n_embd // config.n_head)
    kept = torch.empty(shape, dtype=w["wte.weight"].dtype) if cache else None
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
