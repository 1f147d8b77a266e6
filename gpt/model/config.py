"""What can be chosen about a GPT."""

from dataclasses import MISSING, dataclass

from ..runtime.settings import Settings, setting


@dataclass
class Architecture(Settings):
    """What can be chosen about a GPT.  Raises ValueError for choices that do not fit each other."""

    block_size: int = setting(64, "tokens the model sees at once, its context", at_least=1, group="model")
    n_layer: int = setting(4, "blocks of attention and MLP", at_least=1, at_most=10_000, group="model")
    n_head: int = setting(4, "attention heads in a block; they share the dimensions", at_least=1, group="model")
    n_kv_head: int | None = setting(None, "heads of keys and values, each for as many neighbouring heads of queries; "
                                    "none: n_head", at_least=1, group="model")
    n_embd: int = setting(128, "dimensions of the vector that stands for a token", at_least=1, group="model")
    n_hidden: int | None = setting(None, "dimensions inside an MLP; none: 4 times n_embd", at_least=1, group="model")
    bias: bool = setting(False, "add a bias in linear layers and norms, as GPT-2 does", group="model")
    qkv_bias: bool = setting(False, "add a bias to queries, keys and values only, as Qwen2 does", group="model")
    dropout: float = setting(0.0, "share of activations set to zero in training", at_least=0, below=1, group="model")
    activation: str = setting("gelu", "nonlinearity of the MLP", group="model",
                              choices=("gelu", "gelu_tanh", "relu", "squared_relu", "silu"))
    gated: bool = setting(False, "multiply the activation with a second projection, as SwiGLU does", group="model")
    positions: str = setting("learned", "how a token knows its place: a vector added to it, or queries and keys turned "
                             "by angles", choices=("learned", "sinusoidal", "rotary"), group="model")
    rope_base: float = setting(10000.0, "rotary: how much slower the last pair turns than the first", above=1,
                               group="model")
    norm: str = setting("layer_norm", "what keeps the residual stream's copies in size",
                        choices=("layer_norm", "rms_norm"), group="model")
    norm_gain: bool = setting(True, "let norms learn a factor for each dimension", group="model")
    norm_eps: float = setting(1e-5, "what a norm adds to the mean square", at_least=0, group="model")
    norm_embedding: bool = setting(False, "norm the embedding, too", group="model")
    qk_norm: bool = setting(False, "norm queries and keys, so that no score grows without bound", group="model")
    convolution: int = setting(0, "taps of a causal convolution, for each dimension its own, on what attention and MLP "
                               "read; 0: none", at_least=0, at_most=1_000, group="model")
    smear: bool = setting(False, "mix the embedding of the token before into each, by a learned share", group="model")
    tied: bool = setting(True, "use the token embedding as the head, too", group="model")
    zero_init: bool = setting(False, "start the head, and what attention and MLP add, at zero", group="model")

    def __post_init__(self) -> None:
        super().__post_init__()
        c = self
        if c.n_embd % c.n_head:
            nearest = -(-c.n_embd // c.n_head) * c.n_head
            raise ValueError(f"n_embd is {c.n_embd} and n_head {c.n_head}: heads share the dimensions evenly, "
                             f"so n_embd needs to be a multiple of n_head, such as {nearest}")
        if c.n_kv_head and c.n_head % c.n_kv_head:
            raise ValueError(f"n_head is {c.n_head} and n_kv_head {c.n_kv_head}: each head of keys serves as many of "
                             "queries, so n_head needs to be a multiple of n_kv_head")
        if c.positions == "rotary" and c.head_size % 2:
            raise ValueError(f"rotary positions turn pairs of dimensions, and a head has {c.head_size} of them: "
                             f"n_embd / n_head needs to be even")

    @property
    def head_size(self) -> int:
        """Dimensions of a head."""
        return self.n_embd // self.n_head


@dataclass(kw_only=True)
class GPTConfig(Architecture):
    """A GPT's architecture and the number of different tokens it knows."""

    vocab_size: int = setting(MISSING, "number of different tokens", at_least=1)
