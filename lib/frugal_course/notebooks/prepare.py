"""Notebooks made ready: the cell that installs Frugal on Colab, badges, slide tags.

Everything here is put in by rule, so that it can be done again, and to any notebook, executed or
not: outputs stay, and execution counts go on being those of a run from top to bottom.
"""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from frugal import data
from frugal.engine.files import write
from frugal.errors import FrugalError
from frugal_course.notebooks import reading

# What is kept is what a kernel has loaded when it reads this, and what takes gigabytes.
BOOTSTRAP = """\
# On Colab or a bare server this installs Frugal beside what is there; elsewhere it does nothing.
from importlib import invalidate_caches, metadata, util

if util.find_spec("frugal") is None:
    import subprocess
    import sys
    from pathlib import Path
    from urllib.request import urlopen

    there = reversed([*metadata.distributions()])  # of two, the first on the path is imported
    here = {{str(d.name).lower().replace("-", "_"): d.version for d in there}}
    kept = {{name: f"{{name}}=={{here[name]}}" for name in "{kept}".split() if name in here}}
    tested = urlopen("{pins}").read().decode()
    pins = {{line.partition("==")[0]: line for line in tested.splitlines()}}
    for found in (pins | kept, kept):  # a server may need other versions of the rest
        Path("frugal-pins.txt").write_text("\\n".join(found.values()))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "-c", "frugal-pins.txt"]
        done = subprocess.run([*pip, "frugal-companion @ {source}"])
        if done.returncode == 0:
            break
    done.check_returncode()
    invalidate_caches()
"""
KEPT = (
    "torch torchvision torchaudio numpy scipy pandas matplotlib ipykernel ipython ipywidgets "
    "jupyter_client jupyter_core pyzmq tornado traitlets comm"
)
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
HEADING = re.compile(r"^#{1,3} ", re.MULTILINE)
LONG = 400  # characters of prose that are said, not shown


class Publication(NamedTuple):
    """Where readers find the companion: a repository on GitHub, "owner/name", and a tag of it."""

    repo: str
    tag: str

    @property
    def archive(self) -> str:
        """What pip installs: a tag, so that it stays the same."""
        return f"https://github.com/{self.repo}/archive/refs/tags/{self.tag}.zip"

    @property
    def pins(self) -> str:
        """The versions that the tag was tested with."""
        return f"https://raw.githubusercontent.com/{self.repo}/{self.tag}/constraints.txt"

    @property
    def site(self) -> str:
        """The pages that need no kernel."""
        owner, _, name = self.repo.partition("/")
        return f"https://{owner.lower()}.github.io/{name}/"

    def __bool__(self) -> bool:
        return bool(self.repo and self.tag)

    def badge(self, notebook: str) -> str:
        """Markdown that opens `notebook`, a path in the repository, on Colab."""
        return f"{BADGE}(https://colab.research.google.com/github/{self.repo}/blob/{self.tag}/{notebook})"


def publication() -> Publication:
    """What `data/publication.toml` says."""
    return Publication(**data.toml("publication.toml"))


def publish(
    repo: str, tag: str, files: Sequence[Path], readme: Path, citation: Path
) -> Publication:
    """Write down where the companion is published, everywhere it is said.

    That is `data/publication.toml` (of which the package's addresses are made), the badges of the
    README, the citation, and the first cells of the notebooks `files`. Raises FrugalError, before
    anything is written, for what is no name, outside of a checkout, and for a file that has no
    place for it.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise FrugalError(f"REPO: {repo!r} is not owner/name")
    if not re.fullmatch(r"[\w.-]+", tag):
        raise FrugalError(f"TAG: {tag!r} is not the name of a tag")
    if data.INSTALLED:
        raise FrugalError("this Frugal is installed: badges are written in a checkout, by its own")
    where = Publication(repo, tag)
    places = [f"{file.resolve().parent.name}/{file.name}" for file in files]
    links = [f"{place.rpartition('/')[2][:2]} {where.badge(place)}" for place in places]
    block = "\n".join([f"[Pages that need no kernel]({where.site})\n", *links, ""])
    page = marked(readme, "badges", block)
    cited = _citing(citation, where)
    ready = prepared(files, where)
    for file, text in {readme: page, citation: cited, **ready}.items():
        write(file, text)
    toml = data.ROOT / "publication.toml"
    said = toml.read_text(encoding="utf-8")
    for name, value in where._asdict().items():
        said = re.sub(rf'^{name} = ".*"$', f"{name} = {json.dumps(value)}", said, flags=re.M)
    write(toml, said)
    return where


def _citing(citation: Path, where: Publication) -> str:
    """The citation file with the repository and its pages, in place of those it had."""
    text = citation.read_text(encoding="utf-8")
    text = re.sub(r"^(repository-code|url): .*\n", "", text, flags=re.MULTILINE)
    places = f"repository-code: https://github.com/{where.repo}\nurl: {where.site}\n"
    found, count = re.subn(r"^(license: .*\n)", rf"\g<1>{places}", text, flags=re.MULTILINE)
    if count != 1:
        raise FrugalError(f"{citation}: it needs one line that begins with 'license: '")
    return found


def prepare(files: Iterable[Path], where: Publication) -> None:
    """Put bootstrap cell, badge and slide tags into notebooks, in place: into all, or into none."""
    for file, text in prepared(files, where).items():
        write(file, text)


def prepared(files: Iterable[Path], where: Publication) -> dict[Path, str]:
    """What notebooks say with bootstrap cell, badge and slide tags."""
    found = {}
    for file in files:
        notebook = reading.read(file)
        bootstrap(notebook, where)
        badge(notebook, where, f"{file.resolve().parent.name}/{file.name}")
        slides(notebook)
        found[file] = reading.text(notebook)
    return found


def bootstrap(notebook: Any, where: Publication) -> None:
    """Put the bootstrap cell behind the title of `notebook` (nbformat), or make it the current one.

    Where nothing is published it could install nothing, and there is none.

    Raises FrugalError for a notebook that does not start with a title.
    """
    if not notebook.cells or not notebook.cells[0].source.startswith("# "):
        raise FrugalError("a notebook starts with a title: '# …' in a Markdown cell")
    cells = [cell for cell in notebook.cells if "bootstrap" not in cell.metadata.get("tags", [])]
    executed = any(cell.get("execution_count") for cell in cells)
    if where:
        cell = nbformat.v4.new_code_cell(installing(where), id="bootstrap")
        cell.metadata["tags"] = ["bootstrap"]
        cells.insert(1, cell)
    notebook.cells = cells
    if executed:
        code = (cell for cell in cells if cell.cell_type == "code")
        for number, cell in enumerate(code, start=1):
            cell.execution_count = number
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = number


def installing(where: Publication) -> str:
    """The bootstrap cell's code."""
    text = BOOTSTRAP.format(source=where.archive, pins=where.pins, kept=KEPT)
    return text.rstrip("\n")


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
    write(readme, marked(readme, name, block))


def marked(readme: Path, name: str, block: str) -> str:
    """What `readme` says with that block."""
    place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    found, count = place.subn(lambda _: block, readme.read_text(encoding="utf-8"))
    if count != 1:
        raise FrugalError(f"the README needs the lines <!-- {name} --> and <!-- /{name} -->, once")
    return found


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
