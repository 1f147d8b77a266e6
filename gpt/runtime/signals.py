"""Ctrl-C and SIGTERM: they end a command at once, and training after the step at hand."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came.  `status`: the exit status that says so, as in a shell: 130 and 143."""

    def __init__(self, message: str = "stopped", number: int = signal.SIGINT):
        super().__init__(message)
        self.status = 128 + number


def leave(number: int, frame: Any) -> None:
    """A handler that ends the process on the spot, where an exception could go astray: while modules are imported, and
    when a second signal comes while the first one is being obeyed."""
    with suppress(OSError):
        os.write(2, b"\ngpt: stopped\n")
    os._exit(128 + number)


def leave_on_signal() -> None:
    """Let Ctrl-C and SIGTERM end the process on the spot, in place of Python's traceback."""
    for each in NUMBERS:
        signal.signal(each, leave)


def ignore_signals() -> None:
    """Let Ctrl-C and SIGTERM come too late: Python, when it ends, would let them kill the process."""
    for each in NUMBERS:
        signal.signal(each, signal.SIG_IGN)


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Stopped, so that what is half done is put away; a second one ends the process."""
    with _handled_by(lambda number, frame: _stop("stopped", number)):
        yield


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """A list that stays empty until Ctrl-C or SIGTERM, whose number it then holds, so that the step at hand is finished
    and saved; a second signal raises Stopped at once."""
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:
            _stop("stopped at once, without saving; the last checkpoint is whole", number)
        asked.append(number)

    with _handled_by(ask):
        yield asked


def _stop(message: str, number: int) -> None:
    leave_on_signal()
    raise Stopped(message, number)


@contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)  # None: a handler that Python did not set
