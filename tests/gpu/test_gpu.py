"""`make gpu` without a GPU: every piece at tiny sizes, and a table that goes on where it was."""

import csv
import math

import pytest

import gpu
from frugal.costs import arch


def shape(name):
    """The same kind of model, as small as it can be."""
    own = arch.get(name)
    return own.replace(
        layers=1,
        decoder_layers=1 if own.decoder_layers else 0,
        d_model=32,
        heads=4,
        kv_heads=4,
        head_size=8,
        d_ff=64,
        vocabulary=300,
    )


pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning",  # peft's own
)
TINY = gpu.Work("cpu", shape=shape, places=40, steps=3, repeats=1, processes=0)
PIECES = {name: piece for name, piece in gpu.pieces().items() if not name.startswith("tests")}


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_measures_what_is_ok(name):
    rows = list(PIECES[name](TINY))
    assert rows
    assert all(row.ok for row in rows), rows
    if name in ("t0-3b", "preset colab"):
        scored, step = (row.cells() for row in rows)
        assert all(cells["ratio"] and cells["error"] for cells in (scored, step))  # HF peft's too


def test_the_folders_of_tests_are_pieces():
    assert {"tests", "tests/kernels", "tests/fewshot", "tests/peft"} <= set(gpu.pieces())


def test_what_cannot_be_imported_is_no_failure(tmp_path):
    bodies = {"a": "def test_a(): pass\ndef test_b(): assert False", "b": "import no_such_thing"}
    files = [tmp_path / f"test_{name}.py" for name in bodies]
    for file, body in zip(files, bodies.values(), strict=True):
        file.write_text(body)
    (row,) = gpu.suite(files, TINY)
    assert row.what == "1 passed, 1 failed, 0 skipped, 1 not run"
    assert not row.ok


def test_a_row_is_ok_within_its_bounds():
    assert gpu.Row("x").ok
    assert not gpu.Row("x", error=math.nan, bound=1.0).ok
    assert not gpu.Row("x", gib=3.0, expected_high_gib=2.0).ok
    assert not gpu.Row("x", holds=False).ok


def test_the_table_goes_on_where_it_was(tmp_path, capsys):
    out, done = tmp_path / "gpu.csv", []

    def piece(name, error):
        def measure(work):
            done.append(name)
            if error is None:
                raise RuntimeError("out of memory")
            yield gpu.Row(name, seconds=1.0, reference_s=2.0, error=error, bound=0.1)

        return measure

    todo = {"a": piece("a", 0.0), "b": piece("b", 0.0)}
    assert gpu.run(todo, TINY, out, seconds=-1) == 0
    assert (done, out.exists()) == ([], False)
    assert gpu.run({"a": todo["a"]}, TINY, out) == 0
    assert gpu.run(todo, TINY, out) == 0
    assert done == ["a", "b"]
    assert gpu.run({"c": piece("c", None), "d": piece("d", 0.0)}, TINY, out) == 1
    assert "out of memory" in capsys.readouterr().err
    assert gpu.run({"e": piece("e", 1.0)}, TINY, out) == 1
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["piece"], r["ratio"], r["ok"]) for r in rows] == [
        *((name, "2", "yes") for name in "abd"),
        ("e", "2", "no"),
    ]


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    assert gpu.missing() == []
    own = gpu.importlib.util.find_spec
    absent = {"torch", "pydantic"}
    monkeypatch.setattr(
        gpu.importlib.util, "find_spec", lambda name: None if name in absent else own(name)
    )
    assert gpu.missing() == ["pydantic", "torch"]
