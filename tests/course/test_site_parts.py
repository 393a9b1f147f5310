"""The site's parts: calculators in plain Python, pages, links; the whole of it is in browser/."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from frugal.errors import FrugalError
from frugal_course.calculators import CALCULATORS, page, svg
from frugal_course.calculators.picture import Axis, Bar, Line, Mark, Panel, Picture, Rule
from frugal_course.explorers import picture as drawing
from frugal_course.names import said
from frugal_course.publish import pages, site, site_explorers, site_pages

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_a_page_runs_needs_nothing_but_itself_and_answers_the_same(tmp_path):
    names = site_explorers.modules(tmp_path)
    assert all((tmp_path / name).is_file() for name in names)
    code = (
        f"import sys, json; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from frugal_course.calculators import CALCULATORS, page\n"
        "print(json.dumps({name: page.answered(name, {}) for name in CALCULATORS}))\n"
    )
    bare = [sys.executable, "-I", "-S", "-W", "error", "-c", code]
    done = subprocess.run(bare, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path)
    assert not done.stderr
    assert json.loads(done.stdout) == {name: page.answered(name, {}) for name in CALCULATORS}


@pytest.mark.parametrize("name", CALCULATORS)
def test_texts_of_an_address_are_the_librarys_values(name):
    calculator = CALCULATORS[name]
    start = calculator.start({})
    texts = {c.name: str(c.value).lower() if c.kind == "tick" else str(c.value) for c in start}
    found = json.loads(page.answered(name, texts))
    answer = calculator.look(**{c.name: c.value for c in start})
    assert found["sentence"] == said(answer.sentence)
    assert found["title"] == answer.picture.title
    assert found["table"].count("<tr>") == len(answer.rows) + 1
    assert [c["value"] for c in found["controls"]] == [c.value for c in start]
    for kind in ("wide", "narrow"):
        drawn = ElementTree.fromstring(found[kind])
        assert drawn.attrib["aria-label"] == answer.picture.title


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        ("icl-cost", {"shotz": "3"}, "unknown control 'shotz'; did you mean 'shots'?"),
        ("icl-cost", {"shots": "3.5"}, "shots must be a whole number, not '3.5'"),
        ("icl-cost", {"shots": ""}, "shots must be a whole number, not ''"),
        ("icl-cost", {"cached": "yes"}, "cached must be true or false, not 'yes'"),
        ("icl-cost", {"arch": "t0"}, "unknown architecture 't0'"),
        ("icl-cost", {"arch": "<b>"}, "unknown architecture '<b>'"),
        ("budget", {"usd_per_label": "much"}, "usd_per_label must be a number, not 'much'"),
        ("budget", {"hours": "nan"}, "hours must be a number, not 'nan'"),
        ("budget", {"budget": "inf"}, "budget must be a number, not 'inf'"),
        ("budget", {"hours": "-1"}, "hours must not be negative, but is -1.0"),
        ("icl-cost", {"queries": "1" + "0" * 300}, "a number is too large"),
        ("budget", {"labels": "999999"}, "labels"),
        ("loss", {"right": "1"}, "probability must be below 1"),
        ("design-space", {"g1": "-", "g2": "-", "g3": "-", "g4": "-"}, "nothing is tuned"),
    ],
)
def test_an_address_that_makes_no_sense_is_one_clear_line(name, texts, message):
    found = json.loads(page.answered(name, texts))
    assert message in found["error"]
    assert "sentence" not in found


def test_what_follows_a_control_follows_it_in_a_page_too():
    found = json.loads(page.answered("budget", {"task": "FEVER", "usd_per_label": "5"}, "task"))
    assert {c["name"]: c["value"] for c in found["controls"]}["usd_per_label"] == 0.129
    kept = json.loads(page.answered("budget", {"task": "FEVER", "usd_per_label": "5"}))
    assert {c["name"]: c["value"] for c in kept["controls"]}["usd_per_label"] == 5
    found = json.loads(page.answered("design-space", {"arch": "minilm-l6"}, "arch"))
    controls = {c["name"]: c for c in found["controls"]}
    assert controls["sizes"]["value"] == "1, 2, 2, 1"
    assert "MiniLM-L6" in found["sentence"]


PICTURE = Picture(
    "a < b & c",
    [
        Panel(
            "<heading>",
            Axis("x", 0, 10),
            Axis("y", 1, 1e4, log=True),
            [
                Line([(0, 1), (5, None), (6, 10), (10, 100)], "blue", "name <1>"),
                Mark(5, 50, "orange", "diamond", False, "<mark>", "above"),
                Rule("x", 4, "here"),
                Rule("y", 20, "there"),
            ],
        ),
        Panel(
            "bars",
            Axis("n", 0, 4, ticks=[(1, "one")]),
            Axis("", 0, 3),
            [
                Bar(0, 0, 1, 2, "grey", "dots", "A"),
                Bar(0, 2, 3, 3, "green", text="1.5", place="right"),
            ],
        ),
    ],
)  # fmt: skip


def test_a_picture_is_the_same_as_svg_and_as_a_figure():
    words = {"name <1>", "<mark>", "here", "there", "bars", "A", "1.5", "one"}
    for wide in (True, False):
        drawn = ElementTree.fromstring(svg.drawn(PICTURE, wide=wide))
        assert drawn.attrib["aria-label"] == "a < b & c"
        assert words <= {text.text for text in drawn.iter("text")}
        broken = [p for p in drawn.iter("path") if p.get("class") == "line blue"]
        assert broken[0].attrib["d"].count("M") == 2
        wanted = {f"{'wide' if wide else 'narrow'}-dots"}
        used = {r.get("fill")[5:-1] for r in drawn.iter("rect") if r.get("fill")}
        assert used == wanted <= {p.attrib["id"] for p in drawn.iter("pattern")}
    figure = drawing.figure(PICTURE)
    left, right = figure.axes
    assert words - {"bars", "one"} <= {t.get_text() for at in (left, right) for t in at.texts}
    assert left.get_yscale() == "log"
    assert left.get_xlim() == (0, 10)
    assert [t.get_text() for t in right.get_xticklabels()] == ["one"]


@pytest.mark.parametrize(
    ("axis", "texts"),
    [
        (Axis("", 0, 500), ["0", "100", "200", "300", "400", "500"]),
        (Axis("", -3.9, 0), ["-3", "-2", "-1", "0"]),
        (Axis("", 0, 0.31), ["0", "0.1", "0.2", "0.3"]),
        (Axis("", 1, 1e4, log=True), ["10⁰", "10¹", "10²", "10³", "10⁴"]),
        (Axis("", 0.5, 2e12, log=True), ["10⁰", "10³", "10⁶", "10⁹", "10¹²"]),
    ],
)
def test_ticks_are_round_numbers(axis, texts):
    marked = axis.marked()
    assert [text for _, text in marked] == texts
    assert all(0 <= axis.share(value) <= 1 for value, _ in marked)


def test_links_lead_to_pages_to_files_that_go_along_or_nowhere(tmp_path):
    root, source = tmp_path / "root", tmp_path / "source"
    (root / "notebooks" / "empty").mkdir(parents=True)
    (root / "data.csv").write_text("a,b\n")
    links = site.Links(root, source, ["notebooks/01.ipynb", "manual.md"])
    folder = Path("notebooks")
    given = {
        "[one](01.ipynb)": "[one](/notebooks/01.ipynb)",
        "[m](../README.md#live)": "[m](/manual.md#live)",
        "![a [b] c](../data.csv)": "![a [b] c](/data.csv)",
        "[f](empty) and [g](gone.md)": "f and g",
        "[h](#here) [i](https://a.b/c)": "[h](#here) [i](https://a.b/c)",
    }
    for text, expected in given.items():
        assert links.kept(text, folder) == expected
    assert (source / "data.csv").read_text() == "a,b\n"
    with pytest.raises(FrugalError, match="leads out of the project"):
        links.kept("[x](../../elsewhere)", folder)


def test_the_front_page_needs_what_the_readme_has():
    front = site_pages.front(README, ["notebooks/01_icl_cost_arithmetic.ipynb"])
    for name in CALCULATORS:
        assert f"explorers/{name}.md" in front
    for part in ("What is the cheapest way", "arxiv.org", "notebooks/DECK.md", "figure3.png"):
        assert part in front
    with pytest.raises(FrugalError, match="the site needs its part from '## The notebooks'"):
        site_pages.front(README.replace("## The notebooks", "## Chapters"), [])


class Cells(HTMLParser):
    """The texts of a table's cells."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag in ("td", "th"):
            self.found.append("")

    def handle_data(self, data):
        if self.found:
            self.found[-1] += data


def test_tables_hold_text_and_never_markup():
    parser = Cells()
    parser.feed(site_pages.table(["a<b"], [["<script>"], ["1 & 2"]], "<c>"))
    assert [cell.strip() for cell in parser.found] == ["a<b", "<script>", "1 & 2"]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(FrugalError, match=r"pyodide is missing; `npm ci`"):
        site_explorers.ship(tmp_path, tmp_path / "static")
    monkeypatch.setitem(sys.modules, "sphinx.application", None)
    with pytest.raises(FrugalError, match="the site needs the extra docs"):
        site.build(ROOT, tmp_path / "site")
    assert not (tmp_path / "site").exists()
    assert pages.mathml(r"\frac{", "inline") is None
