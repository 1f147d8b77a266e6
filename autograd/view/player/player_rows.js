// The player: the rows of the tape, of which only the visible ones exist, and the edges of the selected record.

// ------------------------------------------------------------------ rows

const ROW = 26;                                  // pixels, as in the style
const rowsBox = $("rows"), sheet = $("sheet");
// Pixels of the list, cached, since reading them in an animation frame would lay the page out twice.
const box = { height: 0, gutter: 0, top: 0 };
let visible = [];                                // entries that no folded group hides, in order
let placeOf = [];                                // entry -> its index in `visible`, or that of the group that hides it
let pool = [];                                   // elements of rows, reused as the list scrolls

/** Recompute the visible entries, after a group was folded or unfolded. */
function layOut() {
  visible = [];
  placeOf = [];
  for (let i = 0; i < outline.length; i++) {
    placeOf[i] = visible.push(i) - 1;
    if (folded.has(i)) {
      const end = i + outline[i][3];
      while (i < end) placeOf[++i] = visible.length - 1;
    }
  }
  sheet.style.height = `${visible.length * ROW}px`;
  for (const row of pool) row.entry = -1;
  isGraphStale = true;
}

/** Read the pixels of the list, whenever they may have changed. */
function measure() {
  const before = box.height;  // 0 where a notebook starts the frame without any height
  box.height = rowsBox.clientHeight;
  box.top = rowsBox.scrollTop;
  if (box.height !== before && box.height && state.row >= 0) reveal(placeOf[state.row]);
  box.gutter = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--gutter")) - 4;
  show();
}

function newRow(i) {
  const row = el("div", { className: "row", role: "treeitem", id: `row-${i}` });
  row.number = el("span", { className: "number" });
  row.call = el("span", { className: "call" });
  row.shape = el("span", { className: "shape" });
  row.swatches = ["value", "gradient"].map(newSwatch);
  row.append(row.number, row.call, row.shape, ...row.swatches.map((s) => s.swatch));
  row.onclick = () => row.entry >= 0 && clickRow(row.entry);
  row.ondblclick = () => typeof outline[row.entry] === "number" && goTo(outline[row.entry]);
  sheet.append(row);
  return row;
}

/** Make a row's element show another entry. */
function bindRow(row, entry, place) {
  const item = outline[entry], isGroup = Array.isArray(item);
  row.entry = entry;
  row.style.transform = `translateY(${place * ROW}px)`;
  row.setAttribute("aria-level", depthOf[entry] + 1);
  row.setAttribute("aria-posinset", place + 1);
  row.setAttribute("aria-setsize", visible.length);
  if (isGroup && item[3]) row.setAttribute("aria-expanded", !folded.has(entry));
  else row.removeAttribute("aria-expanded");
  row.number.textContent = isGroup ? "" : numberText(item);
  row.call.style.setProperty("--depth", depthOf[entry]);
  row.call.replaceChildren(...(isGroup ? groupParts(entry) : recordParts(item)));
  row.shape.textContent = isGroup ? "" : records[item].shape;
  row.call.title = isGroup ? item[1] : [opText(records[item]), records[item].name].join(" ");
}

function groupParts(entry) {
  const [name, , , size, times, twin] = outline[entry], isFolded = folded.has(entry);
  if (!size) return [el("span", { className: "fold" }), el("span", { className: "note" }, name)];
  const operations = recordsIn(entry).filter((n) => records[n].step >= 0).length;
  const like = twin ? `, identical to ${outline[firstTwin(entry)][0]}` : "";
  return [el("span", { className: "fold" }, isFolded ? "▸" : "▾"), el("span", { className: "op" }, name),
    times > 1 ? el("span", { className: "times", title: `${times} identical groups` }, `× ${times}`) : "",
    isFolded ? el("span", { className: "note" }, `  ${operations} operations${like}`) : ""];
}

function recordParts(n) {
  const record = records[n];
  const from = record.inputs.filter((input) => input[1] >= 0).map((input) => numberText(input[1])).join(" ");
  const text = record.name && !record.op ? "" : opText(record);
  return [el("span", { className: "fold" }), el("span", { className: "op" }, text),
    record.name ? el("span", { className: "name" }, (record.op ? " " : "") + nameIn(record.name, groupPath(entryOf[n]))) : "",
    el("span", { className: "from" }, `  ${record.op ? from : record.name ? record.kind : ""}`)];
}

const groupPath = (entry) => groupOf[entry] < 0 ? "" : outline[groupOf[entry]][1];

/** A name without the path of the group around it: `weight` in h.0.ln_1 for `h.0.ln_1.weight`. */
function nameIn(name, path) {
  return path && name.startsWith(`${path}.`) ? name.slice(path.length + 1) : name;
}

/** The group that a twin is identical to: the nearest one before it with the same parent that is no twin. */
function firstTwin(entry) {
  let first = entry - 1;
  while (groupOf[first] !== groupOf[entry] || !Array.isArray(outline[first]) || outline[first][5]) first--;
  return first;
}

const outputs = new Map();

/** The last operation of a group, which is usually its output. */
function outputOf(entry) {
  if (!outputs.has(entry)) outputs.set(entry, recordsIn(entry).findLast((n) => records[n].step >= 0) ?? -1);
  return outputs.get(entry);
}

function recordsIn(entry) {
  return outline.slice(entry + 1, entry + 1 + outline[entry][3]).filter((item) => !Array.isArray(item));
}

