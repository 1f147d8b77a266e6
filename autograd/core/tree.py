"""Trees: an array, number or Tensor, or a dict, list, tuple or Module (whatever has `map`) of trees.  JAX's pytrees."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np


def tree_map(fn: Callable[[Any], Any], tree: Any) -> Any:
    """Return a tree of the same structure with `fn` applied to each leaf; None stays None."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        branches = {key: tree_map(fn, branch) for key, branch in tree.items()}
        if type(tree) is dict:
            return branches
        mapped = copy.copy(tree)  # keeps its other fields, such as the factory of a defaultdict
        dict.update(mapped, branches)  # a Counter's own `update` adds, and another's may refuse
        return mapped
    if isinstance(tree, (list, tuple)):
        made = [tree_map(fn, branch) for branch in tree]
        return type(tree)(*made) if hasattr(tree, "_fields") else type(tree)(made)
    return tree.map(fn) if is_module(tree) else fn(tree)


def is_module(tree: Any) -> bool:
    """Return True if `tree` maps a function over its own leaves; a pandas.Series has a `map` too, and is an array."""
    return hasattr(tree, "map") and not hasattr(tree, "__array__")


def copy_structure(tree: Any) -> Any:
    """Return new containers around the same leaves, so that writing into the old ones changes nothing here."""
    return tree_map(lambda leaf: leaf, tree)


def tree_leaves(tree: Any) -> list[Any]:
    """Return the leaves of a tree, in the order of `tree_map`."""
    leaves: list[Any] = []

    def collect(leaf: Any) -> Any:
        leaves.append(leaf)
        return leaf

    tree_map(collect, tree)
    return leaves


def leaves_like(model: Any, tree: Any) -> list[Any]:
    """Return the leaves of `tree` in the order of `model`'s.  Raises ValueError unless they have one structure."""
    if isinstance(model, dict):
        if not isinstance(tree, dict) or tree.keys() != model.keys():
            raise ValueError(f"a dict with the keys {list(model)} is needed, not {tree!r:.60}")
        return [leaf for key in model for leaf in leaves_like(model[key], tree[key])]
    if isinstance(model, (list, tuple)):
        if not isinstance(tree, (list, tuple)) or len(tree) != len(model):
            raise ValueError(f"a list or tuple of {len(model)} is needed, not {tree!r:.60}")
        return [leaf for a, b in zip(model, tree) for leaf in leaves_like(a, b)]
    return tree_leaves(tree) if is_module(model) else [np.asarray(tree) if isinstance(tree, list) else tree]
