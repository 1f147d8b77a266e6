"""The folder that a command writes to: what lies there, and whether that may be replaced."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from .. import checkpoint
from ..runtime.screen import clock_time, command_line
from ..runtime.writing import locked, sweep
from . import metrics
from .config import SHORT_RUN

# Settings that do not decide what is learned: runs that differ in these alone are the same.
FREE = ("out", "resume", "overwrite", "cache_dir", "checkpoint_interval", "keep", "time_limit", "replicas")


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder, and those it is in, where they are missing; they are gone again if anything fails and they are
    empty."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):  # it is not empty
                each.rmdir()
        raise


@contextmanager
def writable_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield the folder `path` to write to, made if it is missing, locked and tidied up; gone again if the command fails
    and it is empty.

    Raises OSError, before a run's work is done, if the folder takes no files or another command is writing to it.
    """
    folder = Path(path)
    with ExitStack() as stack:
        try:
            stack.enter_context(made(folder))
            stack.enter_context(locked(folder))
            with tempfile.TemporaryFile(dir=folder):
                pass
            if (folder / checkpoint.FILE).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{checkpoint.FILE} in it is a folder")
        except BlockingIOError:
            raise OSError(f"another run is writing to {folder}: wait for it, stop it, or choose another folder with "
                          "--out") from None
        except OSError as error:
            raise type(error)(f"nothing can be written to {folder} ({error.strerror}): choose another folder with "
                              "--out") from None
        tidy(folder)
        try:
            yield folder
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell of
                tidy(folder)
            raise


def tidy(folder: Path) -> None:
    """Do what a run that ended early has left to do in a folder, and delete what it has left half-written."""
    finish_interrupted(folder)
    for name in ("*.safetensors", metrics.FILE):
        sweep(folder, name)


def finish_interrupted(folder: Path) -> None:
    """Do what a run that was killed right after its newest checkpoint had left to do: move its metrics into place, and
    copy the checkpoint."""
    newest = folder / checkpoint.FILE
    try:
        metadata = checkpoint.read_metadata(checkpoint.adapter_beside(newest) or newest)
    except (OSError, ValueError):
        return
    match metadata:
        case {"metrics": str(name)} if metrics.PENDING.fullmatch(name) and (folder / name).is_file():
            os.replace(folder / name, folder / metrics.FILE)
    match metadata:
        case {"state": {"best_iter": int()}, "iter": int(i), "train": {"keep": int(n_kept)}} if 0 < i < 10**8:
            checkpoint.copy_newest(folder, metadata, n_kept)


# ---------------------------------------------------------------------- what lies there


def check_run(folder: Path, overwrite: bool, name: str = "", settings: dict[str, Any] | None = None) -> str:
    """Return a note on the run in a folder that another one is about to replace; an empty one if there is none.

    Raises ValueError that says what is there, unless `overwrite` allows it, or its checkpoint says under `name` that it
    was made with the same `settings` and in less than SHORT_RUN seconds, so that nothing is lost but them.
    """
    held, metadata = contents(folder)
    if not held:
        return ""
    if overwrite:
        return f"note    {folder} holds {held}, which this run replaces at its first checkpoint"
    if settings is not None and deciding(metadata.get(name)) == deciding(settings) \
            and (took := seconds(metadata)) < SHORT_RUN:
        return (f"note    {folder} holds this very run already; as it took {clock_time(took)}, it is trained again, "
                "and replaces that at its first checkpoint")
    raise ValueError(f"{folder} holds {held}: choose another folder with --out{way_on(folder, metadata)}, or replace "
                     "it with --overwrite")


def contents(folder: Path) -> tuple[str, dict[str, Any]]:
    """What lies in a folder where the files of a run go, in words, and what its checkpoint says of itself.  Metrics
    alone of a few steps, of which there is no checkpoint, are nothing."""
    files = [folder / name for name in (checkpoint.FILE, *checkpoint.ADAPTERS, checkpoint.BEST)]
    file = next((file for file in [*files, *checkpoint.numbered_checkpoints(folder)] if os.path.lexists(file)), None)
    if file is None:
        took = metrics.seconds(folder / metrics.FILE)
        return (f"{metrics.FILE} of a run without checkpoints, or of another program" if took > SHORT_RUN else ""), {}
    try:
        metadata = checkpoint.read_metadata(file)
    except (OSError, ValueError):
        return f"{file.name}, which gpt has not written, or which is damaged", {}
    match metadata:
        case {"train": {"max_iters": int(n)}, "iter": int(i)}:
            return f"a run of gpt train, at step {i:,} of {n:,}", metadata
        case {"tune": _}:
            return "a model that gpt tune has tuned", metadata
        case {"pretrained": _}:
            return "a model that gpt import has made", metadata
    return f"a model, {file.name}", metadata


def deciding(settings: Any) -> dict[str, Any]:
    """The settings that decide what a run learns, as plain data."""
    plain = json.loads(json.dumps(settings)) if isinstance(settings, dict) else {}
    return {name: value for name, value in plain.items() if name not in FREE}


def seconds(metadata: dict[str, Any]) -> float:
    """How long a run took that says `metadata` itself; infinite where it does not say so."""
    match metadata:
        case {"state": {"seconds": float() | int() as took}} | {"seconds": float() | int() as took}:
            return took
    return float("inf")


def way_on(folder: Path, metadata: dict[str, Any]) -> str:
    """The command that goes on with a run, where one can."""
    match metadata:
        case {"train": {"max_iters": int(n)}, "iter": int(i), "state": dict()}:
            more = f" --max-iters {2 * n}" if i >= n else ""
            return f", go on with it by {command_line('train --resume', folder)}{more}"
    return ""
