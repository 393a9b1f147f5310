"""The notebook contract: parameters, outputs committed, and nothing of the machine in them."""

import copy
import re
from pathlib import Path

import nbformat
import pytest

from frugal.errors import FrugalError
from frugal_course.figures.closing import collect
from frugal_course.notebooks import parameters, prepare, reading

FOLDER = Path(__file__).parents[2] / "notebooks"
FILES = sorted(FOLDER.glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module", params=FILES, ids=lambda f: f.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_notebooks():
    assert FILES


def test_starts_with_what_it_is_for_and_a_korean_abstract(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "한국어 요약" in first.source
    for preset in ("smoke", "laptop", "colab", "server"):
        assert f"`{preset}`" in first.source


def test_is_prepared_for_colab_and_for_a_talk(notebook):
    """`make prepare` does it."""
    prepared = copy.deepcopy(notebook)
    prepare.bootstrap(prepared, prepare.publication())
    prepare.slides(prepared)
    assert prepared == notebook
    where = prepare.publication()
    tagged = [c.source for c in notebook.cells if "bootstrap" in c.metadata.get("tags", [])]
    assert tagged == ([prepare.installing(where)] if where else [])


def test_has_one_cell_of_typed_parameters(notebook):
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert re.fullmatch(r"\w+: (str|int|float|bool|list) = .+  # .+", line), line


def test_is_committed_executed_with_clean_outputs(notebook):
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert cell.execution_count
        assert len(cell.source.splitlines()) <= 20, cell.source
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")
            kinds = output.get("data", {})
            assert "image/svg+xml" not in kinds
            assert reading.VIEW not in kinds  # a still is shown where no kernel runs
            text = str(output.get("text", "")) + str(
                {k: v for k, v in kinds.items() if "png" not in k}
            )
            assert not re.search(r"/(home|root|tmp|Users)/\w", text), text


def test_ends_with_claims(notebook):
    assert collect(notebook)


def test_is_small(notebook):
    assert all(f.stat().st_size < 500_000 for f in FILES)


def test_unknown_or_ill_typed_parameters_are_refused():
    file = FOLDER / "03_tfew.ipynb"
    declared = parameters.declared(reading.read(file), file)
    assert declared.values({"labels": "8", "preset": "smoke"}) == {
        "labels": 8,
        "preset": "smoke",
    }
    with pytest.raises(FrugalError, match=r"unknown parameter of 03_tfew\.ipynb 'preste'; did you"):
        declared.values({"preste": "smoke"})
    with pytest.raises(FrugalError, match=r"labels is of type int; '8\.5' is not"):
        declared.values({"labels": "8.5"})
    with pytest.raises(FrugalError, match="unknown preset 'smok'; did you mean 'smoke'"):
        declared.values({"preset": "smok"})
