"""Slides of executed notebooks, for a room without a network: reveal.js beside them, no CDN.

What a page shows follows the slide tags (`prepare.slides`); here it is made to fit. Formulas become
MathML, which browsers draw by themselves. reveal.js is a pinned artifact.
"""

import copy
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import SlidesExporter
from traitlets.config import Config

from frugal import data
from frugal.engine import artifacts
from frugal.engine.files import write
from frugal_course.notebooks import prepare, reading
from frugal_course.publish import pages

HIDDEN = {"enabled": True, "remove_input_tags": {"hide-input"}}
Sections = Mapping[str, Mapping[str, str]]
SECTION = re.compile(r"^## (?:(\d+) · )?.+$", re.MULTILINE)
LINES = 17  # of text on a page
WIDTH = 88  # letters in a line; Korean ones count twice
CODE_LINES = 14  # more than that is not shown on a page
ROWS = 8  # of a table on a page
CELL = 30  # letters in a line of a cell
REVEAL = ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js")


def export(files: Sequence[Path], out: Path, *, korean: bool = False) -> list[Path]:
    """Write `out`/<notebook>.slides.html for each notebook, and `out`/reveal.js/ once.

    korean: with a Korean title under each section's, and Korean notes for the speaker

    Raises FrugalError for what is no notebook, and where reveal.js cannot be fetched.
    """
    found = [reading.read(file) for file in files]
    reveal(out / "reveal.js")
    written = []
    said = data.toml("slides.ko.toml") if korean else {}
    for file, notebook in zip(files, found, strict=True):
        target = out / f"{file.stem}.slides.html"
        write(target, rendered(notebook, file.stem, said.get(file.stem[:2], {})))
        written.append(target)
    return written


