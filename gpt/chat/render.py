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


def render(request: dict[str, Any]) -> list[str | dict[str, str]]:
    """The text of each of the request's jobs, or an error."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: Any) -> None:
        raise TemplateError(f"it says: {message}")

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    template = environment.from_string(request["source"])
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
