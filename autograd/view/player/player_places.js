// The player's graph: where it is drawn.  Each frame is laid out by itself, inner ones first, in the manner of
// Sugiyama: ranks by the longest path, an order of few crossings, and columns as straight as possible, long edges (a
// residual stream) straightest.  Outputs that cross a frame's border do so at a port.  Positions are pixels.

const RANK_GAP = isSmall ? 40 : 28, STUB = isSmall ? 18 : 8, PILL_GAP = isSmall ? 50 : 28, PAD = 14, FRAME_HEAD = 26;

/** Set x, y, w and h of all units and frames, and the points of all edges. */
function placeGraph(graph) {
  for (const unit of graph.units) measureUnit(unit);
  for (const edge of graph.edges) if (edge.tail.frame) edge.links = linksOf(edge);
  placeFrame(graph.root);
  moveFrame(graph.root, 0, 0);
  for (const edge of graph.edges) edge.points = edge.links ? pointsOf(edge) : pillPoints(edge);
}

/** Set the extent of a unit to the left and right of its axis, with its pills on the right. */
function measureUnit(unit) {
  measureBox(unit);
  unit.pills.sort((a, b) => (a.output < 0) - (b.output < 0)).forEach(measureBox);
  const height = unit.pills.reduce((sum, pill) => sum + pill.h + 6, pillTop(unit) - 6);
  const pills = Math.max(0, ...unit.pills.map((pill) => PILL_GAP + pill.w));
  Object.assign(unit, { left: unit.w / 2, right: unit.w / 2 + pills, height: Math.max(unit.h, height) });
}

/** The first pill is level with its reader, others are below it. */
const pillTop = ({ h, pills }) => pills.length ? (h - pills[0].h) / 2 : 0;

// ------------------------------------------------------------------ links: the parts of an edge, one in each frame

function linksOf(edge) {
  const { tail, head } = edge, ups = framesOf(tail), downs = framesOf(head);
  let common = 0;
  while (ups[common + 1] && ups[common + 1] === downs[common + 1]) common++;
  const links = [];
  let from = tail, to = head;
  for (let i = ups.length - 1; i > common; i--) {
    const bottom = portOf(ups[i], "bottoms", tail);
    links.push(linkOf(ups[i], from, bottom, tail));
    from = ups[i];
  }
  const inner = [];
  for (let i = downs.length - 1; i > common; i--) {
    const top = portOf(downs[i], "tops", tail);
    inner.unshift(linkOf(downs[i], top, to, tail, edge));
    to = downs[i];
  }
  return [...links, linkOf(ups[common], from, to, tail, edge), ...inner];
}

function framesOf(unit) {
  const found = [];
  for (let frame = unit.frame; frame; frame = frame.parent) found.unshift(frame);
  return found;
}

/** The port at which the output of the unit `source` crosses the top or bottom of a frame. */
function portOf(frame, side, source) {
  const ports = frame[side];
  if (!ports.has(source)) ports.set(source, { kind: "port", side, source, left: 0, right: 0, height: 0 });
  return ports.get(source);
}

/** The link between two nodes of a frame; the two arrows of x·x have one each. */
function linkOf(frame, from, to, source, edge) {
  const copies = frame.links.get(from) ?? new Map();
  frame.links.set(from, copies);
  const twin = to === edge?.head ? edge.uses[0]?.slot ?? 0 : -1, list = copies.get(to) ?? [];
  copies.set(to, list);
  let link = list.find((other) => other.source === source && other.twin === twin);
  if (!link) list.push(link = { from, to, source, twin, frame });
  return link;
}

// ------------------------------------------------------------------ one frame

function placeFrame(frame) {
  for (const item of frame.items) if (item.kind === "frame") placeFrame(item);
  const nodes = [...frame.tops.values(), ...frame.items, ...frame.bottoms.values()];
  const links = [...frame.links.values()].flatMap((copies) => [...copies.values()].flat());
  rankNodes(frame, nodes, links);
  const ranks = addBends(nodes, links);
  orderRanks(ranks);
  const blocks = alignBlocks(ranks);
  placeBlocks(ranks, blocks);
  placeRanks(frame, ranks, links);
}

