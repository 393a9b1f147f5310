"""The companion as one folder of static files: `make site`. It asks nothing of the network.

Pages and chapters are laid out as they lie in the repository, so that their links hold, and Sphinx
makes the pages: MyST reads the executed notebooks as they are, Furo looks after phones and dark
rooms. What Sphinx cannot know is put in here: which code is plumbing, what a picture shows, where a
link leads that is no page, formulas as MathML.
"""

import html
import io
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat

from frugal.engine.files import staged_folder, write
from frugal.errors import FrugalError
from frugal_course.calculators import CALCULATORS
from frugal_course.figures import closing
from frugal_course.notebooks import prepare, reading
from frugal_course.publish import pages, site_explorers, site_pages, slides

STATIC = Path(__file__).parent / "site_static"
KOREAN = ("README.ko", "notebooks/GLOSSARY.ko", "notebooks/GUIDE.ko")  # pages in that language
PROSE = (  # pages as they stand in the repository
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "data/checkpoints/nano-t0/README.md",
    "notebooks/DECK.md",
    "notebooks/GLOSSARY.ko.md",
    "notebooks/GUIDE.ko.md",
    "notebooks/README.md",
)
_LINK = re.compile(
    r"\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]"
    r"\((?!https?:|mailto:|#)(?P<path>[^)\s#]+)(?P<part>#[^)\s]*)?\)"
)
_COLOURS = {"#D55E00": "orange", "#0072B2": "blue", "#009E73": "green", "#555555": "grey"}


def build(root: Path, out: Path) -> int:
    """Make the site of the checkout `root` in `out`; how many pages it has.

    Raises FrugalError where Sphinx is not installed, and for whatever it warns of.
    """
    try:
        from sphinx.application import Sphinx
        from sphinx.errors import SphinxError
    except ImportError as error:
        raise FrugalError(f"the site needs the extra docs: {error}") from error
    with staged_folder(out) as fresh, tempfile.TemporaryDirectory() as work:
        source, made, doubts = Path(work, "source"), Path(work, "made"), io.StringIO()
        lay(root, source)
        try:
            app = Sphinx(
                source, None, made, Path(work), "html", SETTINGS,
                status=None, warning=doubts, parallel=2,
            )  # fmt: skip
            app.build()
        except SphinxError as error:
            raise FrugalError(f"the site: {error}") from error
        if said := doubts.getvalue():
            raise FrugalError(f"the site: {said}")
        shutil.copytree(made, fresh, dirs_exist_ok=True)
        _slides(sorted((root / "notebooks").glob("[0-9]*.ipynb")), fresh / "slides")
        _reference(fresh / "api")
        site_explorers.ship(root, fresh / "_static")
    return len(app.env.found_docs)


def _slides(chapters: Iterable[Path], out: Path) -> None:
    """The slides of each chapter, whose links lead nowhere outside the page."""
    slides.reveal(out / "reveal.js")
    for file in chapters:
        notebook = reading.read(file)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _LINK.sub(r"\g<text>", cell.source)
        write(out / f"{file.stem}.slides.html", slides.rendered(notebook, file.stem))


def _reference(out: Path) -> None:
    """Pages of both packages from their docstrings."""
    import pdoc

    pdoc.render.configure(show_source=False)
    with warnings.catch_warnings():  # types that are only there for a type checker are left as text
        warnings.simplefilter("ignore")
        pdoc.pdoc("frugal", "frugal_course", output_directory=out)


SETTINGS: dict[str, Any] = {
    "project": "Frugal",
    "html_title": "Frugal",
    "language": "en",
    "extensions": ["myst_nb", __name__],
    "html_theme": "furo",
    "html_static_path": [str(STATIC)],
    "html_css_files": ["frugal.css"],
    "html_js_files": [("frugal.js", {"type": "module"})],
    "html_theme_options": {"top_of_page_buttons": []},
    "html_favicon": str(STATIC / "icon.svg"),
    "html_math_renderer": "mathml",
    "html_show_sphinx": False,
    "html_copy_source": False,
    "html_show_copyright": False,
    "nb_execution_mode": "off",
    "nb_code_prompt_show": "Show the code",
    "nb_code_prompt_hide": "Hide the code",
    "nb_merge_streams": True,
    "myst_enable_extensions": ["dollarmath"],
    "myst_dmath_allow_space": False,
    "myst_dmath_allow_digits": False,
    "myst_heading_anchors": 4,
    "suppress_warnings": ["myst.header", "misc.highlighting_failure"],
}


