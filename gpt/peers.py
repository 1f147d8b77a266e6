"""The same GPT in PyTorch's own functions, to check against and to race; it needs the extra `peers`."""

from typing import Any

from .model import GPT, GPTConfig


def weights(model: GPT, torch: Any) -> dict[str, Any]:
    """The model's numbers as PyTorch tensors, by their names."""
    return {name: torch.tensor(t.data.copy(), requires_grad=t.requires_grad)
            for name, t in model.named_arrays().items()}


def loss(w: dict[str, Any], config: GPTConfig, ids: Any, targets: Any, torch: Any) -> Any:
    """Mean cross-entropy of the GPT with weights `w` for integers ids and targets (B, T)."""
    F = torch.nn.functional

    def norm(x: Any, name: str) -> Any:
        return F.layer_norm(x, (config.n_embd,), w[f"{name}.weight"], w.get(f"{name}.bias"))

    def linear(x: Any, name: str) -> Any:
        return F.linear(x, w[f"{name}.weight"].T, w.get(f"{name}.bias"))

    x = F.embedding(ids, w["wte.weight"]) + w["wpe.weight"][:ids.shape[1]]
    for i in range(config.n_layer):
        q, k, v = (part.unflatten(-1, (config.n_head, -1)).transpose(1, 2)
                   for part in linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(y.transpose(1, 2).flatten(2), f"h.{i}.attn.c_proj")
        y = linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        x = x + linear(F.gelu(y) if config.activation == "gelu" else F.relu(y), f"h.{i}.mlp.c_proj")
    logits = norm(x, "ln_f") @ w["wte.weight"].T
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def adamw(w: dict[str, Any], torch: Any, **settings: Any) -> Any:
    """PyTorch's AdamW for the learned ones among `w`, which decays matrices only."""
    learned = [t for t in w.values() if t.requires_grad]
    return torch.optim.AdamW([{"params": [t for t in learned if t.ndim >= 2]},
                              {"params": [t for t in learned if t.ndim < 2], "weight_decay": 0.0}], **settings)
