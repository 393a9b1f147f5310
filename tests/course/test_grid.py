"""Grids of a tiny notebook: refused before anything starts, resumed, collected into one table."""

import json

import nbformat
import pandas as pd
import pytest

from frugal.engine import runs
from frugal_course.figures.closing import MIME
from frugal_course.notebooks import grid

PARAMETERS = """\
preset: str = "smoke"  # a preset
shots: int = 4  # examples
rate: float = 0.5  # a number
"""
BODY = f"""\
from pathlib import Path
from IPython.display import display
with open("journal", "a") as file:
    file.write(f"{{shots}} ")
assert shots < 100, "too many"
claim = {{"claim": "Double", "paper": "–", "measured here": str(2 * shots + rate)}}
display({{"{MIME}": [claim], "text/plain": "Double"}}, raw=True)
"""


@pytest.fixture
def notebook(tmp_path):
    return write(tmp_path / "tiny.ipynb")


def write(file, body=BODY):
    cell = nbformat.v4.new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]})
    cells = [cell, nbformat.v4.new_code_cell(body, id="body")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), file)
    return file


def computed(notebook):
    return (notebook.parent / "journal").read_text().split()


def test_grid_is_run_once_resumed_and_collected(frugal, notebook, tmp_path):
    arguments = ["run", notebook, "-p", "rate", "0.25", "--out", tmp_path / "out", "--json"]
    status, out, err = frugal(*arguments, "--grid", "shots=1,2")
    assert status == 0, err
    found = json.loads(out)
    assert found.keys() >= {"output", "seconds", "parameters"}
    assert (found["runs"], found["grid"]) == (2, {"shots": ["1", "2"]})
    table = pd.read_csv(found["output"])
    assert table["shots"].tolist() == [1, 2]
    assert table["rate"].tolist() == [0.25, 0.25]
    assert table["Double"].tolist() == [2.25, 4.25]
    for name, shots in zip(found["notebooks"], (1, 2), strict=True):
        assert f"shots={shots}" in name
        executed = nbformat.read(name, as_version=4)
        assert f"shots = {shots}" in executed.cells[1].source
        assert executed.cells[-1].outputs
    wider = json.loads(frugal(*arguments, "--grid", "shots=1,2,3")[1])
    assert computed(notebook) == ["1", "2", "3"]  # nothing twice
    assert pd.read_csv(wider["output"])["Double"].tolist() == [2.25, 4.25, 6.25]


def test_outputs_do_not_make_a_new_run_and_an_edited_notebook_does(notebook, tmp_path):
    def ids():
        return [spec.id for spec in grid.grid(notebook, {}, {"shots": ["1", "2"]}).specs]

    first = ids()
    found = nbformat.read(notebook, as_version=4)
    found.cells[1].execution_count = 7
    found.cells[1].outputs = [nbformat.v4.new_output("stream", text="seen")]
    nbformat.write(found, notebook)
    assert ids() == first
    write(notebook, BODY + "\nprint('more')")
    assert not set(ids()) & set(first)


def test_combinations_are_all_there_and_typed(notebook):
    found = grid.grid(notebook, {"preset": "colab"}, {"shots": ["1", "2"], "rate": ["1", "2.5"]})
    assert [(p["shots"], p["rate"]) for p in found.points] == [(1, 1), (1, 2.5), (2, 1), (2, 2.5)]
    assert {spec.num_gpus for spec in found.specs} == {1}
    assert {spec.num_gpus for spec in grid.grid(notebook, {}, {"shots": ["1"]}).specs} == {0}


def test_a_failing_notebook_stops_no_other(frugal, notebook, tmp_path):
    status, _, err = frugal("run", notebook, "--grid", "shots=100,5", "--out", tmp_path / "out")
    assert status == 2
    assert "1 of 2 runs failed" in err
    assert "AssertionError: too many" in err
    folder = tmp_path / "out" / "tiny-grid"
    assert pd.read_csv(folder / "table.csv")["shots"].tolist() == [5]
    store = runs.Store(folder)
    (failed,) = (spec.id for spec in store.specs() if not store.done(spec.id))
    assert "too many" in (store.path(failed) / "log.txt").read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--grid", "shot=1,2"], "unknown parameter of tiny.ipynb 'shot'; did you mean 'shots'"),
        (["--grid", "shots=1,two"], "shots is of type int; 'two' is not"),
        (["--grid", "preset=smoke,labtop"], "unknown preset 'labtop'; did you mean 'laptop'"),
        (["--grid", "shots=1,"], "a value is empty"),
        (["--grid", "shots"], "a grid is set by NAME=V1,V2"),
        (["--grid", "shots=1", "--grid", "shots=2"], "shots is set twice"),
        (["-p", "shots", "1", "--grid", "shots=2"], "shots: it is set to '1' and in the grid"),
        (["-p", "shots", "1", "-p", "shots", "2"], "shots is set twice"),
        (["--preset", "smoke", "-p", "preset", "laptop"], "preset is set twice"),
        (["-p", "rate", "fast"], "rate is of type float; 'fast' is not"),
        (["-p", "rate"], "-p rate --out: parameters are set by -p NAME VALUE"),
        (["--grid", "rate=NaN"], "rate is of type float; 'NaN' is not"),
        (["--grid", "rate=1,1.0"], "--grid rate=1,1.0: 1.0 is there twice"),
        (
            [
                "--grid",
                "shots=" + ",".join(map(str, range(101))),
                "rate=" + ",".join(map(str, range(100))),
            ],
            "10,100 combinations",
        ),
        (["--grid", "="], "a grid is set by NAME=V1,V2"),
        (["shots=-1"], "shots must not be negative"),
        (["--ray"], "--ray sends the runs of a --grid to Ray"),
    ],
)
def test_nonsense_is_refused_before_anything_starts(frugal, notebook, argv, message, tmp_path):
    status, out, err = frugal("run", notebook, *argv, "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()
    assert not (notebook.parent / "journal").exists()


def test_several_values_may_follow_one_grid(frugal, notebook, monkeypatch):
    seen = []
    monkeypatch.setattr(grid, "run", lambda cells, *_, **__: seen.append(cells.points) or 1 / 0)
    status, _, err = frugal("run", notebook, "--grid", "shots=1,2", "rate=1,2,3")
    assert len(seen[0]) == 6
    assert status == 1
    assert "ZeroDivisionError" in err


def test_files_that_are_no_notebooks_are_named(frugal, tmp_path):
    (tmp_path / "no.ipynb").write_text("{")
    assert "not a readable notebook" in frugal("run", tmp_path / "no.ipynb")[2]
    empty = tmp_path / "empty.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), empty)
    assert "it has no parameters" in frugal("run", empty, "-p", "shots", "1")[2]


@pytest.mark.cluster
def test_grid_on_ray(frugal, notebook, tmp_path):
    status, out, err = frugal(
        "run", notebook, "--grid", "shots=1,2", "--ray", "--out", tmp_path / "out", "--json"
    )
    assert status == 0, err
    assert pd.read_csv(json.loads(out)["output"])["Double"].tolist() == [2.5, 4.5]
