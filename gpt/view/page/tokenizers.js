// The tokenizers of gpt/data/tokenizers.  Each has the text of its tokens in `labels`, `encode(text)`, which returns
// the tokens and the characters it does not know, and `decode(ids)`.

/** Return the tokenizer that `data` describes: its kind, what that needs, and special tokens [[name, id], …]. */
function make_tokenizer(data) {
  const tokenizer = data.kind === "char" || data.kind === "word" ? text_tokenizer(data) : byte_tokenizer(data);
  return with_special(tokenizer, data.special);
}

/** A token a character, or for frequent words, too: a word without a token is spelled. */
function text_tokenizer({ kind, tokens }) {
  const id_of = new Map(tokens.map((token, id) => [token, id]));
  const words = kind === "word" ? /[\p{L}\p{N}_]+|[^\p{L}\p{N}_]/gu : /[^]/gu;
  return {
    labels: tokens,
    encode(text) {
      const pieces = (text.match(words) ?? []).flatMap((word) => (id_of.has(word) ? [word] : [...word]));
      return { ids: pieces.map((piece) => id_of.get(piece)).filter((id) => id !== undefined),
               unknown: [...new Set(pieces.filter((piece) => !id_of.has(piece)))] };
    },
    decode: (ids) => ids.map((id) => tokens[id]).join(""),
  };
}

/** A token a byte of UTF-8; byte-pair encoding (BPE) merges neighbours in a word, in the order of `merges`. */
function byte_tokenizer({ kind, tokens: names, merges = [], lines = false }) {
  const characters = byte_characters(), byte_of = new Map(characters.map((c, byte) => [c, byte]));
  names ??= characters;                                        // tokens, by a character for each of their bytes
  const id_of = new Map(names.map((name, id) => [name, id]));
  const rank_of = new Map(merges.map(([a, b], rank) => [`${a} ${b}`, rank]));
  const bytes = names.map((name) => [...name].map((c) => byte_of.get(c)));
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  const decode = (ids) => utf8.decode(Uint8Array.from(ids.flatMap((id) => bytes[id])));
  const in_hex = (id) => bytes[id].map((byte) => `‹${hex(byte, 2)}›`).join("");
  const label = (id) => (decode([id]).includes("\ufffd") ? in_hex(id) : decode([id]));
  const word_ids = (word) => {
    let parts = [...new TextEncoder().encode(word)].map((byte) => characters[byte]);
    for (;;) {
      const ranks = parts.map((part, i) => rank_of.get(`${parts[i - 1]} ${part}`) ?? Infinity);
      const best = ranks.reduce((a, b) => Math.min(a, b), Infinity);
      if (best === Infinity) break;
      parts = merge_all(parts, merges[best]);
    }
    return parts.map((part) => id_of.get(part));
  };
  return {
    labels: names.map((_, id) => label(id)),
    encode(text) {
      const parts = lines ? text.split(/(\n)/) : [text];
      const words = kind === "byte" ? parts : parts.flatMap((part) => part.match(GPT2_WORDS) ?? []);
      return { ids: words.flatMap(word_ids), unknown: [] };
    },
    decode,
  };
}

/** Words as GPT-2 cuts them (Radford et al. 2019), by Unicode's white space. */
const GPT2_WORDS = new RegExp(["'s|'t|'re|'ve|'m|'ll|'d", " ?\\p{L}+", " ?\\p{N}+",
  " ?[^\\p{White_Space}\\p{L}\\p{N}]+", "\\p{White_Space}+(?!\\P{White_Space})", "\\p{White_Space}+"].join("|"), "gu");

/** Merge each two neighbours that are `left` and `right`. */
function merge_all(parts, [left, right]) {
  const merged = [];
  for (let i = 0; i < parts.length; i++) {
    if (parts[i] === left && parts[i + 1] === right) merged.push(left + parts[++i]);
    else merged.push(parts[i]);
  }
  return merged;
}

/** The character that stands for each byte in a token's name: itself if it is visible, else one from U+0100 on. */
function byte_characters() {
  let others = 0;
  const visible = (b) => (b > 0x20 && b < 0x7f) || (b > 0xa0 && b !== 0xad);
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(visible(b) ? b : 0x100 + others++));
}

/** Return a tokenizer that reads and writes the names of special tokens as these. */
function with_special(tokenizer, special) {
  const id_of = new Map(special), name_of = new Map(special.map(([name, id]) => [id, name]));
  const labels = [...tokenizer.labels];
  for (const [name, id] of special) labels[id] = name;
  const names = special.map(([name]) => name.replace(/[^]/gu, (c) => `\\u{${hex(c.codePointAt(0), 1)}}`));
  const pattern = names.length ? new RegExp(`(${names.join("|")})`, "u") : /$^/;
  return {
    labels,
    encode(text) {
      const encode = (part) => (id_of.has(part) ? { ids: [id_of.get(part)], unknown: [] } : tokenizer.encode(part));
      const parts = text.split(pattern).map(encode);
      return { ids: parts.flatMap((part) => part.ids), unknown: [...new Set(parts.flatMap((part) => part.unknown))] };
    },
    decode(ids) {
      const runs = [[]];
      for (const id of ids) name_of.has(id) ? runs.push(name_of.get(id), []) : runs.at(-1).push(id);
      return runs.map((run) => (typeof run === "string" ? run : tokenizer.decode(run))).join("");
    },
  };
}

const hex = (number, digits) => number.toString(16).toUpperCase().padStart(digits, "0");
