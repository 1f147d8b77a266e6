"""The command line: flags made from dataclasses of settings, and one clear line for every mistake."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, NoReturn

from .bench import BenchConfig, bench
from .generate import SampleConfig, sample
from .settings import base_type
from .train import TrainConfig, train


@dataclass
class Command:
    """A subcommand: what it does, its settings, how flags become settings, and what runs on them."""
    help: str
    settings: type
    run: Callable[[Any], Any]
    configure: Callable[..., Any] | None = None


COMMANDS = {
    "train": Command("Train a GPT on text.", TrainConfig, train, TrainConfig.from_recipe),
    "sample": Command("Write text with a trained GPT.", SampleConfig, sample),
    "bench": Command("Measure speed, beside NumPy and PyTorch in the same run.", BenchConfig, bench),
}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"gpt: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows ? for it
    namespace, unknown = parser().parse_known_args(argv)
    given = vars(namespace)
    command = COMMANDS[name := given.pop("command")]
    if unknown:
        Parser(prog=f"gpt {name}").error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        command.run((command.configure or command.settings)(**given))
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print(f"\ngpt: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        return 1
    except MemoryError as error:
        print(f"gpt: error: not enough memory ({error}): lower --batch-size, --block-size or --n-embd", file=sys.stderr)
        return 1
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        if os.environ.get("GPT_TRACEBACK"):  # for who works on this program
            raise
        print(f"gpt: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def parser() -> Parser:
    """The parser of all commands; it leaves out what was not given, so that recipes can fill it in."""
    top = Parser(prog="gpt", description="Train a GPT on your text, and write with it.",
                 epilog="gpt COMMAND --help lists the settings of each.  With the variable GPT_TRACEBACK set, an error "
                        "shows where in the program it arose.", allow_abbrev=False)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help, allow_abbrev=False)
        for f in fields(command.settings):
            add_flag(sub, f)
    return top


def add_flag(sub: argparse.ArgumentParser, f: Any) -> None:
    """The flag `--n-layer` for a field n_layer, with its help line, default, type and choices."""
    kind, meta, default = base_type(f.type), f.metadata, f.default
    shown = "" if default in (MISSING, None, (), "") else f" (default: {default})"
    options: dict[str, Any] = {"help": meta["help"].replace("%", "%%") + shown, "default": argparse.SUPPRESS}
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif kind in (int, float, str):
        options |= {"type": kind, "choices": meta["choices"] or None}
    else:
        options |= {"nargs": "+", "type": str, "metavar": "FILE", "action": "extend"}
    if meta["positional"]:
        sub.add_argument(f.name, nargs="?", **options | {"default": default})  # argparse checks it against the choices
    else:
        sub.add_argument("--" + f.name.replace("_", "-"), dest=f.name, **options)
