"""Folders are layers: nothing imports upwards, no import closes a circle, and no folder is crowded."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From the ground up.  What stands on one line may import each other, as long as there is no circle.
LAYERS = {
    "autograd": ["core", "engine tiny", "define transform", "ops", "batching vmap", "kernels", "program", "check",
                 "view", "__init__", "learn", "__main__"],
    "gpt": ["runtime", "model", "optim data", "checkpoint", "generation", "training", "chat", "tuning pretrained",
            "view bench", "influence", "cli", "__init__", "__main__"],
}
MOST = {"autograd": 10, "gpt": 12}


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module_of(file): file for package in LAYERS for file in (ROOT / package).rglob("*.py")}


def only_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def import_nodes(node):
    """Yield every import below a node, in functions too, but for those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        yield from (each for branch in child.orelse for each in import_nodes(ast.Module([branch], []))) \
            if only_for_types(child) else import_nodes(child)


def imports(module, file):
    """Return the modules of the two packages that a module imports."""
    package = module.split(".") if file.name == "__init__.py" and "__init__" not in module else module.split(".")[:-1]
    found = set()
    for node in import_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = [*package[:len(package) - node.level + 1]] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        found |= {f"{name}.__init__" if name in LAYERS else name for name in names}
    return sorted(found & MODULES.keys() - {module})


GRAPH = {module: imports(module, file) for module, file in MODULES.items()}


def circles(graph):
    """Return the sets of modules that import each other, directly or by way of others."""
    def reachable(start):
        seen, todo = set(), [start]
        while todo:
            todo += [m for m in graph[todo.pop()] if m not in seen and not seen.add(m)]
        return seen

    reach = {module: reachable(module) for module in graph}
    return {frozenset(m for m in reach[module] if module in reach[m]) for module in graph if module in reach[module]}


def layer(module):
    package, _, rest = module.partition(".")
    return next(i for i, names in enumerate(LAYERS[package]) if rest.split(".")[0] in names.split())


def test_a_circle_is_noticed():
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == {frozenset({"b", "c"})}


def test_imports_are_noticed_also_inside_functions():
    assert "autograd.engine" in GRAPH["autograd.transform"] and "gpt.runtime.settings" in GRAPH["gpt.cli"]
    assert len(GRAPH) > 150 and sum(map(len, GRAPH.values())) > 500
    tree = ast.parse("def f():\n  import a\nif TYPE_CHECKING:\n  import b\nelse:\n  import c")
    assert [node.names[0].name for node in import_nodes(tree)] == ["a", "c"]


def test_no_import_closes_a_circle():
    assert circles(GRAPH) == set()


def test_nothing_imports_upwards():
    upwards = [(module, m) for module, found in GRAPH.items() for m in found
               if m.partition(".")[0] == module.partition(".")[0] and layer(m) > layer(module)]
    assert upwards == []


def test_autograd_imports_nothing_of_gpt():
    assert not [m for module, found in GRAPH.items() for m in found if module.startswith("autograd") and m[:3] == "gpt"]


def test_a_folder_is_small_enough_to_look_over():
    assert sum(file.is_file() for file in (ROOT / "autograd").iterdir()) <= MOST["autograd"]
    folders = [ROOT / "gpt", *(f for f in (ROOT / "gpt").rglob("*") if f.is_dir() and f.name != "__pycache__")]
    crowded = {str(folder): n for folder in folders if (n := sum(f.is_file() for f in folder.iterdir())) > MOST["gpt"]}
    assert crowded == {}


def test_the_engine_is_read_in_one_sitting():
    assert len((ROOT / "autograd" / "engine.py").read_text(encoding="utf-8").splitlines()) <= 300
