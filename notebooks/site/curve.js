// The loss curve: the training loss of each step, its mean over the last ones, the validation loss, and the rungs.

function drawCurve(svg, { steps, losses, evaluations, rungs }) {
  const width = svg.clientWidth, height = svg.clientHeight, left = 30, right = 8, top = 8, bottom = 20;
  const values = [...losses, ...evaluations.map(([, loss]) => loss)], most = Math.max(...rungs.map(([, loss]) => loss));
  const least = values.reduce((a, b) => Math.min(a, b), most), low = Math.floor(2 * least) / 2, high = 1.06 * most;
  const x = step => left + (width - left - right) * step / steps;
  const y = loss => top + (height - top - bottom) * Math.min(1, (high - loss) / (high - low));
  const inside = loss => Math.max(top, y(loss));
  const path = (points, name) => node("path", { class: name,
    d: points.map(([step, loss], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${inside(loss).toFixed(1)}`).join("") });
  const label = (words, at, anchor, name = "") => node("text", { ...at, "text-anchor": anchor, class: name }, words);
  svg.replaceChildren(
    ...ticks(low, high, 6).flatMap(loss => [node("path", { class: "grid", d: `M${left} ${y(loss)}H${width - right}` }),
      label(+loss.toFixed(1), { x: left - 6, y: y(loss) + 4 }, "end")]),
    ...ticks(0, steps, 6).map(step => label(step.toLocaleString("en"), { x: x(step), y: height - 4 },
      step ? step === steps ? "end" : "middle" : "start")),
    ...rungs.flatMap(([name, loss]) => [node("path", { class: "rung", d: `M${left} ${y(loss)}H${width - right}` }),
      label(name, { x: width - right, y: y(loss) + 14 }, "end", "rung")]),
    path(losses.map((loss, i) => [i + 1, loss]), "each"),
    path(losses.map((_, i) => [i + 1, recent(losses, i + 1)]), "train"),
    path(evaluations, "val"),
    ...evaluations.map(([step, loss]) => node("circle", { class: "val", cx: x(step), cy: inside(loss), r: 2.5 })));
  svg.setAttribute("aria-label", `The loss fell from ${losses[0].toFixed(2)} to ${recent(losses).toFixed(2)} in ` +
    `${plural(losses.length, "step")}${evaluations.length ? `, and is ${evaluations.at(-1)[1].toFixed(2)} on text held out` : ""}`);
}

function node(tag, attributes, words = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = words;
  return made;
}

// At most n round numbers from `low` to `high`.
function ticks(low, high, n) {
  const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(step => step >= rough), first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}
