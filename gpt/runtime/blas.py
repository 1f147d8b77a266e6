"""The threads of the BLAS libraries that NumPy's matrix products run on, by threadpoolctl where it is installed.

Without it, as in a browser, no library is known and nothing is limited.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

try:
    from threadpoolctl import ThreadpoolController
except ImportError:
    ThreadpoolController = None


def blas_libraries() -> list[Any]:
    """Return threadpoolctl's controllers of the BLAS libraries that are loaded."""
    return ThreadpoolController().select(user_api="blas").lib_controllers if ThreadpoolController else []


def limit_blas_threads(n: int | None) -> AbstractContextManager[Any]:
    """Let each matrix product use at most `n` threads (None: as many as before) from now until the end of the context
    that is returned."""
    return ThreadpoolController().limit(limits=n, user_api="blas") if ThreadpoolController else nullcontext()
