"""Kills and faults at every call that a command makes to the disk, and kills at random moments beside readers, half of
them in one long run of training and half in all the commands:

    python -m tests.gpt.kills                          every call, 500 random kills
    python -m tests.gpt.kills --every 20 --random 20   each 20th call, 20 random kills

Each case is a process of its own, forked from this one.  After it the folder must hold what was there before or what
the command makes, whole; readers must be able to read it; and the command, given again, or `--resume`, must end with
the same bits as one that nothing has stopped.
"""

import argparse
import builtins
import errno
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

import numpy as np

import gpt
from gpt import TrainConfig, checkpoint, train
from gpt.chat.terminal import ChatConfig  # noqa: F401  # all that the commands need is imported before the forks
from gpt.generation.generate import continue_text
from gpt.pretrained.convert import ExportConfig, ImportConfig, export_model, import_model
from gpt.runtime.safetensors_file import read_head
from gpt.training.metrics import FILE as METRICS
from gpt.tuning import lora
from gpt.tuning.tune import TuneConfig, tune
from gpt.view.info import describe

CALLS = ("open", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "fsync", "ftruncate")  # of the module os
WRITES = ("write", "truncate")  # of a file
TIMES = ("ms", "tokens_per_s")  # of a step
TIMED = ("seconds", "metrics", "saved")  # what `about` says that no two runs share
REAL_OPEN = os.open
ERRORS = ""  # a file for what processes say that fail


