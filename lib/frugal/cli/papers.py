"""`frugal papers`: the published tables, and the audit that recomputes them."""

from dataclasses import asdict
from typing import Annotated

import typer

from frugal.cli.options import Json
from frugal.cli.output import emit
from frugal.errors import unknown

app = typer.Typer(help="The three papers' own numbers, recomputed.")

PAPERS = ("tfew", "spaces", "annotate")
VERDICTS = ("reproduced", "rounded", "failed")


@app.command()
def audit(
    paper: Annotated[str | None, typer.Option(help="Only tfew, spaces or annotate.")] = None,
    verdict: Annotated[
        str | None, typer.Option(help="List only reproduced, rounded or failed items.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute every printed number that can be recomputed."""
    from frugal.papers import audit as audits

    for name, value, known in (("paper", paper, PAPERS), ("verdict", verdict, VERDICTS)):
        if value is not None and value not in known:
            raise unknown(name, value, known)
    items = audits.run(paper)
    shown = [asdict(item) for item in items if verdict in (None, item.verdict)]
    emit({**audits.summary(items), "items": shown}, as_json)


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="A table, such as tfew_table1.")],
    as_json: Json = False,
) -> None:
    """One published table, as printed."""
    from frugal.papers import tables

    emit({"table": name, "records": tables.records(name)}, as_json)
