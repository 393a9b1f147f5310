"""The commands as a script calls them: names, JSON keys, files, and one line for bad input."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

import hub
from frugal import peft

RANK = {
    "task",
    "backbone",
    "shots",
    "seed",
    "accuracy",
    "examples",
    "seconds",
    "tokens_computed",
    "flops_per_query",
}
TRAINED = RANK | {"method", "trainable_params", "steps", "train_seconds", "train_flops", "adapter"}


@pytest.fixture
def own(tmp_path):
    """A user's file: twenty lines, three choices of unequal length."""
    path = tmp_path / "own.jsonl"
    choices = [" fruit", " living animal", " vehicle with wheels"]
    names = ["apple", "dog", "red car"]
    lines = [
        {"prompt": f"Thing: {names[i % 3]} {i}\nKind:", "choices": choices, "label": i % 3}
        for i in range(20)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_rank_writes_one_score_line_per_choice(frugal, own, tmp_path):
    scores = tmp_path / "scores.jsonl"
    status, out, _ = frugal("rank", own, "--backbone", "tiny-causal", "--scores", scores, "--json")
    assert status == 0
    result = json.loads(out)
    assert result.keys() >= RANK
    assert result["task"] == str(own)
    assert result["examples"] == 20
    lines = [json.loads(line) for line in scores.read_text().splitlines()]
    assert len(lines) == 60
    best = 0
    for i in range(20):
        mine = [line for line in lines if line["example"] == i]
        assert [line["choice"] for line in mine] == [0, 1, 2]
        assert [line["label"] for line in mine] == [c == i % 3 for c in range(3)]
        best += max(mine, key=lambda line: line["logp_mean"])["label"]
        for line in mine:
            assert math.isclose(line["logp_sum"], line["logp_mean"] * line["tokens"], rel_tol=1e-5)
    assert result["accuracy"] == pytest.approx(best / 20)


def test_shots_come_from_the_file_and_are_not_scored_or_from_train(frugal, own):
    base = ["rank", own, "--backbone", "tiny-causal", "--shots", 4, "--json"]
    assert json.loads(frugal(*base)[1])["examples"] == 16
    other = own.with_name("other.jsonl")
    other.write_text(own.read_text().replace("Thing", "Item"))
    with_train = json.loads(frugal(*base, "--train", other)[1])
    assert (with_train["examples"], with_train["shots"]) == (20, 4)
    _, out, err = frugal(*base, "--train", own)
    assert json.loads(out)["examples"] == 16
    assert "own.jsonl: 4 of its examples are also among the 4 drawn" in err
    assert (
        with_train["flops_per_query"]
        > 3
        * json.loads(frugal("rank", own, "--backbone", "tiny-causal", "--json")[1])[
            "flops_per_query"
        ]
    )


def test_tfew_saves_an_adapter_that_rank_reads(frugal, own, tmp_path):
    folder = tmp_path / "adapter"
    other = own.with_name("other.jsonl")
    other.write_text(own.read_text().replace("Thing", "Item"))
    arguments = ["tfew", other, "--test", own, "--backbone", "tiny-causal", "--steps", 6]
    status, out, _ = frugal(*arguments, "--shots", 8, "--save", folder, "--json")
    assert status == 0
    result = json.loads(out)
    assert result.keys() >= TRAINED
    assert (result["shots"], result["steps"], result["adapter"]) == (8, 6, str(folder))
    again = json.loads(
        frugal("rank", own, "--backbone", "tiny-causal", "--adapter", folder, "--json")[1]
    )
    assert again["accuracy"] == result["accuracy"]
    assert again["method"] == "ia3"


@pytest.mark.parametrize("method", sorted(peft.METHODS))
def test_every_method_trains_and_its_adapter_is_read(frugal, own, tmp_path, method):
    """With the preset `smoke`: what the plan says is what is trained."""
    common = ("--backbone", "tiny-causal", "--preset", "smoke", "--method", method)
    arguments = ("tfew", own, *common, "--json")
    plan = json.loads(frugal(*arguments, "--dry-run")[1])
    status, out, err = frugal(*arguments, "--save", tmp_path / "adapter")
    assert status == 0, err
    result = json.loads(out)
    assert result["method"] == method
    assert {k: result[k] for k in ("trainable_params", "train_flops")} == {
        k: plan[k] for k in ("trainable_params", "train_flops")
    }
    again = json.loads(
        frugal(
            "rank",
            own,
            "--backbone",
            "tiny-causal",
            "--adapter",
            tmp_path / "adapter",
            "--json",
        )[1]
    )
    assert again["method"] == method


def test_dry_run_says_the_cost_and_trains_nothing(frugal, own, tmp_path):
    arguments = ["tfew", own, "--backbone", "tiny-causal", "--steps", 6, "--shots", 8, "--json"]
    plan = json.loads(frugal(*arguments, "--dry-run", "--save", tmp_path / "not")[1])
    assert plan["dry_run"]
    assert not (tmp_path / "not").exists()
    result = json.loads(frugal(*arguments)[1])
    assert plan["train_flops"] == result["train_flops"]
    assert plan["trainable_params"] == result["trainable_params"]


def test_a_small_file_spares_half_of_its_lines(frugal, own):
    status, out, err = frugal("tfew", own, "--backbone", "tiny-causal", "--steps", 2, "--json")
    assert status == 0
    assert (json.loads(out)["shots"], json.loads(out)["examples"]) == (10, 10)
    assert "trains on 10 of its 20 lines" in err


def test_artifacts_list_names_what_is_pinned(frugal):
    status, out, _ = frugal("artifacts", "list", "--json")
    assert status == 0
    listed = json.loads(out)["artifacts"]
    assert {"smollm2-135m", "minilm-l6", "vader"} <= {a["name"] for a in listed}
    assert all(a.keys() >= {"name", "state", "bytes", "sha256"} for a in listed)
    assert {a["state"] for a in listed} == {"absent"}
    status, _, err = frugal("artifacts", "verify", "vader")
    assert status == 2
    assert "vader is absent" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rank", "countin"], "unknown task 'countin'; did you mean 'counting'"),
        (["rank", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        (["rank", "counting", "--shots", "-1"], "--shots"),
        (["rank", "counting", "--shots", "999"], "shots must be between 0 and"),
        (["rank", "counting", "--limit", "0"], "--limit"),
        (["rank", "counting", "--backbone", "no-such-model"], "these work: smollm2-135m"),
        (["rank", "counting", "--adapter", "nowhere"], "nowhere: holds no adapter"),
        (["rank", "counting", "--scores", "no/folder/x"], "--scores: there is no folder"),
        (["rank", "counting", "--preset", "lap"], "unknown preset 'lap'; did you mean 'laptop'"),
        (["tfew", "counting", "--method", "ia4"], "unknown method 'ia4'; did you mean 'ia3'"),
        (["tfew", "counting", "--lr", "-1"], "Invalid value for '--lr': Input should be greater"),
        (["tfew", "counting", "--steps", "0"], "--steps"),
        (["tfew"], "name a TASK or FILE"),
        (["tfew", "counting", "--losses", ""], "recipe: losses.0: Input should be 'lm'"),
        (["tfew", "counting", "--losses", "lm,ul"], "recipe: losses.1: Input should be 'lm'"),
        (
            ["tfew", "counting", "--templates", "al"],
            "unknown use of templates 'al'; did you mean 'all'",
        ),
        (["tfew", "counting", "--start", "nowhere"], "nowhere: holds no adapter"),
        (["tfew", "counting", "--predictions", "x.csv"], "counting: has no unlabelled examples"),
        (["tfew", "counting", "--dry-run", "--preset", "servr"], "did you mean 'server'"),
        (["tfew", "--dry-run", "--gpu", "b200"], "unknown gpu 'b200'"),
        (["tfew", "rte"], "hf download aps/super_glue"),
        (["tfew", "storycloze"], "ask for it at https://"),
        (["vectors", "counting", "nowhere.jsonl", "--save", "x"], "nowhere.jsonl: No such file"),
        (["artifacts", "fetch", "vadre"], "unknown artifact 'vadre'; did you mean 'vader'"),
        (["run", "nowhere.ipynb"], "nowhere.ipynb: no such notebook"),
        (["claims", "nowhere"], "nowhere: no executed notebook here"),
    ],
)
def test_bad_input_is_one_line_and_status_two(frugal, argv, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if argv[0] in ("rank", "tfew") and "--backbone" not in argv:
        argv = [*argv, "--backbone", "tiny-causal"]
    status, out, err = frugal(*argv)
    assert status == 2
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert line.startswith("frugal: ")
    assert message in line


def test_all_runs_of_a_preset_are_priced_without_hub_or_weights(frugal, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, out, err = frugal("tfew", "--preset", "server", "--dry-run", "--json")
    assert status == 0
    plan = json.loads(out)
    assert (plan["runs"], len(plan["parts"])) == (110, 22)
    assert {"flops", "gpu_hours", "usd", "price_date", "mfu", "gpu"} <= plan.keys()
    assert "the price of a100-80gb ($3.4/hour) is unverified" in err
    one = json.loads(frugal("tfew", "rte", "--preset", "server", "--dry-run", "--json")[1])
    assert (one["runs"], {p["task"] for p in one["parts"]}) == (10, {"rte"})
    mine = ["--backbone", "bigscience/T0", "--steps", 10, "--usd-per-hour", 2, "--json"]
    mine = json.loads(frugal("tfew", "rte", "--preset", "server", "--dry-run", *mine)[1])
    assert (mine["runs"], mine["parts"][0]["steps"], mine["usd_per_hour"]) == (5, 10, 2)
    text = frugal("tfew", "--preset", "server", "--dry-run")[1]
    assert "runs: 110" in text
    assert "task=storycloze" in text


def test_tfew_reports_every_template_and_their_median(frugal):
    base = ["tfew", "counting", "--preset", "smoke", "--json"]
    result = json.loads(frugal(*base, "--templates", "all")[1])
    assert len(result["accuracies"]) == 2
    assert result["accuracy"] == pytest.approx(sum(result["accuracies"]) / 2)
    assert result["iqr"] == pytest.approx(
        abs(result["accuracies"][0] - result["accuracies"][1]) / 2
    )
    assert "accuracies" not in json.loads(frugal(*base)[1])


def test_pretrained_vectors_are_where_tfew_starts(frugal, own, tmp_path):
    folder = tmp_path / "mixture"
    arguments = ["vectors", "counting", own, "--preset", "smoke", "--limit", 10]
    status, out, _ = frugal(*arguments, "--save", folder, "--json")
    assert status == 0
    result = json.loads(out)
    assert (result["examples"], result["steps"], result["adapter"]) == (20, 8, str(folder))
    assert json.loads((folder / "result.json").read_text()) == result
    tuned = ["tfew", "counting", "--preset", "smoke", "--lr", "1e-12", "--losses", "lm", "--json"]
    started = json.loads(frugal(*tuned, "--start", folder, "--save", tmp_path / "tuned")[1])
    assert started["start"] == str(folder)
    before, after = (
        load_file(next(f.glob("*adapter*.safetensors"))) for f in (folder, tmp_path / "tuned")
    )
    for name, vector in before.items():
        torch.testing.assert_close(after[name], vector, atol=1e-6, rtol=0)
        assert not torch.equal(vector, torch.ones_like(vector))


def test_raft_is_answered_into_a_file(frugal, tmp_path):
    hub.copy("raft-semiconductor-org-types", rows=10)
    base = ["tfew", "raft-semiconductor-org-types", "--preset", "smoke", "--json"]
    scored = json.loads(frugal(*base)[1])
    assert (scored["shots"], scored["examples"]) == (5, 5)  # half of what has labels
    status, out, _ = frugal(*base, "--predictions", tmp_path / "out.csv")
    assert status == 0
    answered = json.loads(out)
    assert (answered["shots"], answered["examples"], answered["accuracy"]) == (10, 10, None)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "ID,Label"
    assert len(lines) == 11
    assert {line.split(",")[1] for line in lines[1:]} <= {
        "company",
        "research institute",
        "university",
    }


def test_a_missing_space_between_prompt_and_choice_is_noticed(frugal, own, tmp_path):
    glued = tmp_path / "glued.jsonl"
    lines = [json.loads(line) for line in own.read_text().splitlines()]
    for line in lines:
        line["choices"] = [c.strip() for c in line["choices"]]
    glued.write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, _, err = frugal("rank", glued, "--backbone", "tiny-causal", "--json")
    assert status == 0
    assert "no space between prompt and choice: …'Thing: apple 0\\nKind:fruit'" in err
    assert "no space" not in frugal("rank", own, "--backbone", "tiny-causal", "--json")[2]
