// The page: its state, and what is computed and shown again when that changes.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const tokenizer = make_tokenizer(data.tokenizer);

const state = {
  ids: [],                // tokens of the text
  chosen: null,           // the place whose next token is shown, an index into ids; null: the last one
  changes: unchanged(),   // to the forward pass; queries and keys are indices into ids
  head: "0.0",            // whose attention is shown large
  cell: null,             // the chosen weight in it, { query, key }; null: the largest one of the chosen place
  comparing: false,       // show what the changes changed
  writing: false,
};
let model = null, view = null, stale = true, scheduled = 0;

/** Compute and show everything before the next frame; `changed`: the text or the changes are other ones. */
function update(changed = true) {
  stale ||= changed;
  scheduled ||= requestAnimationFrame(refresh);
}

function refresh() {
  cancelAnimationFrame(scheduled);
  scheduled = 0;
  if (stale) view = look(view);
  stale = false;
  view.place = state.chosen === null ? view.ids.length - 1 : state.chosen - view.start;
  show_text();
  show_blocks();
  show_map();
  show_lens();
}

/** The view of the text and the changes as they are now, also before the next frame. */
function current() {
  if (scheduled) refresh();
  return view;
}

/** Run the model on the end of the text, with the changes and without.  `before`: the last view of it. */
function look(before) {
  const start = first_read(state.ids.length), ids = state.ids.length ? state.ids.slice(start) : data.start;
  const began = performance.now(), inside = (i) => i >= start && i < start + ids.length;
  const weights = state.changes.weights.filter((c) => inside(c.key) && inside(c.query))
    .map((c) => ({ ...c, query: c.query - start, key: c.key - start }));
  const intact = run(before?.intact, ids, unchanged());
  const { blocks, mlps, heads } = state.changes, altered = blocks.size + mlps.size + heads.size + weights.length > 0;
  const now = altered ? run(before?.now, ids, { ...state.changes, weights }) : intact;
  if (!inside(state.chosen)) state.chosen = null;
  if (!inside(state.cell?.key) || !inside(state.cell.query)) state.cell = null;
  return { ids, start, intact, now, altered, ms: performance.now() - began };
}

/** The first of n tokens that the model reads: a full context drops its older half, as in gpt sample. */
function first_read(n) {
  const half = Math.ceil(data.context / 2);
  return Math.max(0, Math.ceil((n - data.context) / half) * half);
}

/** Run the model on integers (T,): what `gpt` returns, row by row, and `lens`, by layer the probabilities (V,) of the
 *  next token at each place (logit lens).  Only what comes after the start that `before` shares is computed. */
function run(before, ids, changes) {
  const { blocks, mlps, heads, weights } = changes, key = JSON.stringify([[...blocks], [...mlps], [...heads], weights]);
  const differs = before?.key === key ? ids.findIndex((id, t) => id !== before.ids[t]) : 0;
  if (differs < 0 && before.ids.length === ids.length) return before;
  const kept = differs < 0 ? ids.length - 1 : differs, cache = kept ? { ...before.cache, length: kept } : make_cache();
  const pass = gpt(model, ids.slice(kept), changes, cache), old = before ?? { logits: [], lens: [], attention: [] };
  const rows = (x) => Array.from({ length: x.rows }, (_, i) => x.row(i));
  const join = (old, rows) => [...(old ?? []).slice(0, kept), ...rows];
  const all_logits = [...pass.residual.slice(0, -1).map((x) => logits(model, x)), pass.logits];
  return {
    key, ids, cache, logits: join(old.logits, rows(pass.logits)),
    lens: all_logits.map((x, layer) => join(old.lens[layer], rows(x).map(softmax))),
    attention: pass.attention.map((heads, layer) => heads.map((x, head) => join(old.attention[layer]?.[head], x))),
  };
}

// ------------------------------------------------------------------ shared by the parts of the page

function el(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** The text of a token, with signs for what cannot be seen or would break the line. */
function visible(id) {
  return tokenizer.labels[id].replace(/[\p{C}\p{Z}]/gu, (c) => {
    const point = c.codePointAt(0), sign = { " ": "␣", "\n": "⏎", "\t": "⇥" }[c];
    return sign ?? `‹${hex(point, point < 256 ? 2 : 4)}›`;
  }).replace(/^\p{M}/u, "◌$&");
}

const percent = (p) => (p >= 0.0995 ? (100 * p).toFixed(0) : p >= 0.00095 ? (100 * p).toFixed(1) : "<0.1") + " %";
const signed = (x, digits = 2) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
const argmax = (row) => row.reduce((best, x, i) => (x > row[best] ? i : best), 0);
const difference = (a, b) => a.map((x, i) => x - b[i]);
/** The places of the few largest numbers of a row, the largest first. */
function largest(row, n) {
  const left = new Float64Array(row);
  return Array.from({ length: Math.min(n, row.length) }, () => {
    const best = argmax(left);
    left[best] = -Infinity;
    return best;
  });
}
/** The total variation distance of two distributions: the probability that moved, from 0 to 1. */
const moved = (p, q) => p.reduce((sum, x, i) => sum + Math.abs(x - q[i]), 0) / 2;

/** The colour of a number from −1 (blue) over 0 (white) to 1 (orange, brown). */
function colour(x) {
  const n = data.palette.length - 1;
  return data.palette[Math.max(0, Math.min(n, Math.round((x + 1) / 2 * n)))];
}

/** Show a text; one that is there already costs nothing. */
function set_text(node, text) {
  if (node.firstChild?.data !== text) node.textContent = text;
}

/** Let a row of boxes have `n` children after the first `fixed` ones, which `make(i)` makes. */
function resize(row, n, make, fixed = 0) {
  while (row.children.length > n + fixed) row.lastChild.remove();
  while (row.children.length < n + fixed) row.append(make(row.children.length - fixed));
}

/** Colour a box, with ink that can be read on it; the same in light and dark. */
function paint(node, x) {
  if (node.painted === x) return;
  node.painted = x;
  const [r, g, b] = colour(x);
  node.style.backgroundColor = `rgb(${r} ${g} ${b})`;
  node.style.color = 0.3 * r + 0.6 * g + 0.1 * b < 123 ? "var(--on-dark)" : "var(--on-light)";
}

// ------------------------------------------------------------------ the start

async function start() {
  $("name").textContent = data.name;
  $("about").textContent = data.about;
  $("rounding").textContent = data.rounding;
  try {
    model = await load_model(data);
    const error = check_model(model, tokenizer, data.check), agrees = error <= 1e-3;
    $("status").className = agrees ? "good" : "bad";
    $("status").textContent = agrees ? `✓ Its logits are NumPy's, to ${error.toExponential(0)}: checked just now`
      : `✗ In this browser its ${error === Infinity ? "tokens" : "logits"} are not NumPy's: do not trust what follows`;
  } catch (error) {
    $("status").className = "bad";
    $("status").textContent = `The weights could not be unpacked (${error}): take a browser of 2023 or later`;
    return;
  }
  start_text();
  start_blocks();
  start_map();
  matchMedia("(prefers-color-scheme: dark)").onchange = () => update(false);  // the map's labels have its ink
  refresh();
  document.querySelector("main").inert = false;
}

start();
