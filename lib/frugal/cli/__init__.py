"""`frugal`: every calculator and every job from a shell.

One file per chapter. Heavy imports (torch, transformers) happen inside the commands that need
them, so that a calculator answers at once. Results go to stdout, progress and logs to stderr; bad
input is one line on stderr and exit status 2.
"""

import sys

import typer

from frugal.errors import FrugalError

app = typer.Typer(
    help="What is the cheapest way to get a good classifier out of a language model?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except FrugalError as error:
        print(f"frugal: {error}", file=sys.stderr)
        sys.exit(2)
