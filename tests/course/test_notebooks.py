"""Notebooks as people have them: their parameters, their names, what is stripped or broken."""

import contextlib
import html
import json
import math
import re
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.engine import outputs
from frugal.errors import FrugalError
from frugal_course.notebooks import parameters, reading
from frugal_course.publish import pages

FOLDER = Path(__file__).parents[2] / "notebooks"


def book(*sources, tags=("parameters",), **metadata):
    cells = [nbformat.v4.new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
    cells[0].metadata["tags"] = list(tags)
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def declared(notebook, file=Path("n.ipynb")):
    return parameters.declared(notebook, file)


def values(file, given):
    return declared(reading.read(file), file).values(given)


def given_as(source, text, name="x"):
    return parameters.read_as("x", text, declared(book(source)).known[name])


@pytest.mark.parametrize(
    ("source", "text", "value"),
    [
        ("x: int = 3", "7", 7),
        ("x: int = 3  # how many", "-5", -5),
        ("x = 8", "16", 16),
        ("x = 8", "1_000", 1000),
        ("x = -8", "+3", 3),
        ("x = 0.1", ".5", 0.5),
        ("x: float = 0.1", "5.", 5.0),
        ("x: float = 0.1", "1e-3", 0.001),
        ("x: float = 1", "3", 3.0),
        ("x = 'a'", "7", "7"),
        ("x: str = ''", "None", "None"),
        ("x: str = ''", " two words ", " two words "),
        ("x = True", "false", False),
        ("x: bool = True", "False", False),
        ("x: int | None = None", "5", 5),
        ("x: int | None = 5", "None", None),
        ("x: 'int | None' = None", "null", None),
        ("x: int = None", "None", None),
        ("from typing import Optional\nx: Optional[int] = None", "5", 5),
        ("import typing as t\nx: t.Optional[float] = None", ".5", 0.5),
        ("x: Union[int, str] = 1", "a", "a"),
        ("x: int | str = 1", "2", 2),
        ("x: str | None = None", "a", "a"),
        ("x: Literal['a', 'b'] = 'a'", "b", "b"),
        ("x: list = []", "[1, 2]", [1, 2]),
        ("x = [1]", "['a']", ["a"]),
        ("x: list[int] = []", "[1]", [1]),
        ("x: List[float] = []", "[.5]", [0.5]),
        ("x: tuple[int, ...] = ()", "[1, 2]", (1, 2)),
        ("x: dict[str, int] = {}", '{"a": 1}', {"a": 1}),
        ("x = None", "3", 3),
        ("x = None", "a b", "a b"),
        ("x: int = 2**10", "5", 5),
        ("x = 1\nx = 'last'", "5", "5"),
        ("y = x = 3", "5", 5),
        ("%matplotlib inline\nx = 3", "5", 5),
        ("x: int", "5", 5),
    ],
)
def test_a_text_becomes_what_the_cell_declares(source, text, value):
    found = given_as(source, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("x: int = 3", "8.5", "x is of type int; '8.5' is not"),
        ("x = 3", "true", "x is of type int; 'true' is not"),
        ("x = 3", "9" * 30, "of type int"),
        ("x = 3", "9" * 5000, "of type int"),
        ("x = 3", "", "of type int"),
        ("x = 0.5", "fast", "of type float"),
        ("x = 0.5", "NaN", "of type float"),
        ("x = 0.5", "-Infinity", "of type float"),
        ("x = 0.5", "inf", "of type float"),
        ("x = 0.5", "1e999", "of type float"),
        ("x = 0.5", "1j", "of type float"),
        ("x: float | None = None", "nan", "of type float | None"),
        ("x: list = []", "[1, 1e999]", "of type list"),
        ("x: list = []", "[NaN]", "of type list"),
        ("x: list = []", "[" * 100_000, "of type list"),
        ("x: list[int] = []", "[1.5]", "of type list[int]"),
        ("x: dict = {}", '{"a": 1e999}', "of type dict"),
        ("x = True", "1", "of type bool"),
        ("x: Literal['a'] = 'a'", "b", "of type Literal['a']"),
        ("x: np.ndarray = None", "1", "cannot be told from the annotation np.ndarray"),
        ("x: set[int] = None", "1", "cannot be told from the annotation set[int]"),
        ("x: __import__('os').system('false') = 1", "1", "cannot be told from the annotation"),
        ("x = Path('a')", "1", "cannot be told from the default Path('a')"),
    ],
)
def test_what_is_of_another_type_or_not_finite_is_refused(source, text, message):
    with pytest.raises(FrugalError, match=re.escape(message)):
        given_as(source, text)


