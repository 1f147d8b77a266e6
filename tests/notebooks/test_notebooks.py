"""Every chapter keeps its rules, runs in a fresh kernel with its exercises' answers, and shows what its file says; and
what breaks a rule is noticed."""

import copy
import json
import shutil
import subprocess
import sys

import pytest

from tests.notebooks import FIRST_CELL, NOTEBOOKS, broken_rules, chapters, differences, load, run, save
from tests.notebooks.chapter import SAMPLE
from tests.notebooks.running import alike

CHAPTERS = chapters()
NAMES = [path.stem for path in CHAPTERS]


@pytest.fixture
def kernels():
    """Require the extras that run a chapter."""
    for extra in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(extra)
    if shutil.which("dot") is None:
        pytest.importorskip("pygraphviz")


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_a_chapter_keeps_the_rules(path):
    assert broken_rules(path) == []


@pytest.mark.long
@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_a_chapter_runs_and_shows_what_its_file_says(path, kernels):
    notebook = load(path)
    fresh, _, troubles = run(notebook)
    assert troubles == []
    assert differences(notebook, fresh) == []


# ---------------------------------------------------------------------- the first cell


def first_cell(folder, before="", after="print(ag.__file__)", paths=(NOTEBOOKS.parent,)):
    """Run it in a Python that finds its own packages and those of `paths`, as a script in `folder`."""
    code = f"import sys\nsys.path[:0] = {[str(path) for path in paths]}\n{before}\n{FIRST_CELL}\n{after}"
    return subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True)


def test_the_first_cell_needs_no_folder_of_its_own(tmp_path):
    pytest.importorskip("matplotlib")
    done = first_cell(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(NOTEBOOKS.parent / "autograd" / "__init__.py")


@pytest.mark.parametrize("missing", ["matplotlib", "numpy", "autograd"])
def test_the_first_cell_says_what_is_missing(tmp_path, missing):
    done = first_cell(tmp_path, f"sys.modules[{missing!r}] = None")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and missing in last
    assert missing != "matplotlib" or 'Matplotlib is missing (' in last and 'pip install -e ".[notebooks]"' in last


@pytest.mark.slow
@pytest.mark.parametrize("before", ["sys.modules['autograd'] = None", "sys.path.insert(0, '')"])
def test_a_notebook_shows_what_to_do_where_autograd_is_missing_or_another(tmp_path, kernels, before):
    """The traceback has the first cell's comment, which says it."""
    (tmp_path / "autograd").mkdir()
    (tmp_path / "autograd" / "__init__.py").write_text("def grad(f): pass\n")
    assert 'pip install -e ".[notebooks]"' in "\n".join(shown_error(tmp_path, before).traceback)


@pytest.mark.slow
def test_a_missing_matplotlib_is_a_sentence_in_a_notebook(tmp_path, kernels):
    """No traceback, and the run ends there."""
    [sentence] = shown_error(tmp_path, "sys.modules['matplotlib'] = None").traceback
    assert sentence.startswith("Matplotlib is missing (") and "\n" not in sentence


def shown_error(folder, before):
    """Return the error that the first cell ends with in a kernel, where `before` ran in the cell before it."""
    import nbformat
    from nbclient import NotebookClient

    first = f"import sys\nsys.path.insert(0, {str(NOTEBOOKS.parent)!r})\n{before}"
    node = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, (first, FIRST_CELL))))
    NotebookClient(node, allow_errors=True, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return node.cells[1].outputs[-1]


# ---------------------------------------------------------------------- what is noticed

OPENING = ("# 0. A title\n\n**You will be able to** read.\n\n"
           "**You need** about 0 minutes to read, and 20 for the exercises.")
EXERCISE = """### Exercise 0.{}: {}

<details>
<summary>Answer</summary>

```python
{}
```

</details>"""


MORE_IMPORTS = "import sys\nfrom pathlib import Path\n\nfrom autograd.learn.judging import equal, exercise"
CHECKS = '''@exercise("0.1", "one more")
def _(x):
    equal("x", x, 3)

@exercise("0.2", "")
def _(x):
    equal("x", x, 2)'''
REFUSED = """Exercise 0.1 is not right yet: x does not come out right
  came out  2.
  right is  3.
  It is 0.6667 times the right one.
Hint: one more
"""


def text(name, source):
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}


def code(name, source, *outputs, tags=()):
    return {"cell_type": "code", "id": name, "metadata": {"tags": list(tags)} if tags else {}, "source": source,
            "execution_count": None, "outputs": list(outputs)}


def printed(words):
    return {"output_type": "stream", "name": "stdout", "text": words}


