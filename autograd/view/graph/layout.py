"""Rows and columns of a graph: parameters stand beside their operation, inputs above it."""

from __future__ import annotations

from collections import Counter

from .fold import Box, Edge, Fold


def choose_beside(folded: Fold) -> dict[Box, list[Box]]:
    """Map operations to their parameters that are drawn beside them: those with no other reader, if there is another
    input to be drawn above."""
    readers = Counter(edge.tail for edge in folded.edges)
    home = {item: frame for frame in folded.frame.frames() for item in frame.items}
    found: dict[Box, list[Box]] = {}
    for head, edges in _edges_into(folded).items():
        alone = [edge.tail for edge in edges if edge.tail.op is not None and edge.tail.op.op is None
                 and readers[edge.tail] == 1 and home[edge.tail] is home[head] and edge.tail.op is not folded.focus]
        leaves = [box for box in alone if box.op.requires_grad]  # type: ignore[union-attr]
        if len(leaves) == len(edges):
            leaves = leaves[1:]
        if leaves and head.op is not None:
            found[head] = leaves
    return found


def find_main(folded: Fold) -> dict[Box, Edge]:
    """Map each box to the edge from its latest input, which is drawn straight: others pass it by."""
    place = {box: i for i, box in enumerate(folded.frame.boxes())}
    return {head: max(edges, key=lambda edge: (edge.tail.op is None or edge.tail.op.op is not None, place[edge.tail]))
            for head, edges in _edges_into(folded).items()}


def _edges_into(folded: Fold) -> dict[Box, list[Edge]]:
    """Map each box to the edges that end there."""
    found: dict[Box, list[Edge]] = {}
    for edge in folded.edges:
        found.setdefault(edge.head, []).append(edge)
    return found
