"""Handlers of Ctrl-C and SIGTERM: they end a command at once, and training after the current step."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Raised by Ctrl-C or SIGTERM.  `status`: the exit status, as in a shell: 130 or 143."""

    def __init__(self, message: str = "stopped", number: int = signal.SIGINT):
        super().__init__(message)
        self.status = 128 + number


def leave(number: int, frame: Any) -> None:
    """End the process on the spot, as a signal handler where an exception could be lost: while modules are imported,
    and for a second signal while the first one is being handled."""
    with suppress(OSError):
        os.write(2, b"\ngpt: stopped\n")
    os._exit(128 + number)


def leave_on_signal() -> None:
    """Let Ctrl-C and SIGTERM end the process on the spot, without Python's traceback."""
    for each in NUMBERS:
        signal.signal(each, leave)


def ignore_signals() -> None:
    """Ignore Ctrl-C and SIGTERM: while Python shuts down, they would kill the process."""
    for each in NUMBERS:
        signal.signal(each, signal.SIG_IGN)


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise Stopped within it, so that cleanup runs; a second one ends the process."""
    with _handled_by(lambda number, frame: _stop("stopped", number)):
        yield


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Yield a list to which Ctrl-C or SIGTERM appends its number, so that the current step can be finished and saved; a
    second signal raises Stopped at once."""
    stop_requested: list[int] = []

    def request(number: int, frame: Any) -> None:
        if stop_requested:
            _stop("stopped at once, without saving; the last checkpoint is whole", number)
        stop_requested.append(number)

    with _handled_by(request):
        yield stop_requested


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
