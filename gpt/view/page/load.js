// From what is in the file to the model: unpacking, and a check by logits of NumPy's.

/** Unpack the weights of a file: in base64, compressed, the first bytes of all numbers before the second ones. */
async function load_model(data) {
  const packed = Uint8Array.from(atob(data.weights), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), n = bytes.length / 2;
  const floats = new Float32Array(n).map((_, i) => from_float16((bytes[i] << 8) | bytes[n + i]));
  const arrays = new Map();
  let start = 0;
  for (const [name, [rows, columns]] of Object.entries(data.arrays)) {
    arrays.set(name, new Matrix(rows, columns, floats.subarray(start, start += rows * columns)));
  }
  return make_gpt(data.config, (name) => arrays.get(name) ?? null, data.frequencies);
}

/** The number of a sign bit, 5 bits of exponent and 10 of fraction (IEEE 754 binary16). */
function from_float16(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024);
}

/** Return the largest difference from a logit of NumPy's after a text, infinite if its tokens differ. */
function check_model(model, tokenizer, { ids, text, logits }) {
  if (text && `${tokenizer.encode(text).ids.slice(-ids.length)}` !== `${ids}`) return Infinity;
  const found = gpt(model, ids, unchanged(), make_cache()).logits.row(ids.length - 1);
  return found.reduce((most, x, i) => Math.max(most, Math.abs(x - logits[i])), 0);
}
