"""A program of its own that renders chat templates from elsewhere: in Jinja's sandbox, with little memory and time.

Standard input: JSON of {"source", "tokens", "jobs": [[messages, open], ...], "seconds", "bytes", "longest"}; standard
output: JSON of {"texts": [...]} or {"error": "..."}.  `jinja.py` starts it, and ends it where its time is over.
"""

import json
import sys
from datetime import datetime
from typing import Any


def limit(seconds: int, size: int) -> None:
    """Let the system end this process beyond so many seconds of computing or bytes of memory, where it can."""
    try:
        import resource
    except ImportError:  # Windows: the time is bounded all the same, by the process that waits
        return
    for what, most in (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, size):
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # lower already, or not to be set on this system
            pass


def environment() -> Any:
    """A sandbox with what transformers adds to Jinja for chat templates."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %}: marks what the model writes, and changes nothing in the text."""

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

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                         extensions=[Generation, "jinja2.ext.loopcontrols"])
    made.filters["tojson"] = tojson  # Jinja's own writes HTML's escapes
    made.globals |= {"raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    return made


def render(request: dict[str, Any]) -> list[str | dict[str, str]]:
    """The text of each of the request's jobs, or an error."""
    template = environment().from_string(request["source"])
    texts: list[str | dict[str, str]] = []
    room = request["longest"]
    for messages, opened in request["jobs"]:
        pieces = []
        try:
            for piece in template.generate(**request["tokens"], messages=messages, tools=None, documents=None,
                                           add_generation_prompt=opened):
                pieces.append(piece)
                room -= len(piece)
                if room < 0:
                    raise MemoryError
            texts.append("".join(pieces))
        except Exception as error:  # whatever a template from elsewhere may raise
            if isinstance(error, MemoryError):
                raise
            texts.append(reason(error))
    return texts


def reason(error: Exception) -> dict[str, str]:
    """What went wrong, in a line."""
    return {"error": " ".join(f"{type(error).__name__}: {str(error)[:300]}".split())}


def main() -> None:
    request = json.load(sys.stdin)
    limit(request["seconds"], request["bytes"])
    try:
        answer: dict[str, Any] = {"texts": render(request)}
    except MemoryError:
        answer = {"error": f"it writes more than {request['longest']:,} characters, or takes too much memory"}
    except ImportError:
        answer = {"error": "Jinja2 is missing: pip install \"tapegrad[chat]\""}
    except Exception as error:
        answer = reason(error)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
