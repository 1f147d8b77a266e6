// The player: memory, search, keys, and `show()`, the one function that renders the state.

// ------------------------------------------------------------------ memory and current step

const along = (step) => lastStep ? 1000 * step / lastStep : 500;
let head, past;

/** Draw the curve of bytes alive, once. */
function drawMemory() {
  const memory = tape.memory;
  if (!memory || !memory.alive.length) return;
  $("memory").hidden = false;
  const most = memory.peak || 1, every = Math.max(1, Math.floor(memory.alive.length / 1000));
  let line = "M0 100";
  for (let i = 0; i < memory.alive.length; i += every) {
    const height = Math.max(...memory.alive.slice(i, i + every));
    line += `L${along(i).toFixed(1)} ${(100 - 96 * height / most).toFixed(1)}`;
  }
  line += `L${along(memory.alive.length - 1)} 100Z`;
  const clip = svg("clipPath", { id: "clip" });
  past = svg("rect", { x: 0, y: 0, width: 0, height: 100 });
  clip.append(past);
  head = svg("line", { y1: 0, y2: 100, class: "head" });
  const peak = along(memory.peak_step);
  $("curve").append(clip, svg("path", { d: line, class: "area" }),
    svg("path", { d: line, class: "past", "clip-path": "url(#clip)" }),
    svg("line", { x1: peak, x2: peak, y1: 0, y2: 100, class: "peak" }), head);
  $("curve").onpointerdown = (event) => { $("curve").setPointerCapture(event.pointerId); scrub(event); };
  $("curve").onpointermove = (event) => { if (event.buttons) scrub(event); };
}

function scrub(event) {
  const { left, width } = $("curve").getBoundingClientRect();
  setStep(Math.round(lastStep * Math.min(1, Math.max(0, (event.clientX - left) / width))));
}

function showMemory() {
  if (!head) return;
  const x = along(state.step), memory = tape.memory;
  head.setAttribute("transform", `translate(${x})`);
  past.setAttribute("width", x);
  $("alive").replaceChildren(el("span", {}, `memory alive: ${sizeText(memory.alive[state.step] ?? 0)}`),
    el("span", {}, `peak ${sizeText(memory.peak)} ${memory.peak_when}`));
  const item = outline[state.row], lives = typeof item === "number" ? lifetimes[item] : [];
  $("bars").replaceChildren(...lives.slice(0, 4).map((life, i) => {
    const x0 = along(life.born), width = Math.max(3, along(Math.min(life.dies, lastStep)) - x0);
    return svg("rect", { x: x0, y: 5 * i, height: 4, width, class: life.kind });
  }));
}

function showWhere() {
  const n = atStep[state.step];
  $("step").value = state.step;
  document.body.className = isBackward(state.step) ? "backward" : "forward";  // sets the colour of the current step
  const way = isBackward(state.step) ? "backward" : "forward";
  const words = n === undefined ? "no operations" : `${way}: ${numberText(n)} ${opText(records[n])}`;
  $("step").setAttribute("aria-valuetext", `step ${state.step} of ${lastStep}, ${words}`);
  $("where").replaceChildren(`step ${state.step} / ${lastStep}  `, el("b", {}, words));
}

// ------------------------------------------------------------------ changing the state

let asked = false;

/** Render the state in the next animation frame, once for all changes before it. */
function show() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    showWhere();
    showRows();
    showEdges();
    showGraph();
    showCard();
    showMemory();
  });
}

/** Go to a step; the selection follows, to record `n` if it is not the step's own, unless it is pinned. */
function setStep(step, n) {
  state.step = Math.min(lastStep, Math.max(0, step));
  const at = n ?? atStep[state.step];
  if (at !== undefined) {
    if (!state.pinned) state.row = entryOf[at];
    reveal(placeOf[entryOf[at]]);
  }
  show();
}

function select(entry) {
  if (entry === undefined) return;
  state.row = entry;
  reveal(placeOf[entry]);
  show();
}

/** Select a record, and unfold the groups around it. */
function selectRecord(n) {
  unfold(entryOf[n]);
  select(entryOf[n]);
}

/** Unfold the groups around an entry. */
function unfold(entry) {
  let changed = false;
  for (let group = groupOf[entry]; group >= 0; group = groupOf[group]) changed = folded.delete(group) || changed;
  if (changed) layOut();
}

function toggle(entry) {
  if (!folded.delete(entry)) folded.add(entry);
  layOut();
  select(entry);
}

function clickRow(entry) {
  if (Array.isArray(outline[entry])) toggle(entry);
  else select(entry);
}

/** Go to the step that computes a record, and from there to its backward step. */
function goTo(n) {
  const { step, back } = records[n] ?? { step: -1 };
  if (step >= 0) setStep(state.step === step && back >= 0 ? back : step, n);
}

function togglePin() { state.pinned = !state.pinned; show(); }
function toggleWeights() { state.weights = !state.weights; show(); }