def test_a_parameters_cell_that_is_not_python_is_named():
    with pytest.raises(FrugalError, match=r"n\.ipynb: its parameters cell is not Python"):
        declared(book("x = = 3"))
    assert declared(book("x = 3", tags=())).known == {}


KINDS = ["int", "float", "bool", "str", "list", "dict", "list[float]", "int | None", "float | str"]
SCALARS = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_a_literal_is_read_back_as_itself(value):
    if not isinstance(value, str):
        assert given_as(f"x = {value!r}", repr(value)) == value
        assert given_as("x: Any = None", json.dumps(value)) == value
    assert given_as("x: str = ''", repr(value)) == repr(value)


@given(st.sampled_from(KINDS), st.text(max_size=12) | VALUES.map(repr) | st.floats().map(repr))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_value_that_json_can_hold_or_an_error(kind, text):
    with contextlib.suppress(FrugalError):
        json.dumps(given_as(f"x: {kind} = None", text), allow_nan=False)


def test_every_number_of_our_notebooks_is_a_count_that_is_not_negative():
    seen = 0
    for file in sorted(FOLDER.glob("[0-9]*.ipynb")):
        found = declared(reading.read(file), file)
        for name, of in found.known.items():
            for text in ("-3", "[-3]"):
                if of.kind in ("int", "float") if text == "-3" else of.kind == "list":
                    seen += 1
                    with pytest.raises(FrugalError, match=f"{name} must not be negative, as"):
                        found.values({name: text})
    assert seen > 20


def test_a_users_own_number_may_be_negative(tmp_path):
    nbformat.write(book("x: int = 3\nlimit = -1"), tmp_path / "own.ipynb")
    found = values(tmp_path / "own.ipynb", {"x": "-5", "limit": "-2"})
    assert found == {"x": -5, "limit": -2}


STRIPPED = {
    "cells": [
        {"cell_type": "code", "source": ["x = 3"], "metadata": {"tags": ["parameters"]}},
        {"cell_type": "markdown", "source": "# T"},
    ]
}
OLD = {
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {"name": ""},
    "worksheets": [
        {
            "cells": [
                {
                    "cell_type": "code",
                    "input": ["x = 3"],
                    "language": "python",
                    "metadata": {"tags": ["parameters"]},
                    "outputs": [],
                }
            ],
            "metadata": {},
        }
    ],
}


@pytest.mark.parametrize(
    "bare",
    [
        STRIPPED,
        {**STRIPPED, "nbformat": 4},
        {**STRIPPED, "nbformat": 4, "nbformat_minor": 2},
        {**STRIPPED, "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {}}},
        OLD,
    ],
    ids=["bare", "no-minor", "minor-2", "no-ids", "version-3"],
)
def test_what_was_stripped_away_is_put_back_the_same_each_time(tmp_path, bare):
    file = tmp_path / "n.ipynb"
    file.write_text("\ufeff" + json.dumps(bare), encoding="utf-8")
    assert values(file, {"x": "5"}) == {"x": 5}
    assert reading.read(file) == reading.read(file)
    assert reading.read(file).cells[0].source == "x = 3"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"cells": 3}',
        '{"cells": [3]}',
        '{"cells": [{}]}',
        '{"cells": [{"cell_type": "code"}]}',
        '{"cells": [{"cell_type": "code", "source": 3}]}',
        '{"cells": [{"cell_type": "code", "source": "", "metadata": 3}]}',
        '{"cells": [], "metadata": 3}',
        '{"cells": [], "metadata": {"kernelspec": 3}}',
        '{"cells": [], "nbformat": 9}',
        '{"cells": [], "nbformat": "x"}',
        '{"nbformat": 3}',
        "[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_notebook_is_named(frugal, tmp_path, text):
    file = tmp_path / "n.ipynb"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for argv in (["run", file], ["run", file, "--grid", "x=1"], ["claims", tmp_path]):
        status, out, err = frugal(*argv)
        assert (status, out, err.count("\n")) == (2, "", 1), argv
        assert f"{file}: not a readable notebook" in err


