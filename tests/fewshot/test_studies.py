"""Studies of many runs: the right runs, the right examples, and honest spreads."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

import hub
from frugal import data, tasks
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import choices, evaluate, losses, studies, tfew
from frugal.papers import tables

RECIPE = tfew.Recipe(steps=3, batch_size=4, lr=3e-2)


@pytest.fixture
def counting():
    return tasks.load("counting")


def test_the_ablation_has_the_papers_rows_on_the_same_examples(tiny, counting):
    runs = studies.loss_ablation(
        tiny, counting, labels=8, seeds=[0, 1], limit=6, recipe=RECIPE, templates="all"
    )
    assert len(runs) == 4 * 2 * 2
    printed = set(tables.load("tfew_loss_ablation")["row"])
    assert printed <= set(runs["losses"])
    first = runs.drop_duplicates(["losses", "seed"]).set_index(["losses", "seed"])["loss"]
    parts = {name: [first[name, seed][0] for seed in (0, 1)] for name in studies.ABLATION}
    # At step 1 all sums read the same batch with vectors of ones, so they differ by one loss each.
    lm, unlikelihood, normalized, everything = map(np.array, parts.values())
    assert everything - normalized == pytest.approx(unlikelihood - lm, abs=1e-5)
    assert (unlikelihood > lm).all()
    assert (normalized > lm).all()
    assert not hasattr(tiny.model, "_frugal_tuned")


def test_tuned_runs_answer_in_every_template_after_one_training(tiny, counting):
    runs = evaluate.tuned_runs(
        tiny, counting, labels=8, seeds=[0, 7], limit=6, recipe=RECIPE, templates="all"
    )
    cells = [(0, 0), (0, 1), (7, 0), (7, 1)]
    assert list(zip(runs["seed"], runs["template"], strict=True)) == cells
    trained = tfew.train(tiny, counting.wordings(8, 7), RECIPE.model_copy(update={"seed": 7}))
    for template in (0, 1):
        queries = counting.test(6, template=template)
        score = choices.score(tiny, queries).accuracy
        found = runs.query(f"seed == 7 and template == {template}")["accuracy"].item()
        assert found == score
    trained.tuned.detach()
    assert set(runs["shots"]) == {8}
    assert runs["loss"][0] == runs["loss"][1]


def test_prompted_runs_cover_every_template(tiny, counting):
    runs = evaluate.prompted_runs(tiny, counting, icl_shots=[2], draws=2, limit=4, templates="all")
    found = list(zip(runs["method"], runs["seed"], runs["template"], strict=True))
    assert found == [
        (method, seed, template)
        for template in (0, 1)
        for method, seed in (("zero-shot", 0), ("icl", 0), ("icl", 1))
    ]


def test_swapped_labels_are_all_wrong_and_the_queries_stay(tiny, counting, monkeypatch):
    shots = counting.draw(6, 0)
    wrong = studies.swapped(shots)
    for a, b in zip(shots, wrong, strict=True):
        assert (a.prompt, a.choices) == (b.prompt, b.choices)
        assert a.label != b.label
    prompted = evaluate.prompted_runs(tiny, counting, icl_shots=[2, 4], draws=2, limit=6)
    elsewhere = prompted.assign(task="another", hits="")  # rows of other tasks are none of its
    seen = []
    real = evaluate.rank

    def rank(backbone, task, queries, context, **options):
        seen.append((queries, context))
        return real(backbone, task, queries, context, **options)

    monkeypatch.setattr(evaluate, "rank", rank)
    with pytest.raises(FrugalError, match="its runs have 6 examples, not 7"):
        studies.label_swap(tiny, counting, prompted, limit=7)
    seen.clear()
    runs = studies.label_swap(tiny, counting, pd.concat([elsewhere, prompted]), limit=4)
    assert list(runs.columns) == ["task", "shots", "draw", "labels", "accuracy", "hits"]
    assert list(runs[["shots", "draw", "labels"]].itertuples(index=False, name=None)) == list(
        itertools.product([2, 4], [0, 1], ["right", "swapped"])
    )
    right = runs[runs["labels"] == "right"].itertuples()
    for run, (queries, turned) in zip(right, seen, strict=True):
        assert queries == counting.test(4, shots=run.shots, seed=run.draw)
        drawn = counting.draw(run.shots, run.draw)
        assert turned == studies.swapped(drawn)
        assert run.hits == real(tiny, counting, queries, drawn, seed=run.draw)[0].hits


def test_summary_is_the_median_and_the_interquartile_range():
    values = [0.5, 0.9, 0.6, 0.7, 0.4]
    runs = pd.DataFrame(
        {"task": ["a"] * 5 + ["b"], "seed": [*range(5), 0], "accuracy": [*values, 0.3]}
    )
    found = studies.summary(runs, ["task"]).set_index("task")
    assert found.loc["a", "median"] == np.median(values)
    assert found.loc["a", "iqr"] == pytest.approx(np.subtract(*np.quantile(values, [0.75, 0.25])))
    assert found.loc["a", ["runs", "low", "high"]].tolist() == [5, 0.4, 0.9]
    assert found.loc["b", "iqr"] == 0
    assert list(found.columns) == ["runs", "median", "iqr", "low", "high"]
    with pytest.raises(FrugalError, match="no column losses"):
        studies.summary(runs, ["losses"])


def test_the_leaderboards_file_has_the_benchmarks_own_names():
    hub.copy("raft-banking-77", rows=4)
    task = tasks.load("raft-banking-77")
    answers = torch.full((3, 77), -9.0)
    answers[[0, 1, 2], [0, 5, 76]] = -1.0
    scores = choices.ChoiceScores(
        token_logp=answers.flatten(),
        choice=torch.arange(3 * 77),
        example=torch.arange(3).repeat_interleave(77),
        correct=(torch.arange(3 * 77) % 77 == 0),
        tokens_computed=0,
    )
    found = studies.leaderboard(task, scores)
    assert found.to_dict("list") == {
        "ID": [50, 51, 52],
        "Label": [hub.BANKING[0], hub.BANKING[5], hub.BANKING[76]],
    }


def test_rungs_have_one_loss_and_the_closed_forms_flops(counting):
    reader = backbones.load("tiny-t5")
    before = reader.model.config._attn_implementation
    found = studies.rungs(reader, tasks.load(data.ROOT / "tickets.jsonl").test(1)[0])
    assert found["loss"].to_numpy() == pytest.approx(found["loss"].iloc[-1], abs=1e-5)
    assert (found["flops"] == found["closed"]).all()
    assert found["ratio"].is_monotonic_decreasing
    assert found["ratio"].iloc[-1] == 1
    assert reader.model.config._attn_implementation == before
    example = counting.test(1)[0]
    alone = sum(float(loss(choices.score(reader, [example]))) for loss in losses.LOSSES.values())
    assert studies.rungs(reader, example)["loss"].iloc[-1] == pytest.approx(alone, abs=1e-5)


def test_rungs_refuse_a_causal_model(tiny, counting):
    with pytest.raises(FrugalError, match="no encoder–decoder"):
        studies.rungs(tiny, counting.test(1)[0])
