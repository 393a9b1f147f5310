"""`frugal papers`: the published tables, and the audit that recomputes them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from frugal.cli.options import Json
from frugal.cli.output import Outputs, emit
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
    csv: Annotated[Path | None, typer.Option(help="Write every number here as well.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute every printed number that can be recomputed; say which slips lie behind the rest.

    `findings` are the distinct slips, `items` the numbers, each with the finding it fails by.
    """
    from frugal.papers import audit as audits

    for name, value, known in (("paper", paper, PAPERS), ("verdict", verdict, VERDICTS)):
        if value is not None and value not in known:
            raise unknown(name, value, known)
    asked = Outputs({"--csv": csv})
    items = audits.run(paper)
    asked.write("--csv", lambda file: audits.frame(items).to_csv(file, index=False))
    shown = [asdict(item) for item in items if verdict in (None, item.verdict)]
    found = [finding._asdict() for finding in audits.findings(items)]
    emit({**audits.summary(items), "findings": found, "items": shown}, as_json, asked)


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="A table, such as tfew_table1.")],
    as_json: Json = False,
) -> None:
    """One published table, as printed."""
    from frugal.papers import tables

    emit({"table": name, "records": tables.records(name)}, as_json)