/** Rank each node by the longest path to it, then move those with few inputs down to their readers. */
function rankNodes(frame, nodes, links) {
  const position = new Map(nodes.map((node, i) => [node, i]));
  for (const node of nodes) Object.assign(node, { ins: [], outs: [], rank: 0 });
  for (const link of links) {
    link.isUpward = position.get(link.from) > position.get(link.to);   // only between scopes that read each other
    const [high, low] = link.isUpward ? [link.to, link.from] : [link.from, link.to];
    high.outs.push(low);
    low.ins.push(high);
  }
  for (const node of nodes) node.rank = Math.max(frame.tops.size && node.side !== "tops" ? 1 : 0, ...node.ins.map((other) => other.rank + 1));
  for (const node of [...nodes].reverse()) {
    const inner = new Set(node.ins).size, outer = new Set(node.outs).size;
    if (node.side !== "tops" && outer && inner < outer) node.rank = Math.min(...node.outs.map((other) => other.rank)) - 1;
  }
  const last = Math.max(0, ...nodes.filter((node) => node.side !== "bottoms").map((node) => node.rank)) + 1;
  for (const port of frame.bottoms.values()) port.rank = last;
}

/** Give every link a bend in each rank it passes; links from the same output share them.  Return the nodes of each rank. */
function addBends(nodes, links) {
  const ranks = [], bends = new Map();
  const put = (node) => { (ranks[node.rank] ??= []).push(node); node.above = []; node.below = []; };
  nodes.forEach(put);
  for (const link of links) {
    const [high, low] = link.isUpward ? [link.to, link.from] : [link.from, link.to];
    if (!bends.has(high)) bends.set(high, new Map());
    const trunks = bends.get(high), trunk = trunks.get(link.source) ?? [];
    trunks.set(link.source, trunk);
    for (let i = trunk.length; high.rank + 1 + i < low.rank; i++) {
      const bend = { kind: "bend", rank: high.rank + 1 + i, left: 0, right: 0, height: 0, source: link.source };
      put(bend);
      trunk.push(bend);
    }
    link.nodes = [high, ...trunk.slice(0, Math.max(0, low.rank - high.rank - 1)), low];
    for (let i = 0; i + 1 < link.nodes.length; i++) {
      const [a, b] = [link.nodes[i], link.nodes[i + 1]];
      if (i && a.below.some((segment) => segment.low === b)) continue;
      if (!i && b.kind === "bend" && b.above.length) continue;
      const segment = { high: a, low: b, from: i ? 0 : portShift(a, "bottoms", link.source), to: portShift(b, "tops", link.source) };
      a.below.push(segment);
      b.above.push(segment);
    }
  }
  return ranks.map((rank) => rank ?? []);
}

/** The distance of a port from the axis of its frame; 0 for other nodes. */
function portShift(node, side, source) {
  return node.kind === "frame" ? node[side].get(source)?.x ?? 0 : 0;
}

// ------------------------------------------------------------------ the order in a rank

function orderRanks(ranks) {
  for (const rank of ranks) {
    rank.sort((a, b) => (b.kind === "bend") - (a.kind === "bend"));    // long edges on the left, stable otherwise
    rank.forEach((node, i) => { node.order = i; });
  }
  let best = ranks.map((rank) => [...rank]), fewest = countCrossings(ranks);
  for (let sweep = 0; sweep < 8 && fewest; sweep++) {
    const down = sweep % 2 === 0;
    for (const rank of down ? ranks : [...ranks].reverse()) {
      const target = new Map(rank.map((node) => [node, middleOf(node, down)]));
      rank.sort((a, b) => target.get(a) - target.get(b) || a.order - b.order);
      rank.forEach((node, i) => { node.order = i; });
    }
    const crossings = countCrossings(ranks);
    if (crossings < fewest) [best, fewest] = [ranks.map((rank) => [...rank]), crossings];
  }
  best.forEach((rank, r) => { ranks[r] = rank; rank.forEach((node, i) => { node.order = i; }); });
}

/** The mean position of a node's neighbours in the rank before, or its own without any. */
function middleOf(node, down) {
  const others = (down ? node.above : node.below).map((segment) => (down ? segment.high : segment.low).order +
    (down ? segment.from : segment.to) / 1000);
  return others.length ? others.reduce((sum, x) => sum + x, 0) / others.length : node.order;
}

function countCrossings(ranks) {
  let crossings = 0;
  for (const rank of ranks) {
    const segments = rank.flatMap((node) => node.below);
    for (let i = 0; i < segments.length; i++) {
      for (let j = i + 1; j < segments.length; j++) crossings += areCrossing(segments[i], segments[j]);
    }
  }
  return crossings;
}

function areCrossing(a, b) {
  const high = a.high.order - b.high.order || a.from - b.from, low = a.low.order - b.low.order || a.to - b.to;
  return high * low < 0;
}

// ------------------------------------------------------------------ columns

/** Join nodes of consecutive ranks to blocks that are drawn in a straight column: long edges first, then the middle ones
 * of several, without crossings. */
