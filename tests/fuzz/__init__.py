"""Random programs of the engine's functions, compared with PyTorch and with finite differences: python -m tests.fuzz

    program     what a program is: statements, and what its variant does with them
    table       the operations, each written for both libraries; arguments, builder: how a call of one is drawn
    draw        the program of a seed
    run         both libraries run it, and their answers are compared
    shrink      a program that fails is cut down
    many        many programs, and counts of what they held
"""

from tests.fuzz.draw import draw_program
from tests.fuzz.program import VARIANTS, Program
from tests.fuzz.run import Failure, by_differences, check, compare, run_ours
from tests.fuzz.shrink import shrink
from tests.fuzz.table import TABLE

__all__ = ["TABLE", "VARIANTS", "Failure", "Program", "by_differences", "check", "compare", "draw_program", "run_ours",
           "shrink"]