def chapter():
    """A chapter that is as it should be."""
    return {"cells": [text("opening", OPENING), code("first", FIRST_CELL + MORE_IMPORTS), code("checks", CHECKS),
                      code("sum", "x = 1 + 1\nprint(x)", printed("2\n")),
                      text("exercise-1", EXERCISE.format(1, "one", "x = x + 1\nassert x == 3")),
                      code("try-1", 'check("0.1", x)', printed(REFUSED)),
                      text("exercise-2", EXERCISE.format(2, "two", "assert x == 2")),
                      code("try-2", 'check("0.2", x)', printed("Exercise 0.2 is right.\n")),
                      code("last", "print(x)", printed("2\n")), text("summary", "## Summary\n\n- All.")]}


def saved(notebook, tmp_path):
    path = tmp_path / "00_a_title.ipynb"
    save(notebook, path)
    return path


def cell(notebook, name):
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def test_a_chapter_as_it_should_be_breaks_no_rule(tmp_path):
    assert broken_rules(saved(chapter(), tmp_path)) == []


@pytest.mark.parametrize("name, source, rule", [
    ("opening", "# 0. A title\n\n**You need** nothing.", "its opening lacks '**You will be able to**'"),
    ("opening", OPENING.replace("20", "10"), "does not say that it takes about 0 minutes to read, and 20"),
    ("first", FIRST_CELL.replace("check, ", ""), "its first cell of code does not begin"),
    ("first", FIRST_CELL.replace("from", "x = 1\nfrom"), "its first cell of code does not begin"),
    ("first", "import numpy as np", "its first cell of code does not begin"),
    ("summary", "The end.", "does not end with a cell that begins with '## Summary'"),
    ("exercise-1", "An aside.", "it has 1 exercises, and needs two"),
    ("exercise-1", "### Exercise 0.1: one\n\nThink.", "'Exercise 0.1: one': it needs one <details>"),
    ("exercise-1", EXERCISE.format(1, "one", "x = 3"), "its answer has no assert"),
    ("exercise-1", EXERCISE.format(1, "one", "assert True"), "its answer has no assert"),
    ("exercise-1", EXERCISE.format(1, "one", "assert 1 < 2").replace("</summary>\n", "</summary>"), "an empty line"),
    ("try-1", "...", 'Exercise 0.1: the cell after it has no check("0.1", …)'),
    ("try-1", 'check("0.2", x)', 'Exercise 0.1: the cell after it has no check("0.1", …)'),
    ("exercise-2", EXERCISE.format(2, "two", "import os\nassert os.sep"), "`import os` belongs into the first cell"),
    ("sum", "import math", "`import math` belongs into the first cell"),
    ("summary", "## Summary\n\nFor $x\n- y$.", "a formula goes over the end of the line 'For $x'"),
    ("sum", "%timeit 1 + 1", "cell sum is not plain Python"),
    ("sum", "x = 2\n<details>", "only exercises have <details>"),
])
def test_a_broken_rule_of_the_sources_is_noticed(name, source, rule, tmp_path):
    notebook = chapter()
    cell(notebook, name)["source"] = source
    if "<details>" in source and name == "sum":
        cell(notebook, name)["source"] = "x = '<details>'"
    assert any(rule in sentence for sentence in broken_rules(saved(notebook, tmp_path)))


def test_the_first_cell_may_import_more_and_go_on(tmp_path):
    notebook = chapter()
    more = FIRST_CELL.replace("from", "import tempfile\n\nfrom").replace("plt\n", "plt\nfrom gpt import GPT\n")
    cell(notebook, "first")["source"] = more + "\nn = 1"
    assert broken_rules(saved(notebook, tmp_path)) == []


