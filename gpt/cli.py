"""The command line: flags made from dataclasses of settings, and one clear line for every mistake."""

import argparse
import difflib
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, NoReturn

from tqdm import tqdm

from .bench.ablation import AblationConfig, ablate
from .bench.command import BenchConfig, bench
from .chat.terminal import ChatConfig, chat
from .generation.generate import SampleConfig, sample
from .pretrained.convert import ExportConfig, ImportConfig, export_model, import_model
from .runtime.screen import escape_line, protect_terminal
from .runtime.settings import base_type, flag_of, is_path
from .runtime.signals import ignore_signals, stop_at_once
from .training.config import TrainConfig
from .training.train import train
from .tuning.tune import TuneConfig, tune
from .view.info import InfoConfig, info
from .view.plot import PlotConfig, plot
from .view.show import ShowConfig, show


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
    "tune": Command("Teach a trained GPT to answer, from conversations.", TuneConfig, tune),
    "chat": Command("Talk to a GPT.", ChatConfig, chat),
    "plot": Command("Draw how the losses, learning rate, gradient norm and speed of runs went.", PlotConfig, plot),
    "info": Command("Say what is in a checkpoint: shape, parameters, tokenizer, settings, losses.", InfoConfig, info),
    "show": Command("Run a model forward and backward on a prompt, and look into it.", ShowConfig, show),
    "import": Command("Make a checkpoint of a GPT-2, Llama, Mistral or Qwen2 from Hugging Face.", ImportConfig,
                      import_model),
    "export": Command("Write a checkpoint as a folder that transformers loads.", ExportConfig, export_model),
    "ablate": Command("Train the recipe without each of its ingredients, and say what that costs.", AblationConfig,
                      ablate),
    "bench": Command("Measure speed and memory, beside PyTorch, JAX and others in the same run.", BenchConfig, bench),
}
# In this order in a command's help; others follow.
GROUPS = ("data", "model", "LoRA", "training", "evaluation", "output", "text", "drawing a token")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"gpt: error: {escape_line(message)} (see {self.prog} --help)\n")


