"""The recommendation: intervals that are what they say, and no claim that is not in the table."""

import json
import math

import numpy as np
import pytest

from frugal.budgets import classifier, recommend, trials
from frugal.costs import memory
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import evaluate, tasks, tfew

PRICE = recommend.Prices(usd_per_label=0.1)
RECIPE = tfew.Recipe(steps=3, batch_size=4)
SMALL = classifier.Fit(steps=4, batch_size=4, lr=1e-2)


@pytest.fixture
def own(tmp_path):
    """A user's file: thirty lines, three choices in changing order."""
    choices = [" fruit", " living animal", " vehicle with wheels"]
    names = ["apple", "dog", "red car"]
    lines = [
        {
            "prompt": f"Thing: {names[i % 3]} {i}\nKind:",
            "choices": choices if i % 2 else choices[::-1],
            "label": i % 3 if i % 2 else 2 - i % 3,
        }
        for i in range(30)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tasks.load(path)


def plan(task, tiny, **changes):
    arguments = {"labels": 10, "budget": 100, "queries": 1e6, "price": PRICE, "icl_shots": 4}
    return recommend.plan(
        task,
        tiny,
        backbones.load("tiny-encoder", device="cpu"),
        **{**arguments, "recipe": RECIPE, "small": SMALL, **changes},
    )


def test_wilsons_limits_solve_his_equation():
    for right, of in ((7, 20), (134, 268), (1, 3)):
        for p in recommend.wilson(right, of):
            assert (right / of - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / of)
    assert recommend.wilson(0, 10)[0] == 0
    assert recommend.wilson(10, 10)[1] == 1


def test_the_paired_bootstrap_is_as_wide_as_it_should_be():
    generator = np.random.default_rng(1)
    a, b = (generator.random(400) < p for p in (0.8, 0.7))
    difference, low, high = recommend.bootstrap(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    spread = (a.astype(float) - b).std() / math.sqrt(400)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.05)
    assert recommend.bootstrap(a, a) == (0, 0, 0)
    assert recommend.bootstrap(a, b) == recommend.bootstrap(a, b)


def option(strategy, right, usd, affordable=True):
    low, high = recommend.wilson(right, 100)
    zero = dict.fromkeys(recommend.Option.__dataclass_fields__, 0)
    known = {"strategy": strategy, "accuracy": right / 100, "low": low, "high": high}
    known |= {"usd_total": usd, "affordable": affordable, "model": "m", "note": ""}
    return recommend.Option(**{**zero, **known}), np.arange(100) < right


def chosen(*made, chance=0.5):
    options, hits = zip(*made, strict=True)
    return recommend.recommend(options, hits, chance)


def test_the_most_accurate_affordable_way_wins_and_doubts_are_said():
    best, reason, margin = chosen(
        option("a", 90, 5), option("b", 60, 1), option("c", 99, 50, False)
    )
    assert best == "a"
    assert margin["over"] == "b"
    assert margin["difference"] == pytest.approx(0.3)
    assert 0 < margin["low"] < 0.3 < margin["high"]
    assert "do not tell" not in reason
    best, reason, margin = chosen(option("a", 81, 5), option("b", 80, 1))
    assert best == "a"
    assert margin["low"] <= 0
    assert "b (0.800) costs $1.00, and these examples do not tell the two apart" in reason
    assert chosen(option("a", 80, 5), option("b", 80, 1))[0] == "b"
    best, reason, margin = chosen(option("a", 52, 1))
    assert (best, margin) == ("a", None)
    assert "nothing here is clearly better than guessing (0.500)" in reason
    best, reason, margin = chosen(option("a", 90, 5, False), option("b", 60, 1.5, False))
    assert (best, margin) == (None, None)
    assert reason == "nothing fits the budget: b, the cheapest, costs $1.50"


def test_a_plan_claims_only_what_is_in_its_table(own, tiny):
    found = plan(own, tiny)
    options = {o.strategy: o for o in found.options}
    assert options.keys() == {"zero-shot", "icl", "t-few", "small-full", "small-distilled"}
    assert found.recommendation in options
    mine = options[found.recommendation]
    for number in (
        f"{mine.accuracy:.3f} [{mine.low:.3f}, {mine.high:.3f}]",
        f"${mine.usd_total:.2f}",
    ):
        assert number in found.reason
    rival = options[found.margin["over"]]
    assert found.margin["difference"] == pytest.approx(mine.accuracy - rival.accuracy)
    assert mine.accuracy == max(o.accuracy for o in found.options)
    assert [o.accuracy for o in found.options] == sorted(
        (o.accuracy for o in found.options), reverse=True
    )
    for o in found.options:
        assert o.usd_total == pytest.approx(o.usd_labels + o.usd_training + o.usd_serving)
        assert o.usd_serving == pytest.approx(1e6 * o.usd_per_query)
        assert o.usd_labels == pytest.approx(0.1 * o.labels)
        assert o.low <= o.accuracy <= o.high
    gpu = memory.gpu("a100-40gb")
    seconds = options["t-few"].train_flops / (gpu.peak_flops * 0.4)
    assert options["t-few"].usd_training == pytest.approx(seconds / 3600 * 3.75)
    assert (options["zero-shot"].labels, options["icl"].labels) == (0, 4)
    assert options["small-distilled"].train_flops > options["t-few"].train_flops
    assert not hasattr(tiny.model, "_frugal_tuned")
    result, _ = evaluate.rank(tiny, own, own.test(shots=10, seed=0))
    assert options["zero-shot"].accuracy == result.accuracy
    assert (found.scored, found.labels) == (20, 10)


def test_a_distilled_student_never_learns_from_a_text_it_answers(own, tiny, monkeypatch):
    learnt, answered, real = [], [], classifier.fit

    def fit(model, examples, goals, recipe):
        learnt.append({e.prompt for e in examples})
        return real(model, examples, goals, recipe)

    def hits(model, examples):
        answered.append({e.prompt for e in examples})
        return real_hits(model, examples)

    real_hits = trials._hits
    monkeypatch.setattr(classifier, "fit", fit)
    monkeypatch.setattr(trials, "_hits", hits)
    plan(own, tiny)
    scored = {e.prompt for e in own.test(shots=10, seed=0)}
    _, *students = zip(learnt, answered, strict=True)
    assert len(students) == 2
    assert set.union(*(asked for _, asked in students)) == scored
    for texts, asked in students:
        assert not texts & asked
        assert len(texts) == 10 + 10


def test_a_task_without_common_answers_leaves_the_small_models_out(tmp_path, tiny):
    path = tmp_path / "ragged.jsonl"
    lines = [
        {"prompt": f"Q{i}:", "choices": [f" a{i}", f" b{i}"], "label": i % 2} for i in range(12)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = plan(tasks.load(path), tiny, labels=4)
    assert {x["strategy"] for x in found.left_out} == {"small-full", "small-distilled"}
    assert "same answers" in found.left_out[0]["why"]
    assert {o.strategy for o in found.options} == {"zero-shot", "icl", "t-few"}
    assert not hasattr(tiny.model, "_frugal_tuned")


def test_more_queries_cost_more_and_a_small_budget_pays_for_less(own, tiny):
    few = plan(own, tiny, budget=0.5)
    assert few.recommendation in ("zero-shot", "icl")
    assert {o.strategy for o in few.options if o.affordable} == {"zero-shot", "icl"}
    many = plan(own, tiny, queries=1e9)
    paid = {o.strategy: o.usd_total for o in few.options}
    assert all(o.usd_total > paid[o.strategy] for o in many.options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": -1}, "must not be negative"),
        ({"queries": math.inf}, "queries must be a number"),
        ({"labels": 29}, "one example is left to score"),
        ({"labels": 31}, "shots must be between 0 and 30"),
        ({"labels": 0}, "labels must be at least 1"),
        ({"price": recommend.Prices(0.1, gpu="a100-40g")}, "did you mean 'a100-40gb'"),
        ({"price": recommend.Prices(-0.1)}, "usd_per_label must not be negative"),
    ],
)
def test_bad_input_is_refused_before_any_work(own, tiny, monkeypatch, changes, message):
    monkeypatch.setattr(trials, "run", lambda *_, **__: pytest.fail("work was done"))
    with pytest.raises(FrugalError, match=message):
        plan(own, tiny, **changes)
