"""Run a notebook with other parameters, and refuse what it does not know before anything starts."""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frugal.engine import presets
from frugal.errors import FrugalError, unknown

VIEW = "application/vnd.jupyter.widget-view+json"


def run(notebook: Path, out: Path, given: Mapping[str, str]) -> Path:
    """Execute `notebook` with papermill into the folder `out`, as .ipynb and .html.

    given: values for names of its parameters cell, as text; each is read as the type it has there

    Raises FrugalError for a missing notebook, an unknown or ill-typed parameter, an unknown
    preset, and a cell that fails: the executed part is kept in `out`.
    """
    values = parameters(notebook, given)
    out.mkdir(parents=True, exist_ok=True)
    target = out / notebook.name
    try:
        execute(notebook, target, values, notebook.parent)
    except FrugalError as error:
        raise FrugalError(f"{error}; see {target}") from error
    target.with_suffix(".html").write_text(_html(target), encoding="utf-8")
    return target


def execute(notebook: Path, target: Path, values: Mapping[str, Any], folder: Path) -> None:
    """Execute `notebook` in `folder` into `target`, its parameters set to `values` unchecked.

    Raises FrugalError for a cell that fails; `target` then holds what was executed.
    """
    import nbformat
    import papermill

    try:
        with presets.chosen(values.get("preset")):
            papermill.execute_notebook(
                notebook, target, values, cwd=folder, progress_bar=False, kernel_name="python3"
            )
    except papermill.PapermillExecutionError as error:
        raise FrugalError(
            f"{notebook.name}: cell {error.exec_count} failed with {error.ename}: {error.evalue}"
        ) from error
    executed, _ = still(nbformat.read(target, as_version=4), {})
    nbformat.write(executed, target)


def still(notebook: Any, resources: Any) -> tuple[Any, Any]:
    """Take away from a notebook (nbformat) what only a running kernel can show: views of widgets.

    What was displayed beside them, a picture or a text, is what a reader then sees. A preprocessor
    of nbconvert, which is why it takes `resources` and returns them.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(VIEW, None)
    return notebook, resources


def parameters(notebook: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """`given` as the types that the notebook's parameters cell declares.

    The environment's preset is among them where the notebook has one and `given` has none.
    """
    import papermill

    if not notebook.is_file():
        raise FrugalError(f"{notebook}: no such notebook")
    read([notebook])
    known = papermill.inspect_notebook(notebook)
    if given and not known:
        raise FrugalError(f"{notebook}: it has no parameters, so {next(iter(given))} cannot be set")
    if "preset" in known and (default := presets.of_environment()):
        given = {"preset": default, **given}
    values = {}
    for name, text in given.items():
        if name not in known:
            raise unknown(f"parameter of {notebook.name}", name, known)
        values[name] = _value(f"{notebook.name}: {name}", text, known[name]["inferred_type_name"])
    if "preset" in values and values["preset"] not in presets.names():
        raise unknown("preset", values["preset"], presets.names())
    return values


def preset(notebook: Path, given: Mapping[str, str]) -> str:
    """At which preset a notebook runs: that of `given`, else the environment's, else its own.

    "" where it has none.
    """
    import papermill

    values = parameters(notebook, given)
    if "preset" in values:
        return str(values["preset"])
    own = papermill.inspect_notebook(notebook).get("preset", {}).get("default")
    try:
        return str(ast.literal_eval(own or "''"))
    except (ValueError, SyntaxError):  # it is computed
        return ""


def _value(where: str, text: str, kind: str) -> Any:
    """`text` as a literal of the declared type."""
    if kind == "str":
        return text
    try:
        value = json.loads(text.lower() if kind == "bool" else text)
    except ValueError:
        value = None
    wanted: Any = {"int": int, "float": (int, float), "bool": bool}.get(
        kind.partition("[")[0], list
    )
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
        raise FrugalError(f"{where} is of type {kind}; {text!r} is not")
    return float(value) if kind == "float" else value


def read(files: Sequence[Path]) -> list[Any]:
    """Notebooks as nbformat objects; a FrugalError names one that cannot be read."""
    import nbformat

    found = []
    for file in files:
        try:
            found.append(nbformat.read(file, as_version=4))
        except Exception as error:  # nbformat raises whatever its JSON and schema checks raise
            raise FrugalError(f"{file}: not a readable notebook ({error})") from error
    return found


def _html(notebook: Path) -> str:
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(template_name="lab").from_filename(str(notebook))
    return str(body)