class Help(argparse.HelpFormatter):
    """Help with room for the names of the flags."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)  # no flag in two lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows ? for it
    tqdm.monitor_interval = 0  # its thread, which there may be no room for, would only wake bars that sleep
    with protect_terminal():
        return obey(argv)


def obey(argv: Sequence[str] | None) -> int:
    """Do what a command line says; the exit status."""
    try:
        with stop_at_once():
            if given := parsed(sys.argv[1:] if argv is None else argv):
                command = COMMANDS[given.pop("command")]
                command.run((command.configure or command.settings)(**given))
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print(f"\ngpt: {str(stop) or 'stopped'}", file=sys.stderr)
        return getattr(stop, "status", 130)
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        drop_output()
        return 1
    except MemoryError as error:
        print(f"gpt: error: not enough memory ({escape_line(str(error))}){cure(argv)}", file=sys.stderr)
        return 1
    except RecursionError:
        print("gpt: error: something that was given is nested too deep to be read", file=sys.stderr)
        return 1
    except (OSError, ValueError, TypeError, ArithmeticError, ImportError) as error:
        if os.environ.get("GPT_TRACEBACK"):  # for who works on this program
            raise
        print(f"gpt: error: {escape_line(str(error))}", file=sys.stderr)
        drop_output()
        return 1
    return 0


def run() -> NoReturn:
    """The console script: `main`, and then the end, in which a signal has nothing to stop any more."""
    status = main()
    ignore_signals()
    sys.exit(status)


def cure(argv: Sequence[str] | None) -> str:
    """What a command that lacks memory offers to lower, by the flags that it has."""
    name = next(iter(sys.argv[1:] if argv is None else argv), "")
    have = {f.name for f in fields(COMMANDS[name].settings)} if name in COMMANDS else set()
    flags = [f"--{n.replace('_', '-')}" for n in ("batch_size", "block_size", "n_embd", "num_samples") if n in have]
    return f": lower {' or '.join([', '.join(flags[:-1])] * (len(flags) > 1) + flags[-1:])}" if flags else ""


def drop_output() -> None:
    """Throw away what could not be printed: Python would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parsed(argv: Sequence[str]) -> dict[str, Any]:
    """The command and the settings that a command line gives; none for an empty one, after printing the help.

    Exits with one line that points at the nearest name for a command or a flag that there is not.
    """
    top, commands = parsers()
    if not argv:
        top.print_help()
        return {}
    if not argv[0].startswith("-") and argv[0] not in commands:
        top.error(f"there is no command {argv[0]!r}{did_you_mean(argv[0], commands)}")
    namespace, unknown = top.parse_known_args(argv)
    if unknown:
        asked = commands.get(namespace.command, top)
        flags = asked._option_string_actions
        near = did_you_mean(unknown[0].split("=")[0], flags) if unknown[0].startswith("-") else \
            "; text to train on goes after --data" * ("--data" in flags)
        asked.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
    return vars(namespace)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean --n-layer?` for --nlayers, --n-l or --nl; nothing if no name is near."""
    word, names = word.strip("-").replace("_", "-").lower(), {name.strip("-"): name for name in known}
    near = ([name for name in names if word == "".join(part[:1] for part in name.split("-"))]
            or [name for name in names if word and name.startswith(word)]
            or difflib.get_close_matches(word, names, 1, 0.65))
    return f"; did you mean {names[near[0]]}?" if near else ""


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """The parser of command lines, and those of the commands by their names; they leave out what was not given, so
    that recipes can fill it in."""
    top = Parser(prog="gpt", description="Train a GPT on your text, and write with it.", usage="gpt COMMAND [...]",
                 epilog="gpt COMMAND --help lists the settings of each.  A command that Ctrl-C ends has the exit "
                        "status 130, and 143 if it was SIGTERM.  With the variable GPT_TRACEBACK set, an error "
                        "shows where in the program it arose.", formatter_class=Help, allow_abbrev=False)
    subs = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    return top, {name: command_parser(subs, name, command) for name, command in COMMANDS.items()}


def command_parser(subs: Any, name: str, command: Command) -> Parser:
    """The parser of one command, with its settings in groups."""
    settings = [f for f in fields(command.settings) if f.init]
    takes = "".join(f" [{metavar(f)}{' ...' * is_list(f)}]" for f in settings if f.metadata["positional"])
    sub = subs.add_parser(name, prog=f"gpt {name}", usage=f"gpt {name}{takes} [--setting ...]", help=command.help,
                          description=command.help, formatter_class=Help, add_help=False, allow_abbrev=False)
    names = [f.metadata.get("group", "") for f in settings if not f.metadata["positional"]]
    ordered = sorted(dict.fromkeys(names), key=lambda g: GROUPS.index(g) if g in GROUPS else len(GROUPS) + (not g))
    positional = sub.add_argument_group("what to work on") if takes else sub
    groups = {group: sub.add_argument_group(group or "settings") for group in ordered}
    shown = command.configure() if command.configure else None  # whose defaults are those of a recipe
    sub.description += f"  The defaults are those of the recipe {shown.recipe}." if shown else ""
    for f in settings:
        add_flag(positional if f.metadata["positional"] else groups[f.metadata.get("group", "")], f,
                 getattr(shown, f.name, f.default))
    sub.add_argument_group("help").add_argument("-h", "--help", action="help", help="show this and stop")
    return sub


def add_flag(to: Any, f: Any, default: Any) -> None:
    """The flag `--n-layer` for a field n_layer, with its help line, default, type and choices."""
    kind, meta = base_type(f.type), f.metadata
    shown = "" if default in (MISSING, None, (), "") else \
        f" (default: {' '.join(default) if isinstance(default, tuple) else default})"
    options: dict[str, Any] = {"help": (meta["help"] + shown).replace("%", "%%"), "default": argparse.SUPPRESS}
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif is_list(f):
        options |= {"nargs": "+", "type": str, "metavar": metavar(f), "action": "extend"}
    else:
        options |= {"type": one_of(meta["choices"], meta["path"]) if meta["choices"] else kind, "metavar": metavar(f)}
    if meta["positional"]:
        nargs = "*" if is_list(f) else "?"
        to.add_argument(f.name, **options | {"nargs": nargs, "default": default, "action": "store"})
    else:
        to.add_argument(flag_of(f.name), dest=f.name, **options)


def is_list(f: Any) -> bool:
    """Whether a setting takes several values."""
    return base_type(f.type) not in (bool, int, float, str)


def metavar(f: Any) -> str:
    """What stands for a setting's value in the help."""
    if name := f.metadata["metavar"]:
        return name
    if choices := f.metadata["choices"]:
        return f"{{{','.join(choices)}{',FILE' * f.metadata['path']}}}"
    if f.metadata["positional"]:
        return f.name.upper()
    if f.metadata["path"] and not is_list(f):
        return "PATH"
    return "FILE" if is_list(f) else {int: "N", float: "X"}.get(base_type(f.type), "VALUE")


def one_of(choices: tuple[str, ...], path: bool) -> Callable[[str], str]:
    """A check that points at the nearest choice, beside which there may be a path."""
    def check(value: str) -> str:
        if value not in choices and not (path and (is_path(value) or not value)):  # of an empty one the settings tell
            raise argparse.ArgumentTypeError(f"invalid choice: {value!r}{did_you_mean(value, choices)} (choose from "
                                             f"{', '.join(choices)}{', or give the path of a file' * path})")
        return value
    return check
