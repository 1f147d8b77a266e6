"""The chapters in the browser: four of them run there from static files, offline, and print what their files say."""

import copy
import json

import pytest

from notebooks.site import chapters
from tests.autograd.view.browser import opened_browser
from tests.notebooks import chapters as find_chapters
from tests.notebooks import differences, load
from tests.notebooks.chapter import normalised
from tests.notebooks.host import hosted, needs_pyodide

CHAPTERS = find_chapters()
RUN_ALL = """async () => {
  const notebook = jupyterapp.shell.currentWidget;
  await notebook.sessionContext.ready;
  const cells = [...notebook.content.model.cells].filter(cell => cell.type === "code");
  for (const cell of cells) cell.outputs.clear();
  await jupyterapp.commands.execute("notebook:run-all-cells");
  return cells.map(cell => cell.outputs.toJSON());
}"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    pytest.importorskip("jupyterlite_pyodide_kernel")
    with hosted(tmp_path_factory.mktemp("host")) as host:
        yield host


@pytest.fixture(scope="module")
def folder(host):
    return host.root / "some" / "where" / "chapters"


@pytest.mark.slow
def test_every_chapter_is_there_with_a_note(folder):
    listed = json.loads((folder / "api" / "contents" / "all.json").read_text())["content"]
    page = (folder.parent / "chapters.html").read_text()
    assert [each["name"] for each in listed] == [path.name for path in CHAPTERS]
    for path in CHAPTERS:
        notebook = load(folder / "files" / path.name)
        assert f'href="chapters/notebooks/index.html?path={path.name}"' in page
        assert notebook["cells"].pop(1)["source"].startswith("**In this browser.**")
        assert differences(load(path), notebook) == []
        shown = [output["data"] for cell in notebook["cells"] for output in cell.get("outputs", []) if "data" in output]
        assert all(isinstance(text, str) for data in shown for text in data.values())  # a list is shown with its commas
    assert chapters.READ_ONLY not in chapters.SECONDS and page.count("To be read here") == 1


@pytest.fixture(scope="module")
def context(host):
    """A browser's context, in which nothing but the host is asked."""
    with opened_browser() as browser:
        context, requests, missing = browser.new_context(viewport={"width": 1400, "height": 900}), [], []
        context.set_default_timeout(600_000)  # 20 s, and on a crowded machine far longer
        context.on("request", lambda request: requests.append(request.url))
        context.on("response", lambda answer: answer.status < 400 or missing.append(answer.url.removeprefix(host)))
        yield context
        context.close()
    assert [url for url in requests if not url.startswith((host, "blob:", "data:"))] == []
    assert [path for path in missing if "/build/" in path or "/extensions/" in path] == []  # nothing left out is needed
    fetched = [url.removeprefix(f"{host}pyodide/") for url in requests if url.startswith(f"{host}pyodide/")]
    assert "pyodide.asm.wasm" in fetched
    assert not [name for name in fetched if name.startswith("autograd")]  # another one, which would replace ours


@pytest.mark.slow
@pytest.mark.long
@needs_pyodide
@pytest.mark.parametrize("number", [1, 3, 6, 9])
def test_a_chapter_prints_in_the_browser_what_its_file_says(host, context, number):
    [path] = find_chapters([number])
    page = context.new_page()
    page.goto(f"{host}some/where/chapters/notebooks/index.html?path={path.name}")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.content?.model?.cells?.length > 1")
    outputs = page.evaluate(RUN_ALL)
    page.close()
    committed = load(path)
    fresh = copy.deepcopy(committed)
    for cell, found in zip((cell for cell in fresh["cells"] if cell["cell_type"] == "code"), outputs, strict=True):
        assert not [output for output in found if output["output_type"] == "error"], cell["source"]
        cell["outputs"] = [output for output in found if output.get("name") != "stderr"]
    assert differences(committed, normalised(fresh)) == []
