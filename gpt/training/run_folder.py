"""The output folder of a command: its lock, its contents, and a check on whether they may be replaced."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from .. import checkpoint
from ..runtime.ranks import Ranks
from ..runtime.screen import clock_time, command_line
from ..runtime.writing import lock, sweep
from . import metrics
from .config import SHORT_RUN

# Settings on which the weights do not depend: runs that differ in these alone are the same.
FREE = ("out", "resume", "overwrite", "cache_dir", "checkpoint_interval", "keep", "time_limit", "replicas", "code")


@contextmanager
def make_folder(folder: Path) -> Iterator[None]:
    """Make a folder and its missing parents; if anything fails, those that are empty are deleted again."""
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
    """Yield the folder `path` to write to: made if it is missing, locked and tidied up.  It is deleted again if the
    command fails and it is empty.

    Raises OSError, before a run's work is done, if the folder takes no files or another command is writing to it.
    """
    folder = Path(path)
    with ExitStack() as stack:
        try:
            stack.enter_context(make_folder(folder))
            stack.enter_context(lock(folder))
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


def output_folder(path: str | os.PathLike, ranks: Ranks) -> AbstractContextManager[Path]:
    """Return the context of a folder to write to, which rank 0 alone makes, locks and tidies up."""
    return writable_folder(path) if ranks.leads else nullcontext(Path(path))


def tidy(folder: Path) -> None:
    """Finish what an interrupted run left undone in a folder, and delete its half-written files."""
    finish_interrupted(folder)
    for name in ("*.safetensors", metrics.FILE):
        sweep(folder, name)


def finish_interrupted(folder: Path) -> None:
    """Finish the work of a run that was killed right after its newest checkpoint: move its metrics into place, and copy
    the checkpoint."""
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


# ---------------------------------------------------------------------- contents


def check_run(folder: Path, overwrite: bool, name: str = "", settings: dict[str, Any] | None = None) -> str:
    """Return a note on the run in a folder that another one is about to replace; an empty one if there is none.

    Raises ValueError that says what is there, unless `overwrite` allows it, or its checkpoint says under `name` that it
    was made with the same `settings` and in less than SHORT_RUN seconds, so that nothing is lost but them.
    """
    held, metadata = describe_contents(folder)
    if not held:
        return ""
    if overwrite:
        return f"note    {folder} holds {held}, which this run replaces at its first checkpoint"
    took, same = run_seconds(metadata), learned_settings(metadata.get(name)) == learned_settings(settings)
    if settings is not None and same and took < SHORT_RUN:
        return (f"note    {folder} holds this very run already; as it took {clock_time(took)}, it is trained again, "
                "and replaces that at its first checkpoint")
    raise ValueError(f"{folder} holds {held}: choose another folder with --out{resume_advice(folder, metadata)}, or "
                     "replace it with --overwrite")


def describe_contents(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return a description of the run in a folder, empty if there is none, and the metadata of its checkpoint.  Metrics
    of a few steps without a checkpoint do not count."""
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


def learned_settings(settings: Any) -> dict[str, Any]:
    """Return the settings on which the weights of a run depend, as plain data."""
    plain = json.loads(json.dumps(settings)) if isinstance(settings, dict) else {}
    return {name: value for name, value in plain.items() if name not in FREE}


def run_seconds(metadata: dict[str, Any]) -> float:
    """Return the time that a run took, from its metadata; infinite if they do not have it."""
    match metadata:
        case {"state": {"seconds": float() | int() as took}} | {"seconds": float() | int() as took}:
            return took
    return float("inf")


def resume_advice(folder: Path, metadata: dict[str, Any]) -> str:
    """Return advice on the command that resumes a run; empty if none can."""
    match metadata:
        case {"train": {"max_iters": int(n)}, "iter": int(i), "state": dict()}:
            more = f" --max-iters {2 * n}" if i >= n else ""
            return f", go on with it by {command_line('train --resume', folder)}{more}"
    return ""
