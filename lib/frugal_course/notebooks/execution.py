"""Run a notebook with other parameters, and refuse what it does not know before anything starts."""

import contextlib
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugal.engine import files, outputs, presets
from frugal.errors import FrugalError, unknown
from frugal_course.notebooks import parameters as cells
from frugal_course.notebooks.parameters import Parameter

VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def run(notebook: Path, out: Path, given: Mapping[str, str]) -> Path:
    """Execute `notebook` with papermill into the folder `out`, as .ipynb and .html.

    given: values for names of its parameters cell, as text; each is read as the type it has there

    Raises FrugalError for a missing notebook, an unknown or ill-typed parameter, an unknown preset,
    an `out` that cannot be written or is the notebook's own folder, and a cell that fails. What was
    executed is then in `out`; in another folder, which is named, if that one became unwritable.
    """
    from frugal_course.publish import pages

    values = parameters(notebook, given)
    target, page = out / notebook.name, out / f"{notebook.stem}.html"
    outputs.look("--out", out, folder=True)
    if target.exists() and target.samefile(notebook):
        raise FrugalError(f"--out: {out} has {notebook} itself, which would be overwritten")
    out.mkdir(parents=True, exist_ok=True)
    for file in (target, page):
        outputs.look("--out", file)
    executed, failure = execute(notebook, values, notebook.parent, target)
    _, problem = outputs.keep(target, lambda file: file.write_text(_text(executed), "utf-8"))
    if failure:
        raise FrugalError(f"{failure}; {problem or f'see {target}'}")
    shown = pages.page(executed, notebook.stem)
    _, other = outputs.keep(page, lambda file: file.write_text(shown, "utf-8"))
    if problem or other:
        raise FrugalError("; ".join(filter(None, [problem, other])))
    return target


def execute(
    notebook: Path, values: Mapping[str, Any], folder: Path, out: Path | None = None
) -> tuple[Any, str]:
    """Execute `notebook` in `folder`, its parameters set to `values` unchecked.

    Returns it as far as it was executed (nbformat), without what only a kernel can show (`still`);
    and how a cell failed, or "". Meanwhile it is kept in the file `out`, where that can be written.
    """
    import nbformat
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel

    (source,) = read([notebook])
    source.metadata["kernelspec"] = KERNEL
    document = _Document(_text(source), out)
    failure = ""
    with _Documents.holding(document) as address:
        try:
            with presets.chosen(values.get("preset")):
                papermill.execute_notebook(
                    address,
                    address,
                    dict(values),
                    cwd=folder,
                    progress_bar=False,
                    kernel_name=KERNEL["name"],
                    language=KERNEL["language"],
                )
        except papermill.PapermillExecutionError as error:
            failure = f"cell {error.exec_count} failed with {error.ename}: {error.evalue}"
        except (RuntimeError, NoSuchKernel) as error:  # it died, did not start, or is not there
            failure = f"its kernel stopped: {error}"
    executed, _ = still(nbformat.reads(document.text, as_version=4), {})
    executed.metadata.get("papermill", {}).update(input_path=str(notebook), output_path=str(out))
    return executed, f"{notebook.name}: {failure}" if failure else ""


@dataclass
class _Document:
    """A notebook that papermill executes: its text so far, and a file that follows it."""

    text: str
    file: Path | None

    def write(self, text: str) -> None:
        self.text = text
        if self.file is not None:
            with contextlib.suppress(OSError):  # a disk that fills stops no run; see `run`
                files.write(self.file, text)


class _Documents:
    """Documents under addresses of papermill's own kind.

    It formats paths, which then must not have braces, and it stops where it cannot write.
    """

    SCHEME = "frugal-run:"
    held: dict[str, _Document] = {}  # noqa: RUF012 - papermill's handlers are of the process
    numbers = itertools.count()

    @classmethod
    @contextlib.contextmanager
    def holding(cls, document: _Document) -> Any:
        cls.register()
        address = f"{cls.SCHEME}{next(cls.numbers)}.ipynb"
        cls.held[address] = document
        try:
            yield address
        finally:
            del cls.held[address]

    @classmethod
    @functools.cache
    def register(cls) -> None:
        from papermill.iorw import papermill_io

        papermill_io.register(cls.SCHEME, cls)

    @classmethod
    def read(cls, address: str) -> str:
        return cls.held[address].text

    @classmethod
    def write(cls, text: str, address: str) -> None:
        cls.held[address].write(text)

    @staticmethod
    def pretty_path(address: str) -> str:
        return address


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


def parameters(notebook: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """`given` as the types that the notebook's parameters cell declares.

    The environment's preset is among them where the notebook has one and `given` has none.
    """
    known = declared(notebook)
    if given and not known:
        raise FrugalError(f"{notebook}: it has no parameters, so {next(iter(given))} cannot be set")
    if "preset" in known and (default := presets.of_environment()):
        given = {"preset": default, **given}
    return {name: parameter(notebook, known, name, text) for name, text in given.items()}


def preset(notebook: Path, given: Mapping[str, str]) -> str:
    """At which preset a notebook runs: that of `given`, else the environment's, else its own.

    "" where it has none.
    """
    values, own = parameters(notebook, given), declared(notebook).get("preset")
    return str(values.get("preset", own.default if own else None) or "")


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook. Raises FrugalError for what is none, or in another language."""
    (found,) = read([notebook])
    told = [found.metadata.get(key, {}) for key in ("kernelspec", "language_info")]
    language = told[0].get("language") or told[1].get("name") or "python"
    if not isinstance(language, str) or "python" not in language.lower():
        raise FrugalError(f"{notebook}: it is in {language}; what runs is Python")
    return cells.declared(found, notebook.name)


def parameter(notebook: Path, known: Mapping[str, Parameter], name: str, text: str) -> Any:
    """One value as its type. Raises FrugalError for a name, a preset or a count that is none."""
    if name not in known:
        raise unknown(f"parameter of {notebook.name}", name, known)
    where = f"{notebook.name}: {name}"
    value = cells.value(where, text, known[name])
    if name == "preset" and value not in presets.names():
        raise unknown("preset", str(value), presets.names())
    if name in cells.COUNTS and cells.negative(value) and not cells.negative(known[name].default):
        raise FrugalError(f"{where} must not be negative, as {text} is")
    return value


def read(files: Sequence[Path]) -> list[Any]:
    """Notebooks as nbformat objects; a FrugalError names one that cannot be read."""
    return [_read(file) for file in files]


def _read(file: Path) -> Any:
    """A notebook of any version, also without what tools that clean notebooks strip away."""
    import nbformat

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


def _text(notebook: Any) -> str:
    import nbformat

    return str(nbformat.writes(notebook)) + "\n"
