"""Ctrl-C and SIGTERM, which ask a run to finish its step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_on_signal() -> Iterator[list[bool]]:
    """A list that stays empty until Ctrl-C or SIGTERM, so that the step at hand is finished and saved; a second signal
    raises KeyboardInterrupt at once."""
    asked: list[bool] = []

    def ask(signal_number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt("stopped at once, without saving; the last checkpoint is whole")
        asked.append(True)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