def reveal(folder: Path) -> None:
    """Put reveal.js and the theme of the slides into `folder`."""
    source = artifacts.member("reveal", "LICENSE").parent
    for name in (*REVEAL, "LICENSE"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    (folder / "dist" / "theme").mkdir(exist_ok=True)
    theme = pages.TEMPLATES / "frugal-slides" / "theme.css"
    shutil.copyfile(theme, folder / "dist" / "theme" / "frugal.css")


def rendered(notebook: Any, name: str, said: Sections | None = None) -> str:
    """A notebook (nbformat) as an HTML page of slides that expects reveal.js/ beside it.

    said: as `sheets` takes it
    """
    return pages.exported(
        sheets(notebook, said),
        name,
        SlidesExporter,
        template_name="frugal-slides",
        reveal_url_prefix="reveal.js",
        reveal_theme="frugal",
        config=Config({"TagRemovePreprocessor": HIDDEN}),
    )


def sheets(notebook: Any, said: Sections | None = None) -> Any:
    """A copy of `notebook` (nbformat) in which every page has what fits on it.

    A title's text goes on on further pages; of a section's, lists, tables and formulas do, and
    prose is left to the speaker. Code stands beside a printed result if it is short. A table of up
    to two pages goes on on a second one, of a longer one the first rows are shown. A page without a
    heading of its own has its section's.

    said: a further `title` and `note` for the speaker, by a section's number ("end" has none)
    """
    laid = copy.deepcopy(notebook)
    laid.metadata.pop("widgets", None)
    prepare.slides(laid)
    cells: list[Any] = []
    section = ""
    for number, cell in enumerate(laid.cells):
        kind = cell.metadata.slideshow.slide_type
        if kind == "skip":
            continue
        if cell.cell_type == "code":
            tags = ["hide-input"] if _fills(cell) else []
            cell.metadata.tags = [*tags, *(["introduced"] if kind == "-" else [])]
            for at, page in enumerate(_tables(cell)):
                if at or kind != "-":
                    cells.append(_headed(f"head-{number}-{at}", section))
                    page.metadata.slideshow = {"slide_type": "-"}
                cells.append(page)
            continue
        text, note = _twice(prepare.without_badge(cell.source), said or {})
        for at, (on, part) in enumerate(_parts(text, kind, whole=not number)):
            if headings := re.findall(r"^##? (.*)$", part, re.MULTILINE):
                section = headings[-1]
            elif on in ("slide", "subslide") and not prepare.HEADING.search(part):
                part = f"#### {section}\n\n{part}"
            made = nbformat.v4.new_markdown_cell(part, id=f"page-{number}-{at}")
            made.metadata.slideshow = {"slide_type": on}
            cells.append(made)
        if note:
            made = nbformat.v4.new_markdown_cell(note, id=f"said-{number}")
            made.metadata.slideshow = {"slide_type": "notes"}
            cells.append(made)
    laid.cells = cells
    return laid


def _headed(name: str, section: str) -> Any:
    """The beginning of a page on which a section goes on."""
    made = nbformat.v4.new_markdown_cell(f"#### {section}", id=name)
    made.metadata.slideshow = {"slide_type": "subslide"}
    return made


def _tables(cell: Any) -> Iterator[Any]:
    """The pages of a code cell: one, or two where a table has more rows than fit."""
    later = None
    for output in cell.outputs:
        html = output.get("data", {}).get("text/html", "")
        body = re.search(r"<tbody>(.*)</tbody>", html, re.DOTALL)
        rows = re.findall(r"<tr\b.*?</tr>", body[1], re.DOTALL) if body else []
        fits = _fitting(rows)
        if body is None or len(rows) <= fits:
            continue
        rest = rows[fits:]
        more = ""
        if len(rest) > _fitting(rest):
            more = f'<tr><td colspan="99">… and {len(rest)} rows more, in the notebook</td></tr>'
        else:
            later = copy.deepcopy(cell)
            later.id, later.outputs = f"{cell.id}-2", [copy.deepcopy(output)]
            later.outputs[0].data["text/html"] = _with_rows(html, body, rest)
        output.data["text/html"] = _with_rows(html, body, [*rows[:fits], more])
    yield cell
    if later is not None:
        yield later


def _fitting(rows: Sequence[str]) -> int:
    """How many of a table's rows a page has room for: ROWS, or fewer where their texts are long."""
    height = 0
    for count, row in enumerate(rows[:ROWS]):
        cells = re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        height += max((-(-len(cell) // CELL) for cell in cells), default=1)
        if count and height > LINES:
            return count
    return min(ROWS, len(rows))


def _with_rows(html: str, body: "re.Match[str]", rows: Sequence[str]) -> str:
    return html[: body.start(1)] + "\n".join(rows) + html[body.end(1) :]


def _twice(text: str, said: Sections) -> tuple[str, str]:
    """A cell's text with a second title under its section's, and what is said there."""
    heading = SECTION.search(text)
    more = said.get(heading[1] or "end") if heading else None
    if not heading or not more:
        return text, ""
    return text.replace(heading[0], f"{heading[0]}\n\n*{more['title']}*", 1), more["note"]


def _fills(cell: Any) -> bool:
    """Whether what a code cell shows takes a page of its own."""
    kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
    return (
        bool(kinds & {"image/png", "text/html", "text/markdown"})
        or len(cell.source.splitlines()) > CODE_LINES
    )


def _parts(text: str, kind: str, whole: bool) -> Iterator[tuple[str, str]]:
    """(slide type, Markdown) for each page of a cell and for the speaker.

    whole: everything is shown; otherwise prose that does not fit is the speaker's
    """
    if kind == "notes":
        yield kind, text
        return
    blocks = [part for b in re.split(r"\n{2,}", text.strip()) for part in _short(b)]
    begin = next((i for i, b in enumerate(blocks) if prepare.HEADING.match(b)), 0)
    said, used = blocks[:begin], 0
    shown: list[str] = []
    for block in blocks[begin:]:
        height = _height(block)
        another = block.startswith("|") and any(b.startswith("|") for b in shown)
        if used and (another or used + height > LINES):
            if not whole and not re.match(r"\$\$|[-*|] |\||\d+\. |\*\*Predict", block):
                said.append(block)
                continue
            yield kind, "\n\n".join(shown)
            kind, shown, used = "subslide", [], 0
        shown.append(block)
        used += height
    yield kind, "\n\n".join(shown)
    if said:
        yield "notes", "\n\n".join(said)


def _short(block: str) -> Iterator[str]:
    """A block of Markdown; a table in pieces that have at most ROWS rows each."""
    lines = block.split("\n")
    if not block.startswith("|") or len(lines) <= ROWS + 2:
        yield block
        return
    for at in range(2, len(lines), ROWS):
        yield "\n".join([*lines[:2], *lines[at : at + ROWS]])


def _height(block: str) -> int:
    """About how many lines a block of Markdown takes on a page."""
    if block.startswith("#"):
        return 2
    if "$$" in block:
        return 2 + 2 * block.count("$$") // 2
    listed = re.match(r"[-*|] |\||\d+\. ", block)
    lines = re.split(r"\n(?=[-*|] |\||\d+\. )", block) if listed else [block.replace("\n", " ")]
    return sum(-(-sum(1 + (ord(c) > 0x1100) for c in line) // WIDTH) for line in lines) + 1
