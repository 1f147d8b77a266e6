"""Docstrings open with a verb or a noun, and everything public has one."""

import ast
import functools
import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("autograd", "gpt", "tests", "notebooks")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
CLAUSE = re.compile(r"(?:(?:For|In|On|By|To|From|At|Of|With) )?"
                    r"(?:What|How|Which|Whether|Where|That|Those|Who|Whose|When|Why)\b", re.IGNORECASE)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def definitions(tree, prefix="", public=True):
    """Yield the name, node and visibility of everything that can have a docstring, but for what functions define."""
    for node in tree.body:
        if isinstance(node, DEFINITIONS):
            visible = public and not node.name.startswith("_")
            yield prefix + node.name, node, visible
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, f"{prefix}{node.name}.", visible)


def explained_variables(tree):
    """Yield the variables of a file that a string explains, in the statement after the assignment, and that string."""
    for before, after in itertools.pairwise(tree.body):
        match before, after:
            case ast.Assign(targets=[target]), ast.Expr(value=ast.Constant(value=str(text))):
                yield ast.unparse(target), text


@functools.cache
def docstrings(file):
    """Return the name, docstring and visibility of a file and of everything in it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [("the file", ast.get_docstring(tree), True),
            *((name, ast.get_docstring(node), public) for name, node, public in definitions(tree)),
            *((name, text, False) for name, text in explained_variables(tree))]


def opens_with_a_clause(docstring):
    return bool(CLAUSE.match(docstring))


@pytest.mark.parametrize("docstring", ["What it is.", "how it goes", "Whether so.", "Those left.", "To which."])
def test_a_noun_clause_is_noticed(docstring):
    assert opens_with_a_clause(docstring)


@pytest.mark.parametrize("docstring", ["Return what it is.", "The KV cache.", "Howitzers.", "Map from id to array."])
def test_a_verb_or_a_noun_passes(docstring):
    assert not opens_with_a_clause(docstring)


def test_no_docstring_opens_with_a_noun_clause():
    found = [f"{file.relative_to(ROOT)}: {name}: {text.splitlines()[0]}" for file in FILES
             for name, text, _ in docstrings(file) if text and opens_with_a_clause(text)]
    assert len(FILES) > 300 and found == []


def undocumented(file, protocols=frozenset()):
    """Return what is public and has no docstring, but for methods whose name is documented in one of `protocols`."""
    return [name for name, text, public in docstrings(file)
            if public and not text and not ("." in name and name.rpartition(".")[2] in protocols)]


def test_a_public_name_without_a_docstring_is_noticed(tmp_path):
    file = tmp_path / "some.py"
    file.write_text("def f(): pass\nclass A:\n    def g(self): pass\n    def _h(self): pass\ndef _k(): pass")
    assert undocumented(file) == ["the file", "f", "A", "A.g"]
    assert undocumented(file, {"g", "f"}) == ["the file", "f", "A"]


def test_what_is_public_has_a_docstring():
    """A method may leave it to the protocol of its folder that it implements: a tokenizer's `encode`, say."""
    missing = []
    for file in FILES:
        if file.relative_to(ROOT).parts[0] in ("autograd", "gpt"):
            siblings = [*file.parent.glob("*.py"), *file.parent.parent.glob("*.py")]
            protocols = {name.rpartition(".")[2] for sibling in siblings for name, text, _ in docstrings(sibling)
                         if "." in name and text}
            missing += [f"{file.relative_to(ROOT)}: {name}" for name in undocumented(file, protocols)]
    assert missing == []
