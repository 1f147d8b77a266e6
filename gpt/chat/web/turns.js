// The conversation: its turns as nodes of the page, which are made once and then changed in place.
//
// A turn of the user is { text, node }; one of the model { versions, shown, node }, of which a version is one answer:
// { prompt: [ids], tokens: [{ id, label, text, p, others, end }], notes: [], seconds }.

const turns = [];
const isAnswer = (turn) => "versions" in turn;
const speed = (x) => (x < 10 ? x.toFixed(1) : Math.round(x).toLocaleString("en"));
const version = (turn) => turn.versions[turn.shown];
const textOf = (turn) => (isAnswer(turn) ? version(turn).tokens.map((token) => token.text).join("") : turn.text);

/** The answer's tokens, but for the one that ends it. */
const idsOf = (answer) => answer.tokens.filter((token) => !token.end).map((token) => token.id);

function addTurn(turn) {
  turn.node = el("article", { className: isAnswer(turn) ? "turn model" : "turn user" });
  turns.push(turn);
  $("turns").append(turn.node);
  renderTurn(turn);
}

/** Drop this turn and all after it. */
function cutTurns(i) {
  turns.splice(i).forEach((turn) => turn.node.remove());
}

function renderTurn(turn) {
  const said = el("div", { className: "said" });
  turn.node.replaceChildren(said, el("div", { className: "tools" }));
  if (isAnswer(turn)) {
    Object.assign(said, { tabIndex: 0, onkeydown: (event) => walkTokens(event, turn) });
    said.setAttribute("aria-label", "Answer: arrow keys choose a token, Enter looks inside");
    said.setAttribute("role", "group");
    version(turn).tokens.forEach((_, i) => said.append(tokenNode(turn, i)));
  } else said.textContent = harmless(turn.text);
  renderTools(turn);
}

function tokenNode(turn, place) {
  const token = version(turn).tokens[place], node = el("span", { className: "token" });
  node.dataset.place = place;
  if (token.end) {
    node.classList.add("end");
    node.append(el("span", { className: "word" }, "■"));
  } else {
    const [, space, text] = /^( ?)(.*)$/su.exec(harmless(token.text)), word = el("span", { className: "word" });
    text.split("\n").forEach((line, i) => word.append(...(i ? [el("i", { className: "sign" }, "⏎"), "\n"] : []), line));
    node.append(...(text ? [space, word] : [el("span", { className: "word" }, space)]));
  }
  underline(node, token.p ?? 1);
  node.onclick = () => choose(turn, place);
  node.onpointerenter = (event) => event.pointerType === "mouse" && showTip(turn, place);
  node.onpointerleave = hideTip;
  return node;
}

const nodeOf = (turn, place) => turn.node.firstChild.children[place];

/** The next token arrives. */
function addToken(turn, token) {
  version(turn).tokens.push(token);
  turn.node.firstChild.append(tokenNode(turn, version(turn).tokens.length - 1));
  scheduled ||= requestAnimationFrame(follow);  // once a frame, since it needs the layout
}

let scheduled = 0, following = true;

/** Keep the end of the answer in view, unless the reader has scrolled up. */
function follow() {
  scheduled = 0;
  if (following) $("talk").scrollTop = $("talk").scrollHeight;
}

/** What can be done with a turn, below it. */
function renderTools(turn) {
  const i = turns.indexOf(turn), tools = turn.node.lastChild, button = (text, title, onclick) =>
    tools.append(el("button", { type: "button", title, onclick, disabled: !!writing }, text));
  tools.replaceChildren();
  if (!isAnswer(turn)) {
    if (turn.text) button("Edit", "change it, and have it answered anew; what came after it goes", () => editTurn(turn));
    return;
  }
  const { tokens, notes, seconds } = version(turn);
  button("Try again", "another answer to the same", () => answer(i, []));
  if (!tokens.at(-1)?.end && tokens.length) button("Go on", "write on from here", () => answer(i, version(turn).tokens));
  if (turn.versions.length > 1) {
    button("‹", "answer before", () => showVersion(turn, turn.shown - 1));
    tools.append(`${turn.shown + 1} of ${turn.versions.length}`);
    button("›", "answer after", () => showVersion(turn, turn.shown + 1));
  }
  if (seconds) tools.append(el("span", { className: "speed" }, ` ${count(tokens.length, "token")}, ${speed(tokens.length / seconds)} a second`));
  notes.forEach((note) => tools.append(el("span", { className: "note" }, ` (${harmless(note)})`)));
}

