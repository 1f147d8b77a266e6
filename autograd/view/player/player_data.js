"use strict";
// The player: the data, tables derived from it, and the drawing of arrays and formulas.  The files, in the order of
// player.py, share one state, which `show()` in the last one renders.  Steps 0 … forward−1 compute the operations in order, the others
// are the backward pass.  Texts of the tape reach the page as textContent only.

const tape = JSON.parse(document.getElementById("data").textContent);
const { records, forward, backward } = tape;
const lastStep = Math.max(0, forward + backward - 1);
const $ = (id) => document.getElementById(id);

const state = {
  step: Math.max(0, forward - 1),   // the loss is computed, the backward pass has not begun
  row: 0,                           // the selected entry of the outline: a record or a group
  pinned: false,                    // true if the selection does not follow the step
  weights: true,                    // show attention as weights
  listing: false,                   // true if all arrays in memory are listed
  asking: false,                    // true if the card asks for another value, which is `another`
  another: "",
  answer: {},                       // to the latest such question: {n, text}
  playing: false,
  found: new Set(),                 // entries that match the search
};

// ------------------------------------------------------------------ derived tables

const atStep = [];                               // step -> number of its record
const users = records.map(() => []);             // record -> numbers of the records that read it
const arrivals = records.map(() => []);          // record -> contributions to its gradient: {step, from, slot, send}
const lifetimes = records.map(() => []);         // record -> its arrays in memory
const isRoot = new Set(tape.roots);

records.forEach((record, n) => {
  if (record.step >= 0) atStep[record.step] = n;
  if (record.back >= 0) atStep[record.back] = n;
  for (const m of new Set(record.inputs.map((input) => input[1]))) if (m >= 0) users[m].push(n);
});
for (let step = forward; step < forward + backward; step++) {
  const from = atStep[step];
  let sent = 0;
  records[from].inputs.forEach(([, to, , needs], slot) => {
    if (!needs) return;
    const send = records[from].sends[sent++];
    if (to >= 0) arrivals[to].push({ step, from, slot, send });  // inputs older than the tape have no record here
  });
}
const allLives = (tape.memory ? tape.memory.lifetimes : []).map(([n, kind, size, born, dies, neededBy, shares]) =>
  ({ n, kind, size, born, dies, neededBy, shares }));
for (const life of allLives) lifetimes[life.n].push(life);

// The outline is a flat list: a number is a record, a list [name, path, depth, size, times, twin] opens a group of
// `size` entries, and one without entries represents records that are left out.
const outline = tape.outline;
const entryOf = [];                              // record -> its entry
const groupOf = [];                              // entry -> the entry of the group it is in, or −1
const depthOf = [];
const folded = new Set();                        // entries of groups that are folded
outline.forEach((entry, i) => {
  let group = i - 1;
  while (group >= 0 && !(Array.isArray(outline[group]) && group + outline[group][3] >= i)) {
    group = groupOf[group];
  }
  groupOf[i] = group;
  depthOf[i] = group < 0 ? 0 : depthOf[group] + 1;
  if (!Array.isArray(entry)) entryOf[entry] = i;
  else if (entry[5]) folded.add(i);
});

const bytes = fromBase64(tape.bytes);
const palettes = { diverging: fromBase64(tape.palettes.diverging), sequential: fromBase64(tape.palettes.sequential) };

function fromBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** The state of a record's gradient at a step: `never`, `none`, `partial` or `whole`, and its entries to show. */
function gradientAt(n, step) {
  const [unseen, since] = records[n].unseen ?? [0, 0];  // from records that are left out
  const sends = arrivals[n], total = sends.length + isRoot.has(n) + unseen;
  let here = 0;
  while (here < sends.length && sends[here].step <= step) here++;
  const received = here + (isRoot.has(n) && step >= forward) + (step >= since ? unseen : 0);
  if (!total) return { how: "never", received, total };
  if (!received) return { how: "none", received, total };
  if (received === total) return { how: "whole", received, total, entries: records[n].gradient };
  return { how: "partial", received, total, entries: sends[here - 1]?.send[2] };
}

const hasValue = (n, step) => records[n].step <= step;
const isBackward = (step) => step >= forward && backward > 0;
const numberText = (n) => `%${records[n].number ?? n}`;

function opText(record) {
  if (record.op === "_item") return `item ${record.attrs.length ? record.attrs[0][1] : 0}`;
  return record.op || record.kind;
}

// ------------------------------------------------------------------ small parts

/** An element with properties and children; strings become text nodes and are never parsed as HTML. */
function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A formula from its tree of strings and [tag, …children]; only the tags i, sub and sup are created. */
function mathematics(tree, className) {
  const set = (part) => typeof part === "string" ? part
    : el(["i", "sub", "sup"].includes(part[0]) ? part[0] : "span", {}, ...part.slice(1).map(set));
  return el("span", { className: `math ${className}` }, ...tree.map(set));
}

