"""`frugal plan` and `frugal budgets`: JSON as scripts rely on it, one line for bad input."""

import json
import sys

import pytest

from frugal import cli

OPTION = {"strategy", "accuracy", "low", "high", "usd_total", "usd_per_query"}


@pytest.fixture
def frugal(monkeypatch, capsys, tmp_path):
    """Run a command at the preset `smoke` in a folder of its own; status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["frugal", *map(str, argv)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.jsonl"
    lines = [
        {"prompt": f"Word: {w * 3} {i}\nLetter:", "choices": [" a", " b"], "label": "ab".index(w)}
        for i, w in enumerate("abba" * 6)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_plan_recommends_one_of_its_options(frugal, own):
    arguments = ["plan", "--task", own, "--labels", 8, "--budget", 100, "--queries", "1e6"]
    status, out, err = frugal(*arguments, "--preset", "smoke", "--json")
    assert status == 0
    result = json.loads(out)
    assert all(option.keys() >= OPTION for option in result["options"])
    assert result["recommendation"] in [o["strategy"] for o in result["options"]]
    assert (result["task"], result["labels"], result["scored"]) == (str(own), 8, 16)
    assert result["queries"] == 1e6
    assert "the price of a100-40gb dates from 2023-07" in err


def test_plan_takes_a_named_task_and_half_of_a_small_file(frugal, own):
    fast = ["--budget", 5, "--preset", "smoke", "--usd-per-hour", 1, "--json"]
    status, out, err = frugal("plan", "--task", "counting", *fast)
    assert (status, json.loads(out)["scored"]) == (0, 12)
    assert "dates from" not in err
    own.write_text("".join(own.read_text().splitlines(True)[:10]))
    result = json.loads(frugal("plan", "--task", own, *fast)[1])
    assert (result["labels"], result["scored"]) == (5, 5)


def test_study_writes_its_runs_and_goes_on(frugal, tmp_path):
    out = tmp_path / "results" / "study.csv"
    arguments = ["budgets", "study", "--preset", "smoke", "--out", out, "--json"]
    few = ["--set", "labels=[4]", "--set", "layers=[1]", "--set", "seeds=[0]"]
    status, text, _ = frugal(*arguments, *few)
    assert status == 0
    result = json.loads(text)
    assert result["runs"] == 4
    assert {r["strategy"] for r in result["summary"]} == {"teacher", "annotate", "distill", "llm"}
    before = out.read_bytes()
    again = frugal(*arguments, *few)
    assert "labels, seed" not in again[2]
    assert json.loads(again[1]) == result
    assert out.read_bytes() == before
    header = out.read_text().splitlines()[0].split(",")
    assert {"machine", "date", "setting", "accuracy", "usd"} <= set(header)


def test_buy_reads_the_papers_table(frugal):
    arguments = ["budgets", "buy", "--task", "WLP", "--labels", 5000, "--budget", 100, "--json"]
    result = json.loads(frugal(*arguments)[1])
    assert result["winner"] == "annotate"
    assert [(o["strategy"], o["score"]) for o in result["options"]] == [
        ("annotate", 68.2),
        ("distill", 65.3),
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["plan", "--task", "nowhere.jsonl", "--budget", "1"], "nowhere.jsonl: No such file"),
        (["plan", "--task", "countin", "--budget", "1"], "did you mean 'counting'"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--labels", "24"], "some must be left"),
        (["plan", "--task", "own.jsonl", "--budget", "x"], "--budget"),
        (["plan", "--task", "own.jsonl", "--budget", "-1"], "must not be negative"),
        (["plan", "--task", "own.jsonl"], "--budget"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--gpu", "a4"], "did you mean 'a40'"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--gpu", "t4"], "gpu price"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--mfu", "2"], "mfu"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--usd-per-label", "-1"], "negative"),
        (["budgets", "buy", "--task", "WPL", "--budget", "1"], "did you mean 'WLP'"),
        (["budgets", "study", "--set", "label=[1]"], "--set label: Extra inputs"),
        (["budgets", "study", "--set", "labels=many"], "--set labels"),
        (["budgets", "study", "--set", "labels=[40]"], "are more than the 23 there are"),
    ],
)
def test_bad_input_is_one_line_and_status_two(frugal, own, argv, message):
    if argv[1] != "buy":
        argv = [*argv, "--preset", "smoke"]
    status, out, err = frugal(*argv)
    assert (status, out) == (2, "")
    line = err.strip().splitlines()[-1]
    assert line.startswith("frugal: ")
    assert message in line
