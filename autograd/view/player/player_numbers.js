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

/** The right side of a formula with numbers for its symbols, as a tree; null if a symbol has none, or what follows a comma
 * says that the formula is not all. */
function withNumbers(tree, symbols) {
  const made = [""], start = tree.findIndex((part) => typeof part === "string" && part.includes("= "));
  let depth = 0, count = 0;
  const put = (piece) => typeof piece === "string" && typeof made.at(-1) === "string" ? made.push(made.pop() + piece) : made.push(piece);
  const putNumber = (value, isPower) => {
    const before = made.at(-1), isFirst = before === "" && made.length === 1;
    if (typeof before !== "string" || /[\d\])] $/.test(before)) put("\u2009·\u2009");        // a product without a sign
    put(/^−/.test(value) && (!isFirst || isPower) || /\d$/.test(before) ? `(${value})` : value);
    count++;
  };
  for (let i = start; start >= 0 && i < tree.length; i++) {
    const part = i === start ? tree[i].slice(tree[i].indexOf("= ") + 2) : tree[i], next = tree[i + 1]?.[0];
    if (part[0] === "sup" && typeof part !== "string") {
      put(["sup", ...part.slice(1).map((inner) => typeof inner === "string" ? inner : symbols.get(inner[1]) || inner)]);
    } else if (typeof part !== "string") {
      const value = symbols.get(part[1]);
      if (part[0] !== "i" || !value || next === "sub") return null;
      putNumber(value, next === "sup");
    } else {
      for (const [piece, ...rest] of [...part.matchAll(/([A-Za-z_]\w*|.)(?=(.*))/g)].map((match) => match.slice(1))) {
        depth += (piece === "(" || piece === "[") - (piece === ")" || piece === "]");
        if (piece === "Σ" || piece === "index") return null;
        if (piece === "," && !depth && !rest[0].startsWith(" else")) return count && !/^ (and|then|summed)/.test(rest[0]) ? made : null;
        if (symbols.get(piece)) putNumber(symbols.get(piece), false);
        else put(piece);
      }
    }
  }
  return count ? made : null;
}

/** A line `= 0.5 · (−3) = −1.5` for a formula, or nothing where the numbers are too many or the formula is prose. */
function numbersLine(tree, record, result) {
  const parts = tree && result ? withNumbers(tree, symbolsOf(record)) : null;
  const text = parts?.filter((part) => typeof part === "string").join(" ");
  if (!parts || /[a-z]{2} [a-z]{2}|[a-z]_[a-z]/.test(text)) return null;
  const shown = parts.map((part) => typeof part === "string" && !text.includes("[") ? part.replaceAll("⊙", "·") : part);
  const isPlain = shown.length === 1 && shown[0].replace(/^\((.*)\)$/, "$1") === result;
  return el("div", { className: "numbers" }, "= ", mathematics(shown, ""), isPlain ? "" : ` = ${result}`);
}

// ------------------------------------------------------------------ another value

/** An edit box for another value of a record: the line of Python that plays the tape again with it, and where there is a
 * Python beside this page (the live page), a button that does so. */
function whatIf(n) {
  const line = el("pre", {}), show = () => { line.textContent = `print(tape.what_if({tape[${numberText(n).slice(1)}]: ${state.another || 0}}))`; };
  const ask = (way) => {
    const value = numbersIn(state.another);
    tell(n, value === null ? "A number or a list of numbers can be tried here; for more, add the line above to the code." : "…");
    if (value !== null) python.postMessage([way, n, Number(numberText(n).slice(1)), JSON.stringify(value)]);
  };
  const input = el("input", { type: "text", value: state.another, placeholder: "0", spellcheck: false, autocomplete: "off",
    "aria-label": "Another value", oninput: () => { state.another = input.value; show(); },
    onkeydown: (event) => { if (python && event.key === "Enter") ask("compare"); } });
  const button = (words, way) => el("button", { type: "button", onclick: () => ask(way) }, words);
  show();
  answerBox = el("pre", { className: "answer", role: "status" }, state.answer.n === n ? state.answer.text : "");
  return el("details", { open: state.asking, ontoggle: (event) => { state.asking = event.target.open; } },
    el("summary", {}, "What if it had another value?"),
    el("p", { className: "status" }, `A number, an array, a function of the old value, or (index, value):`), input, line,
    ...python ? [el("div", { className: "actions" }, button("Compare", "compare"), button("Play that tape", "play")), answerBox] : []);
}

let python = null;                               // the port of a page that can run Python on this tape
let answerBox;

// Only the page around this one may offer it, and what it answers is shown as text.
addEventListener("message", ({ source, data, ports }) => {
  if (source !== window.parent || data !== "what_if" || !ports.length) return;
  [python] = ports;
  python.onmessage = ({ data: [n, text] }) => tell(n, String(text));
  cardShown = "";
  show();
});

/** Answer the question about record `n` in its card. */
function tell(n, text) {
  state.answer = { n, text };
  if (outline[state.row] !== n) return;
  answerBox.textContent = text;
  answerBox.scrollIntoView({ block: "nearest" });
}

/** The number, or nested lists of numbers, that a text is, 0 without one; null for any other. */
function numbersIn(text) {
  const isNumbers = (x) => Array.isArray(x) ? x.length > 0 && x.every(isNumbers) : Number.isFinite(x);
  try {
    const value = JSON.parse(text.trim().replaceAll("−", "-").replace(/^np\.array\((.*)\)$/, "$1") || "0");
    return isNumbers(value) ? value : null;
  } catch {
    return null;
  }
}
