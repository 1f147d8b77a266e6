"""The command line: flags made from dataclasses of settings, and errors in one line."""

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
from .influence.why import WhyConfig, why
from .pretrained.convert import ExportConfig, ImportConfig, export_model, import_model
from .runtime.ranks import current, join
from .runtime.screen import escape_line, protect_terminal
from .runtime.settings import base_type, flag_of, is_path
from .runtime.signals import ignore_signals, stop_at_once
from .training.config import TrainConfig
from .training.train_program import train_or_write
from .tuning.tune import TuneConfig, tune
from .view.info import InfoConfig, info
from .view.page.page import PageConfig, write_page
from .view.plot import PlotConfig, plot
from .view.show import ShowConfig, show


@dataclass
class Command:
    """A subcommand: its help line, its settings, the function that runs on them, one that makes them from flags, and
    True if `mpiexec` may start it."""
    help: str
    settings: type
    run: Callable[[Any], Any]
    configure: Callable[..., Any] | None = None
    parallel: bool = False


COMMANDS = {
    "train": Command("Train a GPT on text.", TrainConfig, train_or_write, TrainConfig.from_recipe,
                     parallel=True),
    "sample": Command("Generate text with a trained GPT (sampling).", SampleConfig, sample),
    "tune": Command("Fine-tune a GPT on conversations (instruction tuning), whole or by LoRA.", TuneConfig, tune,
                    parallel=True),
    "chat": Command("Chat with a GPT, in the terminal or on a page in a browser (--web).", ChatConfig, chat),
    "plot": Command("Plot the losses, learning rate, gradient norm and speed of runs.", PlotConfig, plot),
    "info": Command("Describe a checkpoint: architecture, parameters, tokenizer, settings, losses.", InfoConfig, info),
    "show": Command("Run the forward and backward pass of a model on a prompt, and look into it.", ShowConfig, show),
    "page": Command("Write a web page in which the model computes: type, sample, switch heads off.", PageConfig,
                    write_page),
    "why": Command("Show which passages of the training text a prediction goes back to; --prove trains without them.",
                   WhyConfig, why),
    "import": Command("Make a checkpoint of a GGUF file, or of a folder from Hugging Face.", ImportConfig,
                      import_model),
    "export": Command("Write a checkpoint as a folder that transformers loads.", ExportConfig, export_model),
    "ablate": Command("Ablation study: train the recipe without each of its ingredients.", AblationConfig, ablate),
    "bench": Command("Benchmark speed and memory against PyTorch, JAX and others.", BenchConfig, bench),
}
# In this order in a command's help; others follow.
GROUPS = ("data", "model", "LoRA", "training", "evaluation", "output", "text", "ablation", "sampling", "page")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Print an error and exit with status 2."""
        self.exit(2, f"gpt: error: {escape_line(message)} (see {self.prog} --help)\n")


class Help(argparse.HelpFormatter):
    """A help formatter with a wide column for the flags."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)  # keep a flag in one line


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, and return the exit status."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # ? for a character that the terminal lacks
    tqdm.monitor_interval = 0  # no monitor thread, which may not be startable: it would only refresh idle bars
    with protect_terminal():
        return execute(argv)