function togglePlay() {
  if (state.playing) return pause();
  if (state.step >= lastStep) setStep(0);
  state.playing = true;
  $("where").setAttribute("aria-live", "off");
  showPlaying();
  let before = performance.now();
  const tick = (now) => {
    if (!state.playing) return;
    const steps = Math.floor((now - before) / 1000 * Number($("speed").value));
    if (steps) {
      before += steps * 1000 / Number($("speed").value);
      setStep(state.step + steps);
      if (state.step >= lastStep) pause();
    }
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

function pause() {
  state.playing = false;
  $("where").setAttribute("aria-live", "polite");
  showPlaying();
}

function showPlaying() {
  $("play").textContent = state.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
}

// ------------------------------------------------------------------ search

const haystacks = records.map((record, n) => [numberText(n), opText(record),
  ...["op", "kind", "name", "scope", "source", "shape"].map((key) => record[key]),
  ...[...record.value, ...record.gradient].flatMap(({ words }) => words.map(([name]) => name).filter(isOdd))]
  .join(" ").toLowerCase());

/** A test of records by a word of the search: `%12`, a part of a text, or as in Tape.find `op:softmax`, `name:*.weight`,
 * and `scope:h.*.attn` for all inside it. */
function testOf(word) {
  const [, key, pattern] = word.match(/^(op|scope|name):(.+)$/) ?? [];
  if (!key) return (n) => word.startsWith("%") ? haystacks[n].startsWith(`${word} `) : haystacks[n].includes(word);
  const text = pattern.replaceAll(/[\\^$.+?()[\]{}|/]/g, "\\$&").replaceAll("*", ".*"), inside = key === "scope" ? "(\\..*)?" : "";
  const expression = new RegExp(`^${text}${inside}$`, "u");
  return (n) => expression.test(records[n][key].toLowerCase());
}

/** Find the records that match all words, and select the next one from the selection on. */
function search(way) {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const tests = words.map(testOf), has = (n) => tests.every((test) => test(n));
  const found = words.length ? outline.flatMap((item, i) => typeof item === "number" && has(item) ? [i] : []) : [];
  state.found = new Set(found);
  $("found").textContent = words.length ? (found.length ? `${found.length} found` : "none found") : "";
  if (!found.length) return show();
  const next = way < 0 ? found.findLast((i) => i < state.row) ?? found.at(-1)
    : found.find((i) => way ? i > state.row : i >= state.row) ?? found[0];
  $("found").textContent = `${found.indexOf(next) + 1} of ${found.length}`;
  unfold(next);
  select(next);
}

// ------------------------------------------------------------------ keys and controls

const KEYS = {
  ArrowRight: (event) => setStep(state.step + (event.shiftKey ? 10 : 1)),
  ArrowLeft: (event) => setStep(state.step - (event.shiftKey ? 10 : 1)),
  Home: () => setStep(0),
  End: () => setStep(lastStep),
  ArrowDown: () => select(visible[Math.min(visible.length - 1, placeOf[state.row] + 1)]),
  ArrowUp: () => select(visible[Math.max(0, placeOf[state.row] - 1)]),
  " ": togglePlay,
  Enter: () => Array.isArray(outline[state.row]) ? toggle(state.row) : goTo(outline[state.row]),
  "/": () => $("search").focus(),
  "?": toggleKeys,
  g: () => showPane(otherPane()),
  "+": () => zoomBy(1.25),
  "=": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
  0: () => fitAll(),
  p: togglePin,
  w: toggleWeights,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  const on = event.target, button = on.closest("button, summary");
  if (on.matches("input:not([type=range]), select") || button && (event.key === " " || event.key === "Enter")) return;
  if (on === card && ["ArrowUp", "ArrowDown"].includes(event.key)) return;  // it scrolls
  event.preventDefault();
  KEYS[event.key](event);
});

function toggleKeys() {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", !$("keys").hidden);
  show();
}

function searchKey(event) {
  if (event.key === "Enter") search(event.shiftKey ? -1 : 1);
  if (event.key === "Escape") { $("search").value = ""; search(0); rowsBox.focus(); }
}

function toggleTheme() {
  const root = document.documentElement.style;
  const dark = root.colorScheme ? root.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.colorScheme = dark ? "light" : "dark";
}

function connect() {
  const on = (id, event, handler) => $(id).addEventListener(event, handler);
  on("step", "input", () => setStep(Number($("step").value)));
  on("first", "click", () => setStep(0));
  on("back", "click", () => setStep(state.step - 1));
  on("play", "click", togglePlay);
  on("next", "click", () => setStep(state.step + 1));
  on("last", "click", () => setStep(lastStep));
  on("search", "input", () => search(0));
  on("search", "keydown", searchKey);
  on("theme", "click", toggleTheme);
  on("help", "click", toggleKeys);
  rowsBox.addEventListener("scroll", () => { box.top = rowsBox.scrollTop; show(); }, { passive: true });
  new ResizeObserver(measure).observe(rowsBox);
  connectGraph();
}

function start() {
  $("totals").textContent = $("totals").title = tape.title;
  $("notes").replaceChildren(...tape.notes.map((note) => el("p", {}, note)));
  $("step").max = lastStep;
  $("way-forward").style.flex = forward || 1;
  $("way-backward").style.flex = backward;
  $("way-backward").hidden = !backward;
  foldDeepScopes();
  layOut();
  drawMemory();
  connect();
  measure();
  if (tape.focus >= 0) {
    if (records[tape.focus].step >= 0) state.step = records[tape.focus].step;
    selectRecord(tape.focus);
  } else if (forward) setStep(state.step);
  else if (outline.length) select(outline.length - 1);
}

start();
