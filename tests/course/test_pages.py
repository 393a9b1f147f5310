"""Slides: what fits on a page, what the speaker gets, formulas without scripts, nothing fetched."""

import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat import v4

from frugal import data
from frugal_course.publish import slides

FOLDER = Path(__file__).parents[2] / "notebooks"


def of(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), *cells])


def kinds(notebook):
    return [(c.metadata.slideshow.slide_type, c.source) for c in slides.sheets(notebook).cells]


def test_prose_that_does_not_fit_is_the_speakers_and_what_is_listed_goes_on():
    prose, listed = "Word " * 150, "- one\n- two"
    text = "\n\n".join(["## Section", prose, prose, listed])
    found = kinds(of(nbformat.v4.new_markdown_cell(text)))
    assert [kind for kind, _ in found] == ["slide", "slide", "notes"]
    assert listed in found[1][1]
    assert "Word" in found[2][1]
    long_list = "\n\n".join(["- " + "word " * 70] * 4)
    found = kinds(of(nbformat.v4.new_markdown_cell("## Section\n\n" + long_list)))
    assert [kind for kind, _ in found][1:] == ["slide", "subslide"]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("[0-9]*.ipynb")), ids=lambda f: f.stem)
def test_no_text_is_lost_and_nothing_is_fetched(file):
    notebook = nbformat.read(file, as_version=4)
    html = slides.rendered(notebook, file.stem)
    fetched = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(https?:)?//""", _loading(html))
    assert not fetched
    for script in ("require.js", "jquery", "MathJax"):
        assert script not in html
    assert html.count("<section") == html.count("</section>")
    shown = " ".join(cell.source for cell in slides.sheets(notebook).cells)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for word in re.findall(r"\w+", slides.prepare.without_badge(cell.source)):
                assert word in shown


def _loading(html):
    """The tags that make a browser load something; links of the text are followed by hand."""
    return " ".join(re.findall(r"<(?:script|link|img|iframe)\b[^>]*>|url\([^)]*\)", html))


def test_formulas_are_drawn_by_the_browser_and_money_is_not_a_formula():
    text = (
        r"## S" + "\n\n" + r"It costs $2 and $5, $\beta_t$ not. `$x$`" + "\n\n" + r"$$\frac{a}{b}$$"
    )
    html = slides.rendered(of(nbformat.v4.new_markdown_cell(text)), "x")
    assert html.count("<math") == 2
    assert "$2 and $5" in html
    assert "<code>$x$</code>" in html
    assert "<mfrac>" in html
    assert "alumrof" not in html


def test_code_is_hidden_behind_a_picture_and_shown_above_a_number():
    v4 = nbformat.v4
    section = v4.new_markdown_cell("## S")
    picture = v4.new_output("display_data", {"image/png": "aGk=", "text/plain": "A line."})
    number = v4.new_output("stream", text="forty-two\n")
    html = slides.rendered(
        of(
            section,
            v4.new_code_cell("draw_it()", outputs=[picture]),
            v4.new_code_cell("count_it()", outputs=[number]),
            v4.new_code_cell("never_shown()"),
        ),
        "x",
    )
    assert "draw_it" not in html
    assert "never_shown" not in html
    assert "count_it" in html
    assert "forty-two" in html


def test_a_contact_sheet_has_every_figure_with_its_sentence(tmp_path, frugal):
    data = {"image/png": "QUJD\n", "text/plain": "A < B & C"}
    cells = [
        v4.new_code_cell("x", outputs=[v4.new_output("display_data", data=data)], id=f"c{i}")
        for i in range(2)
    ]
    cells.append(v4.new_code_cell("y", outputs=[v4.new_output("stream", text="no figure")]))
    file = tmp_path / "01_own.ipynb"
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# T"), *cells]), file)
    out = tmp_path / "made" / "contact.html"
    status, said, _ = frugal("notebooks", "contact", str(file), "--out", str(out), "--json")
    page = out.read_text(encoding="utf-8")
    assert (status, json.loads(said)["figures"]) == (0, 2)
    assert page.count('data:image/png;base64,QUJD"') == 2
    assert page.count("<figcaption>A &lt; B &amp; C</figcaption>") == 2
    assert "01_own.ipynb, c1" in page
    assert "http" not in page


def table(rows):
    html = pd.DataFrame({"x": range(rows)}).to_html()
    shown = nbformat.v4.new_output("execute_result", {"text/html": html, "text/plain": "x"})
    return nbformat.v4.new_code_cell("x", outputs=[shown], execution_count=1)


@pytest.mark.parametrize(("rows", "pages"), [(8, [8]), (9, [8, 1]), (16, [8, 8]), (30, [9])])
def test_a_table_has_at_most_eight_rows_on_a_page_and_says_what_is_left_out(rows, pages):
    book = of(nbformat.v4.new_markdown_cell("## Section\n\nShort."), table(4), table(rows))
    cells = slides.sheets(book).cells
    html = [c.outputs[0].data["text/html"] for c in cells if c.cell_type == "code"]
    bodies = [part.partition("<tbody>")[2].count("<tr") for part in html]
    assert bodies == [4, *pages]
    assert ("… and 22 rows more" in html[-1]) == (rows == 30)
    assert book.cells[3].outputs[0].data["text/html"].count("<tr") == rows + 1  # as it was


@pytest.mark.parametrize("file", sorted(FOLDER.glob("[0-9]*.ipynb")), ids=lambda f: f.stem)
def test_every_page_begins_with_a_heading(file):
    for cell in slides.sheets(nbformat.read(file, as_version=4)).cells:
        if cell.metadata.slideshow.slide_type in ("slide", "subslide"):
            assert cell.cell_type == "markdown"
            assert re.search(r"^#{1,4} \S", cell.source, re.MULTILINE), cell.source


def test_korean_slides_have_a_title_and_a_note_for_every_section():
    said = data.toml("slides.ko.toml")
    for file in sorted(FOLDER.glob("[0-9]*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        numbers = {
            number or "end"
            for cell in notebook.cells
            if cell.cell_type == "markdown"
            for number in slides.SECTION.findall(cell.source)
        }
        mine = said[file.stem[:2]]
        assert numbers == set(mine)
        laid = slides.sheets(notebook, mine).cells
        shown = "\n".join(c.source for c in laid if c.metadata.slideshow.slide_type != "notes")
        told = {c.source for c in laid if c.metadata.slideshow.slide_type == "notes"}
        assert all(f"*{section['title']}*" in shown for section in mine.values())
        assert {section["note"] for section in mine.values()} <= told
