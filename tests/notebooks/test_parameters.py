"""An explorer in a notebook that papermill runs: its state comes in, its picture stays."""

import html

import nbformat

from frugal_course import explorers
from frugal_course.notebooks import execution

PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


def test_a_notebooks_parameters_are_an_explorers_state(tmp_path):
    cells = [
        (
            "right: float = 0.2  # of a token\na_tokens: int = 3  # of a wrong choice",
            ["parameters"],
        ),
        ("from frugal_course import explorers", []),
        ("explorers.loss(right=right, a_tokens=a_tokens)", []),
    ]
    source = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text, metadata={"tags": tags}) for text, tags in cells],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(source, tmp_path / "moved.ipynb")
    state = explorers.loss(right=0.4, a_tokens=5).parameters()
    given = {name: str(state[name]) for name in ("right", "a_tokens")}
    ran = execution.run(tmp_path / "moved.ipynb", tmp_path / "out", given)
    executed = nbformat.read(ran, as_version=4)
    assert "widgets" not in executed.metadata
    pictures, words = executed.cells[-1].outputs
    assert set(pictures.data) == {"image/png", "text/plain"}
    assert set(words.data) == {"text/html", "text/plain"}
    page = ran.with_suffix(".html").read_text(encoding="utf-8")
    assert pictures.data["image/png"].strip() in page
    assert explorers.loss(**state).view.sentence in html.unescape(page)
