// The player's graph: what is drawn.  A unit is a box: an operation with the items of its tuple, a leaf, a closed
// scope, or a run of closed identical ones.  A frame is an open scope around its units.  Rows and graph fold together.

const SMALL_TAPE = 30;                           // in a tape of so few records a leaf that several read has one box
const LONG_SCOPE = 40, CHUNK = 20;               // a longer scope is drawn in chunks, of which the selected one is open
const MOST_UNITS = 60, MOST_PILLS = 4;
const isSmall = records.length <= SMALL_TAPE;
const isItem = (n) => records[n].op === "_item" && records[n].inputs[0][1] >= 0;
const isOperation = (n) => records[n].step >= 0;

/** The entries directly inside a group, or those of the whole outline for −1. */
function entriesIn(group) {
  const found = [], end = group < 0 ? outline.length : group + outline[group][3] + 1;
  for (let i = group + 1; i < end; i += Array.isArray(outline[i]) ? outline[i][3] + 1 : 1) found.push(i);
  return found;
}

const endOf = (entry) => entry + (Array.isArray(outline[entry]) ? outline[entry][3] : 0);

/** Build the units, frames and edges of the outline as it is folded now, around the selected entry. */
function buildGraph(selected) {
  const graph = { units: [], unitOf: [], edges: [], windows: [], selected, root: null };
  graph.root = newFrame(-1, null);
  fillFrame(graph, graph.root, entriesIn(-1));
  placeLeaves(graph);
  joinUnits(graph);
  return graph;
}

function newFrame(entry, parent) {
  return { kind: "frame", entry, parent, depth: parent ? parent.depth + 1 : 0, items: [], leaves: [], tops: new Map(),
    bottoms: new Map(), links: new Map(), title: entry < 0 ? "" : outline[entry][0] };
}

function fillFrame(graph, frame, entries) {
  const parts = [];                              // lists of entries: a record with its items, a group, or a run of closed twins
  for (const entry of entries) {
    const item = outline[entry], last = parts.at(-1);
    if (typeof item === "number" && !isOperation(item)) frame.leaves.push(item);
    else if (last && (Array.isArray(item) ? item[5] && isClosed(entry) && isClosed(last[0]) : isItem(item))) last.push(entry);
    else parts.push([entry]);
  }
  addParts(graph, frame, parts, entries[0], entries.length ? endOf(entries.at(-1)) : -1);
}

const isClosed = (entry) => folded.has(entry) && operationsIn(entry).length !== 1;
const operationsIn = (entry) => recordsIn(entry).filter((n) => isOperation(n) && !isItem(n));

/** Add the parts from entry `low` to entry `high` to a frame; of many, those around the selected entry, and the others as
 * closed chunks. */
function addParts(graph, frame, parts, low, high) {
  if (parts.length <= LONG_SCOPE) {
    for (const part of parts) addPart(graph, frame, part);
    return;
  }
  let size = CHUNK;
  while (size * CHUNK < parts.length) size *= CHUNK;
  const window = { scope: [low, high], open: null };             // of entries
  graph.windows.push(window);
  for (let i = 0; i < parts.length; i += size) {
    const chunk = parts.slice(i, i + size), end = i + size < parts.length ? endOf(chunk.at(-1).at(-1)) : high;
    if (isWithin(graph.selected, [low, end])) {
      window.open = [low, end];
      addParts(graph, frame, chunk, low, end);
    } else addClosed(graph, frame, chunk.flat());
    low = end + 1;
  }
}

const isWithin = (entry, [low, high]) => low <= entry && entry <= high;

function addPart(graph, frame, entries) {
  const groups = entries.filter((i) => Array.isArray(outline[i]));
  if (!groups.length) return addRecords(graph, frame, entries.map((i) => outline[i]), "");
  const [group] = groups, [name, , , size] = outline[group];
  if (!size || isClosed(group)) {
    const last = outline[groups.at(-1)][0];
    addClosed(graph, frame, entries, last === name ? name : `${name} … ${last}`, groups);
  } else if (operationsIn(group).length > 1) {
    const inner = newFrame(group, frame);
    frame.items.push(inner);
    fillFrame(graph, inner, entriesIn(group));
    for (const i of entries) if (i !== group) addRecords(graph, frame, [outline[i]], "");
  } else addRecords(graph, frame, entries.flatMap((i) => Array.isArray(outline[i]) ? recordsIn(i) : [outline[i]]), name);
}

/** Add operations, each with the items of its tuple; leaves wait for `placeLeaves`. */
function addRecords(graph, frame, list, scope) {
  for (const n of list) {
    const tuple = isItem(n) ? graph.unitOf[records[n].inputs[0][1]] : undefined;
    if (!isOperation(n)) frame.leaves.push(n);
    else if (tuple) { tuple.records.push(n); graph.unitOf[n] = tuple; }
    else addUnit(graph, frame, { kind: "operation", entries: [entryOf[n]], records: [n], title: scope, output: n });
  }
}

function addClosed(graph, frame, entries, title = "", groups = []) {
  const list = entries.flatMap((i) => Array.isArray(outline[i]) ? recordsIn(i) : [outline[i]]);
  const operations = list.filter((n) => isOperation(n) && !isItem(n));
  addUnit(graph, frame, { kind: "closed", entries, records: list, groups, output: operations.at(-1) ?? -1,
    count: list.filter(isOperation).length / Math.max(1, groups.length),
    title: title || `${numberText(operations[0])} … ${numberText(operations.at(-1))}` });
}

