"""What notebooks say to a reader: short, in names, with answers, and one closing table.

Outputs are those that are committed; what is not mended yet is expected to fail, by chapter.
"""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from sentences import counted

from frugal import stats
from frugal.budgets import compare
from frugal.fewshot import table1_plan, table1_record
from frugal_course import names
from frugal_course.figures import closing

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
LONGEST = 240  # characters of a takeaway
SHARE = 0.05  # of a notebook's lines of code, that assemble sentences


@pytest.fixture(scope="module", params=FILES, ids=lambda file: file.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def outputs(notebook):
    """(cell, its output) of every cell."""
    return [(cell, output) for cell in notebook.cells for output in cell.get("outputs", [])]


def told(notebook):
    """(cell's id, takeaway): each paragraph that is shown as Markdown."""
    return [
        (cell.id, line)
        for cell, output in outputs(notebook)
        if "text/markdown" in output.get("data", {})
        for line in output.data["text/plain"].splitlines()
    ]


def seen(output):
    """All that an output shows as text."""
    data = output.get("data", {})
    html = re.sub(r"<style.*?</style>|<[^>]+>", " ", data.get("text/html", ""), flags=re.DOTALL)
    return "\n".join([output.get("text", ""), data.get("text/plain", ""), html])


def test_no_identifier_stands_where_a_name_should(notebook):
    found = {(c.id, m[0]) for c, o in outputs(notebook) for m in names.RAW.finditer(seen(o))}
    assert not found


def test_a_takeaway_is_short_and_not_printed(notebook):
    takeaways = told(notebook)
    assert takeaways
    assert not [(cell, line) for cell, line in takeaways if len(line) > LONGEST]
    printed = [
        (cell.id, line)
        for cell, output in outputs(notebook)
        for line in output.get("text", "").splitlines()
        if len(line.split()) > 9 and line.endswith(".") and output.get("name") == "stdout"
    ]
    assert not printed


def test_numbers_are_written_for_people(notebook):
    odd = re.compile(r"(?<![\w.])\d(?:\.\d+)?e[+]\d+|(?<![\w.,-])\d{7,}(?![\w.])")
    found = [(cell.id, m[0]) for cell, o in outputs(notebook) for m in odd.finditer(seen(o))]
    assert not found


def test_what_is_asked_is_answered_below_and_nothing_else(notebook):
    """Every question has its answer before the next one is asked."""
    said = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            said += ["?"] * cell.source.count("**Predict first**")
        said += [
            "!" for output in cell.get("outputs", [])
            if output.get("data", {}).get("text/plain", "").startswith("Answer: ")
            and "text/markdown" in output["data"]
        ]  # fmt: skip
    assert "".join(said) == "?!" * (len(said) // 2)
    assert len(said) >= 6


def test_code_assembles_no_sentences(notebook):
    lines, whole = counted(notebook)
    assert lines < SHARE * whole


def test_ends_with_one_table_of_claims(notebook):
    shown = [o for _, o in outputs(notebook) if closing.MIME in o.get("data", {})]
    assert len(shown) == 1
    rows = closing.records(notebook)
    assert len(rows) > 5
    for row in rows:
        assert set(row) == {
            "claim", "paper", "tested here", "measured here", "interval", "verdict",
        }  # fmt: skip
        assert row["verdict"] in closing.VERDICTS
        assert all(len(str(cell)) < closing.LONGEST for cell in row.values()), row
        if row["interval"] != "–":
            low, high = map(float, re.findall(r"[+-][\d.]+", row["interval"]))
            assert row["verdict"] != "confirmed" or low * high > 0


def test_every_figure_has_its_sentence_and_fits_a_page(notebook):
    """As wide as GitHub shows it, so that letters keep their size."""
    import base64
    import io

    from PIL import Image

    for cell, output in outputs(notebook):
        if png := output.get("data", {}).get("image/png"):
            assert output.data["text/plain"].strip(), cell.id
            assert Image.open(io.BytesIO(base64.b64decode(png))).width <= 830, cell.id


def test_the_title_names_the_slides_that_are_covered(notebook):
    deck = (ROOT / "notebooks" / "DECK.md").read_text(encoding="utf-8")
    line = re.search(r"^\*\*Slides\*\* .*$", notebook.cells[0].source, re.MULTILINE)
    number = notebook.cells[0].source[2]
    covered = re.findall(r"(?<= \*)[^*]+(?=\*)", line[0].partition("): ")[2].join((" ", "")))
    assert covered
    rows = [r for r in deck.splitlines() if r.startswith("|")]
    for slide in covered:
        places = [r.split("|")[3] for r in rows if slide in r.split("|")[1]]
        assert any(f"0{number}" in place for place in places), slide


def row(number, start):
    """The row of chapter `number`'s closing table that was tested on a record."""
    file = next(f for f in FILES if f.name.startswith(number))
    rows = closing.records(nbformat.read(file, as_version=4))
    return next(r for r in rows if r["tested here"].startswith("recorded") and r["claim"] == start)


def same(found, printed):
    size, _, interval = str(found).partition(" [")
    assert printed["measured here"] == size
    assert printed["interval"] == (f"[{interval}" if interval else "–")
    assert printed["verdict"] == closing.verdict(found)


def test_chapter_1_says_what_is_recorded():
    mine = compare.recorded().query("model == '2 layers' and labels == 300")
    sides = [mine[mine["strategy"] == way] for way in ("distill", "annotate")]
    same(
        stats.compare(*compare.paired(*sides)),
        row("01", "A teacher is better than labels alone (chapter 5)"),
    )


def test_chapter_2_says_what_is_recorded():
    runs = pd.read_csv(ROOT / "data" / "results" / "figure2.csv").sort_values("seed")
    ours, full = (runs.loc[runs["name"] == name, "accuracy"] for name in ("ia3", "full"))
    found = stats.compare(ours.to_numpy()[:, None], full.to_numpy()[:, None])
    same(found, row("02", "(IA)³ beats full fine-tuning (Figure 2)"))


def test_chapter_3_says_what_is_recorded():
    found = table1_record.differences(table1_record.recorded(), "ia3", "icl-16")
    printed = row("03", "Few-shot tuning is more accurate than ICL (Table 1)")
    assert f"{len(found)} of {len(table1_plan.frozen().tasks)} tasks" in printed["tested here"] or (
        len(found) == len(table1_plan.frozen().tasks)
    )
    same(stats.average(list(found.values())), printed)
