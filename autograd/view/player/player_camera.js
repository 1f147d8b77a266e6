// The player's graph: which part of it is in view, and how the pointer moves it.

function moveWorld() {
  const text = `translate(${Math.round(view.x)}px, ${Math.round(view.y)}px) scale(${view.zoom})`;
  if (world.style.transform !== text) world.style.transform = text;
}

/** Fit the whole graph into the view if it can be read then, or else its width. */
function fitGraph(whole = false) {
  const [x, y, w, h] = graph.root.box, wide = (view.width - 16) / w, all = Math.min(wide, (view.height - 32) / h);
  view.zoom = whole ? Math.max(0.02, Math.min(1.25, all)) : all > 0.8 ? Math.min(1.25, all) : Math.max(0.6, Math.min(1, wide));
  view.x = Math.max(8, view.width / 2 - view.zoom * w / 2) - view.zoom * x;
  const room = view.height - view.zoom * h;
  if (room > 0) view.y = room / 2 - view.zoom * y;
  else if (whole || view.target === undefined) view.y = 16 - view.zoom * y;
}

/** Pan so that a box is in view, by as little as possible if it is near. */
function revealBox([x, y, w, h]) {
  const [left, top] = [view.x + view.zoom * x, view.y + view.zoom * y], [right, bottom] = [left + view.zoom * w, top + view.zoom * h];
  const edge = Math.min(90, view.height / 4), far = view.height;
  if (bottom - top > view.height - 2 * edge) view.y += 20 - top;
  else if (top < edge || bottom > view.height - edge) {
    const isFar = top < -far || bottom > view.height + far;
    view.y += isFar ? view.height / 2 - (top + bottom) / 2 : top < edge ? edge - top : view.height - edge - bottom;
  }
  const start = view.zoom * graph.root.box[1], height = view.zoom * graph.root.box[3];
  if (height > view.height) view.y = Math.max(view.height - 24 - start - height, Math.min(16 - start, view.y));  // no empty half
  if (left < 12) view.x += Math.min(12 - left, Math.max(0, view.width - 12 - right + (12 - left)));
  else if (right > view.width - 12) view.x -= Math.min(right - view.width + 12, left - 12);
}

function zoomBy(factor, x = view.width / 2, y = view.height / 2) {
  world.classList.remove("gliding");
  const zoom = Math.max(0.05, Math.min(3, view.zoom * factor)), ratio = zoom / view.zoom;
  Object.assign(view, { x: x - ratio * (x - view.x), y: y - ratio * (y - view.y), zoom, isFitted: false });
  moveWorld();
}

/** Pan, but not further than the graph reaches; return false at its end. */
function panBy(x, y) {
  const [left, top, w, h] = graph.root.box.map((length) => view.zoom * length), before = [view.x, view.y];
  const within = (at, start, length, size) => Math.max(size / 2 - length - start, Math.min(size / 2 - start, at));
  view.x = within(view.x + x, left, w, view.width);
  view.y = within(view.y + y, top, h, view.height);
  view.isFitted = false;
  world.classList.remove("gliding");
  moveWorld();
  return before[0] !== view.x || before[1] !== view.y;
}

function measureGraph() {
  Object.assign(view, { width: graphBox.clientWidth, height: graphBox.clientHeight, target: undefined });
  show();
}

/** Show rows or graph, where there is not enough room for both. */
function showPane(pane) {
  document.documentElement.dataset.pane = pane;
  for (const name of ["rows", "graph"]) $(`tab-${name}`).setAttribute("aria-selected", name === pane);
}

const otherPane = () => document.documentElement.dataset.pane === "rows" ? "graph" : "rows";

function connectGraph() {
  const fingers = new Map();
  showPane("graph");
  for (const name of ["rows", "graph"]) $(`tab-${name}`).onclick = () => showPane(name);
  graphBox.addEventListener("wheel", (event) => {
    const box = graphBox.getBoundingClientRect(), isZoom = event.ctrlKey || event.metaKey;
    if (isZoom) zoomBy(Math.exp(-event.deltaY / 200), event.clientX - box.left, event.clientY - box.top);
    if (isZoom || panBy(-event.deltaX, -event.deltaY)) event.preventDefault();   // otherwise the page around may scroll
  }, { passive: false });
  graphBox.addEventListener("pointerdown", (event) => fingers.set(event.pointerId, [event.clientX, event.clientY]));
  graphBox.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before || !event.buttons) return;
    const now = [event.clientX, event.clientY];
    if (!view.isDragged && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4) return;
    if (!view.isDragged) graphBox.setPointerCapture(event.pointerId);
    view.isDragged = true;
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const box = graphBox.getBoundingClientRect(), apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
      zoomBy(apart(now) / Math.max(1, apart(before)), other[0] - box.left, other[1] - box.top);
    } else panBy(now[0] - before[0], now[1] - before[1]);
    fingers.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    graphBox.addEventListener(name, (event) => { fingers.delete(event.pointerId); if (name === "pointercancel") view.isDragged = false; });
  }
  graphBox.addEventListener("click", (event) => {               // the end of a drag is no click
    if (view.isDragged) event.stopPropagation();
    view.isDragged = false;
  }, true);
  $("closer").onclick = () => zoomBy(1.25);
  $("farther").onclick = () => zoomBy(0.8);
  $("fit").onclick = fitAll;
  new ResizeObserver(measureGraph).observe(graphBox);
}

function fitAll() {
  const whole = view.isFitted || view.isWhole === false;
  view.isFitted = false;
  fitGraph(whole);
  view.isWhole = whole;
  if (!whole) { view.isFitted = true; view.target = undefined; }
  show();
}
