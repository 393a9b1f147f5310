"""`frugal plan` and `frugal budgets`: JSON as scripts rely on it, one line for bad input."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from frugal.budgets import compare
from frugal.choice import ways

ROOT = Path(__file__).parents[2]
LABEL = ["budgets", "label", "own.jsonl", "--by", "people", "--folder", "labels"]
AT_A_SERVER = ["--by", "m", "--base-url", "http://a:secret@b/v1"]
SERVED = [*LABEL, "--cap", "1", "--count", "4", *AT_A_SERVER]
OPTION = {"strategy", "accuracy", "low", "high", "usd_total", "usd_per_query", "behind", "best"}


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    """Every command runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.jsonl"
    lines = [
        {"prompt": f"Word: {w * 3} {i}\nLetter:", "choices": [" a", " b"], "label": "ab".index(w)}
        for i, w in enumerate("abba" * 6)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    same = [line for line in path.read_text().splitlines(True) if '"label": 0' in line]
    (tmp_path / "same.jsonl").write_text("".join(same))
    return path


def test_plan_recommends_one_of_its_options(frugal, own):
    arguments = ["plan", "--task", own, "--labels", 8, "--budget", 100, "--queries", "1e6"]
    status, out, err = frugal(*arguments, "--preset", "smoke", "--json")
    assert status == 0
    result = json.loads(out)
    assert all(option.keys() >= OPTION for option in result["options"])
    assert result["recommendation"] in [o["strategy"] for o in result["options"]]
    assert "small-s4" in [o["strategy"] for o in result["options"]]
    assert (result["task"], result["labels"], result["scored"]) == (str(own), 8, 16)
    assert result["queries"] == 1e6
    assert "the price of a100-40gb dates from 2023-07" in err


def test_plan_says_before_the_work_which_ways_it_will_try(frugal, own, monkeypatch):
    arguments = ["plan", "--task", own, "--labels", 8, "--budget", 100, "--preset", "smoke"]
    done = json.loads(frugal(*arguments, "--json")[1])
    monkeypatch.setattr(ways, "run", lambda _: pytest.fail("work was done"))
    status, out, _ = frugal(*arguments, "--dry-run", "--json")
    said = json.loads(out)
    assert status == 0
    assert said["dry_run"]
    assert (said["labels"], said["scored"]) == (8, 16)
    assert set(said["tries"]) == {o["strategy"] for o in done["options"]}
    assert len(said["tries"]) >= 10
    assert said["left_out"] == done["left_out"]


def test_plan_takes_a_named_task_and_half_of_a_small_file(frugal, own):
    fast = ["--budget", 5, "--preset", "smoke", "--usd-per-hour", 1, "--json"]
    status, out, err = frugal("plan", "--task", "counting", *fast)
    assert (status, json.loads(out)["scored"]) == (0, 20)
    assert "dates from" not in err
    own.write_text("".join(own.read_text().splitlines(True)[:10]))
    result = json.loads(frugal("plan", "--task", own, *fast)[1])
    assert (result["labels"], result["scored"]) == (5, 5)


def test_study_writes_its_runs_and_goes_on(frugal, tmp_path):
    out = tmp_path / "results" / "study.csv"
    few = ["--set", "labels=[4]", "--set", 'students=["1 layer"]', "--set", "seeds=[0]"]
    few += ["--set", "usd_per_hour=0.001", "--store", tmp_path / "store", "--json"]
    few = ["budgets", "study", "--preset", "smoke", *few]
    plan = json.loads(frugal(*few, "--dry-run")[1])
    assert (plan["runs"], plan["done"]) == (2, 0)
    assert plan["flops"] > 0
    assert plan["hours"] > 0
    status, text, _ = frugal(*few, "--out", out)
    assert status == 0
    result = json.loads(text)
    assert result["runs"] == 4
    assert {r["strategy"] for r in result["summary"]} == {"teacher", "annotate", "distill", "llm"}
    before = out.read_bytes()
    assert json.loads(frugal(*few, "--out", out)[1]) == result
    assert out.read_bytes() == before
    plan = json.loads(frugal(*few, "--dry-run")[1])
    assert (plan["done"], plan["flops"], plan["hours"]) == (2, 0, 0)
    header = out.read_text().splitlines()[0].split(",")
    assert {"machine", "date", "setting", "accuracy", "usd"} <= set(header)


def crossing(*given):
    """What `make crossing` runs: of each of its studies the arguments, and its last line."""
    command = ["make", "-n", "-o", "setup", "crossing", *given]
    own = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # of `make check`
    found = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    lines = found.stdout
    _, *studies, last = lines.strip().splitlines()
    return [shlex.split(line.replace("; status=", " ; status="))[2:] for line in studies], last


def test_crossing_is_dry_where_it_is_asked_to_be_and_two_processes_elsewhere():
    plans, _ = crossing("DRY=1")
    works, last = crossing()
    assert len(works) == 7
    for plan, work in zip(plans, works, strict=False):
        assert (plan.count("--dry-run"), plan.count("&")) == (1, 0)
        first, second = " ".join(work[: work.index(";")]).split(" & ")
        assert second.rpartition(" --out ")[0] == first
        assert " ".join(plan[:-1]) == first
    assert last.endswith("data/results/crossing.csv")


TINY = {
    "multiemo": "counting",
    "movie-reviews": "counting",
    "vitaminc": "first-letter",
    "smollm2-135m": "tiny-causal",
}
FEWER = {100: 4, 1000: 8, 5000: 12}


def tiny(text):
    """An argument of a study, of tiny models and tasks."""
    name, _, value = text.partition("=")
    if name == "labels":
        return f"labels={[FEWER[n] for n in json.loads(value)]}"
    return f"{name}={TINY.get(value, value)}" if value else text


@pytest.mark.slow
def test_crossing_end_to_end_with_tiny_models(frugal, tmp_path, monkeypatch):
    small = ["limit=12", "unlabelled=8", "llm_texts=4", "teacher_steps=2", "least_steps=2"]
    small += ["epochs=1", "teacher_epochs=1", "seeds=[0,1,2]", "usd_per_hour=0.001"]
    works, last = crossing()
    (tmp_path / "runs" / "crossing").mkdir(parents=True)
    (tmp_path / "data" / "results").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for work in works:
        # What the second of the two processes is given.
        mine = [tiny(text) for text in work[work.index("&") + 2 : work.index(";")]]
        sizes = [part for text in small for part in ("--set", text)]
        status, _, err = frugal(*mine, "--preset", "smoke", *sizes)
        assert status == 0, err
    assert subprocess.run(last, shell=True, check=False).returncode == 0
    monkeypatch.setattr(compare.data, "ROOT", tmp_path / "data")
    long = compare.at_length()
    cell = ["task", "teacher", "labels", "seed", "strategy", "model"]
    assert not long.duplicated(cell).any()
    assert set(long["training"]) == {"bfloat16"}
    taught = long.query("teacher == 'tiny-encoder' and task == 'counting' and labels == 8")
    assert taught.query("strategy == 'distill'")["model"].nunique() == 4
    for _, runs in long.query("teacher == 'tiny-encoder'").groupby("task"):
        held = compare.crossing(runs, "2 layers")
        assert list(held.leads) == [4, 8, 12]
        assert "labels and distillation" in str(held)
    named = long.assign(labels=long["labels"].map({few: n for n, few in FEWER.items()}))
    _, gaps = compare.joined(named, "2 layers", "tiny-causal")
    assert sorted(gaps) == ["counting", "first-letter"]
    assert all(gap.draws == 3 for gap in gaps.values())


def test_buy_reads_the_papers_table(frugal):
    arguments = ["budgets", "buy", "--task", "WLP", "--labels", 5000, "--budget", 100, "--json"]
    result = json.loads(frugal(*arguments)[1])
    assert result["winner"] == "annotate"
    assert [(o["strategy"], o["score"]) for o in result["options"]] == [
        ("annotate", 68.2),
        ("distill", 65.3),
    ]


def test_label_buys_under_a_cap_and_goes_on(frugal, own, tmp_path):
    arguments = ["budgets", "label", own, "--by", "people", "--usd", 0.1, "--count", 12]
    arguments += ["--folder", tmp_path / "labels", "--out", tmp_path / "out.jsonl", "--json"]
    plan = json.loads(frugal(*arguments, "--cap", 9, "--dry-run")[1])
    assert (plan["examples"], plan["most_usd"]) == (12, pytest.approx(1.2))
    assert not (tmp_path / "labels").exists()
    first = json.loads(frugal(*arguments, "--cap", 0.5)[1])
    assert (first["labelled"], first["spent_usd"], first["unasked"]) == (5, 0.5, 7)
    second = json.loads(frugal(*arguments, "--cap", 9)[1])
    assert (second["labelled"], second["spent_usd"], second["agreement"]) == (12, 1.2, 1.0)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 12


def test_label_asks_a_local_model_and_a_server(frugal, own, tmp_path, monkeypatch):
    few = ["budgets", "label", own, "--count", 4, "--shots", 2, "--cap", 9, "--json"]
    local = json.loads(
        frugal(*few, "--by", "tiny-causal", "--folder", tmp_path / "a", "--usd", 0.02)[1]
    )
    assert local["labelled"] == 4
    assert 0 <= local["agreement"] <= 1
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-42")
    nobody = ["--by", "m", "--base-url", "http://127.0.0.1:9/v1", "--folder", tmp_path / "b"]
    status, out, err = frugal(*few, *nobody)
    assert (status, out) == (2, "")
    assert "m: no connection" in err
    assert "sk-secret-42" not in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["plan", "--task", "nowhere.jsonl", "--budget", "1"], "nowhere.jsonl: No such file"),
        (["plan", "--task", "countin", "--budget", "1"], "did you mean 'counting'"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--labels", "24"], "some must be left"),
        (["plan", "--task", "own.jsonl", "--budget", "x"], "--budget"),
        (["plan", "--task", "own.jsonl", "--budget", "0"], "budget: $0 pays for nothing"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--queries", "0"], "queries must be"),
        (["plan", "--task", "same.jsonl", "--budget", "1"], "the right answer is always ' a'"),
        (["plan", "--task", "own.jsonl"], "--budget"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--gpu", "a4"], "did you mean 'a40'"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--gpu", "t4"], "gpu price"),
        (["plan", "--task", "own.jsonl", "--budget", "1", "--mfu", "2"], "mfu"),
        (["budgets", "buy", "--task", "WPL", "--budget", "1"], "did you mean 'WLP'"),
        (["budgets", "label", "own.jsonl", "--by", "people", "--cap", "1"], "--folder"),
        ([*LABEL, "--cap", "1e400"], "'--cap'"),
        ([*LABEL, "--cap", "1", "--out", "."], "--out: . is a folder"),
        ([*LABEL, "--cap", "1", "--out", "own.jsonl/x"], "own.jsonl"),
        ([*LABEL, "--cap", "1", "--answer-tokens", "0"], "--answer-tokens"),
        (SERVED, "no user, password"),
        ([*SERVED, "--form", "jason"], "form of an answer 'jason'"),
        ([*SERVED, "--effort", "medum"], "did you mean 'medium'"),
        ([*SERVED, "--batch-share", "2"], "batch_share must be"),
        ([*SERVED, "--usd", "1", "--usd-cached", "2"], "usd_cached"),
        (["budgets", "buy", "--task", "WLP", "--budget", "1e308"], "'--budget'"),
        (["budgets", "study", "--set", "usd_per_label=Infinity"], "--set usd_per_label"),
        (["budgets", "study", "--set", "label=[1]"], "--set label: Extra inputs"),
        (["budgets", "study", "--set", "labels=many"], "--set labels"),
        (["budgets", "study", "--set", "labels=[40]"], "are more than the 23 there are"),
    ],
)
def test_bad_input_is_one_line_and_status_two(frugal, own, argv, message):
    if argv[1] not in ("buy", "label"):
        argv = [*argv, "--preset", "smoke"]
    status, out, err = frugal(*argv)
    assert (status, out) == (2, "")
    assert not Path("labels").exists()
    line = err.strip().splitlines()[-1]
    assert line.startswith("frugal: ")
    assert message in line