function sizeText(n) {
  for (const unit of ["bytes", "kB", "MB"]) {
    if (n < 1000) return `${unit === "bytes" ? n : n.toFixed(1)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} GB`;
}

/** A button that selects a record. */
function link(n) {
  const record = records[n];
  const text = `${numberText(n)} ${record.name || opText(record)}`;
  return el("button", { type: "button", className: "link", onclick: () => selectRecord(n) }, text);
}

// ------------------------------------------------------------------ pictures

const NAN = 255, PLUS = 254, MINUS = 253;        // codes beyond the scale, which the palettes include
const pixels = { diverging: pixelsOf(palettes.diverging), sequential: pixelsOf(palettes.sequential) };

/** The colour of each code, as a pixel of an image. */
function pixelsOf(palette) {
  const parts = new Uint8Array(4 * 256);
  for (let code = 0; code < 256; code++) {
    parts.set([...palette.subarray(3 * code, 3 * code + 3), 255], 4 * code);
  }
  return new Uint32Array(parts.buffer);
}

/** Paint a picture [start, rows, columns, low, high], or one of weights without a scale, on a canvas. */
function paint(canvas, [start, rows, columns, low]) {
  canvas.width = columns;
  canvas.height = rows;
  const colours = low < 0 ? pixels.diverging : pixels.sequential;
  const image = new ImageData(columns, rows), painted = new Uint32Array(image.data.buffer);
  for (let i = 0; i < painted.length; i++) painted[i] = colours[bytes[start + i]];
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);  // stays off the graphics card
}

const thumbnails = new Map();                    // start of a picture -> its URL

/** The URL of a picture as an image: of many small canvases each would be a layer, which makes every frame slow. */
function thumbnail([start, rows, columns, low]) {
  if (!thumbnails.has(start)) {
    const width = Math.ceil(columns / 4) * 4, offset = 54 + 4 * 256, file = new Uint8Array(offset + width * rows);
    const header = new DataView(file.buffer);
    const palette = low < 0 ? palettes.diverging : palettes.sequential;
    file.set([0x42, 0x4d]);                      // a bitmap of 8 bits per pixel, from its top line on
    for (const [at, value] of [[2, file.length], [10, offset], [14, 40], [18, columns], [22, -rows], [26, 1 + (8 << 16)]]) header.setInt32(at, value, true);
    for (let code = 0; code < 256; code++) file.set([2, 1, 0].map((i) => palette[3 * code + i]), 54 + 4 * code);  // blue first
    for (let row = 0; row < rows; row++) file.set(bytes.subarray(start + row * columns, start + (row + 1) * columns), offset + row * width);
    thumbnails.set(start, `url(data:image/bmp;base64,${btoa(String.fromCharCode(...file))})`);
  }
  return thumbnails.get(start);
}

/** The colour bar under a picture, with the values of its ends. */
function scale(low, high) {
  return el("div", { className: "scale" }, shortNumber(low),
    el("span", { className: low < 0 ? "diverging" : "sequential" }), shortNumber(high));
}

/** Format a number with four significant digits, as Python does. */
function shortNumber(x) {
  const size = Math.abs(x), far = size && (size < 1e-4 || size >= 1e5);
  const text = far ? x.toExponential(3).replace(/\.?0*e/, "e") : String(Number(x.toPrecision(4)));
  return text.replaceAll("-", "−");
}

/** The value of a pixel of a picture, as text. */
function reading(code, low, high) {
  if (code >= MINUS) return { [NAN]: "NaN", [PLUS]: "inf", [MINUS]: "−inf" }[code];
  const part = code / (tape.levels - 1);        // low and high apart, as their difference may overflow
  return `≈ ${shortNumber(Number((low * (1 - part) + high * part).toPrecision(3)))}`;
}

/** A canvas, and an output that describes the pixel under the pointer by `tell(code, row, column)`. */
function picture(place, words, tell) {
  const canvas = el("canvas", { className: "picture", role: "img", "aria-label": words });
  const output = el("div", { className: "reading" });
  paint(canvas, place);
  canvas.onpointermove = (event) => {
    const [start, rows, columns] = place, box = canvas.getBoundingClientRect();
    const row = Math.min(rows - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * rows)));
    const column = Math.min(columns - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * columns)));
    output.textContent = tell(bytes[start + row * columns + column], row, column);
  };
  canvas.onpointerleave = () => { output.textContent = ""; };
  return [canvas, output];
}

/** The figure of an array: its picture, its numbers if they are few, and its statistics. */
function arrayFigure(entry) {
  const parts = [], place = entry.picture;
  if (place) {
    const [, , , low, high] = place;
    const [canvas, output] = picture(place, `picture of ${entry.shape}, ${low} to ${high}`,
      (code) => reading(code, low, high));
    parts.push(canvas, scale(low, high), output);
  }
  if (entry.numbers) parts.push(el("pre", {}, entry.numbers));
  parts.push(wordList(entry.words));
  return el("figure", {}, ...parts);
}

const isOdd = (name) => name === "NaN" || name === "inf";

function wordList(words) {
  return el("dl", { className: "words" }, ...words.flatMap(([name, text]) =>
    [el("dt", {}, name), el("dd", { className: isOdd(name) ? "bad" : "" }, text)]));
}