def test_other_things_that_do_not_run_are_refused(frugal, tmp_path):
    (tmp_path / "d.ipynb").mkdir()
    assert "d.ipynb: a folder, not a notebook" in frugal("run", tmp_path / "d.ipynb")[2]
    kernel = {"name": "ir", "display_name": "R", "language": "R"}
    nbformat.write(book("x <- 3", kernelspec=kernel), tmp_path / "r.ipynb")
    assert "r.ipynb: it is in R" in frugal("run", tmp_path / "r.ipynb")[2]
    tagged = book("x = 3")
    tagged.cells[0].metadata["tags"] = 7
    for odd in (book("x = 3", kernelspec=kernel | {"language": 3}), tagged):
        (tmp_path / "odd.ipynb").write_text(json.dumps(odd))
        status, _, err = frugal("run", tmp_path / "odd.ipynb")
        assert (status, err.count("\n")) == (2, 1)
        assert "odd.ipynb: " in err
    file = tmp_path / "n.ipynb"
    nbformat.write(book("x = 3"), file)
    before = file.read_bytes()
    status, _, err = frugal("run", file, "--out", tmp_path)
    assert status == 2
    assert "which would be overwritten" in err
    assert file.read_bytes() == before
    assert "is a file; a folder is needed" in frugal("run", file, "--out", file)[2]
    assert "too long" in frugal("run", file, "--out", tmp_path / ("o" * 300))[2]


def test_a_notebook_of_any_name_runs_and_its_disk_may_fill(frugal, tmp_path, monkeypatch):
    """Stripped, with braces and Hangul in its name; the last write fails."""
    file = tmp_path / "costs {2024} (1) [v2] 연구.ipynb"
    cells = [
        {"cell_type": "code", "source": "x = 3", "metadata": {"tags": ["parameters"]}},
        {"cell_type": "code", "source": "print('HAS', x)"},
    ]
    file.write_text(json.dumps({"cells": cells}))
    out = tmp_path / "out {x}"
    status, text, err = frugal("run", "-p", "x", "-7", file, "--out", out, "--json")
    assert status == 0, err
    assert json.loads(text)["output"] == str(out / file.name)
    assert "HAS -7" in (out / file.name).read_text()
    assert "HAS -7" in (out / f"{file.stem}.html").read_text()
    assert sorted(p.name for p in out.iterdir()) == [f"{file.stem}.html", file.name]

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "staged", full)
    status, text, err = frugal("run", file, "-p", "x", "8", "--out", out)
    assert (status, text) == (2, "")
    (kept,) = out.glob("frugal-kept-*/*.ipynb")
    assert kept.name == file.name
    assert str(kept) in err
    assert "HAS 8" in kept.read_text()


def test_a_failing_cell_keeps_what_ran(frugal, tmp_path):
    file = tmp_path / "fails.ipynb"
    nbformat.write(book("x = 3", "print('BEFORE'); 1 / (x - 9)", "print('NEVER')"), file)
    out = tmp_path / "out"
    status, text, err = frugal("run", file, "-p", "x", 9, "--out", out)
    assert (status, text) == (2, "")
    assert "fails.ipynb: cell 3 failed with ZeroDivisionError: division by zero" in err
    assert f"see {out / 'fails.ipynb'}" in err
    kept = (out / "fails.ipynb").read_text()
    assert "BEFORE" in kept
    executed = reading.read(out / "fails.ipynb")
    assert reading.unfinished(executed) == "stopped by ZeroDivisionError"
    status, _, err = frugal("claims", out)
    assert status == 0
    assert "stopped by ZeroDivisionError, so claims may be missing" in err


