"""Run a notebook with other parameters, and refuse what it does not know before anything starts."""

import contextlib
import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from frugal.engine import files, outputs, presets
from frugal.errors import FrugalError
from frugal_course.notebooks import parameters, reading
from frugal_course.publish import pages


def run(notebook: Path, out: Path, given: Mapping[str, str]) -> Path:
    """Execute `notebook` with papermill into the folder `out`, as .ipynb and .html.

    given: values for names of its parameters cell, as text; each is read as the type it has there

    Raises FrugalError for a missing notebook, an unknown or ill-typed parameter, an unknown preset,
    an `out` that cannot be written or is the notebook's own folder, and a cell that fails. What was
    executed is then in `out`; in another folder, which is named, if that one became unwritable.
    """
    found = reading.read(notebook)
    values = parameters.declared(found, notebook).values(given)
    target, page = out / notebook.name, out / f"{notebook.stem}.html"
    outputs.look("--out", out, folder=True)
    if target.exists() and target.samefile(notebook):
        raise FrugalError(f"--out: {out} has {notebook} itself, which would be overwritten")
    out.mkdir(parents=True, exist_ok=True)
    for file in (target, page):
        outputs.look("--out", file)
    executed, failure = execute(found, notebook, values, notebook.parent, target)
    _, problem = outputs.keep(target, lambda file: file.write_text(reading.text(executed), "utf-8"))
    if failure:
        raise FrugalError(f"{failure}; {problem or f'see {target}'}")
    shown = pages.page(executed, notebook.stem)
    _, other = outputs.keep(page, lambda file: file.write_text(shown, "utf-8"))
    if problem or other:
        raise FrugalError("; ".join(filter(None, [problem, other])))
    return target


def execute(
    found: Any, notebook: Path, values: Mapping[str, Any], folder: Path, out: Path | None = None
) -> tuple[Any, str]:
    """Execute `found` (nbformat) in `folder`, its parameters set to `values` unchecked.

    notebook: the file that it says it was; failures have its name

    Returns it as far as it was executed (nbformat), without what only a kernel can show (`still`);
    and how a cell failed, or "". Meanwhile it is kept in the file `out`, where that can be written.
    """
    import papermill  # half a second, and every check comes before it
    from jupyter_client.kernelspec import NoSuchKernel

    found.metadata["kernelspec"] = reading.KERNEL
    document = _Document(reading.text(found), out)
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
                    kernel_name=reading.KERNEL["name"],
                    language=reading.KERNEL["language"],
                )
        except papermill.PapermillExecutionError as error:
            failure = f"cell {error.exec_count} failed with {error.ename}: {error.evalue}"
        except (RuntimeError, NoSuchKernel) as error:  # it died, did not start, or is not there
            failure = f"its kernel stopped: {error}"
    executed, _ = reading.still(nbformat.reads(document.text, as_version=4), {})
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