function showVersion(turn, shown) {
  turn.shown = (shown + turn.versions.length) % turn.versions.length;
  cutTurns(turns.indexOf(turn) + 1);  // they answered another text
  unchoose();
  renderTurn(turn);
  remember();
}

/** Keep the conversation for when the page is loaded again: in this tab alone, and for this run of the program. */
function remember() {
  const kept = turns.map(({ text, versions, shown }) => ({ text, versions, shown }));
  try {
    sessionStorage.setItem(location.search, JSON.stringify({ kept, system: $("system").value }));
  } catch { }  // there is too much of it
}

function recall() {
  const found = JSON.parse(sessionStorage.getItem(location.search));
  if (!found) return;
  $("system").value = found.system;
  $("system-box").open ||= !!found.system;
  found.kept.forEach(({ text, versions, shown }) => addTurn(versions ? { versions, shown } : { text }));
}

function editTurn(turn) {
  const field = el("textarea", { rows: Math.min(8, 1 + turn.text.split("\n").length), value: turn.text, className: "field" });
  field.setAttribute("aria-label", "Your text");
  const save = () => {
    turn.text = field.value;
    renderTurn(turn);
    cutTurns(turns.indexOf(turn) + 1);
    answer(turns.length, []);
  };
  field.onkeydown = (event) => {
    if (event.key === "Escape") renderTurn(turn);
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); save(); }
  };
  turn.node.firstChild.replaceWith(el("div", { className: "edit" }, field, el("div", {},
    el("button", { type: "button", onclick: () => renderTurn(turn) }, "Cancel"), el("button", { type: "button", onclick: save }, "Answer"))));
  turn.node.lastChild.replaceChildren();
  field.focus();
}

// ------------------------------------------------------------------ the tip under a token

function showTip(turn, place) {
  const token = version(turn).tokens[place], node = nodeOf(turn, place);
  if (token.p === undefined || !node) return;
  hideTip();
  node.classList.add("shown");
  $("tip").replaceChildren(el("p", {}, `${percent(token.p)}, ${rank(token)}`),
    ...candidates(token).slice(0, 5).map(([id, label, p]) => tokenBar("div", label, p, id === token.id)));
  $("tip").hidden = false;
  const box = [...node.getClientRects()].at(-1), { offsetWidth, offsetHeight } = $("tip");
  const below = box.bottom + 6 + offsetHeight < innerHeight;
  $("tip").style.left = `${Math.max(6, Math.min(innerWidth - offsetWidth - 6, box.left - 20))}px`;
  $("tip").style.top = `${below ? box.bottom + 6 : node.getClientRects()[0].top - 6 - offsetHeight}px`;
}

function hideTip() {
  $("tip").hidden = true;
  document.querySelectorAll(".token.shown").forEach((node) => node.classList.remove("shown"));
}

/** Arrow keys in an answer show the tip of one token after the other; Enter looks inside. */
function walkTokens(event, turn) {
  const n = version(turn).tokens.length, now = [...turn.node.firstChild.children].findIndex((node) => node.matches(".shown, .chosen"));
  const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: n - 1 }[event.key];
  if (event.key === "Enter" && now >= 0) choose(turn, now);
  else if (to === undefined || !n) return;
  else if (chosen?.turn === turn) choose(turn, Math.max(0, Math.min(n - 1, to)));
  else showTip(turn, Math.max(0, Math.min(n - 1, to)));
  event.preventDefault();
}