/** Update the parts of a row that depend on the step and the selection. */
function updateRow(row, marks) {
  const item = outline[row.entry], isGroup = Array.isArray(item), place = placeOf[row.entry];
  const n = isGroup ? -1 : item;
  const classes = ["row"];
  if (isGroup) classes.push("group");
  if (place === marks.current) classes.push("current");
  if (place === placeOf[state.row]) classes.push("selected");
  if (n >= 0 && !hasValue(n, state.step)) classes.push("future");
  if (state.found.has(row.entry) || isGroup && folded.has(row.entry) && marks.hidden.has(place)) classes.push("match");
  row.className = classes.join(" ");
  row.setAttribute("aria-selected", row.entry === state.row);
  const shown = isGroup && folded.has(row.entry) ? outputOf(row.entry) : n;
  const gradient = shown >= 0 ? gradientAt(shown, state.step) : null;
  showSwatch(row.swatches[0], shown >= 0 && hasValue(shown, state.step) ? records[shown].value[0] : null);
  showSwatch(row.swatches[1], gradient?.entries?.[0]);
  row.swatches[1].swatch.className = `swatch gradient ${gradient && gradient.how === "partial" ? "partial" : ""}`;
}

function newSwatch(kind) {
  const text = el("span", { className: "single" }), odd = el("span", { className: "odd" });
  return { swatch: el("span", { className: `swatch ${kind}` }, text, odd), text, odd, shown: null };
}

/** Show a thumbnail of an array: its picture, or its number if it has only one. */
function showSwatch(swatch, entry = null) {
  if (entry === swatch.shown) return;
  swatch.shown = entry;
  const place = entry && entry.picture;
  swatch.swatch.style.backgroundImage = place ? thumbnail(place) : "";
  const text = entry && !place ? singleNumber(entry) : "";
  swatch.text.textContent = text.length > 7 ? singleNumber(entry, 1) : text;
  swatch.odd.textContent = place && isOdd(entry.words[0][0]) ? entry.words[0][0] : "";
}

function singleNumber(entry, digits = 3) {
  const [name, text] = entry.words.at(-1);
  return name === "value" ? shortNumber(Number(Number(text).toPrecision(digits))) : isOdd(name) ? name : "";
}

function showRows() {
  const first = Math.max(0, Math.floor(box.top / ROW) - 3), count = Math.ceil(box.height / ROW) + 7;
  while (pool.length < count) pool.push(newRow(pool.length));
  const size = pool.length, marks = currentMarks();
  for (let place = first; place < first + size; place++) {
    const row = pool[place % size], entry = visible[place];
    row.hidden = entry === undefined;
    if (row.hidden) { row.entry = -1; continue; }
    if (row.entry !== entry) bindRow(row, entry, place);
    updateRow(row, marks);
  }
  const at = placeOf[state.row];
  if (at >= first && at < first + size) rowsBox.setAttribute("aria-activedescendant", pool[at % size].id);
  else rowsBox.removeAttribute("aria-activedescendant");
}

function currentMarks() {
  const current = forward ? placeOf[entryOf[atStep[state.step]]] : -1;
  return { current, hidden: new Set([...state.found].map((entry) => placeOf[entry])) };
}

/** Scroll a place into view: by as little as possible if it is near, towards the middle if it is far. */
function reveal(place) {
  const top = place * ROW, { height, top: low } = box, high = low + height, far = 8 * ROW;
  if (top < low + ROW) scrollRows(top - (top < low - far ? height / 3 : 2 * ROW));
  else if (top > high - 3 * ROW) scrollRows(top - (top > high + far ? height * 2 / 3 : height - 4 * ROW));
}

function scrollRows(top) {
  const most = Math.max(0, visible.length * ROW - box.height);
  box.top = Math.round(Math.min(most, Math.max(0, top)));
  rowsBox.scrollTop = box.top;
}

// ------------------------------------------------------------------ edges of the selected record

const MOST_EDGES = 200, LANES = 6;

function showEdges() {
  const item = outline[state.row], parts = [];
  if (typeof item === "number") {
    const here = placeOf[state.row], sending = records[item].back === state.step;
    const ends = (list) => [...new Set(list.map((n) => placeOf[entryOf[n]]))].filter((place) => place !== here)
      .sort((a, b) => Math.abs(a - here) - Math.abs(b - here)).slice(0, MOST_EDGES);
    const inputs = ends(records[item].inputs.map((input) => input[1]).filter((n) => n >= 0));
    const uses = ends(users[item]);
    uses.forEach((place, i) => parts.push(...edge(here, place, i + inputs.length, "user", place)));
    inputs.forEach((place, i) => parts.push(...(sending ? edge(here, place, i, "sent", place)
      : edge(here, place, i, "input", here))));
    parts.push(svg("circle", { cx: box.gutter, cy: (here + 0.5) * ROW, r: 3.5 }));
  }
  $("edges").replaceChildren(...parts);
}

/** An edge drawn as in a commit graph: out to a lane, along it, and back, with an arrow at the row `to`. */
function edge(a, b, i, kind, to) {
  const right = box.gutter, [top, bottom] = [Math.min(a, b), Math.max(a, b)].map((place) => (place + 0.5) * ROW);
  const x = right - 10 - (i % LANES) * Math.max(4, (right - 18) / LANES), r = Math.min(7, right - x - 2);
  const line = `M${right} ${top}H${x + r}Q${x} ${top} ${x} ${top + r}` +
    `V${bottom - r}Q${x} ${bottom} ${x + r} ${bottom}H${right}`;
  const y = (to + 0.5) * ROW;
  return [svg("path", { d: line, class: kind }),
    svg("path", { d: `M${right + 2} ${y}l-7 -4v8z`, class: `${kind} head` })];
}
