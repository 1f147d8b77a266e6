// The text: typing and sampling, the tokens that the model reads, and the probabilities of the next one.

const LISTED = 10; // next tokens that are listed

function start_text() {
  $("text").value = data.text;
  $("text").oninput = read_text;
  const special = data.tokenizer.special.map(([name]) => name);
  $("special").hidden = !special.length;
  $("special").textContent = `Names of special tokens stand for these: ${special.slice(0, 4).join(" ")}`;
  $("temperature").oninput = $("top-k").oninput = () => update(false);
  $("top-k").max = data.config.vocab_size;
  $("top-k").value = data.config.vocab_size;
  $("one").onclick = () => append(draw_token());
  $("go").onclick = () => set_writing(!state.writing);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    set_writing(!state.writing);
  });
  $("tokens").onkeydown = choose_by_key;
  $("next").append(...Array.from({ length: Math.min(LISTED, data.config.vocab_size) }, () => {
    const bar = el("button", { type: "button" }, el("b"), el("i", {}, el("s"), el("u")), el("span"), el("em"));
    bar.onclick = () => append(+bar.dataset.id);
    return bar;
  }));
  read_text();
}

function read_text() {
  set_writing(false);
  const { ids, unknown } = tokenizer.encode($("text").value);
  $("unknown").textContent = unknown.length
    ? `Left out, since the model was trained without: ${unknown.map(describe).join(", ")}` : "";
  Object.assign(state, { ids, chosen: null });
  update();
}

const describe = (c) => `${/[\p{C}\p{Z}\p{M}]/u.test(c) ? "" : `${c} `}U+${hex(c.codePointAt(0), 4)}`;

// ------------------------------------------------------------------ sampling

/** The probabilities of the tokens after a row of logits, at the page's temperature and top k. */
function weigh(row) {
  const temperature = +$("temperature").value, k = temperature ? +$("top-k").value : 1;
  const least = new Float64Array(row).sort()[row.length - k];  // that is kept
  return softmax(new Float64Array(row).map((x) => (x >= least ? x / (temperature || 1) : -Infinity)));
}

function draw_token() {
  const p = weigh(current().now.logits.at(-1));
  let rest = Math.random();
  const drawn = p.findIndex((x) => (rest -= x) < 0);
  return drawn < 0 ? argmax(p) : drawn;
}

function append(id) {
  Object.assign(state, { ids: [...state.ids, id], chosen: null });
  $("text").value = tokenizer.decode(state.ids);
  $("unknown").textContent = "";
  $("text").scrollTop = $("text").scrollHeight;
  update();
}

function set_writing(writing) {
  const begins = writing && !state.writing;
  state.writing = writing;
  $("go").setAttribute("aria-pressed", writing);
  $("go").textContent = writing ? "Stop" : "Write";
  if (begins) requestAnimationFrame(write_on);
}

/** Draw a token a frame, from what the frame before has shown. */
function write_on() {
  if (!state.writing) return;
  const id = draw_token();
  append(id);
  if (data.ends.includes(id)) set_writing(false);
  else requestAnimationFrame(write_on);
}

// ------------------------------------------------------------------ what is shown

function show_text() {
  $("temperature-value").textContent = (+$("temperature").value).toFixed(2);
  $("top-k-value").textContent = +$("top-k").value < data.config.vocab_size ? $("top-k").value : "all";
  show_tokens();
  show_next();
}

function show_tokens() {
  resize($("tokens"), view.ids.length, (i) =>
    el("span", { className: "token", id: `token-${i}`, role: "option", onclick: () => choose(i) }));
  view.ids.forEach((id, i) => {
    const box = $("tokens").children[i];
    set_text(box, visible(id));
    box.setAttribute("aria-selected", i === view.place);
    paint(box, i ? Math.min(1, -Math.log(view.now.lens.at(-1)[i - 1][id]) / 8) : 0);
  });
  $("reads").textContent = `${view.ids.length} of at most ${data.context}, in ${Math.ceil(view.ms)} ms. The browner, `
    + "the less the model expected it. Arrow keys choose a place, End the last one.";
  $("tokens").setAttribute("aria-activedescendant", `token-${view.place}`);
}

function choose(i) {
  state.chosen = i === view.ids.length - 1 ? null : view.start + i;
  update(false);
}

function choose_by_key(event) {
  const { ids, place } = current(), last = ids.length - 1;
  const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(Math.max(0, Math.min(last, to)));
}

function show_next() {
  const { ids, place, now, intact, altered } = view, last = place === ids.length - 1;
  const p = weigh(now.logits[place]), before = weigh(intact.logits[place]), top = largest(p, LISTED);
  $("next-title").replaceChildren("After ", el("code", {}, visible(ids[place])), last ? "" : ` (place ${place})`);
  $("next").classList.toggle("altered", altered);
  [...$("next").children].forEach((bar, k) => {
    const [label, line, share, change] = bar.children, id = top[k];
    Object.assign(bar.dataset, { id });
    bar.disabled = !last;
    bar.title = last ? "add this token to the text" : "";
    label.textContent = visible(id);
    line.firstChild.style.width = `${100 * p[id]}%`;
    line.lastChild.style.left = `${100 * before[id]}%`;
    line.lastChild.hidden = !altered;
    share.textContent = percent(p[id]);
    change.textContent = signed(100 * (p[id] - before[id]), 1);
    change.className = p[id] >= before[id] ? "more" : "less";
  });
  $("came").textContent = (last ? "Choose one to add it. The temperature and top k apply."
    : `In the text comes ${visible(ids[place + 1])}, with ${percent(p[ids[place + 1]])}.`)
    + (altered ? " The line across a bar is its probability in the unchanged model." : "");
}
