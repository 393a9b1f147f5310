"""The first cell, badges and slide tags: put in by rule, again and again, outputs untouched."""

import copy
import importlib.util
import io
import subprocess
import sys
import urllib.request
from importlib import metadata
from pathlib import Path

import nbformat
import pytest

from frugal.errors import FrugalError
from frugal_course.notebooks import prepare
from frugal_course.notebooks.prepare import Publication

HERE = Publication("owner/name", "v1.0")
NOWHERE = Publication("", "")


@pytest.fixture
def notebook():
    v4 = nbformat.v4
    shown = v4.new_output("execute_result", {"text/plain": "2"}, execution_count=2)
    cells = [
        v4.new_markdown_cell("# Title\n\nWhat it is."),
        v4.new_code_cell("x: int = 1  # a number", metadata={"tags": ["parameters"]}),
        v4.new_code_cell("print(x)", outputs=[v4.new_output("stream", text="1\n")]),
        v4.new_markdown_cell("## Section"),
        v4.new_code_cell("y = 2"),
        v4.new_code_cell("y", outputs=[shown]),
        v4.new_markdown_cell("A short word."),
        v4.new_code_cell("y", outputs=[copy.deepcopy(shown)]),
        v4.new_markdown_cell("Long prose. " * 50),
        v4.new_markdown_cell("Prose behind which\n\n## a section starts"),
        v4.new_markdown_cell("### Part"),
    ]
    code = [cell for cell in cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
    return v4.new_notebook(cells=cells)


def test_prepared_again_it_stays_the_same(notebook, tmp_path):
    file = tmp_path / "notebooks" / "01_x.ipynb"
    file.parent.mkdir()
    nbformat.write(notebook, file)
    prepare.prepare([file], HERE)
    once = file.read_bytes()
    prepare.prepare([file], HERE)
    assert file.read_bytes() == once
    found = nbformat.read(file, as_version=4)
    assert "blob/v1.0/notebooks/01_x.ipynb)" in found.cells[0].source
    prepare.prepare([file], NOWHERE)
    assert nbformat.read(file, as_version=4).cells[0].source == notebook.cells[0].source


def test_bootstrap_comes_second_and_counts_stay_those_of_one_run(notebook):
    outputs = [cell.get("outputs") for cell in copy.deepcopy(notebook).cells]
    for _ in range(2):
        prepare.bootstrap(notebook, HERE)
    assert notebook.cells[1].id == "bootstrap"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.get("execution_count", cell.execution_count) == cell.execution_count
    del notebook.cells[1]
    texts = [[o.get("text") or o.get("data") for o in found or ()] for found in outputs]
    assert [
        [o.get("text") or o.get("data") for o in cell.get("outputs") or ()]
        for cell in notebook.cells
    ] == texts
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
    prepare.bootstrap(notebook, HERE)  # never executed: nothing is pretended
    assert not any(cell.get("execution_count") for cell in notebook.cells)


def test_a_notebook_without_a_title_is_refused(notebook):
    del notebook.cells[0]
    with pytest.raises(FrugalError, match="starts with a title"):
        prepare.bootstrap(notebook, HERE)


def source(where):
    return prepare.installing(where)


def test_where_frugal_is_the_cell_does_nothing(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    exec(source(HERE), {})


def test_where_nothing_is_published_there_is_no_cell(notebook):
    prepare.bootstrap(notebook, HERE)
    prepare.bootstrap(notebook, NOWHERE)
    assert not any("bootstrap" in cell.metadata.get("tags", []) for cell in notebook.cells)


@pytest.mark.parametrize("conflict", [False, True])
def test_elsewhere_it_installs_the_tag_beside_what_runs(monkeypatch, tmp_path, conflict):
    """The tested pins for all else; where they cannot be had, what runs stays all the same."""
    calls, asked = [], []

    def run(command):
        calls.append((command, Path(command[command.index("-c") + 1]).read_text().split("\n")))
        return subprocess.CompletedProcess(command, int(conflict and len(calls) == 1))

    def tested(address):
        asked.append(address)
        return io.BytesIO(b"# tested\ntorch==0.1\npeft==0.21.2\nipykernel==99\nabsent==1\n")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(urllib.request, "urlopen", tested)
    exec(source(HERE), {})
    assert asked == ["https://raw.githubusercontent.com/owner/name/v1.0/constraints.txt"]
    assert len(calls) == 1 + conflict
    command, pins = calls[0]
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert not {"-U", "--upgrade", "--force-reinstall", "--pre"} & set(command)
    address = "https://github.com/owner/name/archive/refs/tags/v1.0.zip"
    assert command[-1] == f"frugal-companion @ {address}"
    running = [f"{n}=={metadata.version(n)}" for n in ("torch", "numpy", "pandas", "ipykernel")]
    assert {"peft==0.21.2", "absent==1", *running} <= set(pins)
    assert not {"torch==0.1", "ipykernel==99"} & set(pins)
    assert set(running) <= set(calls[-1][1])
    assert ("peft==0.21.2" in calls[-1][1]) is not conflict


def test_slides_follow_the_structure(notebook):
    prepare.bootstrap(notebook, HERE)
    prepare.slides(notebook)
    assert [cell.metadata.slideshow.slide_type for cell in notebook.cells] == [
        "slide",  # title
        "skip",  # bootstrap
        "skip",  # parameters
        "skip",  # set-up, though it prints
        "slide",  # section
        "skip",  # shows nothing
        "subslide",
        "subslide",  # a short word …
        "-",  # … introduces what follows
        "notes",
        "slide",  # a heading anywhere starts a section
        "subslide",
    ]


def test_badges_and_publication(frugal, notebook, tmp_path, monkeypatch):
    from frugal import data

    monkeypatch.setattr(data, "ROOT", tmp_path)
    (tmp_path / "publication.toml").write_text('# where\nrepo = ""\ntag = ""\n')
    readme, file = tmp_path / "README.md", tmp_path / "notebooks" / "01_x.ipynb"
    file.parent.mkdir()
    nbformat.write(notebook, file)
    readme.write_text("# Name\n<!-- badges -->\n<!-- /badges -->\nText.\n")
    citation = tmp_path / "CITATION.cff"
    citation.write_text("title: x\nlicense: Apache-2.0\nabstract: y\n")
    more = ("--readme", readme, "--citation", citation)
    for tag in ("v1", "v2"):
        status, _, err = frugal("notebooks", "badges", "owner/name", tag, file, *more)
        assert status == 0, err
        assert prepare.publication() == ("owner/name", tag)
        assert f"github/owner/name/blob/{tag}/notebooks/01_x.ipynb" in readme.read_text()
        assert readme.read_text().count("colab-badge") == 1
        assert f"tags/{tag}.zip" in nbformat.read(file, as_version=4).cells[1].source
    status, _, err = frugal("notebooks", "badges", "owner", "v1", file, *more)
    assert "'owner' is not owner/name" in err
    assert citation.read_text().count("repository-code: https://github.com/owner/name\n") == 1
    assert "url: https://owner.github.io/name/\n" in citation.read_text()
    before = {place: place.read_bytes() for place in (file, citation)}
    readme.write_text("no marks")
    status, _, err = frugal("notebooks", "badges", "owner/name", "v9", file, *more)
    assert (status, "needs the lines" in err) == (2, True)
    monkeypatch.setattr(data, "INSTALLED", True)
    status, _, err = frugal("notebooks", "badges", "owner/name", "v9", file, *more)
    assert (status, "in a checkout" in err) == (2, True)
    assert all(place.read_bytes() == was for place, was in before.items())
    assert prepare.publication() == ("owner/name", "v2")
    assert "no such notebook" in frugal("notebooks", "prepare", tmp_path / "x.ipynb")[2]


def test_the_front_pages_second_figure_is_the_notebooks_own_once_it_is_recorded():
    root = Path(__file__).parents[2]
    place = (root / "README.md").read_text().partition("<!-- taught -->\n")[2]
    if not (root / "data" / "results" / "taught.png").exists():
        assert place.startswith("<!-- /taught -->")
        return
    notebook = nbformat.read(root / "notebooks" / "05_distill_or_annotate.ipynb", as_version=4)
    picture, sentence = prepare.front(notebook, "A hundred labels")
    assert (root / "data" / "results" / "taught.png").read_bytes() == picture
    assert f"*{' '.join(sentence.split())}*" in place


def test_front_page_shows_the_notebooks_own_figure(frugal, tmp_path):
    """`make figures` makes it so."""
    root = Path(__file__).parents[2]
    notebook, words = root / "notebooks" / "03_tfew.ipynb", "Accuracy against cost"
    picture, sentence = prepare.front(nbformat.read(notebook, as_version=4), words)
    assert (root / "data" / "results" / "figure3.png").read_bytes() == picture
    assert f"*{' '.join(sentence.split())}*" in (root / "README.md").read_text()
    readme = tmp_path / "README.md"
    readme.write_text("<!-- figure -->\n<!-- /figure -->\n")
    out = tmp_path / "figure.png"
    status, _, err = frugal("notebooks", "front", notebook, words, out, "--readme", readme)
    assert status == 0, err
    assert out.read_bytes() == picture
    assert f"![{words}]({out})" in readme.read_text()
    readme.write_text("<!-- taught -->\n<!-- /taught -->\n")
    frugal("notebooks", "front", notebook, words, out, "--readme", readme, "--mark", "taught")
    assert f"![{words}]({out})" in readme.read_text()
    assert (
        "no picture under a heading with 'Figure 9'"
        in frugal("notebooks", "front", notebook, "Figure 9", out, "--readme", readme)[2]
    )
