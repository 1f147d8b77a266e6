"""Sphinx's settings for the reference."""

project = "tapegrad"
author = copyright = "the authors of tapegrad"
extensions = ["sphinx.ext.autodoc", "myst_nb", "notebooks.reference.extension"]  # myst_nb: MyST, and notebooks
nb_execution_mode = "off"  # the chapters come with their outputs
nb_merge_streams = True
exclude_patterns = ["extra", "made"]  # files beside the pages, notebooks among them, and what is built
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "unicode"  # extension.py: formulas are set as HTML, without a script

html_theme = "furo"
html_title = "tapegrad"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_show_search_summary = False  # it would ask for pages, which a browser refuses on a disk
html_copy_source = html_show_sourcelink = False
html_show_sphinx = False

add_module_names = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
suppress_warnings = ["ref.python"]  # two classes may have the same name: an annotation then links to one of them
toc_object_entries = False
