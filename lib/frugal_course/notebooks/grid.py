"""Grids: one notebook at many values of its parameters, each a run of the engine.

    OUT/runs/<id>/                        one run, as every sweep keeps it
    OUT/<notebook>-shots=4-seed=0.ipynb   the executed notebook
    OUT/table.csv                         parameters beside what each notebook measured

A run's spec holds the notebook's source, so that workers need no copy of it and an edited notebook
is a new run; outputs do not count. So is one of edited data, or of an edited file or model that a
parameter names.
"""

import ast
import contextlib
import itertools
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from frugal import data
from frugal.engine import digests, files, presets, runs, sweep
from frugal.errors import FrugalError
from frugal_course.figures import closing
from frugal_course.notebooks import execution, reading
from frugal_course.notebooks import parameters as declarations

JOB = "notebook.execute"
LARGEST = 10_000  # notebooks of a grid


@dataclass(frozen=True)
class Grid:
    """Runs of a notebook that differ in their parameters: `points`, one for each of `specs`."""

    notebook: Path
    points: list[dict[str, Any]]
    specs: list[runs.RunSpec]


def grid(notebook: Path, given: Mapping[str, str], values: Mapping[str, Sequence[str]]) -> Grid:
    """Every combination of `values`, on top of `given`; all as text, as a shell has them.

    Raises FrugalError for what the notebook's parameters refuse, for a parameter that is both
    given and varied, or varied over nothing or one value twice, and for more runs than LARGEST.
    """
    found = reading.read(notebook)
    declared = declarations.declared(found, notebook)
    fixed = declared.values(given)
    varied: dict[str, list[Any]] = {}
    for name, texts in values.items():
        if name in given:
            raise FrugalError(f"{name}: it is set to {given[name]!r} and in the grid")
        if not texts or "" in texts:
            raise FrugalError(f"--grid {name}={','.join(texts)}: a value is empty")
        varied[name] = []
        for text in texts:
            value = declared.value(name, text)
            if value in varied[name]:
                raise FrugalError(f"--grid {name}={','.join(texts)}: {value!r} is there twice")
            varied[name].append(value)
    if (size := math.prod(map(len, varied.values()))) > LARGEST:
        raise FrugalError(f"--grid: {size:,} combinations, more than {LARGEST:,}")
    points = [
        {**fixed, **dict(zip(varied, values, strict=True))}
        for values in itertools.product(*varied.values())
    ]
    for cell in found.cells:  # what executing it left in it is no part of a run
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    same = {
        "notebook": notebook.name,
        "source": str(nbformat.writes(found)),
        "folder": str(notebook.parent.resolve()),
    }
    default = declared.preset({})
    specs = []
    for point in points:
        preset = str(point.get("preset") or default)
        gpus = presets.named(preset).num_gpus if preset else 0
        kwargs = {**same, "parameters": point}
        specs.append(runs.spec(JOB, kwargs, preset=preset, num_gpus=gpus))
    return Grid(notebook, points, specs)


def run(of: Grid, out: Path, *, ray: bool = False) -> pd.DataFrame:
    """Run what has no result in `out` yet; one row a run, also in `out`/table.csv.

    Columns: parameters, a column for each claim with what was measured, seconds, notebook, id.
    Raises FrugalError if runs failed, after all others are done and their notebooks written.
    """
    store = runs.Store(out)
    try:
        sweep.run(of.specs, store, ray=ray, stage="notebooks")
    finally:
        table = _collect(of, store)
    return table


def _collect(of: Grid, store: runs.Store) -> pd.DataFrame:
    """Write the executed notebooks of the runs that are done, and the table of them."""
    records = []
    for point, spec in zip(of.points, of.specs, strict=True):
        if not store.done(spec.id):
            continue
        result = store.result(spec.id)
        file = store.folder / f"{_name(of.notebook.stem, point, spec.id)}.ipynb"
        files.write(file, result["executed"])
        seconds = store.machine(spec.id)["seconds"]
        records.append(
            {
                "preset": spec.preset,
                **point,
                **result["claims"],
                "seconds": seconds,
                "notebook": file.name,
                "id": spec.id,
            }
        )
    table = pd.DataFrame(records)
    if records:
        with files.staged(store.folder / "table.csv") as fresh:
            table.to_csv(fresh, index=False)
    return table


def _name(stem: str, point: Mapping[str, Any], run: str) -> str:
    """A file name that says the parameters; with the run's id where they do not fit in one."""
    whole = "-".join([stem, *(f"{name}={value}" for name, value in point.items())])
    name = re.sub(r"[^\w.=+-]", "_", whole)[:120]
    return name if name == whole else f"{name}-{run}"


def inputs(source: str, folder: str, parameters: Mapping[str, Any], **_: Any) -> dict[str, str]:
    """What a notebook reads: the project's data, and the files and folders its parameters name."""
    named = {}
    for text in _texts([*parameters.values(), *_literals(source)]):
        if text and (place := Path(folder) / text).exists():
            named[text] = digests.file(place) if place.is_file() else digests.folder(place)
    return {"data": digests.folder(data.ROOT), **named}


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _texts(value)


def _literals(source: str) -> Iterator[Any]:
    """The texts in a notebook's parameters cell."""
    for cell in declarations.cells(nbformat.reads(source, as_version=4)):
        with contextlib.suppress(SyntaxError):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Constant):
                    yield node.value


@runs.job(JOB, inputs=inputs)
def execute(
    notebook: str, source: str, folder: str, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Execute a notebook: `claims` it measured, how many (`score`), and itself, `executed`.

    folder: where it runs, if this machine has it; elsewhere in a folder of its own
    """
    found = nbformat.reads(source, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        where = folder if Path(folder).is_dir() else place
        executed, failure = execution.execute(found, Path(notebook), parameters, Path(where))
    if failure:
        raise FrugalError(failure)
    claims = {record["claim"]: record["measured here"] for record in closing.collect(executed)}
    return {"score": len(claims), "claims": claims, "executed": str(nbformat.writes(executed))}
