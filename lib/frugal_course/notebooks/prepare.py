"""Notebooks made ready: the cell that installs Frugal on Colab, badges, slide tags.

Everything here is put in by rule, so that it can be done again, and to any notebook, executed or
not: outputs stay, and execution counts go on being those of a run from top to bottom.
"""

import base64
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from frugal import data
from frugal.engine.files import write
from frugal.errors import FrugalError
from frugal_course.notebooks import reading

BOOTSTRAP = """\
# On Colab or a bare server this installs Frugal beside what is there; elsewhere it does nothing.
import importlib.util

if importlib.util.find_spec("frugal") is None:
    import subprocess
    import sys
    import tempfile
    from importlib.metadata import distributions

    source = "{source}"
    if not source:
        raise SystemExit("Frugal is not installed here: see the README of its repository")
    kept = ("numpy", "pandas", "scipy", "torch", "torchaudio", "torchvision")
    versions = {{d.name: d.version for d in distributions() if d.name in kept}}
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as constraints:
        constraints.writelines(f"{{name}}=={{version}}\\n" for name, version in versions.items())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", constraints.name]
    subprocess.run([*pip, f"frugal-companion @ {{source}}"], check=True)
    importlib.invalidate_caches()
"""
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
HEADING = re.compile(r"^#{1,3} ", re.MULTILINE)
LONG = 400  # characters of prose that are said, not shown


class Publication(NamedTuple):
    """Where readers find the companion: a repository on GitHub, "owner/name", and a tag of it."""

    repo: str
    tag: str

    @property
    def archive(self) -> str:
        """What pip installs; "" where nothing is published. A tag, so that it stays the same."""
        return f"https://github.com/{self.repo}/archive/refs/tags/{self.tag}.zip" if self else ""

    def __bool__(self) -> bool:
        return bool(self.repo and self.tag)

    def badge(self, notebook: str) -> str:
        """Markdown that opens `notebook`, a path in the repository, on Colab."""
        return f"{BADGE}(https://colab.research.google.com/github/{self.repo}/blob/{self.tag}/{notebook})"


def publication() -> Publication:
    """What `data/publication.toml` says."""
    return Publication(**data.toml("publication.toml"))


def publish(repo: str, tag: str) -> Publication:
    """Write down where the companion is published. Raises FrugalError for what is no name."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise FrugalError(f"REPO: {repo!r} is not owner/name")
    if not re.fullmatch(r"[\w.-]+", tag):
        raise FrugalError(f"TAG: {tag!r} is not the name of a tag")
    file = data.ROOT / "publication.toml"
    for name, value in (("repo", repo), ("tag", tag)):
        text = re.sub(
            rf'^{name} = ".*"$', f"{name} = {json.dumps(value)}", file.read_text(), flags=re.M
        )
        write(file, text)
    return Publication(repo, tag)


def prepare(files: Iterable[Path], where: Publication) -> None:
    """Put bootstrap cell, badge and slide tags into notebooks, in place."""
    for file, notebook in [(file, reading.read(file)) for file in files]:  # all, or none is changed
        bootstrap(notebook, where)
        badge(notebook, where, f"{file.resolve().parent.name}/{file.name}")
        slides(notebook)
        nbformat.write(notebook, file)


def bootstrap(notebook: Any, where: Publication) -> None:
    """Put the bootstrap cell behind the title of `notebook` (nbformat), or make it the current one.

    Raises FrugalError for a notebook that does not start with a title.
    """
    if not notebook.cells or not notebook.cells[0].source.startswith("# "):
        raise FrugalError("a notebook starts with a title: '# …' in a Markdown cell")
    cells = [cell for cell in notebook.cells if "bootstrap" not in cell.metadata.get("tags", [])]
    executed = any(cell.get("execution_count") for cell in cells)
    source = BOOTSTRAP.format(source=where.archive).rstrip("\n")
    cell = nbformat.v4.new_code_cell(source, id="bootstrap", metadata={"tags": ["bootstrap"]})
    cells.insert(1, cell)
    notebook.cells = cells
    if executed:
        code = (cell for cell in cells if cell.cell_type == "code")
        for number, cell in enumerate(code, start=1):
            cell.execution_count = number
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = number


def badge(notebook: Any, where: Publication, path: str) -> None:
    """Put the badge of `path` under the title, where the companion is published."""
    title, *rest = without_badge(notebook.cells[0].source).split("\n")
    notebook.cells[0].source = "\n".join(
        [title, *(["", where.badge(path)] if where else []), *rest]
    )


def without_badge(source: str) -> str:
    """A title cell's text without its badge."""
    return re.sub(rf"\n\n{re.escape(BADGE)}\(.*\)", "", source)


def front(notebook: Any, heading: str) -> tuple[bytes, str]:
    """The first picture of the section of `notebook` whose heading has `heading` in it: PNG, text.

    Raises FrugalError where there is none.
    """
    found, within = None, False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and HEADING.search(cell.source):
            within = heading in cell.source
        for output in cell.get("outputs", []) if within and found is None else []:
            if "image/png" in output.get("data", {}):
                found = output.data
    if found is None:
        raise FrugalError(f"no picture under a heading with {heading!r}")
    return base64.b64decode(found["image/png"]), str(found["text/plain"])


def mark(readme: Path, name: str, block: str) -> None:
    """Put `block` between the lines <!-- name --> and <!-- /name --> of `readme`.

    Raises FrugalError unless both are there, once.
    """
    place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    found, count = place.subn(lambda _: block, readme.read_text(encoding="utf-8"))
    if count != 1:
        raise FrugalError(f"the README needs the lines <!-- {name} --> and <!-- /{name} -->, once")
    write(readme, found)


def slides(notebook: Any) -> None:
    """Tag the cells of `notebook` (nbformat) for a talk, by what they are.

    A section starts a slide. Below it, everything that was computed is a page of its own; a short
    text introduces the page of what follows, long prose is for the speaker. What only prepares is
    left out.
    """
    begun = introduced = False
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            heading = HEADING.search(cell.source)
            begun = begun or bool(heading and number)
            introduced = not heading and len(cell.source) <= LONG
            if heading:
                kind = "slide" if len(heading[0]) < 4 else "subslide"
            else:
                kind = "subslide" if introduced else "notes"
        elif not begun or not cell.outputs:
            kind = "skip"
        else:
            kind = "-" if introduced else "subslide"
            introduced = False
        cell.metadata["slideshow"] = {"slide_type": kind}
