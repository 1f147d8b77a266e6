"""The chapters on the hosts of notebooks, as far as these can be tried here."""

import ast

import pytest

import autograd as ag
from notebooks.reference.chapter_pages import _to_download
from tests.autograd.view.browser import opened_browser
from tests.notebooks import chapters, load

POLICIES = {  # what a page may load that shows outputs; its frames inherit this
    "none": "",
    "VS Code": "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
               "img-src https: http: data:; connect-src https:; child-src https: data:"}


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_no_cell_needs_ipython_around_it(path):
    """marimo, for one, has none of these names."""
    for cell in load(path)["cells"]:
        if cell["cell_type"] == "code":
            names = {node.id for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.Name)}
            assert names.isdisjoint({"display", "get_ipython", "In", "Out"}), cell["id"]


@pytest.mark.slow
def test_nbconvert_makes_one_file_of_a_downloaded_chapter():
    pytest.importorskip("nbconvert")
    import nbformat
    from nbconvert import HTMLExporter
    notebook = _to_download(load(chapters([2])[0]))
    pictures = sum(cell["source"].count("](attachment:") for cell in notebook["cells"])
    text, _ = HTMLExporter().from_notebook_node(nbformat.from_dict(notebook))
    assert pictures == text.count('src="data:image/png;base64,') > 1 and "attachment:" not in text


@pytest.mark.slow
def test_the_player_plays_as_an_output_under_the_policies_of_hosts():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    output = ag.tape((x * x).sum()).player()._repr_html_()
    with opened_browser() as browser:
        for policy in POLICIES.values():
            page = browser.new_page(color_scheme="null")
            page.set_content(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
                             '<body class="vscode-dark">')
            page.evaluate("html => document.body.innerHTML = html", output)
            frame = page.frame_locator("iframe.tapegrad")
            frame.get_by_text("step 1 / 3").first.wait_for()
            assert frame.locator("body").evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches")