function alignBlocks(ranks) {
  const straight = (segment) => (segment.high.kind === "bend" || segment.high.kind === "port") + (segment.low.kind === "bend" || segment.low.kind === "port");
  const lean = ({ high, low }) => Math.abs(high.below.findIndex((s) => s.low === low) - (high.below.length - 1) / 2) +
    Math.abs(low.above.findIndex((s) => s.high === high) - (low.above.length - 1) / 2);
  for (const rank of ranks) {
    for (const node of rank) {
      node.below.sort((a, b) => a.low.order - b.low.order || a.to - b.to);
      node.above.sort((a, b) => a.high.order - b.high.order || a.from - b.from);
      Object.assign(node, { block: null, shift: 0, up: null, down: null });
    }
  }
  for (const rank of ranks) {
    const taken = [];
    const segments = rank.flatMap((node) => node.below)
      .map((segment, i) => ({ segment, key: [-straight(segment), lean(segment), i] }))
      .sort((a, b) => a.key[0] - b.key[0] || a.key[1] - b.key[1] || a.key[2] - b.key[2]);
    for (const { segment } of segments) {
      const { high, low } = segment;
      if (high.down || low.up || taken.some((other) => areCrossing(other, segment))) continue;
      high.down = low.up = segment;
      taken.push(segment);
    }
  }
  const blocks = [];
  for (const node of ranks.flat()) {
    if (node.up) continue;
    const block = { nodes: [], x: 0 };
    blocks.push(block);
    for (let at = node, shift = 0; at; at = at.down?.low) {
      if (at !== node) shift += at.up.from - at.up.to;
      Object.assign(at, { block, shift });
      block.nodes.push(at);
    }
  }
  return blocks;
}

/** The least distance between the axes of neighbours in a rank. */
function distance(a, b) {
  const thin = (node) => node.kind === "bend" || node.kind === "port";
  return a.right + b.left + (thin(a) && thin(b) ? 14 : thin(a) || thin(b) ? 18 : 26);
}

/** Set the x of each block: as far left as its neighbours allow, then towards the blocks it is joined to. */
function placeBlocks(ranks, blocks) {
  const neighbours = new Map(blocks.map((block) => [block, { left: [], right: [] }]));
  for (const rank of ranks) {
    for (let i = 1; i < rank.length; i++) {
      const [a, b] = [rank[i - 1], rank[i]], gap = distance(a, b) + a.shift - b.shift;   // b.x ≥ a.x + gap
      if (a.block === b.block) continue;
      neighbours.get(a.block).right.push([b.block, gap]);
      neighbours.get(b.block).left.push([a.block, gap]);
    }
  }
  const ordered = [], seen = new Set();
  const visit = (block) => {
    if (seen.has(block)) return;
    seen.add(block);
    for (const [other] of neighbours.get(block).left) visit(other);
    ordered.push(block);
  };
  blocks.forEach(visit);
  const least = (block) => Math.max(...neighbours.get(block).left.map(([other, gap]) => other.x + gap), -Infinity);
  const most = (block) => Math.min(...neighbours.get(block).right.map(([other, gap]) => other.x - gap), Infinity);
  for (const block of ordered) block.x = Math.max(0, least(block));
  for (let sweep = 0; sweep < 24; sweep++) {
    for (const block of sweep % 2 ? ordered : [...ordered].reverse()) {
      const wanted = wantedX(block);
      if (wanted !== null) block.x = Math.max(least(block), Math.min(most(block), wanted));
    }
  }
}

/** The mean of the positions at which a block's edges to other blocks would be straight; null without any. */
function wantedX(block) {
  let sum = 0, weight = 0;
  for (const node of block.nodes) {
    for (const [segments, mine, theirs, other] of [[node.above, "to", "from", "high"], [node.below, "from", "to", "low"]]) {
      for (const segment of segments) {
        const end = segment[other];
        if (end.block === block) continue;
        sum += end.block.x + end.shift + segment[theirs] - node.shift - segment[mine];
        weight++;
      }
    }
  }
  return weight ? sum / weight : null;
}

// ------------------------------------------------------------------ positions in the frame, and in the graph

