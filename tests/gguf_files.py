"""Small GGUF files of models of transformers, written by the library's own writer as llama.cpp's converters do it."""

import numpy as np

SPACE = "▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
LENGTHS = {"gpt2": dict(context="n_positions", width="n_embd", hidden="n_inner", layers="n_layer", heads="n_head"),
           "llama": dict(context="max_position_embeddings", width="hidden_size", hidden="intermediate_size",
                         layers="num_hidden_layers", heads="num_attention_heads")}


def write(path, architecture, arrays, keys, tokenizer=None, endian="LITTLE", raw_types=None):
    """Write arrays by their names in the file, and keys; an array in `raw_types` is in blocks of that type already."""
    import gguf
    writer = gguf.GGUFWriter(path, architecture, endianess=getattr(gguf.GGUFEndian, endian))
    for name, value in {**keys, **(tokenizer or {})}.items():
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, (int, np.integer)):
            writer.add_uint32(name, int(value))
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_array(name, value)
    for name, a in arrays.items():
        kind = (raw_types or {}).get(name)
        writer.add_tensor(name, np.ascontiguousarray(a), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def conversions(model, architecture):
    """Yield, of each tensor of a model of transformers, its names there and in a GGUF file, and what turns its axes and
    rows around, there and back."""
    import gguf
    config = model.config
    key = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(key, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        there = back = np.asarray
        if architecture == "gpt2" and tensor.ndim == 2 and theirs.startswith("blk."):
            there = back = np.transpose
        if architecture == "llama" and theirs.endswith(("attn_q.weight", "attn_k.weight")):
            n = config.num_attention_heads if "attn_q" in theirs else config.num_key_value_heads
            there, back = (lambda a, shape=shape: a.reshape(*shape, a.shape[1]).swapaxes(1, 2).reshape(a.shape)
                           for shape in ((n, 2, len(tensor) // n // 2), (n, len(tensor) // n // 2, 2)))
        yield name, theirs, there, back


def arrays_of(model, architecture):
    """The float32 arrays of a model of transformers by their names in a GGUF file, in the order of axes that it has."""
    state, tied = model.state_dict(), model.config.tie_word_embeddings
    return {theirs: there(state[name].float().numpy()) for name, theirs, there, _ in conversions(model, architecture)
            if not (tied and theirs == "output.weight")}


def keys_of(model, architecture):
    """The keys of a model of transformers."""
    config, names = model.config, LENGTHS["gpt2" if architecture == "gpt2" else "llama"]
    get = {key: getattr(config, name) for key, name in names.items()}
    keys = {"context_length": get["context"], "embedding_length": get["width"], "block_count": get["layers"],
            "feed_forward_length": get["hidden"] or 4 * get["width"], "attention.head_count": get["heads"]}
    if architecture == "gpt2":
        keys["attention.layer_norm_epsilon"] = config.layer_norm_epsilon
    else:
        rope, d = config.rope_parameters, getattr(config, "head_dim", None) or get["width"] // get["heads"]
        keys |= {"attention.head_count_kv": config.num_key_value_heads, "rope.freq_base": float(rope["rope_theta"]),
                 "attention.layer_norm_rms_epsilon": config.rms_norm_eps, "rope.dimension_count": d,
                 "vocab_size": config.vocab_size}
        if d * get["heads"] != get["width"] or architecture == "qwen3":
            keys |= {"attention.key_length": d, "attention.value_length": d}
        if rope["rope_type"] == "linear":
            keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    return {f"{architecture}.{name}": value for name, value in keys.items()}


def rope_factors(model):
    """The array that a Llama 3.1 has in place of keys: by what its frequencies are divided."""
    config = model.config
    rope, d = config.rope_parameters, config.hidden_size // config.num_attention_heads
    usual = 1 / rope["rope_theta"] ** (np.arange(0, d, 2) / d)
    return (usual / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)


def quantized(arrays, kind):
    """Matrices in blocks of a type, and what these blocks stand for; vectors as they are."""
    import gguf
    blocks = {name: gguf.quantize(a, kind) if a.ndim == 2 else a for name, a in arrays.items()}
    wide = {name: gguf.dequantize(blocks[name], kind) if a.ndim == 2 else a for name, a in arrays.items()}
    return blocks, {name: kind for name, a in arrays.items() if a.ndim == 2}, wide


def load_back(model, architecture, arrays):
    """Give a model of transformers the weights that a GGUF file's arrays stand for."""
    import torch
    for name, theirs, _, back in conversions(model, architecture):
        a = arrays[theirs if theirs in arrays else "token_embd.weight"]
        model.state_dict()[name].copy_(torch.tensor(np.ascontiguousarray(back(a))))
    return model


def tokenizer_keys(made, pre, **keys):
    """The keys of a byte-level tokenizer.json; unused ids are filled as converters do."""
    special = {token["id"]: CONTROL if token["special"] else USER_DEFINED for token in made["added_tokens"]}
    by_id = {i: token for token, i in made["model"]["vocab"].items()}
    by_id |= {token["id"]: token["content"] for token in made["added_tokens"]}
    n = keys.pop("n", max(by_id) + 1)
    types = [special.get(i, NORMAL if i in by_id else UNUSED) for i in range(n)]
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in made["model"]["merges"]]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.tokens": [by_id.get(i, f"[PAD{i}]") for i in range(n)], "tokenizer.ggml.merges": merges,
            **{f"tokenizer.ggml.{name}": value for name, value in keys.items()}}


def sentencepiece_keys(pieces, **keys):
    """The keys of a SentencePiece model: <unk>, <s>, </s>, 256 bytes, and pieces, the first of which merge first."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *pieces]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)]
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))]
    return {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": types, "tokenizer.ggml.scores": scores, "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
            **{f"tokenizer.ggml.{name}": value for name, value in keys.items()}}


def sentencepiece_encode(tokens, scores, types, text):
    """The ids of SentencePiece's own procedure: the two neighbours whose union has the highest score are merged, the
    first of several, until none can be; a piece that is no token is spelled in bytes."""
    ids = {token: i for i, token in enumerate(tokens) if types[i] == NORMAL}
    pieces = list(SPACE + text.replace(" ", SPACE)) if text else []
    while True:
        unions = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(zip(pieces, pieces[1:])) if a + b in ids]
        if not unions:
            break
        _, i = min(unions)
        pieces[i:i + 2] = [pieces[i] + pieces[i + 1]]
    return [i for piece in pieces
            for i in ([ids[piece]] if piece in ids else [tokens.index(f"<0x{b:02X}>") for b in piece.encode()])]
