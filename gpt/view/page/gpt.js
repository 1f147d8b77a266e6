// The GPT of gpt/model/gpt.py, in its names: one sequence of T tokens, H heads of d = C / H dimensions, D = G·d
// dimensions of the G key/value heads.  A model is a tree of matrices, and what it lacks is null.

/** Return the model of a configuration, whose matrices `array(name)` returns, null for one that there is not. */
function make_gpt(config, array, frequencies) {
  const linear = (name) => {
    const weight = array(`${name}.weight`), bias = array(`${name}.bias`);
    return weight || bias ? { weight, bias } : null;
  };
  return {
    config, frequencies, wte: linear("wte"), wpe: linear("wpe"), smear: linear("smear"), norm: linear("norm"),
    h: Array.from({ length: config.n_layer }, (_, i) => ({
      ln_1: linear(`h.${i}.ln_1`),
      attn: { conv: linear(`h.${i}.attn.conv`), c_attn: linear(`h.${i}.attn.c_attn`),
              c_proj: linear(`h.${i}.attn.c_proj`), gains: array(`h.${i}.attn.norm.weight`) },
      ln_2: linear(`h.${i}.ln_2`),
      mlp: { conv: linear(`h.${i}.mlp.conv`), c_fc: linear(`h.${i}.mlp.c_fc`), c_gate: linear(`h.${i}.mlp.c_gate`),
             c_proj: linear(`h.${i}.mlp.c_proj`) },
      scalars: array(`h.${i}.scalars`),
    })),
    ln_f: linear("ln_f"), lm_head: linear("lm_head") ?? { weight: transpose(array("wte.weight")), bias: null },
  };
}

/** Changes to a forward pass.  Blocks, MLPs (by layer) and heads (by "layer.head") that are off add 0; `weights` are
 *  attention weights that are overwritten, each {head, query, key, weight}, at most one for a head and query. */
const unchanged = () => ({ blocks: new Set(), mlps: new Set(), heads: new Set(), weights: [] });

/** What later tokens need of the `length` tokens before them, by name: keys, values, and the input of convolutions. */
const make_cache = () => ({ length: 0, rows: new Map() });

/** Return the cached rows of the tokens before with those of x after them, and cache them all. */
function extend(cache, name, x) {
  const all = cache.length ? stack(cache.rows.get(name).slice(0, cache.length), x) : x;
  cache.rows.set(name, all);
  return all;
}

/** A causal convolution of x (T, C), which reads the tokens before, too. */
function conv(cache, name, { weight }, x) {
  return causal_conv(extend(cache, name, x), weight).slice(cache.length);
}

/** Run the model on integers (T,) that follow the `cache.length` tokens in the cache.  Return for these T their logits
 *  (T, V), the residual stream (T, C) before the first block and after each, and by layer and head the attention
 *  weights: T rows, each of all positions that its token sees. */
function gpt(model, ids, changes, cache) {
  const { config, wte, wpe, smear } = model, start = cache.length;
  let x = embedding(ids, wte.weight);                          // (T,) -> (T, C)
  if (wpe) x = add(x, embedding(ids.map((_, t) => start + t), wpe.weight));
  if (smear) x = conv(cache, "smear", smear, x);
  if (config.norm_embedding) x = norm(model, model.norm, x);
  const residual = [x], attention = [];
  model.h.forEach((block, layer) => {
    const weights = [];                                        // of each head
    const weigh = (y, i) => block.scalars ? y.map((v) => v * block.scalars.data[i]) : y;
    const y = add(x, weigh(attn(model, block.attn, norm(model, block.ln_1, x), layer, changes, cache, weights), 0));
    const z = add(y, weigh(mlp(model, block.mlp, norm(model, block.ln_2, y), layer, changes, cache), 1));
    if (!changes.blocks.has(layer)) x = z;                     // (T, C)
    residual.push(x);
    attention.push(weights);
  });
  cache.length += ids.length;
  return { logits: logits(model, x), residual, attention };
}

/** Causal self-attention: each token attends to itself and those before it.  Its weights go to `weights`. */
function attn(model, block, x, layer, changes, cache, weights) {
  const { config, frequencies } = model, C = x.columns, d = C / config.n_head, start = cache.length;
  if (block.conv) x = conv(cache, `${layer}.attn.conv`, block.conv, x);
  const qkv = linear(x, block.c_attn), D = (qkv.columns - C) / 2;  // (T, C + 2D)
  let [q, k, v] = split(qkv, [C, D, D]).map((x) => split(x, Array(x.columns / d).fill(d)));  // H or G times (T, d)
  const gains = block.gains ? split(block.gains, [d, d]) : [null, null];  // of queries, and of keys
  if (config.qk_norm) [q, k] = [q, k].map((heads, i) => heads.map((x) => rms_norm(x, gains[i], config.norm_eps)));
  if (frequencies) [q, k] = [q, k].map((heads) => heads.map((x) => rotary(x, frequencies, start)));
  k = k.map((x, group) => extend(cache, `${layer}.k.${group}`, x));  // G times (S, d), S = start + T
  v = v.map((x, group) => extend(cache, `${layer}.v.${group}`, x));
  const y = q.map((query, head) => {
    const group = Math.floor(head * k.length / q.length);      // the key/value head that this one shares
    const p = attention_weights(query, k[group]), name = `${layer}.${head}`;  // (T, S)
    const rows = Array.from({ length: x.rows }, (_, t) => p.row(t).subarray(0, start + t + 1));
    for (const change of changes.weights) if (change.head === name) overwrite(rows[change.query - start], change);
    weights.push(rows);
    return changes.heads.has(name) ? new Matrix(x.rows, d) : matmul(p, v[group]);  // (T, d)
  });
  return linear(concatenate(y), block.c_proj);                 // heads side by side: (T, C) -> (T, C)
}

/** Set an attention weight of a row, if it is computed now; the others share the rest in their proportions, or evenly
 *  if they are 0. */
function overwrite(row, { key, weight }) {
  const others = row?.reduce((sum, x, i) => sum + (i === key ? 0 : x), 0);
  const share = (x) => (1 - weight) * (others ? x / others : 1 / (row.length - 1));
  row?.forEach((x, i) => { row[i] = i === key ? weight : share(x); });
}

/** The feed-forward network of a block, optionally gated. */
function mlp(model, block, x, layer, changes, cache) {
  if (block.conv) x = conv(cache, `${layer}.mlp.conv`, block.conv, x);
  const activation = ACTIVATIONS[model.config.activation], h = linear(x, block.c_fc);  // (T, C) -> (T, F)
  const hidden = block.c_gate ? multiply(linear(x, block.c_gate).map(activation), h) : h.map(activation);
  return changes.mlps.has(layer) ? new Matrix(x.rows, x.columns) : linear(hidden, block.c_proj);  // (T, F) -> (T, C)
}

/** The layer norm or RMS norm of the configuration. */
function norm({ config }, parameters, x) {
  const { weight, bias } = parameters ?? {}, eps = config.norm_eps;
  return config.norm === "rms_norm" ? rms_norm(x, weight, eps) : layer_norm(x, weight, bias, eps);
}

/** Return the logits (T, V) of a residual stream (T, C), after the last block or an earlier one (logit lens). */
function logits(model, x) {
  return linear(norm(model, model.ln_f, x), model.lm_head);
}