def execute(argv: Sequence[str] | None) -> int:
    """Run the command of a command line, and return the exit status; errors become one line."""
    try:
        with stop_at_once(), join():
            if given := parse_command_line(sys.argv[1:] if argv is None else argv):
                command = COMMANDS[name := given.pop("command")]
                if current().size > 1 and not command.parallel:
                    raise ValueError(f"gpt {name} runs in one process: start it without mpiexec")
                command.run((command.configure or command.settings)(**given))
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print(f"\ngpt: {str(stop) or 'stopped'}", file=sys.stderr)
        return getattr(stop, "status", 130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has exited
        drop_output()
        return 1
    except MemoryError as error:
        print(f"gpt: error: not enough memory ({escape_line(str(error))}){memory_advice(argv)}", file=sys.stderr)
        return 1
    except RecursionError:
        print("gpt: error: something that was given is nested too deep to be read", file=sys.stderr)
        return 1
    except (OSError, ValueError, TypeError, ArithmeticError, ImportError) as error:
        if os.environ.get("GPT_TRACEBACK"):  # for developers
            raise
        print(f"gpt: error: {escape_line(str(error))}", file=sys.stderr)
        drop_output()
        return 1
    return 0


def run() -> NoReturn:
    """Run the console script: `main`, and then exit, ignoring signals."""
    status = main()
    ignore_signals()
    sys.exit(status)


def memory_advice(argv: Sequence[str] | None) -> str:
    """Return advice on the flags to lower of a command that ran out of memory."""
    name = next(iter(sys.argv[1:] if argv is None else argv), "")
    names = {f.name for f in fields(COMMANDS[name].settings)} if name in COMMANDS else set()
    flags = [flag_of(n) for n in ("batch_size", "block_size", "n_embd", "num_samples") if n in names]
    if not flags:
        return ""
    return f": lower {', '.join(flags[:-1])} or {flags[-1]}" if len(flags) > 1 else f": lower {flags[0]}"


def drop_output() -> None:
    """Discard output that cannot be printed: Python would try again at exit, and print an error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_command_line(argv: Sequence[str]) -> dict[str, Any]:
    """Return the command and the settings of a command line; none for an empty one, after printing the help.

    An unknown command or flag exits with one line that suggests the nearest name.
    """
    top, commands = make_parsers()
    if not argv:
        top.print_help()
        return {}
    if not argv[0].startswith("-") and argv[0] not in commands:
        top.error(f"there is no command {argv[0]!r}{did_you_mean(argv[0], commands)}")
    namespace, unknown = top.parse_known_args(argv)
    if unknown:
        parser = commands.get(namespace.command, top)
        flags = parser._option_string_actions
        near = did_you_mean(unknown[0].split("=")[0], flags) if unknown[0].startswith("-") else \
            "; text to train on goes after --data" * ("--data" in flags)
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
    return vars(namespace)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `; did you mean --n-layer?` for --nlayers, --n-l or --nl; empty if no choice is near."""
    word, names = word.strip("-").replace("_", "-").lower(), {name.strip("-"): name for name in choices}
    near = ([name for name in names if word == "".join(piece[:1] for piece in name.split("-"))]
            or [name for name in names if word and name.startswith(word)]
            or difflib.get_close_matches(word, names, 1, 0.65))
    return f"; did you mean {names[near[0]]}?" if near else ""


def make_parsers() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of command lines, and those of the commands by name; they leave out flags that were not given,
    so that recipes can fill them in."""
    top = Parser(prog="gpt", description="Train a GPT on your text, and write with it.", usage="gpt COMMAND [...]",
                 epilog="gpt COMMAND --help lists the settings of each.  A command that Ctrl-C ends has the exit "
                        "status 130, and 143 if it was SIGTERM.  With the variable GPT_TRACEBACK set, an error "
                        "shows where in the program it arose.", formatter_class=Help, allow_abbrev=False)
    subs = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    return top, {name: make_command_parser(subs, name, command) for name, command in COMMANDS.items()}


def make_command_parser(subs: Any, name: str, command: Command) -> Parser:
    """Return the parser of one command, with its settings in groups."""
    settings = [f for f in fields(command.settings) if f.init]
    arguments = "".join(f" [{metavar(f)}{' ...' * is_list(f)}]" for f in settings if f.metadata["positional"])
    sub = subs.add_parser(name, prog=f"gpt {name}", usage=f"gpt {name}{arguments} [--setting ...]", help=command.help,
                          description=command.help, formatter_class=Help, add_help=False, allow_abbrev=False)
    names = [f.metadata.get("group", "") for f in settings if not f.metadata["positional"]]
    ordered = sorted(dict.fromkeys(names), key=lambda g: GROUPS.index(g) if g in GROUPS else len(GROUPS) + (not g))
    positional = sub.add_argument_group("what to work on") if arguments else sub
    groups = {group: sub.add_argument_group(group or "settings") for group in ordered}
    shown = command.configure() if command.configure else None  # whose defaults are those of a recipe
    sub.description += f"  The defaults are those of the recipe {shown.recipe}." if shown else ""
    for f in settings:
        add_flag(positional if f.metadata["positional"] else groups[f.metadata.get("group", "")], f,
                 getattr(shown, f.name, f.default))
    sub.add_argument_group("help").add_argument("-h", "--help", action="help", help="show this and stop")
    return sub


def add_flag(group: Any, f: Any, default: Any) -> None:
    """Add the flag `--n-layer` for a field n_layer, with its help line, default, type and choices."""
    value_type, meta = base_type(f.type), f.metadata
    shown = "" if default in (MISSING, None, (), "") else \
        f" (default: {' '.join(default) if isinstance(default, tuple) else default})"
    options: dict[str, Any] = {"help": (meta["help"] + shown).replace("%", "%%"), "default": argparse.SUPPRESS}
    if value_type is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif is_list(f):
        options |= {"nargs": "+", "type": str, "metavar": metavar(f), "action": "extend"}
    else:
        options |= {"type": one_of(meta["choices"], meta["path"]) if meta["choices"] else value_type,
                    "metavar": metavar(f)}
    if meta["positional"]:
        nargs = "*" if is_list(f) else "?"
        group.add_argument(f.name, **options | {"nargs": nargs, "default": default, "action": "store"})
    else:
        group.add_argument(flag_of(f.name), dest=f.name, **options)


def is_list(f: Any) -> bool:
    """Return True if a setting takes several values."""
    return base_type(f.type) not in (bool, int, float, str)


def metavar(f: Any) -> str:
    """Return the placeholder for a setting's value in the help."""
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
    """Return a type for argparse that suggests the nearest choice; `path`: a path may be given, too."""
    def check(value: str) -> str:  # accepts an empty path, which the settings refuse
        if value not in choices and not (path and (is_path(value) or not value)):
            raise argparse.ArgumentTypeError(f"invalid choice: {value!r}{did_you_mean(value, choices)} (choose from "
                                             f"{', '.join(choices)}{', or give the path of a file' * path})")
        return value
    return check
