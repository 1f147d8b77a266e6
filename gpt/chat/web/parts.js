// What all parts of the page share: elements, texts, and colours.

"use strict";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);

function el(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const percent = (p) => (p >= 0.9995 ? "100" : p >= 0.0995 ? (100 * p).toFixed(0) : p >= 0.00095 ? (100 * p).toFixed(1) : "<0.1") + " %";
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

/** A text of the model that cannot disturb the page: controls, and what reorders a line, become their code points. */
const harmless = (text) => text.replace(/[^\P{C}\n\t\u200c\u200d]|[\u2028\u2029]/gu, (c) => `‹${c.codePointAt(0).toString(16)}›`);

/** The text of a token in one line, with signs for what cannot be seen. */
const visible = (text) => harmless(text).replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ | $/g, "␣")
  .replace(/[^\P{Z} ]/gu, (c) => `‹${c.codePointAt(0).toString(16)}›`).replace(/^\p{M}/u, "◌$&") || "∅";

/** The colour at `x`, from 0 to 1, of the scale of amounts. */
const colour = (x) => data.sequential[Math.max(0, Math.min(255, Math.round(255 * x)))];

/** Colour a box, with ink that can be read on it; the same in light and dark. */
function paint(node, x) {
  const [r, g, b] = colour(x);
  node.style.backgroundColor = `rgb(${r} ${g} ${b})`;
  node.style.color = 0.3 * r + 0.6 * g + 0.1 * b < 123 ? "var(--on-dark)" : "var(--on-light)";
}

/** From 0 for a token that was sure to come to 1 for one that was a surprise (8 nats). */
const surprise = (p) => Math.min(1, -Math.log(Math.max(p, 1e-9)) / 8);
const underline = (node, p) => node.style.setProperty("--under", `color-mix(in srgb, var(--positive) ${Math.round(100 * surprise(p) ** 0.8)}%, transparent)`);

/** A line with a token, its probability as a bar, and in percent. */
function tokenBar(tag, label, p, taken) {
  const fill = el("i");
  fill.style.width = `${100 * p}%`;
  return el(tag, { className: taken ? "bar taken" : "bar" }, el("b", {}, visible(label)), el("span", {}, fill), percent(p));
}

/** A token and its runners-up, [id, label, p], the likeliest first. */
const candidates = (token) => [[token.id, token.label, token.p], ...token.others].sort((a, b) => b[2] - a[2]);

/** The rank of a token in words. */
function rank(token) {
  const likelier = token.others.filter(([, , p]) => p > token.p).length;
  return !likelier ? "the likeliest" : likelier === token.others.length ? `${likelier} or more were likelier`
    : likelier === 1 ? "one was likelier" : `${likelier} were likelier`;
}
