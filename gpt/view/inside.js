// The inside of a model on a prompt: fills the page from its data, and follows the chosen position.

"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const percent = (p) => (p >= 0.0995 ? (100 * p).toFixed(0) : p >= 0.00095 ? (100 * p).toFixed(1) : "<0.1") + " %";
// What has no width or would break the line is shown by a sign.
const shown = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ $/, "␣");

function el(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Ink that can be read on a colour from white (0) to dark (1); both are the same in light and dark.
function paint(node, rgb) {
  node.style.backgroundColor = `rgb(${rgb})`;
  const [r, g, b] = rgb;
  node.style.color = 0.3 * r + 0.6 * g + 0.1 * b < 123 ? "var(--on-dark)" : "var(--on-light)";
}

// The colour at `x`, from 0 to 1, of a scale given by its 256 colours.
const colour = (scale, x) => scale[Math.max(0, Math.min(255, Math.round(255 * x)))];

// ------------------------------------------------------------------ the prompt

let chosen = data.tokens.length - 1;

function tokenBox(text, rgb, title) {
  const box = el("span", { className: "token", title }, shown(text));
  if (rgb) paint(box, rgb);
  return box;
}

function fillPrompt() {
  data.tokens.forEach((text, i) => {
    const p = i && data.found[i - 1];
    const surprise = i ? Math.min(1, -Math.log(p) / 8) : 0;
    const box = tokenBox(text, colour(data.sequential, surprise), i ? `expected with ${percent(p)}` : "the first token");
    box.setAttribute("role", "option");
    box.onclick = () => choose(i);
    $("prompt").append(box);
  });
  $("prompt").onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(data.tokens.length - 1, chosen + step)));
  };
}

function choose(i) {
  chosen = i;
  [...$("prompt").children].forEach((box, k) => box.setAttribute("aria-selected", k === i));
  $("next").replaceChildren(...tokenBars(...data.predicted[i]));
  const next = data.tokens[i + 1];
  $("came").replaceChildren(...(next === undefined ? ["The prompt ends here."] : [
    "In the prompt comes ", el("b", {}, shown(next)), `: ${percent(data.found[i])}, `,
    data.ranks[i] ? `and ${data.ranks[i]} token${data.ranks[i] > 1 ? "s were" : " was"} likelier.` : "the likeliest."]));
  document.querySelectorAll("#lens td").forEach((cell) => cell.classList.toggle("chosen", +cell.dataset.place === i));
  if (large) drawLarge();
}

// The likeliest tokens, each with its probability as a bar.
const tokenBars = (tokens, probabilities) => tokens.map((text, k) => {
  const bar = el("i", {});
  bar.style.width = `${100 * probabilities[k]}%`;
  return el("div", { className: "bar" }, el("span", { title: text }, shown(text)), el("div", {}, bar), percent(probabilities[k]));
});

// ------------------------------------------------------------------ the answer

function fillShares() {
  $("answer").textContent = `${shown(data.answer)} (${percent(data.probability)})`;
  const most = Math.max(...data.shares.map(Math.abs)) || 1;
  data.tokens.forEach((text, i) => $("shares").append(
    tokenBox(text, colour(data.diverging, (data.shares[i] / most + 1) / 2), data.shares[i].toPrecision(3))));
}

// ------------------------------------------------------------------ the lens

function fillLens() {
  const layer = (n) => (n ? `after block ${n - 1}` : "embedding");
  const line = (places, n) => {
    const row = el("tr", {}, el("th", {}, layer(n)));
    places.forEach(([tokens, probabilities], i) => {
      const title = tokens.map((text, k) => `${shown(text)}  ${percent(probabilities[k])}`).join("\n");
      const cell = el("td", { title }, shown(tokens[0]));
      cell.dataset.place = i;
      paint(cell, colour(data.sequential, probabilities[0]));
      row.append(cell);
    });
    return row;
  };
  const prompt = el("tr", {}, el("th", {}, "prompt"), ...data.tokens.map((text) => el("td", {}, shown(text))));
  $("lens").append(...data.lens.map(line).reverse(), prompt);
}

// ------------------------------------------------------------------ attention

let large = null; // the map that is shown large: { layer, head, codes }

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function drawMap(canvas, codes, side) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d"), picture = context.createImageData(side, side);
  codes.forEach((code, k) => picture.data.set([...data.sequential[code], 255], 4 * k));
  context.putImageData(picture, 0, 0);
}

function fillHeads() {
  $("heads").style.gridTemplateColumns = `repeat(${Math.max(...data.maps.map((heads) => heads.length))}, auto)`;
  data.maps.forEach((heads, layer) => heads.forEach((text, head) => {
    const codes = bytes(text), canvas = el("canvas", {});
    drawMap(canvas, codes, data.side);
    const button = el("button", { type: "button", title: `block ${layer}, head ${head}` }, canvas, `${layer}.${head}`);
    button.onclick = () => {
      document.querySelectorAll("#heads button").forEach((other) => other.setAttribute("aria-pressed", other === button));
      large = { layer, head, codes };
      $("large").hidden = false;
      drawLarge();
    };
    $("heads").append(button);
  }));
  $("map").onmousemove = (event) => tell(place(event.offsetY), place(event.offsetX));
}

const place = (offset) => Math.min(data.side - 1, Math.max(0, Math.floor(offset / $("map").clientWidth * data.side)));

function drawLarge() {
  const map = $("map"), context = map.getContext("2d"), { side } = data;
  const whole = document.createElement("canvas");
  drawMap(whole, large.codes, side);
  map.width = map.height = 560;
  context.imageSmoothingEnabled = false;
  context.drawImage(whole, 0, 0, 560, 560);
  const row = Math.floor(chosen * side / data.tokens.length), cell = 560 / side;
  context.strokeStyle = getComputedStyle(map).outlineColor;
  context.lineWidth = 2;
  context.strokeRect(1, row * cell + 1, 558, Math.max(cell - 2, 1));
  const weights = [...large.codes.slice(row * side, row * side + side)];
  tell(row, weights.indexOf(Math.max(...weights)));
}

// The tokens of a row or column; one stands for several where there are many.
function tokensAt(k) {
  const n = data.tokens.length, first = Math.floor(k * n / data.side), last = Math.floor((k + 1) * n / data.side);
  return shown(data.tokens.slice(first, Math.max(last, first + 1)).join(""));
}

function tell(row, column) {
  const p = (large.codes[row * data.side + column] / 255) ** 2; // codes are square roots, so that small ones are seen
  $("weight").replaceChildren(`Block ${large.layer}, head ${large.head}: from `, el("b", {}, tokensAt(row)), ` (place ${row}) to `,
    el("b", {}, tokensAt(column)), ` (place ${column}): ${percent(p)}`);
}

// ------------------------------------------------------------------ all

$("about").textContent = data.about;
fillPrompt();
fillShares();
if (data.ablation) fillAblation();
fillLens();
fillHeads();
choose(chosen);
