// The player's card: what is sent to each input, and formulas with the numbers of this record put in.

/** The entries of the gradient that is sent to an input: its own, or those of the record it is the only contribution to. */
const sentEntries = (send, to) => send?.[1] ?? (to >= 0 ? records[to].gradient : []);

/** What is sent to an input: a number, a few numbers, or a picture with its scale. */
function sentFigure(send, to) {
  return sentEntries(send, to).filter((entry) => entry.picture).map((entry) => {
    if (entry.numbers) return el("pre", {}, entry.numbers);
    const [, , , low, high] = entry.picture;
    const [canvas, output] = picture(entry.picture, `picture of what is sent, ${low} to ${high}`, (code) => reading(code, low, high));
    return el("figure", { className: "sent" }, canvas, scale(low, high), output);
  });
}

// ------------------------------------------------------------------ a formula with numbers

/** A number or a vector of up to four as text, "" for larger arrays. */
function shortText(entry) {
  if (!entry) return "";
  if (!entry.picture) return singleNumber(entry);
  const found = /^[a-z]+\d+\[\d+\]$/.test(entry.shape) && entry.numbers?.match(/-?[\d.]+(e[+-]?\d+)?/g);
  return found && found.length <= 4 && !/nan|inf/.test(entry.numbers) ? `[${found.map((x) => shortNumber(Number(Number(x).toPrecision(4)))).join(", ")}]` : "";
}

/** The texts of the symbols in a record's formulas: its inputs and attributes, its result, and g. */
function symbolsOf(record) {
  const symbols = new Map(record.attrs.filter(([, text]) => /^-?[\d.]+$/.test(text)).map(([name, text]) => [name, text.replace("-", "−")]));
  for (const [name, m, text] of record.inputs) {
    const shown = m >= 0 ? shortText(records[m].value[0]) : /^-?[\d.]+(e-?\d+)?$/.test(text) ? shortNumber(Number(text)) : "";
    if (shown) symbols.set(name, shown);
  }
  const result = tape.ops[record.rules].formula[0];
  if (Array.isArray(result) && !symbols.has(result[1])) symbols.set(result[1], shortText(record.value[0]));
  symbols.set("g", shortText(record.gradient[0]));
  return symbols;
}

/** The right side of a formula with numbers for its symbols, as text; "" if it has symbols without numbers. */
function withNumbers(tree, symbols) {
  let isRight = false, depth = 0, count = 0, text = [""];
  const put = (piece) => typeof piece === "string" && typeof text.at(-1) === "string" ? text.push(text.pop() + piece) : text.push(piece);
  for (let i = 0; i < tree.length; i++) {
    let part = tree[i];
    if (!isRight) {
      const start = typeof part === "string" ? part.indexOf("= ") : -1;
      if (start < 0) continue;
      isRight = true;
      part = part.slice(start + 2);
    }
    if (typeof part !== "string") {
      if (part[0] === "sup") { put(part); continue; }
      const value = symbols.get(part[1]), next = tree[i + 1];
      if (part[0] !== "i" || !value || Array.isArray(next) && next[0] === "sub") return null;
      count++;
      if (typeof text.at(-1) !== "string" || /[\d\])] ?$/.test(text.at(-1))) put("\u2009·\u2009");
      put(/^−/.test(value) && (text.at(-1) !== "" || Array.isArray(next)) ? `(${value})` : value);
      continue;
    }
    for (const piece of part.match(/[A-Za-z_]\w*|./g) ?? []) {
      depth += (piece === "(" || piece === "[") - (piece === ")" || piece === "]");
      if (piece === "," && depth === 0 || piece === "Σ") return piece === "," && count ? text : null;
      if (symbols.get(piece) && tree.length) { count++; put(`(${symbols.get(piece)})`); } else put(piece);
    }
  }
  return count ? text : null;
}

/** A line `= 0.5 · (−3) = −1.5` for a formula, or nothing where the numbers are too many. */
function numbersLine(tree, record, result) {
  const parts = tree && result && withNumbers(tree, symbolsOf(record));
  if (!parts) return null;
  const isScalar = !parts.some((part) => typeof part === "string" && part.includes("["));
  const shown = parts.map((part) => typeof part === "string" && isScalar ? part.replaceAll("⊙", "·") : part);
  const isPlain = shown.length === 1 && shown[0].replace(/^\((.*)\)$/, "$1") === result;
  return el("div", { className: "numbers" }, "= ", mathematics(shown, ""), isPlain ? "" : ` = ${result}`);
}
