// The inside of the model at a chosen token: what else might have come, the logit lens, and where the heads look.

let chosen = null;   // { turn, place }
let inside = null;   // what the server saw there
let head = null;     // [layer, head] whose attention is shown, which stays from token to token

function choose(turn, place) {
  if (version(turn).tokens[place]?.p === undefined) return;
  unchoose(true);
  chosen = { turn, place };
  nodeOf(turn, place).classList.add("chosen");
  nodeOf(turn, place).scrollIntoView({ block: "nearest" });
  $("inside").hidden = false;
  hideTip();
  showOthers();
  lookInside();
}

function unchoose(again = false) {
  document.querySelectorAll(".token.chosen").forEach((node) => node.classList.remove("chosen"));
  chosen = null;
  if (again) return;
  $("inside").hidden = true;
}

const chosenToken = () => version(chosen.turn).tokens[chosen.place];

/** The token and its runners-up, each a button that goes on from there with it. */
function showOthers() {
  const token = chosenToken(), { tokens } = version(chosen.turn);
  $("chosen").textContent = visible(token.end ? token.label || "end" : token.label);
  $("chosen-p").textContent = `${percent(token.p)}, ${rank(token)}`;
  $("others").replaceChildren(...candidates(token).map(([id, label, p]) => {
    const bar = tokenBar("button", label, p, id === token.id);
    Object.assign(bar, { type: "button", disabled: id === token.id || !!writing });
    if (id !== token.id) bar.onclick = () => branch({ ...token, id, label, p, end: false, others: candidates(token).filter(([other]) => other !== id) });
    return bar;
  }));
  $("others-hint").textContent = "These are the model's own probabilities, before temperature and top k. Choose another token to go on from there with it.";
  $("earlier").disabled = !chosen.place;
  $("later").disabled = chosen.place === tokens.length - 1;
}

/** Go on from the chosen place with another token. */
function branch(token) {
  const { turn, place } = chosen;
  answer(turns.indexOf(turn), [...version(turn).tokens.slice(0, place), token]);
}

async function lookInside() {
  const { turn, place } = chosen, { prompt, tokens } = version(turn), asked = chosen;
  $("looking").className = "";
  $("looking").textContent = $("looked").hidden ? "Looking inside …" : "";
  $("looked").classList.add("stale");
  try {
    const answered = await post("look", { prompt, answer: tokens.slice(0, place).map((token) => token.id), token: tokens[place].id });
    const found = await answered.json();
    if (asked !== chosen) return;
    inside = found;
    $("looking").textContent = "";
    $("looked").hidden = false;
    $("looked").classList.remove("stale");
    showLens();
    showHeads();
  } catch (error) {
    if (asked !== chosen) return;
    $("looking").className = "bad";
    $("looking").textContent = error.message;
    $("looked").hidden = true;
  }
}

// ------------------------------------------------------------------ the logit lens

function showLens() {
  const token = chosenToken();
  $("lens-token").textContent = visible(token.label);
  const leads = inside.lens.map(({ p, others }) => p >= others[0][1]), from = leads.lastIndexOf(false) + 1;
  $("lens-says").textContent = from === leads.length ? "not the likeliest at the end: it was drawn" : from ? `the likeliest from block ${from - 1} on` : "the likeliest from the embedding on";
  $("lens").replaceChildren(...inside.lens.map(({ p, others }, n) => {
    const fill = el("i"), best = [[token.label, p, true], ...others].sort((a, b) => b[1] - a[1]).slice(0, 3);
    fill.style.width = `${100 * p}%`;
    return el("tr", {}, el("th", { scope: "row" }, n ? `block ${n - 1}` : "embedding"),
      el("td", { className: "meter", title: percent(p) }, fill, el("span", {}, percent(p))),
      ...best.map(([label, q, same]) => {
        const cell = el("td", { className: same ? "same" : "", title: `${visible(label)}  ${percent(q)}` }, visible(label));
        paint(cell, q);
        return cell;
      }));
  }).reverse());
}

// ------------------------------------------------------------------ the heads

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function drawMap(canvas, codes) {
  const side = canvas.width = canvas.height = inside.side;
  const context = canvas.getContext("2d"), picture = context.createImageData(side, side);
  codes.forEach((code, k) => picture.data.set([...data.sequential[code], 255], 4 * k));
  context.putImageData(picture, 0, 0);
}

function showHeads() {
  const layers = inside.maps.length, n = inside.maps[0].length;
  $("heads").style.gridTemplateColumns = `auto repeat(${n}, minmax(0, 1fr))`;
  $("heads").replaceChildren(...inside.maps.flatMap((heads, layer) => [el("span", {}, `${layer}`), ...heads.map((text, k) => {
    const canvas = el("canvas", { title: `block ${layer}, head ${k}`, onclick: () => showHead(layer, k) });
    canvas.setAttribute("role", "option");
    canvas.setAttribute("aria-label", `block ${layer}, head ${k}`);
    drawMap(canvas, bytes(text));
    return canvas;
  })]));
  $("heads").onkeydown = (event) => {
    const [layer, k] = head, step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    showHead(Math.max(0, Math.min(layers - 1, layer + step[0])), Math.max(0, Math.min(n - 1, k + step[1])));
  };
  showHead(...(head ?? mostPointed()), false);
}

/** The head that looks most at one token, but for the first one, where heads look that look for nothing, and the last. */
function mostPointed() {
  let best = [0, 0], most = -1;
  inside.rows.forEach((heads, layer) => heads.forEach((text, k) => {
    const weight = Math.max(...bytes(text).slice(1, -1));
    if (weight > most) [best, most] = [[layer, k], weight];
  }));
  return best;
}

function showHead(layer, k, scroll = true) {
  head = [layer, k];
  const n = inside.maps[0].length, node = $("heads").children[layer * (n + 1) + k + 1];
  $("heads").querySelectorAll("canvas").forEach((canvas) => {
    canvas.classList.toggle("chosen", canvas === node);
    canvas.setAttribute("aria-selected", canvas === node);
  });
  if (scroll) node.scrollIntoView({ block: "nearest" });
  else $("heads").scrollTop = node.offsetTop - $("heads").offsetTop - 120;
  const row = [...bytes(inside.rows[layer][k])].map((code) => (code / 255) ** 2), best = row.indexOf(Math.max(...row));
  $("head-says").replaceChildren(`Block ${layer}, head ${k}: before `, el("code", {}, visible(chosenToken().label)), " it looks at ",
    el("code", {}, visible(inside.tokens[best])), ` most, with ${percent(row[best])}.`);
  $("context").replaceChildren(...inside.tokens.map((label, i) => {
    const box = el("span", { title: `${visible(label)}  ${percent(row[i])}` }, visible(label));
    paint(box, Math.sqrt(row[i]));
    return box;
  }));
  $("context").scrollTop = $("context").children[best].offsetTop - $("context").offsetTop - 60;
  const codes = bytes(inside.maps[layer][k]), first = inside.tokens.length - inside.side;
  drawMap($("map"), codes);
  const tell = (query, key) => $("weight").replaceChildren("From ", el("code", {}, visible(inside.tokens[first + query])), " to ",
    el("code", {}, visible(inside.tokens[first + key])), `: ${percent((codes[query * inside.side + key] / 255) ** 2)}`);
  const at = (offset, length) => Math.max(0, Math.min(inside.side - 1, Math.floor(offset / length * inside.side)));
  $("map").onpointermove = (event) => tell(at(event.offsetY, $("map").clientHeight), at(event.offsetX, $("map").clientWidth));
  $("weight").textContent = "Point at the map for a weight. Its last row is what the boxes above show.";
}