class Watch:
    """An eye on the calls to the disk of this process: the one with the number `at` is not made, or made, or made by
    half, and then the process is killed, or the call fails with an error.  `calls`: whether each is a write."""

    def __init__(self, at=-1, how="before", error=0):
        self.at, self.how, self.error, self.calls = at, how, error, []

    def start(self):
        """Watch from now on, to the end of the process."""
        for name in CALLS:
            setattr(os, name, self.watched(getattr(os, name)))
        builtins.open = io.open = self.opening(builtins.open)
        return self

    def watched(self, call, half=None):
        def made(*args, **kwargs):
            if call is REAL_OPEN and args[1] == os.O_RDONLY:  # to read, to lock or to sync
                return call(*args, **kwargs)
            self.calls.append(half is not None)
            if len(self.calls) - 1 != self.at:
                return call(*args, **kwargs)
            if self.how == "half" and half:
                half(*args)
            if self.error:
                raise OSError(self.error, os.strerror(self.error))
            if self.how == "after":
                call(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    def opening(self, real):
        made = self.watched(real)

        def opened(file, mode="r", *args, **kwargs):
            if not set(mode) & set("wax+") or isinstance(file, int):
                return real(file, mode, *args, **kwargs)
            result = made(file, mode, *args, **kwargs)
            return File(self, result) if "b" in mode else result
        return opened


class File:
    """A file whose writes are watched."""

    def __init__(self, watch, file):
        self._file = file
        for name in WRITES:
            setattr(self, name, watch.watched(getattr(file, name), self._half))

    def _half(self, data=None):
        if data is not None and not isinstance(data, int):
            self._file.write(memoryview(data).cast("B")[:len(data) // 2])
            self._file.flush()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


def forked(function, *args):
    """Start a function in a process of its own, in silence; the process."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        errors = os.open(ERRORS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(errors, 2)
        result = function(*args)
        status = result if isinstance(result, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stderr.flush()
        os._exit(status)


def ended(pid):
    """The exit status of a process, or minus the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def watched(command, *watch):
    """Run a command under a watch; 3 if it fails with an OSError, and 4 if the call was never made."""
    eye = Watch(*watch).start()
    try:
        command()
    except OSError:
        return 3
    return 4 if len(eye.calls) <= eye.at else 0


def counted(command, into):
    eye = Watch().start()
    command()
    os.write(into, json.dumps(eye.calls).encode())


def calls_of(command):
    """The calls to the disk that a command makes: of each whether it is a write."""
    reader, writer = os.pipe()
    status = ended(forked(counted, command, writer))
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert status == 0, Path(ERRORS).read_text()
    return json.loads(text)


# ---------------------------------------------------------------------- what there is


def content(folder):
    """All that a folder holds, without what no two runs share: of each checkpoint its arrays and what it says."""
    found = {}
    for file in sorted(Path(folder).iterdir()) if Path(folder).exists() else ():
        if file.suffix == ".safetensors":
            metadata, stored = read_head(file)
            about = plain(json.loads(metadata.get("about", "{}")))
            found[file.name] = about, {name: a.map().tobytes() for name, a in stored.items()}
        elif file.name == METRICS:
            found[file.name] = rows(file)
        else:
            found[file.name] = file.read_bytes()
    return found


def plain(about):
    """Return metadata without the parts that no two runs share: times, and the place of the run."""
    if isinstance(about, dict):
        return {name: plain(value) for name, value in about.items()
                if name not in (*TIMED, *TIMES, "out", "resume", "overwrite", "environment", "checkpoint", "base")}
    return about


def rows(file):
    lines = file.read_text().splitlines(keepends=True)
    lines = [line for line in lines if line.endswith("\n")]  # the last one may be half there: it is cut off
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def loads(folder):
    """Read all weights of a folder."""
    for file in Path(folder).glob("*.safetensors"):
        if read_head(file)[0]["format"] != "pt":  # that of an export
            (lora.load_lora if file.name == lora.FILE else gpt.load)(file)


def is_prefix(folder, *wholes):
    """Return whether the metrics of a run are, up to its checkpoint, the first ones of one of these folders, and its
    other files those of that run, too."""
    if not (folder / checkpoint.FILE).exists():
        return True
    steps = gpt.load(folder / checkpoint.FILE).metadata["iter"]
    own = rows(folder / METRICS)[:steps] if (folder / METRICS).exists() else []
    return any(own == rows(whole / METRICS)[:steps] for whole in wholes)


# ---------------------------------------------------------------------- the cases


class Case:
    """A command that writes into a folder.  `before`: what lies in the folder; `again`: what mends it after a kill."""

    def __init__(self, name, command, again=None, before=None):
        self.name, self.command, self.again, self.before = name, command, again or command, before

    def prepared(self, out):
        shutil.rmtree(out, ignore_errors=True)
        if self.before:
            shutil.copytree(self.before, out)

    def check(self, root, every):
        """Kill at each `every`th call, before, in and after it, and let it fail; how often that was done."""
        out, whole = root / "out", root / f"whole-{self.name}"
        self.prepared(out)
        calls = calls_of(lambda: self.command(out))
        shutil.rmtree(whole, ignore_errors=True)
        shutil.move(out, whole)
        expected, old = content(whole), content(self.before) if self.before else {}
        done, first = 0, random.Random(self.name).randrange(every)
        for k in range(first, len(calls), every):
            faults = [(k, "before"), (k, "after"), (k, "before", errno.ENOSPC)]
            for watch in faults + [(k, "half"), (k, "half", errno.ENOSPC)] * calls[k]:
                self.prepared(out)
                status = ended(forked(watched, lambda: self.command(out), *watch))
                assert status in (-signal.SIGKILL, 3, 0), (status, Path(ERRORS).read_text())
                try:
                    self.judge(out, whole, expected, old, killed=status < 0)
                except BaseException as error:
                    error.add_note(f"{self.name}, call {watch} of {len(calls)}, status {status}")
                    raise
                done += 1
        print(f"{self.name:28} {len(calls):4} calls, {done:5} kills and faults", flush=True)
        return done

    def check_at_random(self, root, n):
        """Kill at `n` random moments, while somebody reads what is in the folder."""
        rng, out, whole = random.Random(self.name), root / "out", root / f"whole-{self.name}"
        expected, old = content(whole), content(self.before) if self.before else {}
        self.prepared(out)
        began = time.perf_counter()
        assert ended(forked(lambda: self.command(out))) == 0, Path(ERRORS).read_text()
        seconds = time.perf_counter() - began
        for _ in range(n):
            self.prepared(out)
            reader, writer = forked(reading_files, out), forked(lambda: self.command(out))
            time.sleep(rng.uniform(0, seconds))
            os.kill(writer, signal.SIGKILL)
            ended(writer)
            os.kill(reader, signal.SIGTERM)
            assert ended(reader) == 0, (self.name, Path(ERRORS).read_text())
            self.judge(out, whole, expected, old, killed=True)
        print(f"{self.name:28} {n:4} kills at random moments", flush=True)
        return n

    def judge(self, out, whole, expected, old, killed):
        """After a kill or a fault: nothing is half there, and the command given again makes all that it should."""
        loads(out) if out.exists() else None
        if not killed:
            left = [file.name for folder in (out, out.parent) if folder.exists() for file in folder.glob(".*.tmp")]
            assert not left, left
        self.judge_content(out, whole, old)
        status = ended(forked(lambda: self.again(out)))
        assert status == 0, Path(ERRORS).read_text()
        now = content(out)
        more = {name for name in now.keys() - expected.keys() if not name.startswith("iter-")}  # not yet deleted
        assert now.keys() >= expected.keys() and not more, (now.keys(), expected.keys())
        for name in expected:
            assert now[name] == expected[name], name
        assert not list(out.parent.glob(".*.tmp"))

    def judge_content(self, out, whole, old):
        """Each file is that of before, or the new one."""
        new = content(whole)
        for name, value in content(out).items():
            assert name.endswith(".tmp") or name == METRICS or value in (old.get(name), new.get(name)), name


class Tuning(Case):
    """A run that keeps its best weights so far."""

    def judge_content(self, out, whole, old):
        pass


class Training(Case):
    """A run, which goes on after a kill."""

    def judge_content(self, out, whole, old):
        assert is_prefix(out, whole, *([self.before] if self.before else []))


def quiet(line):
    """Say nothing."""


def training(root, **changes):
    return TrainConfig.from_recipe("nanogpt", **{**dict(
        data=(str(root / "text.txt"),), n_layer=1, n_head=2, n_embd=8, block_size=32, batch_size=4, max_iters=7,
        warmup_iters=2, learning_rate=1e-2, eval_interval=3, eval_iters=2, checkpoint_interval=2, keep=2, replicas=1),
        **changes})


def go_on(out, settings):
    """Go on with a run as far as it should, or begin it; nothing if it is there."""
    file = out / checkpoint.FILE
    if not file.exists() or gpt.load(file).metadata["train"]["seed"] != settings.seed:  # that of another run
        return train(settings, quiet)
    try:
        train(TrainConfig.from_recipe(resume=str(out)), quiet)
    except ValueError as error:
        assert "has taken its" in str(error), error


def cases(root):
    """The commands and what they write into: each a folder with nothing in it, and one with something."""
    (root / "text.txt").write_text("the cat sat on the mat, and the dog sat by the cat.\n" * 20, encoding="utf-8")
    pairs = [{"prompt": f"the {a} sat on the {b}", "response": f"the {b}"} for a in ("cat", "dog", "mat")
             for b in ("cat", "dog", "mat", "t")]
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    base, other, part = root / "base", root / "other", root / "part"
    train(training(root, out=str(base), seed=3), quiet)
    train(training(root, out=str(other), max_iters=11, seed=7), quiet)

    def run(out):
        train(training(root, out=str(out), overwrite=True), quiet)

    def mend(out):
        go_on(out, training(root, out=str(out), overwrite=True))

    def back(out):
        train(TrainConfig.from_recipe(resume=str(out / "iter-00000006.safetensors")), quiet)

    def tuned(out, **changes):
        tune(TuneConfig(checkpoint=str(base), data=(str(root / "pairs.jsonl"),), out=str(out), max_iters=4,
                        batch_size=2, block_size=32, eval_interval=2, replicas=1, overwrite=True, **changes), quiet)

    run(part)
    export_model(ExportConfig(checkpoint=str(base), out=str(root / "theirs")))
    tuned(root / "tuned")
    tuned(root / "thin", lora_rank=2)
    yield Training("train", run, mend)
    yield Training("train over another run", run, mend, before=other)
    yield Training("train --resume an earlier", back, mend, before=part)
    yield Tuning("tune", tuned)
    yield Tuning("tune over LoRA", tuned, before=root / "thin")
    yield Tuning("tune LoRA over a run", lambda out: tuned(out, lora_rank=2), before=other)
    yield Case("import", lambda out: import_model(ImportConfig(path=str(root / "theirs"), out=str(out))),
               again=lambda out: import_model(ImportConfig(path=str(root / "theirs"), out=str(out), overwrite=True)))
    yield Case("import over a run", lambda out: import_model(
        ImportConfig(path=str(root / "theirs"), out=str(out), overwrite=True)), before=other)
    yield Case("export", lambda out: export_model(ExportConfig(checkpoint=str(base), out=str(out))),
               again=lambda out: export_model(ExportConfig(checkpoint=str(base), out=str(out), overwrite=True)))
    yield Case("export over another", lambda out: export_model(
        ExportConfig(checkpoint=str(other), out=str(out), overwrite=True)), before=root / "theirs")


# ---------------------------------------------------------------------- random kills


def reading_files(folder):
    """Read all weights of a folder again and again, until a signal comes; files may be deleted, and are never half
    there."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    while not asked:
        with suppress(FileNotFoundError):
            loads(folder)


def reading(out, into):
    """Read a run again and again; how often goes to the pipe at the end, which a signal brings."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    done, begun = 0, False
    while not asked:
        try:
            for read in (checkpoint.load_with_state, describe, gpt.load):
                result = read(out)
            "".join(continue_text(result, "the ", 3))
            done, begun = done + 1, True
        except FileNotFoundError:
            assert not begun, "a checkpoint that was there is gone"
    os.write(into, f"{done} ".encode())


def random_kills(root, n):
    """Kill a run at `n` random moments, with two readers beside it; each kill is followed by --resume."""
    rng, out, whole = random.Random(0), root / "killed", root / "whole"
    settings = dict(max_iters=150 * n, checkpoint_interval=5, eval_interval=20, keep=3)
    train(training(root, out=str(whole), **settings), quiet)
    (reader, writer), done = os.pipe(), 0
    readers = [forked(reading, out, writer) for _ in range(2)]
    while done < n:
        pid = forked(go_on, out, training(root, out=str(out), **settings))
        time.sleep(rng.uniform(0, 0.25))
        finished, status = os.waitpid(pid, os.WNOHANG)
        if finished:
            assert status == 0, Path(ERRORS).read_text()
            break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done += 1
    assert ended(forked(go_on, out, training(root, out=str(out), **settings))) == 0, Path(ERRORS).read_text()
    for each in readers:
        os.kill(each, signal.SIGTERM)
        assert ended(each) == 0, Path(ERRORS).read_text()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        read = " and ".join(pipe.read().split())
    now, expected = content(out), content(whole)
    assert now.keys() == expected.keys() and all(now[name] == expected[name] for name in now)
    print(f"{done} random kills in a run of {settings['max_iters']:,} steps; readings beside it: {read}", flush=True)
    return done


def main():
    global ERRORS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="each so many-th call")
    parser.add_argument("--random", type=int, default=500, help="kills at random moments")
    parser.add_argument("--only", default="", help="cases whose names have this in them")
    given = parser.parse_args()
    np.seterr(all="ignore")
    sys.modules["gpt.training.train"].show_sample = lambda *_: ""  # takes longer than these runs, and writes no file
    with tempfile.TemporaryDirectory() as folder:
        root, ERRORS = Path(folder), str(Path(folder) / "errors")
        tried = [case for case in cases(root) if given.only in case.name]
        done, each = sum(case.check(root, given.every) for case in tried), given.random // (2 * len(tried))
        kills = sum(case.check_at_random(root, each) for case in tried if each)
        kills += random_kills(root, given.random - kills) if given.random else 0
    print(f"{done} kills and faults at calls, {kills} at random moments: nothing was lost")


if __name__ == "__main__":
    main()