@pytest.mark.parametrize("shown, rule", [
    (printed("saved in /home/me/tape.html"), "a path of a machine"),
    (printed(r"C:\Users\me"), "a path of a machine"),
    (printed("<function f at 0x7f3a5c1d2e80>"), "an address in memory"),
    ({"output_type": "display_data", "data": {"text/plain": "<script>"}, "metadata": {}}, "an embedded page"),
    ({"output_type": "error", "ename": "E", "evalue": "", "traceback": []}, "shows an error"),
    (printed("x" * 300_000), "and may have 300,000"),
    ({"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}, "metadata": {}}, "as SVG alone"),
])
def test_a_broken_rule_of_the_outputs_is_noticed(shown, rule, tmp_path):
    notebook = chapter()
    cell(notebook, "sum")["outputs"] = [shown]
    [sentence] = broken_rules(saved(notebook, tmp_path))
    assert rule in sentence


@pytest.mark.parametrize("change", [
    lambda notebook: notebook["cells"][1].update(execution_count=7),
    lambda notebook: notebook["cells"][1]["metadata"].update(collapsed=False),
    lambda notebook: notebook["metadata"]["language_info"].update(version="3.12.1"),
    lambda notebook: notebook["cells"][3]["metadata"].update(tags=["measured"]),
])
def test_noise_of_a_run_is_noticed_and_saving_removes_it(change, tmp_path):
    path = saved(chapter(), tmp_path)
    notebook = json.loads(path.read_text("utf-8"))
    change(notebook)
    path.write_text(json.dumps(notebook), "utf-8")
    assert broken_rules(path) == ["it carries noise of a run: save it with python -m tests.notebooks --write"]
    save(load(path), path)
    assert broken_rules(path) == []


def test_an_embedded_page_is_not_saved(tmp_path):
    notebook = chapter()
    framed = {"text/html": "<iframe srcdoc=''></iframe>", "text/plain": "Player of 5 records"}
    cell(notebook, "sum")["outputs"] = [{"output_type": "display_data", "data": framed, "metadata": {}}]
    path = saved(notebook, tmp_path)
    assert broken_rules(path) == []
    assert cell(load(path), "sum")["outputs"][0]["data"] == {"text/plain": ["<a live page>"]}


def test_a_measured_cell_shows_a_sample_that_is_marked_and_no_folder(tmp_path):
    notebook = chapter()
    cell(notebook, "sum").update(metadata={"tags": ["measured"]}, outputs=[])
    assert broken_rules(saved(notebook, tmp_path)) == ["cell sum is blank: run it with --write, for a sample"]
    cell(notebook, "sum")["outputs"] = [printed("0.3 ms, in /tmp/tmpab1_c/model\n")]
    path = saved(notebook, tmp_path)
    save(load(path), path)  # marks it once
    assert broken_rules(path) == []
    assert ["".join(o["text"]) for o in cell(load(path), "sum")["outputs"]] == [SAMPLE, "0.3 ms, in out/model\n"]


def test_two_cells_of_one_id_are_noticed(tmp_path):
    notebook = chapter()
    cell(notebook, "last")["id"] = "sum"
    assert broken_rules(saved(notebook, tmp_path)) == ["its cells need an id each, none twice"]


@pytest.mark.slow
def test_a_chapter_runs_with_its_answers_apart(kernels):
    """The first answer makes an x of its own, which nothing after it sees."""
    fresh, _, troubles = run(chapter())
    assert troubles == [] and differences(chapter(), fresh) == []
    assert [c["id"] for c in fresh["cells"]] == [c["id"] for c in chapter()["cells"]]


@pytest.mark.slow
@pytest.mark.parametrize("name, source, trouble", [
    ("sum", "x = 2\n1 / 0", "ZeroDivisionError"),
    ("exercise-2", EXERCISE.format(2, "two", "assert x == 3"), "assert x == 3"),
    ("exercise-1", EXERCISE.format(1, "one", "x = x + 2\nassert x == 4"), "Exercise 0.1 is not right yet"),
    ("sum", "x = 2\nnp.log(np.zeros(1))", "RuntimeWarning"),
    ("sum", "x = 2\nag.exp(ag.tensor([1e3]))", "RuntimeWarning"),
    ("sum", "x = 2\nprint('UserWarning: so', file=sys.stderr)", "cell sum warns"),
    ("sum", "x = 2\nPath('left.txt').write_text('')", "it leaves left.txt"),
])
def test_what_goes_wrong_in_a_run_is_told(name, source, trouble, kernels):
    notebook = chapter()
    cell(notebook, name)["source"] = source
    assert trouble in "\n".join(run(notebook)[2])


def html(words):
    return {"output_type": "display_data", "data": {"text/html": words}, "metadata": {}}


def test_pictures_are_not_compared():
    fresh, notebook = chapter(), chapter()
    cell(notebook, "sum")["outputs"] = [html('<p><img src="data:image/png;base64,AAAA">agrees to 3 digits')]
    cell(fresh, "sum")["outputs"] = [html('<p><img src="data:image/png;base64,BBBB">agrees to 3 digits')]
    assert differences(notebook, fresh) == []
    cell(fresh, "sum")["outputs"] = [html('<p><img src="data:image/png;base64,AAAA">agrees to 4 digits')]
    assert differences(notebook, fresh) == ["cell sum shows agrees to 4 digits, and its file has agrees to 3 digits"]


def test_outputs_that_differ_are_told():
    fresh = copy.deepcopy(chapter())
    cell(fresh, "sum")["outputs"] = [printed("3\n")]
    cell(fresh, "last")["outputs"] = []
    assert differences(chapter(), fresh) == ["cell sum shows 3, and its file has 2",
                                             "cell last shows 0 texts, and its file has 1"]


@pytest.mark.parametrize("a, b, same", [
    ("loss 0.12345", "loss 0.1234", True), ("loss 0.12", "loss 0.13", False), ("a  b", "a b", True),
    ("error 3e-12", "error 5e-11", True), ("error 3e-12", "error 3e-4", False), ("-0.", "0.", True),
    ("1 of 2", "1 or 2", False), ("f64[3]", "f64[4]", False), ("−2", "2", False), ("nan", "1", False),
    ("1.8e+308", "1.8e+308", True)])
def test_texts_are_compared_but_for_rounding(a, b, same):
    assert alike(a, b) is same


def test_a_chapter_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="there is no chapter 99"):
        chapters([99])
