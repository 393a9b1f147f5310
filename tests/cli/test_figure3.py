"""`frugal figure3`: measured once, drawn from the file afterwards."""

import json

import pandas as pd


def test_measured_once_and_drawn_again(frugal, tmp_path):
    runs, picture = tmp_path / "new" / "runs.csv", tmp_path / "figure.png"
    arguments = ["figure3", "--preset", "smoke", "--runs", runs, "--json"]
    status, out, err = frugal(*arguments)
    assert status == 0, err
    table = pd.read_csv(runs)
    assert set(table["method"]) == {"zero-shot", "icl", "ia3"}
    assert json.loads(out)["count"] == len(table) == 1 + 2 * 2 + 2
    assert not picture.exists()
    before = runs.read_bytes()
    found = json.loads(frugal(*arguments, "--picture", picture)[1])
    assert runs.read_bytes() == before
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "T-Few" in found["found"]
    assert "points from ICL" in found["found"]
