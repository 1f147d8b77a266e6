// The player, 3 of 4: the card of the selected record or group.

// ------------------------------------------------------------------ the card

const card = $("card");
let cardShown = "";

function showCard() {
  const key = [state.row, state.step, state.weights, state.pinned, state.listing, folded.has(state.row)].join();
  if (key === cardShown) return;
  cardShown = key;
  const item = outline[state.row];
  if (item === undefined) return;
  card.replaceChildren(...(Array.isArray(item) ? groupCard(state.row) : recordCard(item)));
}

function groupCard(entry) {
  const [name, path, , size, times] = outline[entry], within = recordsIn(entry);
  if (!size) return [el("h2", {}, name), el("p", { className: "meta" }, "A page with what is around the tensor t: ",
    el("code", {}, "tape.player(focus=t)"))];
  const counts = ["operation", "parameter", "constant"].flatMap((kind) => {
    const n = within.filter((m) => records[m].kind === kind).length;
    return n ? [`${n} ${kind}${n > 1 ? "s" : ""}`] : [];
  });
  const like = times > 1 ? `  ·  the first of ${times} that are made alike` : "";
  return [el("h2", {}, name), el("p", { className: "meta" }, path, like),
    el("p", { className: "formula" }, counts.join(", ")),
    el("div", { className: "actions" }, el("button", { type: "button", onclick: () => toggle(entry) },
      folded.has(entry) ? "Unfold" : "Fold"))];
}

function recordCard(n) {
  const record = records[n];
  return [title(n, record), meta(record), formula(record), actions(n, record), figures(n, record),
    inputTable(n, record), userList(n), settings(record), memoryOf(n)].flat().filter(Boolean);
}

function title(n, record) {
  return el("h2", {}, el("span", { className: "number" }, numberText(n)), opText(record),
    record.name ? el("span", { className: "name" }, record.name) : "");
}

function meta(record) {
  return el("p", { className: "meta" }, [record.shape, record.scope, record.source].filter(Boolean).join("  ·  "));
}

function formula(record) {
  const tree = tape.ops[record.rules]?.formula;
  return tree && tree.length ? el("p", { className: "formula" }, mathematics(tree, "")) : null;
}

function switchButton(words, pressed, onclick, title) {
  return el("button", { type: "button", "aria-pressed": pressed, onclick, title }, words);
}

function actions(n, record) {
  const go = (step, way, title) => step < 0 ? null : el("button", { type: "button", title,
    "aria-pressed": step === state.step, onclick: () => setStep(step, n) }, `${way}: step ${step}`);
  return el("div", { className: "actions" }, go(record.step, "Forward", "To the step that computes it"),
    go(record.back, "Backward", "To the step that sends its gradient on"),
    switchButton("Pin", state.pinned, togglePin, "Keep this card while the steps go on  p"),
    record.weights ? switchButton(weightName(record), state.weights, toggleWeights, "Switch  w") : "");
}

function figures(n, record) {
  const withWeights = record.weights && state.weights && hasValue(n, state.step);
  return [...(withWeights ? weightFigures(record) : []),
    el("div", { className: "pair" }, valueFigure(n, record), gradientFigure(n, record))];
}

function valueFigure(n, record) {
  const known = hasValue(n, state.step), words = known ? "" : `computed at step ${record.step}`;
  return el("section", { className: "value" }, el("h3", {}, record.op ? "Value y" : "Value"),
    words ? el("p", { className: "status" }, words) : "",
    ...(known ? record.value.map(arrayFigure) : []),
    known && !record.value.length ? el("p", { className: "status" }, "no numbers") : "");
}

function gradientFigure(n, record) {
  const { how, got, of, entries } = gradientAt(n, state.step);
  const [, since] = records[n].unseen ?? [], last = Math.max(arrivals[n].at(-1)?.step ?? 0, since ?? forward);
  const first = isRoot.has(n) ? forward : arrivals[n][0]?.step ?? since;
  const never = record.kind === "constant" ? "a constant" : "nothing sends it one";
  const words = {
    never: `none: ${backward ? never : "nothing here requires a gradient"}`,
    none: first === last ? `arrives at step ${first}` : `arrives in ${of} parts, at steps ${first} to ${last}`,
    partial: `${got} of ${of} parts so far; the last comes at step ${last}`,
    whole: isRoot.has(n) && of === 1 ? "where the walk back starts" : of > 1 ? `the sum of ${of} parts` : "",
  }[how];
  return el("section", { className: "gradient" }, el("h3", {}, record.op ? "Gradient g = ∂L/∂y" : "Gradient"),
    words ? el("p", { className: "status" }, words) : "", ...(entries || []).map(arrayFigure),
    how === "whole" && !entries.length ? el("p", { className: "status" }, "no numbers") : "");
}

const weightName = (record) => record.op === "attention" ? "Attention weights" : "Probabilities as a picture";

