// The player's graph: its elements, and what they show at a step.

const graphBox = $("graph"), world = $("world"), wires = $("wires");
const view = { x: 0, y: 0, zoom: 1, width: 0, height: 0, isFitted: true };
let graph = null, isGraphStale = true;

const ruler = document.createElement("canvas").getContext("2d");
const FONTS = { title: "600 12.5px", plain: "12.5px", small: "10.5px", frame: "600 12px" };
const widths = new Map();

function textWidth(text, font) {
  const key = `${font} ${text}`;
  if (!widths.has(key)) {
    ruler.font = `${FONTS[font]} ${getComputedStyle(document.body).fontFamily}`;
    widths.set(key, ruler.measureText(text).width);
  }
  return widths.get(key);
}

// ------------------------------------------------------------------ words

/** The texts of a unit: what is bold, what follows, and the shape. */
function wordsOf(unit) {
  const record = records[unit.output] ?? { name: "", kind: "", shape: "", op: "" };
  if (unit.kind === "closed") {
    const times = unit.groups.length > 1 ? ` × ${unit.groups.length}` : "";
    return unit.output < 0 ? [clipped(unit.title), "", ""]
      : [`▸ ${clipped(unit.title)}`, times, `${unit.count} ops${times ? " each" : ""}`];
  }
  if (unit.kind === "array") return [unit.title, "", plainShape(unit.text)];
  if (unit.kind !== "operation") return [clipped(unit.title || record.name || record.kind || ""), "", plainShape(record.shape)];
  const tuple = unit.records[0], op = opText(records[tuple]), name = records[tuple].name;
  return unit.title ? [clipped(unit.title), ` ${op}`, plainShape(records[tuple].shape)]
    : [clipped(op), name ? ` ${clipped(name)}` : "", plainShape(records[tuple].shape)];
}

const clipped = (text) => text.length > 22 ? `${text.slice(0, 21)}…` : text;
/** A shape as it stands in a box: `12×64` for `f32[12,64]`, `int 12×64` for `i64[12,64]`. */
function plainShape(text) {
  return text.replaceAll(/[a-z]+\d*\[([\d,]*)\]/g, (whole, sizes) =>
    ({ i: "int ", b: "bool " }[whole[0]] ?? "") + sizes.replaceAll(",", "×")).replaceAll(/[()]/g, "").trim();
}

function measureBox(unit) {
  const [bold, plain, small] = wordsOf(unit), isPill = Boolean(unit.reader);
  const text = textWidth(bold, "title") + textWidth(plain, "plain") + (small ? 10 + textWidth(small, "small") : 0);
  unit.w = 2 * Math.ceil((Math.max(isPill ? isSmall ? 84 : 64 : 104, text + (isPill ? 24 : 22))) / 2);
  unit.h = unit.kind === "array" || unit.kind === "more" ? 24 : isPill ? 38 : unit.groups?.length > 1 ? 54 : 42;
}

// ------------------------------------------------------------------ elements

/** Make the elements of the graph, after groups were folded or unfolded, and keep the selected box where it was. */
function drawGraph() {
  const before = graph && boxOfEntry(state.row);
  graph = buildGraph(state.row);
  placeGraph(graph);
  const nodes = graph.units.flatMap((unit) => [unit, ...unit.pills]);
  world.replaceChildren(...framesInside(graph.root).map(frameElement), wires, ...nodes.map(unitElement));
  wires.replaceChildren(...graph.edges.map(edgeElement));
  const after = boxOfEntry(state.row);
  if (before && after && !view.isFitted) {
    view.x += view.zoom * (before[0] + before[2] / 2 - after[0] - after[2] / 2);
    view.y += view.zoom * (before[1] - after[1]);
  }
  isGraphStale = false;
}

function framesInside(frame) {
  return frame.items.filter((item) => item.kind === "frame").flatMap((item) => [item, ...framesInside(item)]);
}