function placeRanks(frame, ranks, links) {
  let y = 0;
  const isEmpty = (rank) => rank.every((node) => node.kind === "port" || node.kind === "bend");
  ranks.forEach((rank, r) => {
    const height = Math.max(0, ...rank.map((node) => node.height ?? 0));
    const far = Math.max(0, ...rank.flatMap((node) => node.above.map((segment) => Math.abs(endX(segment, "high") - endX(segment, "low")))));
    if (r) y += (isEmpty(rank) ? 14 : RANK_GAP) + Math.min(22, far / 9);
    for (const node of rank) Object.assign(node, { x: node.block.x + node.shift, y, band: [y, y + height] });
    y += height;
  });
  const nodes = ranks.flat();
  const low = Math.min(...nodes.map((node) => node.x - node.left)), high = Math.max(...nodes.map((node) => node.x + node.right));
  const axis = axisOf(frame, nodes);
  for (const node of nodes) node.x -= axis;
  spreadArrivals(nodes, links);
  for (const link of links) link.points = routeOf(link);
  const title = frame.entry < 0 ? 0 : textWidth(frame.title, "frame") + 44 - (high - low);
  Object.assign(frame, { left: axis - low + PAD, right: high - axis + PAD + Math.max(0, title), inner: y,
    height: y + FRAME_HEAD + PAD });
}

const endX = (segment, end) => segment[end].block.x + segment[end].shift + segment[end === "high" ? "from" : "to"];

/** The axis of a frame: where its first input enters, or else where its first output leaves. */
function axisOf(frame, nodes) {
  const [port] = [...frame.tops.values(), ...frame.bottoms.values()];
  return (port ?? nodes[0] ?? { x: 0 }).x;
}

/** Spread the ends of the links that enter a box, so that each has its own arrow; a straight one keeps to the axis. */
function spreadArrivals(nodes, links) {
  const arriving = new Map();
  for (const link of links) {
    const end = link.isUpward ? link.from : link.to;
    if (end.kind !== "frame" && end.kind !== "port") arriving.set(end, [...arriving.get(end) ?? [], link]);
  }
  for (const [end, list] of arriving) {
    const last = (link) => link.nodes.length === 2 && link.from.kind !== "frame";
    const from = (link) => link.nodes.at(-2).x + (link.nodes.length === 2 ? portShift(link.nodes[0], "bottoms", link.source) : 0);
    list.sort((a, b) => from(a) - from(b) || a.twin - b.twin);
    const step = Math.min(24, (end.w - 24) / Math.max(1, list.length - 1));
    const straight = list.filter((link) => Math.abs(from(link) - end.x) < 1);
    const center = straight.length === 1 ? list.indexOf(straight[0]) : (list.length - 1) / 2;
    for (const link of list) link.hasTwin = last(link) && list.some((other) => other !== link && other.from === link.from && last(other));
    list.forEach((link, i) => { link.isLeft = list.length > 1 && i === 0; link.isCrowded = list.length > 2; link.spread = Math.max(-end.w / 2 + 12, Math.min(end.w / 2 - 12, (i - center) * step)); });
  }
}

/** The points of a link, from top to bottom: straight through the ranks, bent between them. */
function routeOf(link) {
  const points = [], last = link.nodes.length - 1;
  link.nodes.forEach((node, i) => {
    const x = node.x + (i === 0 ? portShift(node, "bottoms", link.source) + (link.hasTwin ? link.spread : 0) : 0) +
      (i === last ? portShift(node, "tops", link.source) + (link.spread ?? 0) : 0);
    const bottom = node.y + (node.height ?? 0), box = node.h ? node.y + node.h : bottom;
    if (i === 0) points.push([x, box], [x, node.band[1] + (node.h ? 6 : 0)]);
    else if (i === last && node.h) points.push([x, node.y - STUB], [x, node.y]);
    else if (i === last) points.push([x, node.y]);
    else points.push([x, node.band[0]], [x, node.band[1]]);
  });
  return link.isUpward ? points.reverse() : points;
}

/** Set absolute positions in a frame whose axis is at x and whose border begins at y. */
function moveFrame(frame, x, y) {
  const top = frame.entry < 0 ? y : y + FRAME_HEAD;
  Object.assign(frame, { origin: [x, top], box: [x - frame.left, y, frame.left + frame.right, frame.height] });
  for (const item of frame.items) {
    if (item.kind === "frame") { moveFrame(item, x + item.x, top + item.y); continue; }
    item.box = [x + item.x - item.w / 2, top + item.y, item.w, item.h];
    let below = item.box[1] + pillTop(item);
    for (const pill of item.pills) {
      pill.box = [item.box[0] + item.w + PILL_GAP, below, pill.w, pill.h];
      below += pill.h + 6;
    }
  }
}

function pointsOf(edge) {
  return edge.links.flatMap(({ frame, points }) => points.map(([x, y]) => [x + frame.origin[0], y + frame.origin[1]]));
}

/** The points of the edge from a pill to its reader, on the left. */
function pillPoints({ tail, head }) {
  const [x, y, , h] = tail.box, [left, top, width, height] = head.box;
  return [[x, y + h / 2], [left + width, Math.max(top + 8, Math.min(top + height - 8, y + h / 2))]];
}
