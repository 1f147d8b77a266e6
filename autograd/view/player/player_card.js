// The player: the card of the selected record or group.

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
  if (!size) return [el("h2", {}, name), el("p", { className: "meta" }, "For a page around the tensor t: ",
    el("code", {}, "tape.player(focus=t)"))];
  const counts = ["operation", "parameter", "constant"].flatMap((kind) => {
    const n = within.filter((m) => records[m].kind === kind).length;
    return n ? [`${n} ${kind}${n > 1 ? "s" : ""}`] : [];
  });
  const like = times > 1 ? `  ·  the first of ${times} identical groups` : "";
  return [el("h2", {}, name), el("p", { className: "meta" }, path, like),
    el("p", { className: "formula" }, counts.join(", ")),
    el("div", { className: "actions" }, el("button", { type: "button", onclick: () => toggle(entry) },
      folded.has(entry) ? "Unfold" : "Fold")), ...outputFigures(outputOf(entry))];
}

/** The last operation of a group, with its value and gradient. */
function outputFigures(n) {
  return n < 0 ? [] : [el("h3", {}, "Its last operation ", link(n)),
    el("div", { className: "pair" }, valueFigure(n, records[n]), gradientFigure(n, records[n]))];
}

function recordCard(n) {
  const record = records[n];
  return [title(n, record), meta(record), formula(n, record), actions(n, record), figures(n, record),
    inputTable(n, record), userList(n), attributes(record), whatIf(n), memoryOf(n)].flat().filter(Boolean);
}

function title(n, record) {
  return el("h2", {}, el("span", { className: "number" }, numberText(n)), opText(record),
    record.name ? el("span", { className: "name" }, record.name) : "");
}

function meta(record) {
  return el("p", { className: "meta" }, [record.shape, record.scope, record.source].filter(Boolean).join("  ·  "));
}

function formula(n, record) {
  const tree = tape.ops[record.rules]?.formula;
  if (!tree?.length) return null;
  const line = hasValue(n, state.step) ? numbersLine(tree, record, shortText(record.value[0])) : null;
  return el("div", { className: "formula" }, el("p", {}, mathematics(tree, "")), line);
}

function switchButton(words, pressed, onclick, title) {
  return el("button", { type: "button", "aria-pressed": pressed, onclick, title }, words);
}

function actions(n, record) {
  const go = (step, way, title) => step < 0 ? null : el("button", { type: "button", title,
    "aria-pressed": step === state.step, onclick: () => setStep(step, n) }, `${way}: step ${step}`);
  return el("div", { className: "actions" }, go(record.step, "Forward", "Go to the step that computes it"),
    go(record.back, "Backward", "Go to the step that runs its VJP rules"),
    switchButton("Pin", state.pinned, togglePin, "Keep this card during the following steps  p"),
    record.weights ? switchButton(weightName(record), state.weights, toggleWeights, "Switch  w") : "");
}

function figures(n, record) {
  const withWeights = record.weights && state.weights && hasValue(n, state.step);
  return [...(withWeights ? weightFigures(record) : []),
    el("div", { className: "pair" }, valueFigure(n, record), gradientFigure(n, record))];
}

/** The letter of a record's result in its formula: y, or z where an input is called y, or L of a loss. */
function resultName(record) {
  const first = tape.ops[record.rules]?.formula[0];
  return Array.isArray(first) && /^[yzL]$/.test(first[1]) ? first[1] : "y";
}

function valueFigure(n, record) {
  const computed = hasValue(n, state.step), words = computed ? "" : `computed at step ${record.step}`;
  return el("section", { className: "value" }, el("h3", {}, record.op ? `Value ${resultName(record)}` : "Value"),
    words ? el("p", { className: "status" }, words) : "",
    ...(computed ? record.value.map(arrayFigure) : []),
    computed && !record.value.length ? el("p", { className: "status" }, "no numbers") : "");
}

function gradientFigure(n, record) {
  const { how, received, total, entries } = gradientAt(n, state.step);
  const [, since] = records[n].unseen ?? [], last = Math.max(arrivals[n].at(-1)?.step ?? 0, since ?? forward);
  const first = isRoot.has(n) ? forward : arrivals[n][0]?.step ?? since;
  const never = record.kind === "constant" ? "a constant" : "no gradient flows to it";
  const words = {
    never: `none: ${backward ? never : "nothing here requires a gradient"}`,
    none: first === last ? `arrives at step ${first}`
      : `the sum of ${total} contributions, at steps ${first} to ${last}`,
    partial: `${received} of ${total} contributions so far; the last at step ${last}`,
    whole: isRoot.has(n) && total === 1 ? "seed of the backward pass"
      : total > 1 ? `the sum of ${total} contributions` : "",
  }[how];
  const result = resultName(record), title = result === "L" ? "Gradient g" : `Gradient g = ∂L/∂${result}`;
  return el("section", { className: "gradient" }, el("h3", {}, record.op ? title : "Gradient"),
    words ? el("p", { className: "status" }, words) : "", ...(entries || []).map(arrayFigure),
    how === "whole" && !entries.length ? el("p", { className: "status" }, "no numbers") : "");
}

