"""Script that renders untrusted chat templates in Jinja's sandbox, with limited memory and time.

Standard input: JSON of {"source", "tokens", "jobs": [[messages, open], ...], "seconds", "bytes", "longest"}; standard
output: JSON of {"texts": [...]} or {"error": "..."}.  `jinja.py` starts it, and ends it when its time is over.
"""

import json
import sys
from datetime import datetime
from typing import Any


def limit(seconds: int, size: int) -> None:
    """Limit this process to so many seconds of computing and bytes of memory, where the system can."""
    try:
        from resource import RLIMIT_AS, RLIMIT_CPU, setrlimit
    except ImportError:  # Windows: the waiting process still limits the time
        return
    for name, most in (RLIMIT_CPU, seconds), (RLIMIT_AS, size):
        try:
            setrlimit(name, (most, most))
        except (ValueError, OSError):  # it is lower already, or this system does not have it
            pass


def make_environment() -> Any:
    """Return a sandbox with what transformers adds to Jinja for chat templates."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %}, which marks text of the model and leaves it unchanged."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("unchanged"), [], [], body).set_lineno(line)

        def unchanged(self, caller: Any) -> Any:
            return caller()

    def refuse(message: Any) -> None:
        raise TemplateError(f"it says: {message}")

    def tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
               sort_keys: bool = False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[Generation, "jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = tojson  # Jinja's own escapes for HTML
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    return environment


def render(request: dict[str, Any]) -> list[str | dict[str, str]]:
    """Return the text of each of the request's jobs, or an error."""
    template = make_environment().from_string(request["source"])
    texts: list[str | dict[str, str]] = []
    room = request["longest"]
    for messages, with_prompt in request["jobs"]:
        pieces = []
        try:
            for piece in template.generate(**request["tokens"], messages=messages, tools=None, documents=None,
                                           add_generation_prompt=with_prompt):
                pieces.append(piece)
                room -= len(piece)
                if room < 0:
                    raise MemoryError
            texts.append("".join(pieces))
        except Exception as error:  # a template may raise anything
            if isinstance(error, MemoryError):
                raise
            texts.append(describe_error(error))
    return texts


def describe_error(error: Exception) -> dict[str, str]:
    """Return an error in a line."""
    return {"error": " ".join(f"{type(error).__name__}: {str(error)[:300]}".split())}


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    limit(request["seconds"], request["bytes"])
    try:
        answer: dict[str, Any] = {"texts": render(request)}
    except MemoryError:
        answer = {"error": f"it writes more than {request['longest']:,} characters, or takes too much memory"}
    except ImportError:
        answer = {"error": "Jinja2 is missing: pip install \"tapegrad[chat]\""}
    except Exception as error:
        answer = describe_error(error)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
