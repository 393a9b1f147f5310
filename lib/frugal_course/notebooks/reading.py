"""Notebooks read: of any version, stripped or not; and what an executed one does not show."""

import json
from pathlib import Path
from typing import Any

import nbformat

from frugal.errors import FrugalError

VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def read(file: Path) -> Any:
    """A notebook (nbformat), also without what tools that clean notebooks strip away.

    Raises FrugalError, which names the file, for what cannot be read.
    """
    if file.is_dir():
        raise FrugalError(f"{file}: a folder, not a notebook")
    if not file.exists():
        raise FrugalError(f"{file}: no such notebook")
    try:
        bare = json.loads(file.read_text(encoding="utf-8-sig"))
        if bare.get("nbformat", 4) == 4:
            bare = _completed(bare)
        found = nbformat.reads(json.dumps(bare), as_version=4)
        if bare["nbformat"] < 4:  # it was given ids at random
            for cell in found.cells:
                cell.id = None
            _named(found.cells)
        for cell in found.cells:
            if not isinstance(cell.metadata.get("tags", []), list):
                raise ValueError("a cell's tags are no list")
            if not isinstance(cell.source, str):
                raise ValueError(f"a cell's source is {type(cell.source).__name__}")
        for key in ("kernelspec", "language_info"):
            if not isinstance(found.metadata.setdefault(key, {}), dict):
                raise ValueError(f"{key} is no object")
            if not found.metadata[key]:
                del found.metadata[key]
    except Exception as error:  # nbformat raises whatever its JSON and schema checks raise
        reason = f"{type(error).__name__}: {error}"
        raise FrugalError(f"{file}: not a readable notebook ({reason})") from error
    return found


def _completed(bare: dict[str, Any]) -> dict[str, Any]:
    """A notebook of version 4 with all that its format asks for."""
    if "nbformat_minor" not in bare:
        bare |= {"nbformat": 4, "nbformat_minor": 5}
    bare.setdefault("metadata", {})
    for cell in bare["cells"]:
        cell.setdefault("metadata", {})
        if cell["cell_type"] == "code":
            cell.setdefault("outputs", [])
            cell.setdefault("execution_count", None)
    if bare["nbformat_minor"] >= 5:
        _named(bare["cells"])
    return bare


def _named(cells: list[Any]) -> None:
    """Give cells ids that a second reading gives them too: a run is known by its notebook."""
    seen: set[str] = set()
    for number, cell in enumerate(cells):
        if not isinstance(cell.get("id"), str) or cell["id"] in seen:
            cell["id"] = f"cell-{number}"
        seen.add(cell["id"])


def text(notebook: Any) -> str:
    """A notebook (nbformat) as a file has it."""
    return str(nbformat.writes(notebook)) + "\n"


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


def unfinished(notebook: Any) -> str:
    """Why an executed notebook (nbformat) does not hold all that it would show, or ""."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for cell in code:
        for output in cell.outputs:
            if output.get("output_type") == "error":
                return f"stopped by {output.get('ename')}"
    if any(cell.get("execution_count") is None for cell in code):
        return "not executed to its end"
    return ""