const weightName = (record) => record.op === "attention" ? "Attention weights" : "Probabilities as a picture";

function weightFigures(record) {
  const { count, queries, keys, pictures } = record.weights, isAttention = record.op === "attention";
  const shown = count > pictures.length ? `the first ${pictures.length} of ${count}` : "";
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
  return [el("h3", {}, sending ? "Inputs and their gradients" : "Inputs"),
    el("table", { className: state.step === record.back ? "sending" : "" }, el("tbody", {}, ...rows)),
    record.more ? el("p", { className: "status" }, `and ${record.more} more`) : null];
}

/** The row of an input: its name, its record, the formula of its gradient with numbers, and that gradient. */
function inputRow(record, [name, from, text, needs], send, sending) {
  const { gradients } = tape.ops[record.rules];
  const tree = needs ? gradients[name] || gradients[name.replace(/\[.*/, "")] : null, isSent = needs && sending && send;
  const result = isSent && (from < 0 || records[from].shape === record.shape) ? shortText(sentEntries(send, from)[0]) : "";
  const source = el("td", {}, from >= 0 ? link(from) : "", el("div", { className: "status" }, text),
    tree && tree.length ? el("div", {}, mathematics(tree, "")) : "", numbersLine(tree, record, result),
    ...(isSent ? sentFigure(send, from) : []));
  const norm = !needs ? ["no gradient"] : sending ? sentParts(send, record, from) : [];
  return el("tr", {}, el("td", {}, mathematics([["i", name]], "")), source,
    el("td", { className: needs ? "norm" : "norm none" }, ...norm));
}

/** The number or the norm of an input's gradient, with a bar relative to the largest of this record, and the sum it is
 * added to. */
function sentParts(send, record, to) {
  if (!send || !send[0]) return ["no numbers"];
  const largest = Math.max(...record.sends.map((s) => Number(s[0]) || 0));
  const bar = el("div", { className: "bar" });
  bar.style.width = `${largest ? 64 * Number(send[0]) / largest : 0}px`;
  const amount = amountText(sentEntries(send, to), send[0]);
  if (!send[2]) return [amount, bar];
  const number = arrivals[to].findIndex((arrival) => arrival.send === send) + 1 + isRoot.has(to);
  const words = `contribution ${number} of ${gradientAt(to, state.step).total}; sum so far ${amountText(send[2], normOf(send[2]))}`;
  return [amount, bar, el("div", { className: "status" }, words)];
}

/** A single number as it is, the norm of more. */
const amountText = (entries, norm) => entries.length === 1 && !entries[0].picture && singleNumber(entries[0]) || `‖${norm}‖`;

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

function attributes(record) {
  return record.attrs.length ? [el("h3", {}, "Attributes"), wordList(record.attrs)] : [];
}

function memoryOf(n) {
  if (!tape.memory) return [];
  const lines = lifetimes[n].map((life) => lifeLine(life, false));
  if (!lines.length) lines.push(el("p", { className: "status" }, "allocated before the first step, kept after the last"));
  return [el("h3", {}, "In memory"), el("div", { className: "lives" }, ...lines), aliveNow()];
}

const isThere = (life) => life.born <= state.step && state.step <= life.dies;

/** The line of an array in memory: its size, its lifetime, and the records whose VJP rules read it. */
function lifeLine(life, named) {
  const whom = life.neededBy.slice(0, 5).map(link), more = life.neededBy.length - whom.length;
  const until = life.dies > lastStep ? "the end" : life.dies;
  const size = life.shares >= 0 ? ["in the memory of ", link(life.shares)] : [sizeText(life.size)];
  return el("div", { className: `life ${isThere(life) ? "" : "gone"}` }, el("span", { className: `key ${life.kind}` }),
    named ? link(life.n) : "", ` ${life.kind}, `, ...size, `, step ${life.born} to ${until}`,
    whom.length ? ": kept for the backward of " : "", ...whom, more > 0 ? ` and ${more} more` : "");
}

/** All arrays in memory at this step, listed when unfolded. */
function aliveNow() {
  const there = allLives.filter((life) => life.size && isThere(life)).sort((a, b) => b.size - a.size);
  const most = 12, list = el("div", { className: "lives" });
  if (state.listing) list.append(...there.slice(0, most).map((life) => lifeLine(life, true)),
    there.length > most ? `and ${there.length - most} smaller ones` : "");
  return el("details", { open: state.listing, ontoggle: (event) => {
    if (event.target.open !== state.listing) { state.listing = event.target.open; show(); }
  } }, el("summary", {}, `All arrays in memory at this step: ${there.length}`), list);
}
