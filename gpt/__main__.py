"""`python -m gpt`: the command line."""

from .cli import run

run()
