"""Recipes: sets of hyperparameters by name."""

from typing import Any

from ..data.tasks import ADDITION

RECIPES: dict[str, dict[str, Any]] = {
    # nanoGPT's training of a character model on a CPU, to the letter (its README and config/train_shakespeare_char.py).
    "nanogpt": dict(n_layer=4, n_head=4, n_kv_head=None, n_embd=128, n_hidden=None, block_size=64, bias=False,
                    qkv_bias=False, dropout=0.0, activation="gelu", gated=False, positions="learned", norm="layer_norm",
                    norm_gain=True, norm_eps=1e-5, norm_embedding=False, qk_norm=False, convolution=0, smear=False,
                    tied=True, zero_init=False, batches="random", batch_size=12, accumulate=1, max_iters=2000,
                    optimizer="adamw", learning_rate=1e-3, weight_decay=0.1, beta1=0.9, beta2=0.99, grad_clip=1.0,
                    schedule="cosine", warmup_iters=100, lr_decay_iters=None, min_lr=1e-4, eval_interval=250,
                    eval_iters=20),
    # A smaller model, which reads nearly three times as much text in the same time: a run of seconds learns most with a
    # model that is small beside the text it reads (Hoffmann et al. 2022, "Training compute-optimal large language
    # models").  Its other ingredients, by how much they help (`gpt ablate`): Muon (Jordan et al. 2024, with the steps
    # of Amsel et al. 2025); a learning rate decay over most of the run (Hägele et al. 2024); a short causal convolution
    # (So et al. 2021, "Primer"); rotary position embeddings (Su et al. 2021); an untied head; and a norm of the
    # embedding.  The effect of the others is within the variation between seeds: shuffled windows, squared ReLU (So et
    # al. 2021), norms without gain (Zhang & Sennrich 2019), QK norm (Henry et al. 2020), and output projections
    # initialized to zero, so that each block starts as the identity (Zhang, Dauphin & Ma 2019).  The steps take
    # seconds, however long the text is: a longer run needs a larger model, too.
    "fast": dict(n_layer=2, n_head=4, n_kv_head=None, n_embd=96, n_hidden=None, block_size=64, bias=False,
                 qkv_bias=False, dropout=0.0, activation="squared_relu", gated=False, positions="rotary",
                 rope_base=1000.0, norm="rms_norm", norm_gain=False, norm_eps=1e-6, norm_embedding=True, qk_norm=True,
                 convolution=3, smear=False, tied=False, zero_init=True, batches="shuffled", batch_size=8, accumulate=1,
                 max_iters=950, optimizer="muon", learning_rate=0.016, embedding_lr=0.015, taps_lr=0.04, momentum=0.9,
                 weight_decay=0.0, beta1=0.9, beta2=0.99, grad_clip=0.0, schedule="trapezoidal", warmup_iters=20,
                 falling_share=0.6, lr_decay_iters=None, min_lr=0.0, eval_interval=150, eval_iters=20),
}
# To fine-tune a pretrained model: small steps, of AdamW for any architecture.  A learning rate of FINE_TUNING_RATE /
# n_embd falls with the size of a model, as the rates of GPT-3's do (Brown et al. 2020, table 2.1).
FINE_TUNING: dict[str, Any] = dict(batches="shuffled", batch_size=8, accumulate=1, max_iters=200, optimizer="adamw",
                                   weight_decay=0.1, beta1=0.9, beta2=0.99, grad_clip=1.0, schedule="cosine",
                                   warmup_iters=20, eval_interval=50, eval_iters=20)
FINE_TUNING_RATE = 0.064
FINE_TUNING_WINDOW = 256  # tokens of text in a window, or as many as the context of the model has
DEFAULT = "fast"  # of `gpt train` and `TrainConfig.from_recipe`
TASK_RECIPES = {"addition": {**RECIPES["nanogpt"], **ADDITION}}
