// The passages behind a prediction, each character coloured by what it did for the answer.

"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const signed = (x, digits) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);

function el(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// A character on the colour of its share, from −1 to 1.
function character(text, score, most) {
  const share = Math.max(-1, Math.min(1, score / most));
  const node = el("span", { title: `${signed(score, 4)} nats` }, text.replace(/\n/g, "⏎\n").replace(/\t/g, "⇥"));
  const colour = share > 0 ? "var(--positive)" : "var(--negative)";
  node.style.backgroundColor = `color-mix(in srgb, ${colour} ${Math.round(65 * Math.abs(share))}%, transparent)`;
  return node;
}

function passage({ source, line, column, score, tokens, scores }) {
  const most = Math.max(...scores.map(Math.abs));
  return el("li", {}, el("p", {}, el("b", {}, signed(score, 4)), `${source}, line ${line}, column ${column}`),
    el("div", { className: "passage" }, ...tokens.map((text, i) => character(text, scores[i], most))));
}

$("prediction").append("After ", el("b", {}, data.prompt), " the model expects ", el("b", {}, data.answer),
  ` with a probability of ${(100 * Math.exp(data.log_probability)).toFixed(2)} %.`);
$("read").textContent = data.read;
$("passages").append(...data.passages.map(passage));
$("proof").hidden = !data.lines.length;
$("lines").textContent = data.lines.join("\n");
