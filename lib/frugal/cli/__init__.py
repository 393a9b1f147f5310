"""`frugal`: every calculator and every job from a shell.

One file per chapter. Heavy imports (torch, transformers) happen inside the commands that need
them, so that a calculator answers at once. Results go to stdout, progress and logs to stderr; bad
input is one line on stderr and exit status 2.
"""

import sys

import typer

from frugal.cli import (
    artifacts,
    budgets,
    costs,
    fewshot,
    figure2,
    notebooks,
    papers,
    pretrain,
    seminar,
    spaces,
    tfew,
)
from frugal.errors import FrugalError

app = typer.Typer(
    help="What is the cheapest way to get a good classifier out of a language model?",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    pass


app.add_typer(artifacts.app, name="artifacts")
app.add_typer(budgets.app, name="budgets")
app.add_typer(costs.app, name="costs")
app.add_typer(papers.app, name="papers")
app.add_typer(seminar.app, name="notebooks")
app.add_typer(spaces.app, name="spaces")
app.command("rank")(fewshot.rank)
app.command("tfew")(tfew.tfew)
app.command("vectors")(tfew.vectors)
app.command("figure2")(figure2.figure2)
app.command("pretrain")(pretrain.pretrain)
app.command("plan")(budgets.plan)
app.command("run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    notebooks.run
)
app.command("claims")(notebooks.claims)


def main() -> None:
    """Entry point of the console script: every mistake in the input is one line and status 2."""
    try:
        sys.exit(app(standalone_mode=False))
    except FrugalError as error:
        message = str(error)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what the option parser raises, under any name
            raise
        message = error.format_message()
    print(f"frugal: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