function weightFigures(record) {
  const { of, queries, keys, pictures } = record.weights, isAttention = record.op === "attention";
  const shown = of > pictures.length ? `the first ${pictures.length} of ${of}` : "";
  const words = [isAttention ? "the first sequence" : "", shown, `${queries} ${isAttention ? "queries" : "rows"} down`,
    `${keys} ${isAttention ? "keys" : "classes"} across`, "colour by the square root"].filter(Boolean).join("  ·  ");
  const token = (i, rows, n) => {
    const at = Math.floor(i * n / rows);
    return tape.tokens && tape.tokens[at] !== undefined ? JSON.stringify(tape.tokens[at]) : `${at}`;
  };
  return [el("p", { className: "status" }, words),
    el("div", { className: "weights" }, ...pictures.map((place, i) => {
      const [canvas, output] = picture(place, `${weightName(record)} ${i}`, (code, row, column) => {
        const weight = ((code / (tape.levels - 1)) ** 2).toPrecision(2);
        return `${token(row, place[1], queries)} → ${token(column, place[2], keys)}: ${weight}`;
      });
      return el("figure", {}, canvas, el("figcaption", {}, `${isAttention ? "head" : "matrix"} ${i}`), output);
    }))];
}

function inputTable(n, record) {
  if (!record.inputs.length) return [];
  const sending = record.back >= 0 && state.step >= record.back;
  let sent = 0;
  const rows = record.inputs.map((input) => inputRow(record, input, input[3] ? record.sends[sent++] : null, sending));
  return [el("h3", {}, sending ? "Inputs, and the gradients sent to them" : "Inputs"),
    el("table", { className: state.step === record.back ? "sending" : "" }, el("tbody", {}, ...rows)),
    record.more ? el("p", { className: "status" }, `and ${record.more} more`) : null];
}

/** An input: its name, where it is from, the formula of its gradient, and how much of that is sent. */
function inputRow(record, [name, from, text, needs], send, sending) {
  const { gradients } = tape.ops[record.rules];
  const tree = needs ? gradients[name] || gradients[name.replace(/\[.*/, "")] : null;
  const what = el("td", {}, from >= 0 ? link(from) : "", el("div", { className: "status" }, text),
    tree && tree.length ? el("div", {}, mathematics(tree, "")) : "");
  const norm = !needs ? ["no gradient"] : sending ? sentParts(send, record, from) : [];
  return el("tr", {}, el("td", {}, mathematics([["i", name]], "")), what,
    el("td", { className: needs ? "norm" : "norm none" }, ...norm));
}

/** The norm of what is sent to an input, beside the largest that this record sends, and the sum it joins. */
function sentParts(send, record, to) {
  if (!send || !send[0]) return ["no numbers"];
  const largest = Math.max(...record.sends.map((s) => Number(s[0]) || 0));
  const bar = el("div", { className: "bar" });
  bar.style.width = `${largest ? 64 * Number(send[0]) / largest : 0}px`;
  if (!send[2]) return [`‖${send[0]}‖`, bar];
  const part = arrivals[to].findIndex((arrival) => arrival.send === send) + 1 + isRoot.has(to);
  const words = `part ${part} of ${gradientAt(to, state.step).of}; sum so far ‖${normOf(send[2])}‖`;
  return [`‖${send[0]}‖`, bar, el("div", { className: "status" }, words)];
}

function normOf(entries) {
  const words = entries[0].words.find(([name]) => name === "norm" || name === "value");
  return words ? words[1] : "";
}

function userList(n) {
  if (!users[n].length) return [];
  const most = 40, more = users[n].length - most;
  return [el("h3", {}, `Used by`), el("div", { className: "links" }, ...users[n].slice(0, most).map(link),
    more > 0 ? `and ${more} more` : "")];
}

function settings(record) {
  return record.attrs.length ? [el("h3", {}, "Settings"), wordList(record.attrs)] : [];
}

function memoryOf(n) {
  if (!tape.memory) return [];
  const lines = lifetimes[n].map((life) => lifeLine(life, false));
  if (!lines.length) lines.push(el("p", { className: "status" }, "there before the first step and after the last"));
  return [el("h3", {}, "In memory"), el("div", { className: "lives" }, ...lines), thereNow()];
}

const isThere = (life) => life.born <= state.step && state.step <= life.dies;

/** An array in memory: what it takes, from when to when, and who needs it. */
function lifeLine(life, named) {
  const whom = life.neededBy.slice(0, 5).map(link), more = life.neededBy.length - whom.length;
  const until = life.dies > lastStep ? "the end" : life.dies;
  const what = life.shares >= 0 ? ["in the memory of ", link(life.shares)] : [sizeText(life.size)];
  return el("div", { className: `life ${isThere(life) ? "" : "gone"}` }, el("span", { className: `key ${life.kind}` }),
    named ? link(life.n) : "", ` ${life.kind}, `, ...what, `, step ${life.born} to ${until}`,
    whom.length ? ": the backward needs it of " : "", ...whom, more > 0 ? ` and ${more} more` : "");
}

/** What fills the memory at this step, listed when it is unfolded. */
function thereNow() {
  const there = allLives.filter((life) => life.size && isThere(life)).sort((a, b) => b.size - a.size);
  const most = 12, list = el("div", { className: "lives" });
  if (state.listing) list.append(...there.slice(0, most).map((life) => lifeLine(life, true)),
    there.length > most ? `and ${there.length - most} smaller ones` : "");
  return el("details", { open: state.listing, ontoggle: (event) => {
    if (event.target.open !== state.listing) { state.listing = event.target.open; show(); }
  } }, el("summary", {}, `All arrays in memory at this step: ${there.length}`), list);
}
