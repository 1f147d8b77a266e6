"""The chapters in notebooks/: rules that each keeps, run in a fresh kernel, compared with the outputs they carry.

    python -m tests.notebooks              every chapter: rules, a run with the answers of its exercises, its outputs
    python -m tests.notebooks 3 4          these chapters only
    python -m tests.notebooks --write 3    run it as a reader does, and write its outputs back

To write a chapter, edit it in Jupyter (or make it with nbformat) and run it with --write.  It begins with `FIRST_CELL`,
among whose imports its own are put.  An exercise is a cell of text, `### Exercise 3.1: …`, with its answer in
<details>, which draws from no generator of the chapter's, so that the chapter shows the same with it and without.  The
cell after it has a skeleton and `check("3.1", …)`, whose cases are in `autograd/learn/exercises/`, and finds the answer
right, which makes the names that are checked.  A
cell that shows times is tagged `measured`: its outputs are marked as a sample, and not compared.
"""

from .chapter import FIRST_CELL, NOTEBOOKS, chapters, load, save, with_small_pictures
from .rules import broken_rules
from .running import LIMIT, differences, run

__all__ = ["FIRST_CELL", "LIMIT", "NOTEBOOKS", "broken_rules", "chapters", "differences", "load", "run", "save",
           "with_small_pictures"]
