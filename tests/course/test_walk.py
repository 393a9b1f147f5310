"""All notebooks in order: what is said first, and where an interrupted walk goes on."""

import nbformat
import pytest

from frugal.errors import FrugalError
from frugal_course.notebooks import execution
from frugal_course.notebooks.walk import total, walk

TITLE = "# {}\n\n| preset | time |\n|---|---|\n| `smoke` | seconds |\n| `laptop` (default) | {} |"


@pytest.fixture
def notebooks(tmp_path):
    v4, files = nbformat.v4, []
    for number, time in enumerate(["one minute", "two to three minutes", "five minutes"]):
        preset = v4.new_code_cell('preset: str = "laptop"', metadata={"tags": ["parameters"]})
        title = v4.new_markdown_cell(TITLE.format(number, time))
        files.append(tmp_path / f"0{number}.ipynb")
        nbformat.write(v4.new_notebook(cells=[title, preset]), files[-1])
    return files


@pytest.fixture
def ran(monkeypatch):
    """Names of the notebooks that were executed; the one in `ran.stop` is interrupted."""

    class Ran(list):
        stop = None

    found = Ran()

    def run(notebook, out, given):
        if notebook.name == found.stop:
            raise KeyboardInterrupt
        out.mkdir(exist_ok=True)
        (out / notebook.name).write_text("")
        found.append(notebook.name)

    monkeypatch.setattr(execution, "run", run)
    return found


def test_it_says_first_how_long_it_takes_and_last_where_to_look(notebooks, ran, tmp_path, capsys):
    walk(notebooks, tmp_path / "out", "laptop")
    said = capsys.readouterr().err.splitlines()
    assert "3 notebooks at the preset laptop" in said[0]
    assert "8 to 9 minutes" in said[0]
    assert said[3].endswith("[2/3] 01: two to three minutes …")
    assert said[-1].endswith("out/00.html to 02.html")
    assert ran == ["00.ipynb", "01.ipynb", "02.ipynb"]
    walk(notebooks, tmp_path / "out", "laptop")  # a walk that came to its end starts anew
    assert len(ran) == 6


def test_interrupted_it_goes_on_with_the_notebook_it_was_in(notebooks, ran, tmp_path, capsys):
    ran.stop = "01.ipynb"
    with pytest.raises(KeyboardInterrupt):
        walk(notebooks, tmp_path / "out", "laptop")
    assert "the same command goes on with 01.ipynb" in capsys.readouterr().err
    ran.stop = None
    walk(notebooks, tmp_path / "out", "laptop")
    assert ran == ["00.ipynb", "01.ipynb", "02.ipynb"]
    assert "[1/3] 00: done before" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["preset", "notebook", "output", "state"])
def test_what_changed_meanwhile_is_executed_again(notebooks, ran, tmp_path, change):
    out = tmp_path / "out"
    ran.stop = "01.ipynb"
    with pytest.raises(KeyboardInterrupt):
        walk(notebooks, out, "laptop")
    ran.stop = None
    if change == "notebook":
        notebooks[0].write_text(notebooks[0].read_text().replace("# 0", "# zero"))
    if change == "output":
        (out / "00.ipynb").unlink()
    if change == "state":
        (out / ".walk.json").write_text("{")
    walk(notebooks, out, "smoke" if change == "preset" else "laptop")
    assert ran == ["00.ipynb", "00.ipynb", "01.ipynb", "02.ipynb"]


def test_bad_input_is_refused_before_anything_is_executed(notebooks, ran, tmp_path):
    with pytest.raises(FrugalError, match="no such notebook"):
        walk([*notebooks, tmp_path / "x.ipynb"], tmp_path / "out", "laptop")
    with pytest.raises(FrugalError, match="labtop"):
        walk(notebooks, tmp_path / "out", "labtop")
    assert ran == []


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["one minute", "two to three minutes"], "3 to 4 minutes"),
        (["seven minutes"], "7 minutes"),
        (["seconds", "seconds"], "seconds"),
        (["one minute", ""], ""),
        (["an hour"], ""),
    ],
)
def test_times_add_up(times, expected):
    assert total(times) == expected