CLAIM = {"claim": "A", "paper": "1", "measured here": "2"}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([CLAIM], None),
        ([{"claim": "A"}], "its claims are damaged"),
        ([3], "its claims are damaged"),
        (3, "its claims are damaged"),
        ("text", "its claims are damaged"),
    ],
)
def test_claims_of_damaged_reports_are_refused(frugal, tmp_path, records, message):
    from frugal_course.figures.closing import MIME

    whole = book("x = 3")
    whole.cells[0].execution_count = 1
    whole.cells[0].outputs = [nbformat.v4.new_output("display_data", {MIME: [CLAIM]})]
    nbformat.write(whole, tmp_path / "a.ipynb")
    bare = json.loads((tmp_path / "a.ipynb").read_text())
    bare["cells"][0]["outputs"][0]["data"][MIME] = records
    (tmp_path / "b.ipynb").write_text(json.dumps(bare))
    (tmp_path / ".partial.ipynb").write_text("{")
    status, out, err = frugal("claims", tmp_path, "--json")
    if message is None:
        assert (status, err) == (0, "")
        assert json.loads(out)["claims"] == [{"notebook": n, **CLAIM} for n in "ab"]
    else:
        assert (status, out) == (2, "")
        assert f"{tmp_path / 'b.ipynb'}: {message}" in err


def test_a_report_not_executed_to_its_end_is_said_so():
    whole = book("x = 3", "y = 4", "")
    whole.cells[0].execution_count = 1
    assert reading.unfinished(whole) == "not executed to its end"
    whole.cells[1].execution_count = 2
    assert reading.unfinished(whole) == ""


# What makes a browser load something; links are followed by hand.
LOADING = re.compile(
    r"""<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*?"""
    r"""(?:src|href|data)\s*=\s*["']?(?!data:)([^"'\s>]+)|(?:url\(|@import)\s*["']?(?!data:|#)([^"')]+)""",
    re.IGNORECASE,
)


def loads(page):
    return [a or b for a, b in LOADING.findall(page)]


def test_the_guard_sees_what_a_page_loads():
    seen = (
        '<script src="https://cdn/x.js"></script><img src=//a/b.png><style>@import "c.css"</style>'
    )
    assert loads(seen) == ["https://cdn/x.js", "//a/b.png", "c.css"]
    assert not loads('<a href="https://x">x</a><img src="data:image/png;base64,aGk=">')


@pytest.mark.parametrize("file", sorted(FOLDER.glob("03*.ipynb")), ids=lambda f: f.stem)
def test_a_report_loads_nothing(file):
    found = reading.read(file)
    page = pages.page(found, file.stem)
    assert not loads(page)
    assert "default-src 'none'" in page
    for script in ("require.js", "require.min.js", "MathJax.Hub", "mermaid.esm", "unpkg"):
        assert script not in page
    assert "alumrof" not in page
    text = html.unescape(page)
    for cell in found.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                assert output.data["image/png"].strip() in text


def test_formulas_are_drawn_and_what_is_none_stays():
    cells = [
        nbformat.v4.new_markdown_cell(r"$\beta$ costs \$2, `$x$`, $\frac{a}{b$ formula7alumrof"),
        nbformat.v4.new_code_cell(
            "x", outputs=[nbformat.v4.new_output("display_data", {"text/markdown": "$y^2$"})]
        ),
    ]
    page = pages.page(nbformat.v4.new_notebook(cells=cells), "n")
    assert page.count("<math") >= 2
    assert "<msup>" in page
    assert "<code>$x$</code>" in page
    assert "formula7alumrof" in page
    assert math.isclose(page.count("formula"), 1)
