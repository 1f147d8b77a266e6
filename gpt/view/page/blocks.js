// Blocks and heads: their switches, the attention of each head as a small map, and one map large, to overwrite.

/** The attention weights of a head: a row for each query, of the keys up to it. */
const weights_of = (pass, name) => pass.attention[name.split(".")[0]][name.split(".")[1]];
const heads_of = (layer) => Array.from({ length: data.config.n_head }, (_, head) => `${layer}.${head}`);
const all_heads = () => model.h.flatMap((_, layer) => heads_of(layer));
const in_words = (name) => `block ${name.replace(".", ", head ")}`;

function start_blocks() {
  model.h.forEach((_, layer) => {
    const switches = [make_switch(`block ${layer}`, "blocks", layer),
                      make_switch("MLP", "mlps", layer, `MLP of block ${layer}`)];
    const tiles = heads_of(layer).map(make_tile);
    $("blocks").append(el("div", { className: "block", id: `block-${layer}` },
      el("div", { className: "switches" }, ...switches), el("div", { className: "heads" }, ...tiles),
      el("p", { className: "says" })));
  });
  $("reset").onclick = () => {
    state.changes = unchanged();
    state.comparing = false;
    document.querySelectorAll("#blocks input").forEach((input) => { input.checked = true; });
    $("text").focus();
    update();
  };
  $("compare").onclick = () => {
    state.comparing = !state.comparing;
    update(false);
  };
}

/** A tick box that switches off an entry of a set of `state.changes`. */
function make_switch(text, set, entry, label = text) {
  const input = el("input", { type: "checkbox", checked: true, ariaLabel: label });
  input.onchange = () => {
    state.changes[set][input.checked ? "delete" : "add"](entry);
    update();
  };
  return el("label", {}, input, text);
}

function make_tile(name) {
  const canvas = el("canvas", { id: `map-${name}` });
  const button = el("button", { type: "button", ariaLabel: `Attention of ${in_words(name)}` }, canvas);
  button.onclick = () => {
    state.head = name;
    update(false);
  };
  return el("div", { className: "head" }, button, make_switch(name, "heads", name, `head ${name}`));
}

function show_blocks() {
  const { altered, now, place } = view, { blocks, mlps, heads, weights } = state.changes;
  state.comparing &&= altered;
  const count = (n, text) => (n ? [`${n} ${text}${n > 1 ? "s" : ""}`] : []);
  const off = [...count(blocks.size, "block"), ...count(mlps.size, "MLP"), ...count(heads.size, "head")].join(", ");
  $("altered").hidden = !(off || weights.length);
  const overwritten = count(weights.length, "overwritten weight");
  $("changes").textContent = [...(off ? [`${off} off`] : []), ...overwritten].join(", ");
  $("compare").setAttribute("aria-pressed", state.comparing);
  const most = largest_weight();
  for (const name of all_heads()) {
    const canvas = $(`map-${name}`), layer = +name.split(".")[0];
    draw_map(canvas, name, most);
    canvas.parentNode.setAttribute("aria-pressed", name === state.head);
    canvas.parentNode.classList.toggle("off", heads.has(name) || blocks.has(layer));
  }
  model.h.forEach((_, layer) => {
    const block = $(`block-${layer}`), p = now.lens[layer + 1][place];
    const says = (id) => el("span", {}, el("code", {}, visible(id)), ` ${percent(p[id])}`);
    block.lastChild.replaceChildren(...largest(p, 3).map(says));
    block.lastChild.title = "what the head would read from the residual stream here, after this block";
  });
}

// ------------------------------------------------------------------ maps

/** The numbers of a head's map, row by row: its weights or, comparing, by how much they changed. */
function map_of(name) {
  const weights = weights_of(view.now, name);
  return state.comparing ? weights.map((row, query) => difference(row, weights_of(view.intact, name)[query])) : weights;
}

/** The largest number in any map, which has the darkest colour. */
function largest_weight() {
  if (!state.comparing) return 1;
  return all_heads().flatMap(map_of).reduce((most, row) => row.reduce((m, v) => Math.max(m, Math.abs(v)), most), 1e-6);
}

/** Draw a map, a pixel a weight, in colours of square roots, so that small ones are seen; what a query does not see
 *  stays empty. */
function draw_map(canvas, name, most) {
  const rows = map_of(name), n = rows.length, context = canvas.getContext("2d");
  canvas.width = canvas.height = n;
  const picture = context.createImageData(n, n);
  rows.forEach((row, query) => row.forEach((v, key) => {
    const [r, g, b] = colour(Math.sign(v) * Math.sqrt(Math.abs(v) / most));
    picture.data.set([r, g, b, 255], 4 * (query * n + key));
  }));
  context.putImageData(picture, 0, 0);
}

const SIDE = 800, LABELLED = 40; // pixels of the large map, and tokens up to which it has them at its sides

