"""`frugal spaces`: the JSON that scripts rely on."""

import json

import pytest

from frugal.costs import arch


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


def test_search_status_and_report_on_a_small_model(frugal, tmp_path):
    store = ("--store", tmp_path / "s")
    small = ("spaces", "search", "--preset", "smoke", "--designs", 1, *store)
    planned = json.loads(frugal(*small, "--dry-run", "--json")[1])
    assert planned["runs"] > 50
    assert planned["done"] == 0
    assert planned["flops"] > 0
    assert planned.keys() >= {"hours", "usd"}
    assert not (tmp_path / "s").exists()
    status, out, err = frugal(*small, "--json")
    assert status == 0, err
    stages = json.loads(out)["stages"]
    assert [s["stage"] for s in stages][:4] == ["S0", "S1", "S2", "S3"]
    for stage in stages:
        names = [c["name"] for c in stage["candidates"]]
        assert stage["winner"] in names
        best = max(stage["candidates"], key=lambda c: c["mean"])
        assert best["mean"] == max(
            c["mean"] for c in stage["candidates"] if c["name"] == stage["winner"]
        )
        assert all({"name", "mean", "low", "high", "runs"} <= c.keys() for c in stage["candidates"])
    specs = list((tmp_path / "s" / "runs").glob("*/spec.json"))
    results = list((tmp_path / "s" / "runs").glob("*/result.json"))
    assert len(specs) == len(results) > 20
    assert all("score" in json.loads(path.read_text()) for path in results)

    csv = tmp_path / "candidates.csv"
    status, out, _ = frugal("spaces", "report", *store, "--csv", csv, "--json")
    assert (status, json.loads(out)["stages"]) == (0, stages)
    assert len(csv.read_text().splitlines()) == 1 + sum(len(s["candidates"]) for s in stages)
    state = json.loads(frugal("spaces", "status", *store, "--json")[1])
    assert (state["done"], state["failed"], state["running"]) == (len(results), 0, 0)
    text = frugal("spaces", "report", *store)[1]
    assert "spindle" in text
    decided = [stage for stage in stages if stage["leads"]]
    assert {"S1", "S2", "S3"} <= {stage["stage"] for stage in decided}
    for stage in decided:
        for lead in stage["leads"]:
            assert f"{stage['stage']}: {stage['winner']} leads {lead['over']}" in text


def test_status_of_no_search_is_one_line(frugal, tmp_path):
    status, out, err = frugal("spaces", "status", "--store", tmp_path / "none")
    assert (status, out) == (2, "")
    assert "no search was started here" in err


def test_what_the_preset_searches_can_be_changed(frugal, tmp_path):
    small = ("spaces", "search", "--preset", "smoke", "--designs", 1, "--store", tmp_path / "s")
    small += ("--set", 'until="S0"', "--dry-run", "--json")
    one = json.loads(frugal(*small)[1])
    longer = ("--set", "labels=16", "--set", 'tasks=["counting"]')
    twice = json.loads(frugal(*small, *longer)[1])
    assert (one["runs"], twice["runs"]) == (1, 1)
    assert twice["flops"] > one["flops"]
    for change, said in (("label=3", "--set label: Extra inputs"), ("labels=x", "--set labels")):
        status, out, err = frugal(*small, "--set", change)
        assert (status, out) == (2, "")
        assert said in err
