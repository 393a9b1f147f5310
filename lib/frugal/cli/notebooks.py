"""`frugal run` and `frugal claims`: execute notebooks, then read what they found."""

import time
from pathlib import Path
from typing import Annotated

import typer

from frugal.cli.output import Json, emit
from frugal.errors import FrugalError


def run(
    context: typer.Context,
    notebook: Annotated[Path, typer.Argument(help="A notebook with a parameters cell.")],
    preset: Annotated[str | None, typer.Option(help="smoke, laptop, colab, server.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the executed notebook.")] = Path("reports"),
    as_json: Json = False,
) -> None:
    """Execute a notebook with other parameters; unknown or ill-typed ones stop it at once.

    Parameters are set by `-p NAME VALUE`, as often as needed.
    """
    from frugal.engine import notebooks

    given = _parameters(context.args)
    if preset:
        given["preset"] = preset
    started = time.perf_counter()
    target = notebooks.run(notebook, out, given)
    seconds = time.perf_counter() - started
    emit({"output": str(target), "seconds": seconds, "parameters": given}, as_json)


def _parameters(words: list[str]) -> dict[str, str]:
    """`-p NAME VALUE …`, which the option parser has no type for."""
    given = {}
    for at in range(0, len(words), 3):
        triple = words[at : at + 3]
        if triple[0] != "-p" or len(triple) < 3:
            raise FrugalError(f"{' '.join(triple)}: parameters are set by -p NAME VALUE")
        given[triple[1]] = triple[2]
    return given


def claims(
    folder: Annotated[Path, typer.Argument(help="Folder of executed notebooks.")] = Path("reports"),
    as_json: Json = False,
) -> None:
    """What the papers claim beside what the executed notebooks of a folder measured."""
    from frugal.engine import notebooks
    from frugal.show.closing import collect, table

    files = sorted(folder.glob("*.ipynb"))
    if not files:
        raise FrugalError(f"{folder}: no executed notebook here")
    found = [
        {"notebook": file.stem, **record}
        for file, notebook in zip(files, notebooks.read(files), strict=True)
        for record in collect(notebook)
    ]
    if as_json:
        emit({"claims": found}, as_json)
    else:
        typer.echo(table(found))