function setBox(element, [x, y, w, h]) {
  Object.assign(element.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
}

function frameElement(frame) {
  const name = el("button", { type: "button", tabIndex: -1, title: `Close ${outline[frame.entry][1]}` }, `▾ ${frame.title}`);
  frame.element = el("div", { className: "frame" }, name);
  name.onclick = () => toggle(frame.entry);
  setBox(frame.element, frame.box);
  return frame.element;
}

function unitElement(unit) {
  const [bold, plain, small] = wordsOf(unit);
  unit.element = el("div", { className: "unit", title: tipOf(unit) },
    el("div", { className: "title" }, el("strong", {}, bold), plain ? el("span", {}, plain) : "", small ? el("i", {}, small) : ""));
  unit.swatches = [];
  if (unit.output >= 0) {
    unit.swatches = ["value", "gradient"].map(newSwatch);
    unit.element.append(el("div", { className: "slots" }, ...unit.swatches.map((swatch) => swatch.swatch)));
  }
  if (unit.groups?.length > 1) unit.element.append(tickMarks(unit));
  unit.element.onclick = (event) => clickUnit(unit, event);
  setBox(unit.element, unit.box);
  return unit.element;
}

/** A mark for each of a run of identical scopes, few for many: it shows how far the step is, then the norm of the scope's
 * gradient as a height, and opens the scope. */
function tickMarks(unit) {
  const size = Math.ceil(unit.groups.length / 24);
  unit.ticks = [];
  for (let i = 0; i < unit.groups.length; i += size) {
    const groups = unit.groups.slice(i, i + size), norm = Number(normOf(records[outputOf(groups[0])]?.gradient ?? []));
    const tick = el("span", { title: `Open ${outline[groups[0]][1]}${norm ? `; gradient ‖${norm}‖` : ""}` });
    unit.ticks.push(Object.assign(tick, { groups, norm }));
  }
  const logs = unit.ticks.map((tick) => Math.log(tick.norm)).filter(Number.isFinite), low = Math.min(...logs), high = Math.max(...logs);
  for (const tick of unit.ticks) {
    const part = tick.norm > 0 && high > low ? (Math.log(tick.norm) - low) / (high - low) : tick.norm > 0 ? 0.5 : 0;
    tick.style.setProperty("--norm", `${(3 + 7 * part).toFixed(1)}px`);
  }
  return el("div", { className: "ticks" }, ...unit.ticks);
}

function tipOf(unit) {
  if (unit.kind === "array") return `${unit.title}: ${unit.text}, no tensor`;
  if (unit.kind === "closed") return unit.groups.map((group) => outline[group][1]).join(", ").slice(0, 200);
  return unit.records.map((n) => [`${numberText(n)} ${opText(records[n])}`, records[n].name, records[n].shape, records[n].scope]
    .filter(Boolean).join("  ·  ")).join("\n");
}

function clickUnit(unit, event) {
  if (unit.kind === "closed") {
    const group = event.target.groups?.[0] ?? unit.groups.find((i) => recordsIn(i).includes(atStep[state.step])) ?? unit.groups[0];
    if (group === undefined) select(unit.entries[0]);
    else if (outline[group][3]) toggle(group);
    else select(group);
  } else if (unit.output >= 0 && isOperation(unit.output)) {
    const { step, back } = records[unit.output], inBackward = isBackward(state.step) && back >= 0;
    setStep(state.step === step && back >= 0 || inBackward && state.step !== back ? back : step, unit.output);
    if (state.pinned) select(entryOf[unit.output]);
  } else if (unit.entries.length) select(unit.entries[0]);
}

/** The box of the unit or frame that shows an entry. */
function boxOfEntry(entry) {
  return unitOfEntry(entry)?.box ?? framesInside(graph.root).find((frame) => frame.entry === entry)?.box;
}

function unitOfEntry(entry) {
  const n = outline[entry];
  const shows = (unit) => unit.entries.includes(entry) || unit.pills.some((pill) => pill.entries.includes(entry));
  if (typeof n === "number") return graph.unitOf[n] ?? graph.units.find(shows);
  return graph.units.find((unit) => unit.entries.includes(entry)) ??
    graph.units.find((unit) => unit.kind === "closed" && unit.entries.some((i) => i < entry && entry <= endOf(i)));
}

// ------------------------------------------------------------------ edges

function edgeElement(edge) {
  const { points } = edge, [tip, start] = [points.at(-1), points[0]];
  const isPill = Boolean(edge.tail.reader), { isLeft, isCrowded } = edge.links?.at(-1) ?? {};
  edge.path = svg("path", { d: pathOf(edge), class: "line" });
  edge.heads = [arrowAt(tip, points.at(-2)), arrowAt(start, points.find(([x, y]) => x !== start[0] || y !== start[1]) ?? start)];
  edge.arrow = svg("path", { class: "arrow" });
  edge.label = svg("text", isPill ? { x: (tip[0] + start[0]) / 2, y: start[1] - 5, "text-anchor": "middle" }
    : isCrowded ? { x: start[0] + 7, y: start[1] + 14 }                       // at the end where there is room
      : { x: tip[0] + (isLeft ? -7 : 7), y: tip[1] - 6, "text-anchor": isLeft ? "end" : "start" });
  edge.element = svg("g", {});
  edge.element.append(edge.path, edge.arrow);
  edge.shown = "";
  edge.element.onpointerenter = () => {
    edge.title ??= edge.element.appendChild(svg("title", {}));
    edge.title.textContent = titleOf(edge, sentUses(edge));
  };
  return edge.element;
}

function pathOf({ points, tail }) {
  let d = `M${points[0].map(round)}`;
  for (let i = 1; i < points.length; i++) {
    const [[x0, y0], [x, y]] = [points[i - 1], points[i]];
    if (tail.reader) d += `C${[round((x0 + x) / 2), round(y0), round((x0 + x) / 2), round(y), round(x), round(y)]}`;
    else if (Math.abs(x - x0) < 0.5) d += `V${round(y)}`;
    else d += `C${[round(x0), round((y0 + y) / 2), round(x), round((y0 + y) / 2), round(x), round(y)]}`;
  }
  return d;
}

const round = (x) => Math.round(10 * x) / 10;

/** An arrow that points to `to` from the direction of `from`. */
function arrowAt([x, y], from) {
  if (Math.abs(from[1] - y) < Math.abs(from[0] - x) && Math.abs(from[1] - y) < 8) {
    const side = Math.sign(from[0] - x);
    return `M${round(x)} ${round(y)}l${6 * side} -3.5v7z`;
  }
  const side = Math.sign(from[1] - y) || -1;
  return `M${round(x)} ${round(y)}l-3.5 ${6 * side}h7z`;
}

const norms = records.flatMap((record) => record.sends.map((send) => Math.abs(Number(send[0])))).filter((x) => x > 0 && x < Infinity);
const [lowNorm, highNorm] = [Math.log(norms.reduce((a, b) => Math.min(a, b), Infinity)), Math.log(norms.reduce((a, b) => Math.max(a, b), 0))];

/** The width of an edge along which a gradient of this norm flows, on a log scale. */
function widthOf(norm) {
  return norm > 0 && norm < Infinity && highNorm > lowNorm ? 1.4 + 2.6 * (Math.log(norm) - lowNorm) / (highNorm - lowNorm) : 1.8;
}

/** What one use sends back, as text: the number if there is one, or the norm. */
function sentText({ m, send }) {
  return send?.[0] ? amountText(sentEntries(send, m), shortNumber(Number(Number(send[0]).toPrecision(3)))) : "";
}

/** The uses of an edge that have sent their gradients. */
const sentUses = (edge) => edge.uses.filter((use) => use.send && records[use.n].back >= 0 && records[use.n].back <= state.step);

function showEdge(edge, current) {
  const sent = sentUses(edge);
  const isThere = edge.uses.some(({ m }) => m < 0 || hasValue(m, state.step));
  const lit = edge.uses.filter((use) => use.n === current && (use.send || !isBackward(state.step))), isLit = lit.length > 0;
  const isSelected = edge.uses.some(({ n, m }) => outline[state.row] === n || outline[state.row] === m);
  const key = [sent.length, isThere, isLit, isSelected, isLit && isBackward(state.step)].join();
  if (edge.shown === key) return;
  edge.shown = key;
  const amounts = sent.map((use) => Number(use.send[0])), isOdd = amounts.some((x) => !(Math.abs(x) < Infinity));
  const classes = ["edge", edge.uses.length ? "" : "zero", sent.length ? "sent" : isThere ? "there" : "", isLit ? "lit" : "", isSelected ? "selected" : "",
    sent.length && amounts.every((x) => x === 0) ? "zero" : "", isOdd ? "odd" : ""];
  edge.element.setAttribute("class", classes.filter(Boolean).join(" "));
  edge.path.style.strokeWidth = sent.length ? widthOf(Math.max(...amounts.map(Math.abs))) : "";
  edge.arrow.setAttribute("d", edge.heads[sent.length ? 1 : 0]);
  edge.label.textContent = labelOf(edge, sent, isLit ? lit : []);
  if (edge.label.textContent) edge.element.append(edge.label);
  else edge.label.remove();
  if (isLit) wires.append(edge.element);
}

function labelOf(edge, sent, lit) {
  const isSending = lit.length && isBackward(state.step) || !lit.length && sent.length;
  if (!lit.length && !(isSmall && sent.length)) return "";
  if (isSending) return span((lit.length ? lit : sent).map(sentText).filter(Boolean));
  const entry = records[lit[0].m]?.value[0];
  return entry && !entry.picture ? singleNumber(entry) : plainShape(records[lit[0].m]?.shape ?? "");
}

const span = (texts) => new Set(texts).size > 1 ? `${texts[0]} … ${texts.at(-1)}` : texts[0] ?? "";

function titleOf(edge, sent) {
  if (!edge.uses.length) return "left out";
  const [{ n, m, name }] = edge.uses, from = m < 0 ? name : `${numberText(m)} ${opText(records[m])}`;
  return [`${from} → ${numberText(n)} ${opText(records[n])} (${name})`, edge.uses.length > 1 ? `and ${edge.uses.length - 1} more` : "",
    m < 0 ? "" : records[m].shape, sent.length ? `sends back ${span(sent.map(sentText))}` : ""].filter(Boolean).join("\n");
}

// ------------------------------------------------------------------ the state

function showGraph() {
  if (!view.width) return;                       // hidden behind the rows
  if (isGraphStale || !graph || isOutsideWindow()) {
    drawGraph();
    view.isDrawn = false;
  }
  const current = forward ? atStep[state.step] : undefined, shown = unitOfEntry(state.row);
  const marks = { unit: graph.unitOf[current], shown };
  for (const unit of graph.units) {
    showUnit(unit, marks);
    for (const pill of unit.pills) showUnit(pill, marks);
  }
  for (const edge of graph.edges) showEdge(edge, current);
  for (const frame of framesInside(graph.root)) {
    frame.element.className = `frame${frame.entry === state.row ? " selected" : ""}${frame.entry < entryOf[current] && entryOf[current] <= endOf(frame.entry) ? " current" : ""}`;
  }
  if (view.isFitted) fitGraph();
  if (view.target !== state.row || view.step !== state.step) {
    [view.target, view.step] = [state.row, state.step];
    const box = boxOfEntry(state.row);
    if (box) revealBox(box);
    world.classList.toggle("gliding", view.isDrawn && !state.playing);
  }
  moveWorld();
  view.isDrawn = true;
  graphBox.setAttribute("aria-label", `Graph of the tape. ${aroundText(outline[state.row])}`);
}

/** The selected record and those around it, in words. */
function aroundText(n) {
  if (typeof n !== "number") return n ? `Selected: ${n[0]}` : "";
  const name = (m) => `${numberText(m)} ${records[m].name || opText(records[m])}`, some = (list) => list.slice(0, 8).map(name).join(", ");
  const inputs = records[n].inputs.map((input) => input[1]).filter((m) => m >= 0);
  return `Selected: ${name(n)}` + (inputs.length ? `; reads ${some(inputs)}` : "") + (users[n].length ? `; read by ${some(users[n])}` : "");
}

/** True if the selection has left the open chunk of a long scope. */
function isOutsideWindow() {
  return graph.windows.some(({ scope, open }) => isWithin(state.row, scope) && !(open && isWithin(state.row, open)));
}

function showUnit(unit, marks) {
  const n = unit.output, isHere = unit === marks.unit;
  const isSelected = unit.entries.includes(state.row) || unit === marks.shown && !unit.pills.some((pill) => pill.entries.includes(state.row));
  const started = unit.records.some((m) => hasValue(m, state.step));
  const classes = ["unit", unit.kind, unit.reader ? "pill" : "", isHere ? "current" : "", isSelected ? "selected" : "",
    n >= 0 && !started ? "future" : "", unit.groups?.length > 1 ? "run" : "", isRoot.has(n) ? "root" : "",
    state.found.size && unit.entries.some((i) => isFound(i)) ? "match" : ""].filter(Boolean).join(" ");
  if (unit.element.className !== classes) unit.element.className = classes;
  if (n >= 0) {
    const gradient = gradientAt(n, state.step);
    showSwatch(unit.swatches[0], hasValue(n, state.step) ? records[n].value[0] : null);
    showSwatch(unit.swatches[1], gradient.entries?.[0]);
    const className = `swatch gradient ${gradient.how}`;
    if (unit.swatches[1].swatch.className !== className) unit.swatches[1].swatch.className = className;
  }
  for (const tick of unit.ticks ?? []) tick.className = tickState(tick.groups);
}

function isFound(entry) {
  for (let i = entry; i <= endOf(entry); i++) if (state.found.has(i)) return true;
  return false;
}

/** How far a scope is: `now`, `back` after its backward pass, `done` after its forward pass. */
function tickState(groups) {
  const first = groups[0], end = endOf(groups.at(-1)), at = entryOf[atStep[state.step]];
  if (first <= at && at <= end) return "now";
  const list = recordsIn(first).filter(isOperation), last = list.at(-1);
  if (list[0] !== undefined && records[list[0]].back >= 0 && records[list[0]].back <= state.step) return "back";
  return last !== undefined && records[last].step <= state.step ? "done" : "";
}
