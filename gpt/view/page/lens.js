// The logit lens: what the head would read from the residual stream before the first block and after each.

function show_lens() {
  const { ids, place, now, intact, altered } = view, table = $("lens");
  const names = ["", "embedding", ...model.h.map((_, layer) => `after block ${layer}`)];
  const line = (name) => el("tr", {}, el("th", { scope: "row" }, name));
  if (!table.rows.length) table.append(...names.map(line));
  names.forEach((_, row) => {
    const line = table.rows[row];
    resize(line, ids.length, (i) => make_cell(row, i), 1);
    ids.forEach((id, i) => {
      const cell = line.cells[i + 1];
      cell.classList.toggle("chosen", i === place);
      if (!row) {
        set_text(cell, visible(id));
        return;
      }
      const p = now.lens[row - 1][i], before = intact.lens[row - 1][i], best = argmax(p);
      set_text(cell, visible(best));
      cell.classList.toggle("other", altered && best !== argmax(before));
      paint(cell, state.comparing ? moved(p, before) : p[best]);
    });
  });
  $("lens-hint").textContent = state.comparing ? "The browner, the more of the probability moved to other tokens."
    : "The logit lens: the token that the head would read from the residual stream at each place. The browner, the "
      + "surer; framed where a change made it another one.";
}

function make_cell(row, i) {
  const cell = el("td");
  cell.onclick = () => choose(i);
  if (row) cell.onpointerenter = () => {
    const p = view.now.lens[row - 1][i];
    cell.title = largest(p, 5).map((id) => `${visible(id)}  ${percent(p[id])}`).join("\n");
  };
  return cell;
}