function start_map() {
  const map = $("map");
  map.width = map.height = SIDE;
  map.onpointerdown = (event) => choose_cell(...cell_at(event));
  map.onpointermove = (event) => (event.buttons ? choose_cell(...cell_at(event)) : show_reading(...cell_at(event)));
  map.onpointerleave = () => show_reading(...chosen_cell());
  map.onkeydown = map_key;
  $("weight").oninput = () => set_weight(+$("weight").value);
  $("restore").onclick = () => set_weight(null);
}

/** Where the large map begins, and the side of a cell, in its pixels. */
function map_grid() {
  const n = view.ids.length, margin = n <= LABELLED ? 36 : 0;
  return { n, margin, cell: (SIDE - margin) / n };
}

/** The query and key under the pointer. */
function cell_at({ offsetX, offsetY }) {
  const { n, margin, cell } = map_grid(), place = (offset) => {
    const i = Math.floor((offset / $("map").clientWidth * SIDE - margin) / cell);
    return Math.max(0, Math.min(n - 1, i));
  };
  const query = place(offsetY);
  return [query, Math.min(place(offsetX), query)];
}

function chosen_cell() {
  const { start, place, now } = current();
  if (state.cell) return [state.cell.query - start, state.cell.key - start];
  return [place, argmax(weights_of(now, state.head)[place])];
}

function choose_cell(query, key) {
  state.cell = { query: view.start + query, key: view.start + key };
  update(false);
}

function map_key(event) {
  const [query, key] = chosen_cell(), weight = weights_of(view.now, state.head)[query][key];
  const to = { ArrowUp: [query - 1, key], ArrowDown: [query + 1, key], ArrowLeft: [query, key - 1],
               ArrowRight: [query, key + 1], Home: [query, 0], End: [query, query] }[event.key];
  const step = { "+": 0.05, "-": -0.05 }[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (to) {
    const row = Math.max(0, Math.min(view.ids.length - 1, to[0]));
    choose_cell(row, Math.max(0, Math.min(row, to[1])));
  } else if (step) set_weight(weight + step);
  else if (/^[0-9]$/.test(event.key)) set_weight(+event.key / 10);
  else if (event.key === "Delete" || event.key === "Backspace") set_weight(null);
  else return;
  event.preventDefault();
}

/** Overwrite the chosen weight; null restores it. */
function set_weight(weight) {
  choose_cell(...chosen_cell());
  const cell = { ...state.cell, head: state.head }, { weights } = state.changes;
  state.changes.weights = weights.filter((c) => c.head !== cell.head || c.query !== cell.query);
  if (weight !== null) state.changes.weights.push({ ...cell, weight: Math.max(0, Math.min(1, weight)) });
  update();
}

function show_map() {
  const map = $("map"), context = map.getContext("2d"), { n, margin, cell } = map_grid();
  const [query, key] = chosen_cell(), most = largest_weight();
  context.clearRect(0, 0, SIDE, SIDE);
  context.imageSmoothingEnabled = false;
  context.drawImage($(`map-${state.head}`), margin, margin, SIDE - margin, SIDE - margin);
  const outline = (i, j, columns, width) => {
    context.lineWidth = width;
    context.strokeRect(margin + j * cell, margin + i * cell, columns * cell, cell);
  };
  context.strokeStyle = getComputedStyle(map).color;           // can be read on every cell, in light and dark
  context.fillStyle = getComputedStyle(document.body).color;
  outline(view.place, 0, view.place + 1, 1.5);
  const overwritten = state.changes.weights.filter((c) => c.head === state.head);
  for (const c of overwritten) outline(c.query - view.start, c.key - view.start, 1, 2);
  outline(query, key, 1, 5);
  if (margin) {
    context.font = `${Math.min(22, cell)}px ui-monospace, Menlo, Consolas, monospace`;
    Object.assign(context, { textAlign: "center", textBaseline: "middle" });
    view.ids.forEach((id, i) => {
      const text = [...visible(id)].slice(0, 4).join(""), at = margin + (i + 0.5) * cell;
      context.fillText(text, at, margin / 2, cell);
      context.fillText(text, margin / 2, at, margin);
    });
  }
  $("map-title").textContent = `Attention of ${in_words(state.head)}`;
  $("ramp").className = state.comparing ? "diverging" : "sequential";
  $("least").textContent = state.comparing ? `−${most.toPrecision(2)}` : "0";
  $("most").textContent = `${state.comparing ? `+${most.toPrecision(2)}` : "1"} (square roots)`;
  $("restore").disabled = !overwritten.some((c) => c.query - view.start === query);
  $("weight").value = weights_of(view.now, state.head)[query][key];
  $("weight-value").textContent = (+$("weight").value).toFixed(2);
  show_reading(query, key);
}

function show_reading(query, key) {
  const [weight, before] = [view.now, view.intact].map((pass) => weights_of(pass, state.head)[query][key]);
  const token = (i) => [el("code", {}, visible(view.ids[i])), ` (place ${i})`];
  $("reading").replaceChildren("From ", ...token(query), " to ", ...token(key), ": ", el("b", {}, weight.toFixed(3)),
    Math.abs(weight - before) > 5e-4 ? `; ${before.toFixed(3)} without changes` : "");
}
