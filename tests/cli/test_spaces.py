"""`frugal spaces`: the JSON that scripts rely on."""

import json
import sys

import pytest

from frugal import cli
from frugal.costs import arch


@pytest.fixture
def frugal(monkeypatch, capsys):
    """Run a command; exit status, stdout, stderr."""

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["frugal", *map(str, argv)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


def test_sample_gives_designs_with_groups_and_parameters(frugal):
    words = "spaces sample --stage S2 --layers 24 --count 100 --budget 0.005 --seed 0 --json"
    status, out, _ = frugal(*words.split())
    assert status == 0
    found = json.loads(out)
    assert found["arch"] == "t5-base"
    assert len(found["designs"]) == 100
    for each in found["designs"]:
        assert abs(each["params"] / (0.005 * arch.get("t5-base").params) - 1) < 0.02
        assert [layer for g in each["groups"] for layer in g["layers"]] == list(range(1, 25))
        assert all(g["tuned"] == bool(g["methods"]) for g in each["groups"])
    assert json.loads(frugal(*words.split())[1]) == found


def test_sample_on_an_architecture_and_for_a_reader(frugal):
    status, out, _ = frugal(
        "spaces", "sample", "--stage", "S4", "--arch", "minilm-l6", "--count", 1
    )
    assert status == 0
    assert "text=G1[1]:A,L | G2[2-3]:A,P | G3[4-5]:A,P,B | G4[6]:P,B,L" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--stage S9", "unknown stage 'S9'"),
        ("--stage S1 --layers 3", "3 layers cannot form four groups of spindle sizes"),
        ("--stage S0 --layers 1", "--layers must be at least 2"),
        ("--stage S0 --arch t5-bse", "did you mean 't5-base'"),
        ("--stage S0 --arch t5-base --layers 12", "--layers 12: t5-base has 24"),
        ("--stage S4 --budget 0.00001", "the smallest sizes take"),
        ("--stage S4 --count 0", "--count"),
    ],
)
def test_bad_input_is_one_line(frugal, words, message):
    status, out, err = frugal("spaces", "sample", *words.split())
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
