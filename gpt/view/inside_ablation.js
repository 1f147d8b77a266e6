// The section on switched-off components: a table of what each costs, and what the model says without the chosen one.

const MEASURES = [["of the answer", 0], ["of the prompt", 1]];
let measure, chosenComponent; // a place in the outcomes; a name such as h.2.attn.3

const costOf = (name) => data.ablation.without[name][measure] - data.ablation.whole[measure];
const signed = (x, digits) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);

function fillAblation() {
  const { whole, by } = data.ablation;
  $("ablation").hidden = false;
  $("off").textContent = by === "zero" ? "its output 0" : "its output the mean over the positions";
  const usable = MEASURES.filter(([, place]) => whole[place] !== null);
  $("measures").append(...usable.map(([words, place]) => {
    const button = el("button", { type: "button", onclick: () => measureBy(place) },
      `loss ${words}${place ? `, ${whole[1].toFixed(3)} nats` : ` “${shown(data.answer)}”, ${whole[0].toFixed(3)} nats`}`);
    button.dataset.place = place;
    return button;
  }));
  $("costs").onkeydown = (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    moveChosen(...step);
  };
  measureBy(usable[0][1]);
}

function measureBy(place) {
  measure = place;
  for (const button of $("measures").children) button.setAttribute("aria-pressed", Number(button.dataset.place) === place);
  const costs = Object.keys(data.ablation.without).map((name) => [name, Math.abs(costOf(name))]).sort((a, b) => b[1] - a[1]);
  drawCosts(...[/attn\.\d+$/, /(h\.\d+|attn|mlp)$/].map((which) => costs.find(([name]) => which.test(name))?.[1] || 1));
  chooseComponent(chosenComponent ?? costs[0][0]);
}

// `mostHead` and `most`: the largest costs of a head, and of the rest, which are darkest.
function drawCosts(mostHead, most) {
  const { blocks, heads, without } = data.ablation;
  const columns = ["", ".attn", ".mlp", null, ...Array.from({ length: heads }, (_, k) => `.attn.${k}`)];  // null: a gap
  const titles = ["block", "attention", "MLP", "", ...Array.from({ length: heads }, (_, k) => k || "head 0")];
  const head = el("tr", {}, el("th", {}), ...titles.map((title) => el("th", { scope: "col" }, title)));
  const rows = Array.from({ length: blocks }, (_, i) => `h.${i}`).reverse().map((block) => el("tr", {}, el("th", { scope: "row" }, block),
    ...columns.map((column, k) => column === null ? el("td", { className: "gap" }) : costCell(block + column, k > 2 ? mostHead : most, without))));
  $("costs").replaceChildren(el("thead", {}, head), el("tbody", {}, ...rows));
}

function costCell(name, most, without) {
  const cell = el("td", {});
  if (!without[name]) return cell;
  const cost = costOf(name);
  cell.append(Math.abs(cost) < 0.0005 ? "0" : signed(cost, Math.abs(cost) < 10 ? 3 : 1));
  cell.dataset.name = cell.title = name;
  cell.onclick = () => chooseComponent(name);
  paint(cell, colour(data.diverging, (cost / most + 1) / 2));
  return cell;
}

function chooseComponent(name) {
  chosenComponent = name;
  for (const cell of $("costs").querySelectorAll("td")) cell.classList.toggle("chosen", cell.dataset.name === name);
  const { whole, without } = data.ablation, [answer, text, tokens, probabilities] = without[name];
  const loss = text === null ? "" : ` The loss of the prompt goes from ${whole[1].toFixed(3)} to ${text.toFixed(3)} nats per token.`;
  $("without").replaceChildren("Without ", el("b", {}, name), " the probability of ", el("b", {}, `“${shown(data.answer)}”`),
    ` goes from ${percent(Math.exp(-whole[0]))} to ${percent(Math.exp(-answer))}.${loss} The likeliest${data.answerTokens > 1 ? " last" : ""} tokens are then:`);
  $("instead").replaceChildren(...tokenBars(tokens, probabilities));
}

/** Move the choice to the next cell in a direction that has a component. */
function moveChosen(down, right) {
  const rows = [...$("costs").tBodies[0].rows].map((row) => [...row.cells].slice(1));
  let y = rows.findIndex((row) => row.some((cell) => cell.dataset.name === chosenComponent));
  let x = rows[y].findIndex((cell) => cell.dataset.name === chosenComponent);
  do [y, x] = [y + down, x + right]; while (rows[y]?.[x] && !rows[y][x].dataset.name);
  const cell = rows[y]?.[x];
  if (cell) { chooseComponent(cell.dataset.name); cell.scrollIntoView({ block: "nearest", inline: "nearest" }); }
}
