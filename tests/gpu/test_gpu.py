"""`make gpu` without a GPU: every piece at tiny sizes, and a table that goes on where it was."""

import csv
import math
import subprocess
import sys

import pytest
import torch
from torch.nn.attention import flex_attention

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
PIECES = {
    name: piece for name, piece in gpu.pieces().items() if not name.startswith(("tests", "trees"))
}


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where it would compile
def test_long_rows_go_without_a_mask(monkeypatch):
    """Computed pair by pair, since a processor has no kernel for it."""
    (name,) = [name for name in gpu.pieces() if name.startswith("trees")]
    rows = list(gpu.pieces()[name](TINY))
    assert [row.holds for row in rows] == [False, False]
    assert "does not serve here" in rows[0].what
    monkeypatch.setattr(gpu.probe, "_FLEX", ("cpu",))
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex_attention, "_warn_once", lambda *_, **__: None)
    with torch.compiler.set_stance("force_eager"):
        rows = list(gpu.pieces()[name](TINY))
    assert [row.precision for row in rows] == ["float32", "bfloat16"]
    assert all(row.ok and row.seconds for row in rows), rows


def test_a_training_that_cannot_be_repeated_says_why(monkeypatch):
    def refuse(on):
        if on:
            raise RuntimeError("some_cuda does not have a deterministic implementation\nmore")

    monkeypatch.setattr(torch, "use_deterministic_algorithms", refuse)
    rows = list(gpu.training("t5-small", TINY))
    assert [row.ok for row in rows] == [True, False] * 3
    assert rows[1].what.endswith("t5-small: some_cuda does not have a deterministic implementation")


def test_a_training_is_killed_and_goes_on_in_one_order_of_sums(monkeypatch):
    real, seen = gpu._trained, []

    def trained(*arguments, **more):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return real(*arguments, **more)

    monkeypatch.setattr(gpu, "_trained", trained)
    assert all(row.ok for row in gpu.training("t5-small", TINY))
    assert seen == [False, True, True, True] * 3  # timed as it is, then whole, killed, resumed
    assert not torch.are_deterministic_algorithms_enabled()


# As on a machine that has torch and transformers, and what they bring.
BARE = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
for name in sys.argv[3:]:
    sys.modules[name] = None
import pathlib
import gpu
sizes = dict(layers=1, d_model=32, heads=4, kv_heads=4, head_size=8, d_ff=64, vocabulary=300)
def shape(name):
    own = gpu.arch.get(name)
    return own.replace(**sizes, decoder_layers=1 if own.decoder_layers else 0)
work = gpu.Work("cpu", shape=shape, places=40, steps=3, repeats=1, processes=0)
todo = {n: p for n, p in gpu.pieces().items() if not n.startswith(("tests/", "trees"))}
todo["tests/kernels"] = gpu.pieces()["tests/kernels"]
sys.exit(gpu.run(todo, work, pathlib.Path(sys.argv[2])))
"""
ABSENT = ["pydantic", "datasets", "platformdirs", "tenacity", "unearth", "pandas", "hypothesis"]
ABSENT += ["pytest", "peft", "accelerate", "gguf", "httpx", "typer"]


@pytest.mark.slow
def test_nothing_is_needed_that_torch_and_transformers_do_not_bring(tmp_path):
    out = tmp_path / "gpu.csv"
    argv = [sys.executable, "-c", BARE, gpu.__file__, str(out), *ABSENT]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == "gpu.py: not installed here: pytest; left out: tests, tests/kernels"
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["piece"] for row in rows} == set(PIECES)
    assert {row["ok"] for row in rows} == {"yes"}


def test_without_torch_there_is_one_line():
    script = f"import sys; sys.modules['torch'] = None; exec(open({gpu.__file__!r}).read())"
    argv = [sys.executable, "-c", f"__file__ = {gpu.__file__!r}\n{script}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "gpu.py: not installed here: torch\n")
