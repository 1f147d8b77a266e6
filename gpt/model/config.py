"""The architecture of a GPT."""

from dataclasses import MISSING, dataclass

from ..runtime.settings import Settings, setting


@dataclass
class Architecture(Settings):
    """The hyperparameters of a GPT's architecture.  Raises ValueError for choices that do not fit each other."""

    block_size: int = setting(64, "context length: tokens the model sees at once", at_least=1, group="model")
    n_layer: int = setting(4, "transformer blocks (layers), of attention and MLP", at_least=1, at_most=10_000,
                           group="model")
    n_head: int = setting(4, "attention heads in a block; they share the embedding dimension", at_least=1,
                          group="model")
    n_kv_head: int | None = setting(None, "grouped-query attention (GQA): key/value heads, each for as many "
                                    "neighbouring query heads; none: n_head", at_least=1, group="model")
    n_embd: int = setting(128, "embedding dimension, the width of the residual stream", at_least=1, group="model")
    head_dim: int | None = setting(None, "dimension of an attention head; none: n_embd / n_head", at_least=1,
                                   group="model")
    n_hidden: int | None = setting(None, "intermediate size: hidden dimension of the MLP; none: 4 times n_embd",
                                   at_least=1, group="model")
    bias: bool = setting(False, "add a bias in linear layers and norms, as in GPT-2", group="model")
    qkv_bias: bool = setting(False, "add a bias to queries, keys and values only, as in Qwen2", group="model")
    dropout: float = setting(0.0, "dropout probability in training", at_least=0, below=1, group="model")
    activation: str = setting("gelu", "activation function (nonlinearity) of the MLP", group="model",
                              choices=("gelu", "gelu_tanh", "relu", "squared_relu", "silu"))
    gated: bool = setting(False, "gated MLP: multiply the activation by a second projection (with silu: SwiGLU)",
                          group="model")
    positions: str = setting("learned", "position encoding: learned or sinusoidal embeddings that are added, or rotary "
                             "embeddings (RoPE)", choices=("learned", "sinusoidal", "rotary"), group="model")
    rope_base: float = setting(10000.0, "RoPE base (theta): the wavelengths of rotary embeddings reach up to 2π times "
                               "this", above=1, group="model")
    norm: str = setting("layer_norm", "normalization layer", choices=("layer_norm", "rms_norm"), group="model")
    norm_gain: bool = setting(True, "learnable gain (affine weight) in norms", group="model")
    norm_eps: float = setting(1e-5, "epsilon that a norm adds to the variance or mean square", at_least=0,
                              group="model")
    norm_embedding: bool = setting(False, "normalize the embedding, too", group="model")
    qk_norm: bool = setting(False, "QK norm: normalize queries and keys, which bounds the attention scores",
                            group="model")
    qk_norm_gain: bool = setting(False, "with qk_norm: learnable gains for queries and for keys, as in Qwen3",
                                 group="model")
    residual_scalars: bool = setting(False, "learnable scalars in each block, of what attention and MLP add to the "
                                     "residual stream", group="model")
    convolution: int = setting(0, "kernel size of the short causal convolution (depthwise) before attention and MLP; "
                               "0: none", at_least=0, at_most=1_000, group="model")
    smear: bool = setting(False, "mix the embedding of the previous token into each, by a learned weight for each "
                          "dimension", group="model")
    tied: bool = setting(True, "tie input and output embeddings (weight tying): the token embedding is the head, too",
                         group="model")
    zero_init: bool = setting(False, "zero initialization of the head and of the output projections of attention and "
                              "MLP", group="model")

    def __post_init__(self) -> None:
        super().__post_init__()
        c = self
        if c.head_dim is None and c.n_embd % c.n_head:
            nearest = -(-c.n_embd // c.n_head) * c.n_head
            raise ValueError(f"n_embd is {c.n_embd} and n_head {c.n_head}: heads share the dimensions evenly, "
                             f"so n_embd needs to be a multiple of n_head, such as {nearest}")
        if c.n_kv_head and c.n_head % c.n_kv_head:
            raise ValueError(f"n_head is {c.n_head} and n_kv_head {c.n_kv_head}: each key/value head serves as many "
                             "query heads, so n_head needs to be a multiple of n_kv_head")
        if c.qk_norm_gain and not c.qk_norm:
            raise ValueError("qk_norm_gain is for queries and keys that are normalized: set qk_norm, too")
        if c.positions == "rotary" and c.head_size % 2:
            raise ValueError(f"rotary positions rotate pairs of dimensions, and a head has {c.head_size} of them: "
                             f"n_embd / n_head, or head_dim, needs to be even")

    @property
    def head_size(self) -> int:
        """Dimension of an attention head."""
        return self.head_dim or self.n_embd // self.n_head


@dataclass(kw_only=True)
class GPTConfig(Architecture):
    """The architecture of a GPT and its vocabulary size."""

    vocab_size: int = setting(MISSING, "vocabulary size: number of different tokens", at_least=1)
