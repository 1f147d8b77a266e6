"""A chapter's set-up in one line: `from autograd.learn import ag, check, np, plt`.

`check("2.1", answer)` tries an answer to an exercise on several cases and says what it found.  Importing `plt`
also sets the style of plots; without Matplotlib it raises `Missing`, which says how to get it.
"""

from typing import Any

import numpy as np

import autograd as ag

from . import exercises
from .judging import check
from .plots import set_style

__all__ = ["ag", "check", "np", "plt"]  # noqa: F822 (plt is made below, for those who ask for it)

assert exercises  # imported for what it registers
if not hasattr(ag, "tape"):  # the parent of these modules may be found elsewhere
    raise ImportError(f"{ag.__file__} is another package called autograd")
np.set_printoptions(precision=4, suppress=True)


class Missing(ImportError):
    """A package that a chapter needs is not installed."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: the sentence, without a traceback."""
        return [str(self)]


def __getattr__(name: str) -> Any:
    if name != "plt":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise Missing(f'Matplotlib is missing ({error}): run  pip install -e ".[notebooks]"  in the folder of tapegrad '
                      "(or  pip install matplotlib), and restart the kernel.") from None
    set_style(plt)
    return plt
