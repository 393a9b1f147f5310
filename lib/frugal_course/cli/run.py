"""`frugal run` and `frugal claims`: execute notebooks, then read what they found."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from frugal.cli.options import Json, OnRay, Preset
from frugal.cli.output import emit, show
from frugal.engine import stderr
from frugal.errors import FrugalError


class WithParameters(TyperCommand):
    """A command that takes `-p NAME VALUE`, as often as needed, anywhere: into `context.meta`.

    The option parser has no type for it, and would take a VALUE such as -5 for an option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: dict[str, str] = {}
        options = {"-p", *(option for own in self.params for option in own.opts)}
        while "-p" in args:
            at = args.index("-p")
            words = args[at + 1 : at + 3]
            if len(words) < 2 or options & set(words):  # it was forgotten
                shown = " ".join(args[at : at + 3])
                raise FrugalError(f"{shown}: parameters are set by -p NAME VALUE")
            _once(given, *words)
            args = args[:at] + args[at + 3 :]
        ctx.meta["parameters"] = given
        return list(super().parse_args(ctx, args))


def run(
    context: typer.Context,
    notebook: Annotated[Path, typer.Argument(help="A notebook with a parameters cell.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=V1,V2]…", help="More of --grid.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="smoke, laptop, colab, server.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=V1,V2", help="Run at each value; several: at all combinations."),
    ] = None,
    ray: OnRay = False,
    out: Annotated[Path, typer.Option(help="Folder of the executed notebook.")] = Path("reports"),
    as_json: Json = False,
) -> None:
    """Execute a notebook with other parameters; unknown or ill-typed ones stop it at once.

    Parameters are set by `-p NAME VALUE`, as often as needed. With --grid there is a notebook for
    each combination, in OUT/NOTEBOOK-grid, and a table of what they measured; killed, it goes on.
    """
    from frugal.engine import presets
    from frugal_course.notebooks import execution, parameters, reading

    given: dict[str, str] = context.meta["parameters"]
    if preset:
        _once(given, "preset", preset)
    varied = _grid([*(grid or ()), *(more or ())])
    at = ""
    if "preset" not in varied:
        at = parameters.declared(reading.read(notebook), notebook).preset(given)
    if at and "preset" not in given and at == presets.of_environment():
        stderr.note(f"the preset is {at}, from {presets.VARIABLE}")
    started = time.perf_counter()
    if varied:
        found = _run_grid(notebook, out / f"{notebook.stem}-grid", given, varied, ray)
    elif ray:
        raise FrugalError("--ray sends the runs of a --grid to Ray; one notebook runs here")
    else:
        found = {"output": str(execution.run(notebook, out, given))}
    seconds = time.perf_counter() - started
    emit({**found, "seconds": seconds, "parameters": given, "preset": at or None}, as_json)


def _run_grid(
    notebook: Path, out: Path, given: dict[str, str], varied: dict[str, list[str]], ray: bool
) -> dict[str, Any]:
    from frugal_course.notebooks import grid

    cells = grid.grid(notebook, given, varied)
    table = grid.run(cells, out, ray=ray)
    return {
        "output": str(out / "table.csv"),
        "runs": len(table),
        "grid": varied,
        "notebooks": [str(out / name) for name in table["notebook"]],
    }


def _grid(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or not name:
            raise FrugalError(f"--grid {word}: a grid is set by NAME=V1,V2")
        _once(found, name, [value.strip() for value in values.split(",")])
    return found


def _once(given: dict[str, Any], name: str, value: Any) -> None:
    if name in given:
        raise FrugalError(f"{name} is set twice: {given[name]!r} and {value!r}")
    given[name] = value


def walk(
    notebooks: Annotated[list[Path], typer.Argument(metavar="NOTEBOOK…", help="In this order.")],
    preset: Preset = "laptop",
    out: Annotated[Path, typer.Option(help="Folder of the executed notebooks.")] = Path("reports"),
    as_json: Json = False,
) -> None:
    """Execute notebooks one after the other; interrupted, it goes on with the one it was in."""
    from frugal_course.notebooks.walk import walk as through

    emit({"outputs": [str(file) for file in through(notebooks, out, preset)]}, as_json)


def claims(
    folder: Annotated[Path, typer.Argument(help="Folder of executed notebooks.")] = Path("reports"),
    as_json: Json = False,
) -> None:
    """What the papers claim beside what the executed notebooks of a folder measured."""
    from frugal_course.figures.closing import collect, table
    from frugal_course.notebooks import reading

    files = [file for file in sorted(folder.glob("*.ipynb")) if not file.name.startswith(".")]
    if not files:
        raise FrugalError(f"{folder}: no executed notebook here")
    found = []
    for file in files:
        notebook = reading.read(file)
        if reason := reading.unfinished(notebook):
            stderr.note(f"{file}: {reason}, so claims may be missing")
        try:
            found += [{"notebook": file.stem, **record} for record in collect(notebook)]
        except (AttributeError, KeyError, TypeError) as error:
            raise FrugalError(f"{file}: its claims are damaged; run the notebook again") from error
    if as_json:
        emit({"claims": found}, as_json)
    else:
        show(table(found))