function addUnit(graph, frame, unit) {
  Object.assign(unit, { frame, pills: [], id: graph.units.length });
  graph.units.push(unit);
  frame.items.push(unit);
  for (const n of unit.records) graph.unitOf[n] = unit;
  return unit;
}

// ------------------------------------------------------------------ leaves and edges

/** Give a box of its own to a leaf that begins a computation, or that several units of a small tape read; one that a single
 * closed unit reads belongs to it, and others become pills beside their readers. */
function placeLeaves(graph) {
  const readers = records.map(() => new Set());
  records.forEach((record, n) => {
    for (const [, m] of record.inputs) if (m >= 0 && !isOperation(m)) readers[m].add(graph.unitOf[n]);
  });
  const place = (frame) => {
    frame.items.filter((item) => item.kind === "frame").forEach(place);
    for (const n of frame.leaves.reverse()) {
      const list = [...readers[n]];
      if (graph.unitOf[n]) continue;
      if (hasOwnUnit(graph, n, list)) {
        addUnit(graph, frame, { kind: records[n].kind, entries: [entryOf[n]], records: [n], title: "", output: n });
        frame.items.unshift(frame.items.pop());
      } else if (list.length === 1 && list[0].kind === "closed") graph.unitOf[n] = list[0];
    }
  };
  place(graph.root);
}

function hasOwnUnit(graph, n, readers) {
  if (!readers.length) return true;
  if (readers.length > 1) return isSmall;
  const [reader] = readers;
  if (reader.kind !== "operation") return isSmall;
  const inputs = reader.records.flatMap((m) => records[m].inputs.map((input) => input[1])).filter((m) => m >= 0);
  return (isSmall || records[n].kind === "constant") && inputs[0] === n &&
    inputs.every((m) => !isOperation(m) || graph.unitOf[m] === reader);
}

/** Join the units by edges with their uses: [record that reads, slot, record that is read, what is sent to it]. */
function joinUnits(graph) {
  const found = new Map();
  records.forEach((record, n) => {
    const head = graph.unitOf[n];
    let sent = 0;
    record.inputs.forEach(([name, m, text, needs], slot) => {
      const send = needs ? record.sends[sent++] : undefined, tail = graph.unitOf[m];
      if (tail === head) return;
      if (m < 0 && (head.kind === "closed" || !/^[a-z]+\d+\[/.test(text) || /indices|sections/.test(name))) return;
      const copy = head.kind === "operation" && tail?.records.length === 1 ? slot : 0;  // both arrows of x·x
      const key = tail ? `${tail.id} ${head.id} ${copy}` : `${m < 0 ? `${n} ${name}` : m} pill ${head.id}`;
      if (!found.has(key)) {
        found.set(key, tail ? { tail, head, uses: [] } : { tail: newPill(head, m, name, text), head, uses: [] });
      }
      found.get(key).uses.push({ n, slot, m, send, name });
    });
  });
  for (const unit of [...graph.units]) {
    limitPills(unit);
    if (unit.output < 0 && unit.frame) joinGap(graph, unit);
  }
  for (const edge of found.values()) if (!edge.tail.dropped) graph.edges.push(edge);
}

/** Join what stands for records that are left out to the units around it. */
function joinGap(graph, unit) {
  const [before, after] = [graph.units[unit.id - 1], graph.units[unit.id + 1]];
  if (before) graph.edges.push({ tail: before, head: unit, uses: [] });
  if (after?.kind !== "constant" && after?.kind !== "parameter" && after) graph.edges.push({ tail: unit, head: after, uses: [] });
}

function newPill(unit, n, name, text) {
  const pill = { kind: n < 0 ? "array" : records[n].kind, entries: n < 0 ? [] : [entryOf[n]], records: n < 0 ? [] : [n],
    output: n, title: n < 0 ? name : pillTitle(n, unit), text, reader: unit };
  unit.pills.push(pill);
  return pill;
}

function limitPills(unit) {
  if (unit.pills.length <= MOST_PILLS) return;
  const rest = unit.pills.splice(MOST_PILLS - 1);
  for (const pill of rest) pill.dropped = true;
  unit.pills.push({ kind: "more", entries: [], records: rest.flatMap((pill) => pill.records), output: -1, reader: unit,
    title: `and ${rest.length} more`, text: "" });
}

/** A leaf's name without the scopes of its reader. */
function pillTitle(n, unit) {
  const { name, kind } = records[n], short = unit.kind === "operation" ? nameIn(name, records[unit.output].scope) : name;
  return short === name ? name.split(".").slice(-2).join(".") || kind : short;
}

/** Close scopes, the deepest first, until the graph has a size that one can look over. */
function foldDeepScopes() {
  const deepest = depthOf.reduce((a, b) => Math.max(a, b), 0), opened = entryOf[tape.focus >= 0 ? tape.focus : atStep[state.step]] ?? 0;
  for (let level = deepest; level >= 0 && buildGraph(opened).units.length > MOST_UNITS; level--) {
    outline.forEach((item, i) => { if (Array.isArray(item) && item[3] && depthOf[i] === level) folded.add(i); });
  }
}