def lay(root: Path, source: Path) -> None:
    """Lay out in `source` what Sphinx is to read: pages, chapters, exercises, what they link to."""
    texts = {name: (root / name).read_text(encoding="utf-8") for name in ("README.ko.md", *PROSE)}
    chapters = sorted((root / "notebooks").glob("[0-9]*.ipynb"))
    notebooks = [*chapters]
    for kind in ("exercises", "solutions"):
        notebooks += sorted((root / "notebooks" / kind).glob("*.ipynb"))
    found = {str(f.relative_to(root)): reading.read(f) for f in notebooks}
    readme = (root / "README.md").read_text(encoding="utf-8")
    texts |= site_pages.written(readme, texts["README.ko.md"], found)
    links = Links(root, source, [*texts, *found])
    for name, text in texts.items():
        write(_there(source / name), links.kept(text, Path(name).parent))
    for name, notebook in found.items():
        write(_there(source / name), reading.text(_read_only(notebook, links, Path(name).parent)))


def _there(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


class Links:
    """Where links of a page lead: to a page, or to a file that goes along; else they are text."""

    def __init__(self, root: Path, source: Path, pages: Iterable[str]) -> None:
        self.root, self.source, self.pages = root.resolve(), source, set(pages)

    def kept(self, text: str, folder: Path) -> str:
        """`text` (Markdown) of a page in `folder`, each of whose links leads somewhere."""
        return _LINK.sub(lambda found: self._led(found, folder), text)

    def _led(self, found: re.Match[str], folder: Path) -> str:
        path = (self.root / folder / found["path"]).resolve()
        if not path.is_relative_to(self.root):
            raise FrugalError(f"{folder}: a link leads out of the project: {found['path']}")
        name = path.relative_to(self.root).as_posix()
        name = {
            "README.md": "manual.md",
            "notebooks/exercises": "notebooks/exercises/index.md",
            "notebooks/solutions": "notebooks/solutions/index.md",
        }.get(name, name)
        if name not in self.pages and path.is_file():
            shutil.copyfile(path, _there(self.source / name))
        elif name not in self.pages:  # a folder, or what is not made yet
            return found["text"]
        return f"[{found['text']}](/{name}{found['part'] or ''})"


def _read_only(notebook: Any, links: Links, folder: Path) -> Any:
    """`notebook` (nbformat), changed into what a reader of the site sees of it."""
    notebook, _ = reading.still(notebook, {})
    cells, notebook.cells = notebook.cells, []
    for cell in cells:
        notebook.cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = links.kept(prepare.without_badge(cell.source), folder)
            continue
        tags = cell.metadata.setdefault("tags", [])
        prepares = cell.metadata.get("slideshow", {}).get("slide_type") == "skip"
        if prepares or "bootstrap" in tags or cell.metadata.get("jupyter", {}).get("source_hidden"):
            tags.append("hide-input")  # plumbing: what a talk leaves out, too
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(closing.MIME, None)
            if "image/png" in data:
                words = " ".join(str(data.get("text/plain", "")).split())
                cell.metadata["mystnb"] = {"image": {"alt": words}}
            if "text/html" in data:
                data["text/html"] = _coloured(data["text/html"])
        for name, (_, _, call) in site_explorers.TOLD.items():
            if cell.source.startswith(f"explorers.{call}("):
                link = f"[Move it: {CALCULATORS[name].title}](/explorers/{name}.md)"
                notebook.cells.append(nbformat.v4.new_markdown_cell(link, id=f"move-{name}"))
    return notebook


def _coloured(markup: str) -> str:
    """Tables whose letters can be read in the dark, too, and that a keyboard can move."""
    for code, name in _COLOURS.items():
        markup = re.sub(rf"(?<![-\w])color: ?{code}", f"color: var(--{name})", markup, flags=re.I)
    return f'<div class="wide">{markup}</div>'


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx asks of an extension: formulas for a browser to draw, the language of a page."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("html-page-context", _context, priority=900)  # the theme's own comes first
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: Any) -> None:
    _formula(writer, node, "inline")


def _block(writer: Any, node: Any) -> None:
    writer.body.append('<div class="formula">')
    _formula(writer, node, "block")


def _formula(writer: Any, node: Any, display: str) -> None:
    from docutils.nodes import SkipNode

    drawn = pages.mathml(node.astext(), display)
    writer.body.append(drawn or f"<code>{html.escape(node.astext())}</code>")
    if display == "block":
        writer.body.append("</div>")
    raise SkipNode


def _context(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """The page's language; and what a reader of screens hears of headings and folds."""
    if page in KOREAN:
        context["language"] = "ko"
    for part, said, better in (
        ("furo_navigation_tree", 'role="heading"', 'role="heading" aria-level="2"'),
        ("body", ' aria-label="Toggle hidden content"', ""),
    ):
        if part in context:
            context[part] = context[part].replace(said, better)
