"""An estimate of the memory that a training step takes."""

from ..model.gpt import GPT

RECORDED = 1 << 27  # bytes up to which a step runs as a captured program, which takes three times as much


def step_bytes(model: GPT, windows: int, length: int) -> int:
    """Estimate the bytes of the activations that a forward pass over so many windows saves for the backward pass, and
    of the gradient of the logits: within a fifth of the measured bytes."""
    c = model.config
    queries, keys = c.n_head * c.head_size, (c.n_kv_head or c.n_head) * c.head_size
    hidden = (c.n_hidden or 4 * c.n_embd) * (1 + c.gated)
    linear = queries + 2 * c.n_embd + 2 * keys + hidden        # outputs of a block's linear layers for a token
    norms, rotated, activations = 6 * c.n_embd, queries + keys, hidden
    layer = linear + norms + rotated + activations
    if any(not t.requires_grad for name, t in model.named_arrays().items() if name.endswith(".base.weight")):
        layer += 2 * linear  # LoRA: the product, and added
    return windows * length * (c.n_layer * layer + 3 * c.vocab_size) * model.wte.weight.dtype.itemsize
