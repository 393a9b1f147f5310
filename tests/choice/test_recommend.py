"""The recommendation: intervals that are what they say, and no claim that is not in the table."""

import dataclasses
import itertools
import json
import math
import re

import numpy as np
import pytest

from frugal import stats, tasks
from frugal.choice import language, options, recommend, small, trials
from frugal.choice import ways as every
from frugal.costs import memory, prices, scenario
from frugal.encoders import classifier, contrastive
from frugal.engine import backbones, presets
from frugal.errors import FrugalError
from frugal.fewshot import encoding, evaluate, tfew

PRICE = options.Prices(usd_per_label=0.1)
SMALL = classifier.Recipe(epochs=0, least_steps=4, batch_size=4, lr=1e-2)
TUNING = tfew.Recipe(steps=3, batch_size=4)
WAYS = trials.Ways(
    recipe=TUNING,
    lora=TUNING.model_copy(update={"method": "lora", "optimizer": "adamw"}),
    icl_shots=4,
    small=SMALL,
    design=SMALL,
    share=0.2,
    setfit=contrastive.Recipe(rounds=1, batch_size=4),
)
PAIRS = {"pairs-head", "pairs-full"}
API = {"api"}
SMALLS = {"linear-head", "setfit", "small-full", "small-s4", "small-distilled"}
ALL = {"zero-shot", "zero-shot-calibrated", "icl", "icl-many", "t-few", "lora"} | SMALLS


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


def plan(task, tiny, ways=WAYS, **changes):
    arguments = {"labels": 10, "budget": 100, "queries": 1e6, "price": PRICE, **changes}
    encoder = backbones.load("tiny-encoder", device="cpu")
    return recommend.plan(task, tiny, encoder, ways, **arguments)


def file(tmp_path, lines):
    path = tmp_path / "made.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tasks.load(path)


NUMBER = r"(?<![-\w])-?\d[\d,.]*\d|\b\d\b"


def tried(*made, chance=0.5):
    """Ways as (strategy, of 100 right, FLOPs of training, FLOPs of a query, labels)."""
    found = [
        trials.Trial(strategy, "m", np.arange(100) < right, train, query, labels, 1.0)
        for strategy, right, train, query, labels in made
    ]
    return trials.Tried("t", 10, 100, chance, found, [])


def decide(*made, budget=100.0, queries=1e6, **more):
    return recommend.decide(tried(*made, **more), budget=budget, queries=queries, price=PRICE)


def test_the_most_accurate_affordable_way_wins_and_doubts_are_said():
    a, b, c = ("a", 90, 0, 1e9, 10), ("b", 60, 0, 1e9, 0), ("c", 99, 0, 1e9, 2000)
    found = decide(a, b, c)
    assert (found.recommendation, found.thriftiest) == ("a", "a")
    assert found.margin["over"] == "b"
    assert found.margin["difference"] == pytest.approx(0.3)
    assert 0 < found.margin["low"] < 0.3 < found.margin["high"]
    assert "do not tell" not in found.reason
    table = {o.strategy: o for o in found.options}
    assert table["a"].best == pytest.approx(1)
    assert table["c"].best == 0
    assert (table["b"].behind_low, table["a"].behind) == (found.margin["low"], 0)
    close = decide(("a", 81, 0, 1e9, 10), ("b", 80, 0, 1e9, 0))
    assert (close.recommendation, close.thriftiest) == ("a", "b")
    assert close.margin["low"] <= 0
    assert "and these examples do not tell the two apart" in close.reason
    assert decide(("a", 80, 0, 1e9, 10), ("b", 80, 0, 1e9, 0)).recommendation == "b"
    alone = decide(("a", 52, 0, 1e9, 0))
    assert (alone.recommendation, alone.margin) == ("a", None)
    assert "nothing here is clearly better than guessing (0.500)" in alone.reason
    assert "a less b, t, for these labels: +1 point [" in close.reason
    assert f"it wins again in {close.chosen.best:.0%} of resamples" in close.reason
    nothing = decide(a, c, budget=0.5)
    assert (nothing.recommendation, nothing.margin, nothing.thriftiest) == (None, None, None)
    assert nothing.reason.startswith("nothing fits the budget: a, the cheapest, costs $1.0")
    assert all(o.behind is None for o in nothing.options)
    assert found.chosen is table["a"]
    with pytest.raises(FrugalError, match="budget: nothing fits the budget: a"):
        _ = nothing.chosen


def test_two_ways_cost_the_same_where_break_even_says():
    found = decide(
        ("a", 90, 0, 1e12, 0), ("b", 90, 1e15, 1e9, 10), ("c", 90, 2e15, 2e12, 10), queries=1
    )
    by = {o.strategy: o for o in found.options}
    table = options.break_evens(found.options)
    assert list(map(tuple, table[["cheaper_below", "cheaper_from"]].to_numpy())) == [("a", "b")]
    at = int(table["queries"][0])

    def total(name, queries):
        return by[name].usd_once + queries * by[name].usd_per_query

    assert total("b", at) <= total("a", at)
    assert total("b", at - 1) > total("a", at - 1)
    assert table["usd"][0] == pytest.approx(total("b", at))


def test_choices_are_what_decide_recommends():
    made = [("a", 60, 0, 1e12, 0), ("b", 90, 1e15, 1e12, 10), ("c", 90, 0, 1e11, 20)]
    queries, budgets = [1, 1e4, 1e6, 1e8], [0.001, 1.5, 3, 20, 1e4]
    found = options.choices(decide(*made).options, queries, budgets)
    for budget in budgets:
        for count in queries:
            there = decide(*made, budget=budget, queries=count).recommendation
            assert found.loc[budget, count] == (there or options.NOTHING)
    assert set(found.to_numpy().ravel()) == {"a", "b", "c", options.NOTHING}
    table = recommend.by_volume(tried(*made), queries, budget=20, price=PRICE)
    assert list(table["recommendation"].dropna()) == ["b", "b", "c"]
    assert table.iloc[3].isna().sum() == 6
    assert (table["its_usd"] <= table["usd"])[:3].all()


def test_the_cheapest_way_and_the_ladder_of_budgets():
    a, b, c = ("a", 60, 0, 1e12, 0), ("b", 90, 1e15, 1e11, 10), ("c", 70, 0, 1e9, 50)
    found = decide(a, b, c).options
    totals = {o.strategy: (o.usd_once, o.usd_per_query) for o in found}
    turns = options.cheapest(found)
    assert [name for _, name in turns] == ["a", "b", "c"]
    for count in (1, *(at + more for at, _ in turns[1:] for more in (-1, 1)), 1e12):
        least = min(totals, key=lambda name: totals[name][0] + count * totals[name][1])
        assert least == [name for at, name in turns if at <= count][-1]
    steps = options.ladder(decide(a, b, c, queries=1).options)
    assert [o.strategy for o in steps] == ["a", "b"]
    for before, after in itertools.pairwise(steps):
        assert before.usd_total < after.usd_total
        assert before.accuracy < after.accuracy


def test_a_plan_claims_only_what_is_in_its_table(own, tiny):
    found = plan(own, tiny)
    table = {o.strategy: o for o in found.options}
    assert table.keys() == ALL
    mine = table[found.recommendation]
    rival, thrift = table[found.margin["over"]], table[found.thriftiest]
    known = {f"{x:.3f}" for o in (mine, thrift) for x in (o.accuracy, o.low, o.high)}
    apart = stats.in_points(rival.behind, rival.behind_low, rival.behind_high)
    known |= set(re.findall(NUMBER, f"{apart} {mine.elsewhere} {found.task}"))
    known |= {prices.usd(o.usd_total).strip("$") for o in (mine, thrift)}
    known |= {str(found.scored), f"{mine.best:.0%}".strip("%"), f"{found.chance:.3f}"}
    assert set(re.findall(NUMBER, found.reason)) <= known
    assert found.margin["difference"] == pytest.approx(mine.accuracy - rival.accuracy)
    assert mine.accuracy == max(o.accuracy for o in found.options)
    accuracies = [o.accuracy for o in found.options]
    assert accuracies == sorted(accuracies, reverse=True)
    assert sum(o.best for o in found.options) == pytest.approx(1)
    for o in found.options:
        assert o.usd_total == pytest.approx(o.usd_labels + o.usd_training + o.usd_serving)
        assert o.usd_serving == pytest.approx(1e6 * o.usd_per_query)
        assert o.usd_labels == pytest.approx(0.1 * o.labels)
        assert o.low <= o.accuracy <= o.high
    gpu = memory.gpu("a100-40gb")
    hours = scenario.hours(table["t-few"].train_flops, peak_flops=gpu.peak_flops, mfu=0.4)
    assert table["t-few"].usd_training == pytest.approx(hours * 3.75)
    assert (table["zero-shot"].labels, table["icl"].labels) == (0, 4)
    assert table["small-distilled"].train_flops > table["t-few"].train_flops
    assert 1 < table["small-s4"].flops_per_query / table["small-full"].flops_per_query < 2
    assert not hasattr(tiny.model, "_frugal_tuned")
    result, _ = evaluate.rank(tiny, own, own.test(shots=10, seed=0))
    assert table["zero-shot"].accuracy == result.accuracy
    assert (found.scored, found.labels) == (20, 10)


def test_queries_are_encoded_once_to_be_priced_and_answered(own, tiny, monkeypatch):
    class Answered(Exception):
        pass

    def progress(message):
        if message == "zero-shot, calibrated":
            raise Answered

    encoded, encode = [], encoding._encode_whole
    monkeypatch.setattr(
        encoding,
        "_encode_whole",
        lambda lm, examples: encoded.extend(examples) or encode(lm, examples),
    )
    with pytest.raises(Answered):
        plan(own, tiny, progress=progress)
    assert encoded == own.test(shots=10, seed=0)


@pytest.fixture
def learnt(monkeypatch):
    """What every training by steps of a small model read, and what it then answered, as prompts.

    The students that T-Few teaches come first.
    """
    found, fit, hits = [], classifier.fit, small.right

    def fitting(model, texts, goals, recipe, **options):
        found.append([set(texts)])
        return fit(model, texts, goals, recipe, **options)

    def answering(model, examples):
        found[-1][1:] = found[-1][1:] or [{e.prompt for e in examples}]
        return hits(model, examples)

    monkeypatch.setattr(classifier, "fit", fitting)
    monkeypatch.setattr(small, "right", answering)
    return found


def test_a_distilled_student_never_learns_from_a_text_it_answers(own, tiny, learnt):
    plan(own, tiny)
    scored = {e.prompt for e in own.test(shots=10, seed=0)}
    students = learnt[:2]
    assert set.union(*(asked for _, asked in students)) == scored
    for texts, asked in students:
        assert not texts & asked
        assert len(texts) == 10 + 10


@pytest.mark.parametrize("named", [False, True])
def test_other_texts_teach_one_student(own, tiny, learnt, named):
    task = tasks.load("counting") if named else own
    found = plan(task, tiny, limit=12, unlabelled=6)
    scored = {e.prompt for e in task.test(12, shots=10, seed=0)}
    shots = {e.prompt for e in task.draw(10, 0)}
    (texts, asked), *_ = learnt
    assert asked == scored
    assert shots < texts
    assert len(texts) == 10 + 6
    assert not texts & asked
    assert found.scored == 12


@pytest.mark.parametrize("preset", ["smoke", "laptop", "colab", "server"])
def test_a_preset_says_how_each_way_is_done(preset):
    chosen = presets.settings(preset)
    ways = trials.Ways.of(chosen, 3, seed=7)
    assert ways.recipe.steps == chosen.capstone.steps
    assert ways.small.batch_size == ways.design.batch_size == 3
    assert {ways.recipe.seed, ways.small.seed, ways.design.seed} == {7}
    assert (ways.small.lr, ways.design.lr) == (
        chosen.budgets.teacher_lr,
        chosen.budgets.design_lr,
    )


def test_s4_trains_its_share_beside_frozen_weights(own, tiny):
    encoder = backbones.load("tiny-encoder", device="cpu")
    before = {n: p.clone() for n, p in encoder.model.named_parameters()}
    found = recommend.attempt(own, tiny, encoder, WAYS, labels=10)
    after = dict(encoder.model.named_parameters())
    assert all(p.equal(after[n]) and after[n].requires_grad for n, p in before.items())
    s4 = next(t for t in found.trials if t.strategy == "small-s4")
    params = int(s4.note.split()[0].replace(",", ""))
    assert params == pytest.approx(0.2 * sum(p.numel() for p in before.values()), rel=0.03)
    assert "A,L | G2" in s4.note
    again = recommend.attempt(own, tiny, encoder, WAYS, labels=10)
    pairs = zip(found.trials, again.trials, strict=True)
    assert all((one.hits == two.hits).all() for one, two in pairs)


def test_what_has_no_room_is_left_out(own, tiny, monkeypatch):
    monkeypatch.setattr(language, "ICL_TOKENS", 1)
    found = plan(own, tiny, ways=dataclasses.replace(WAYS, share=1e-6))
    assert {o.strategy for o in found.options} == ALL - {"icl", "icl-many", "small-s4"}
    why = {x["strategy"]: x["why"] for x in found.left_out}
    assert why.keys() == {"icl", "icl-many", "small-s4"} | PAIRS | API
    assert why["icl-many"] == why["icl"]
    assert "the smallest sizes take" in why["small-s4"]


def test_a_task_without_common_answers_leaves_the_small_models_out(tmp_path, tiny):
    lines = [
        {"prompt": f"Q{i}:", "choices": [f" a{i}", f" b{i}"], "label": i % 2} for i in range(12)
    ]
    found = plan(file(tmp_path, lines), tiny, labels=4)
    assert {x["strategy"] for x in found.left_out} == SMALLS | API
    assert "same answers" in found.left_out[0]["why"]
    assert {o.strategy for o in found.options} == ALL - SMALLS | PAIRS
    by = {o.strategy: o for o in found.options}
    assert by["pairs-full"].flops_per_query > 0
    assert by["zero-shot-calibrated"].train_flops == 0  # each query has a prior of its own
    assert not hasattr(tiny.model, "_frugal_tuned")


def test_a_line_may_offer_only_some_of_the_classes(tmp_path, tiny):
    every = [" red", " deep blue", " a kind of green"]
    lines = []
    for i in range(24):
        choices = every if i % 3 else [every[i % 2], every[2]]
        lines.append({"prompt": f"Colour {i}:", "choices": choices, "label": i % len(choices)})
    found = plan(file(tmp_path, lines), tiny)
    assert {o.strategy for o in found.options} == ALL
    assert {x["strategy"] for x in found.left_out} == PAIRS | API


def test_more_queries_cost_more_and_a_small_budget_pays_for_less(own, tiny):
    encoder = backbones.load("tiny-encoder", device="cpu")
    found = recommend.attempt(own, tiny, encoder, WAYS, labels=10)
    few = recommend.decide(found, budget=0.5, queries=1e6, price=PRICE)
    cheap = {"zero-shot", "zero-shot-calibrated", "icl"}
    assert few.recommendation in cheap
    assert {o.strategy for o in few.options if o.affordable} == cheap
    many = recommend.decide(found, budget=100, queries=1e9, price=PRICE)
    paid = {o.strategy: o.usd_total for o in few.options}
    assert all(o.usd_total > paid[o.strategy] for o in many.options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": -1}, "must not be negative"),
        ({"budget": 0}, r"budget: \$0 pays for nothing: 10 labels cost \$1.00, and without any"),
        ({"budget": math.inf}, "budget must be a number"),
        ({"queries": 0}, "queries must be at least 1, not 0"),
        ({"queries": math.inf}, "queries must be a number"),
        ({"queries": 1e308}, "queries must be a number .* at most 1e.18"),
        ({"labels": 29}, "one example is left to score"),
        ({"labels": 31}, "shots must be between 0 and 30"),
        ({"labels": 0}, "labels must be at least 1"),
        ({"price": options.Prices(1e308), "labels": 28}, "the price of 28 labels must be"),
    ],
)
def test_bad_input_is_refused_before_any_work(own, tiny, monkeypatch, changes, message):
    monkeypatch.setattr(every, "run", lambda _: pytest.fail("work was done"))
    with pytest.raises(FrugalError, match=message):
        plan(own, tiny, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu": "a100-40g"}, "did you mean 'a100-40gb'"),
        ({"usd_per_label": -0.1}, "usd_per_label must not be negative"),
        ({"usd_per_label": math.nan}, "usd_per_label must be a number"),
        ({"usd_per_hour": -1}, "usd_per_hour must not be negative"),
        ({"usd_per_hour": -math.inf}, "usd_per_hour must be a number"),
        ({"usd_per_hour": math.nan}, "usd_per_hour must be a number"),
        ({"mfu": math.nan}, "mfu must be a number"),
        ({"mfu": 0}, "mfu must be a number"),
        ({"usd_per_label": 1e308}, "the price of"),
        ({"usd_per_hour": 1e308}, "the price of"),
    ],
)
def test_no_odd_price_changes_what_is_recommended(changes, message):
    made = tried(("a", 60, 0.0, 1e12, 1000), ("b", 70, 1e30, 1e12, 0))
    with pytest.raises(FrugalError, match=message):
        recommend.decide(
            made, budget=1e300, queries=1e18, price=dataclasses.replace(PRICE, **changes)
        )


def test_one_class_is_refused(tmp_path, tiny):
    lines = [{"prompt": f"{i}:", "choices": [" yes", " no"], "label": 0} for i in range(12)]
    with pytest.raises(FrugalError, match="the right answer is always ' yes'"):
        plan(file(tmp_path, lines), tiny, labels=4)


def test_the_small_model_learns_in_a_precision_that_goes_with_the_large_ones(monkeypatch):
    for name in ("float32", "bfloat16"):
        ways = trials.Ways.of(presets.settings("smoke", precision=name), 8, seed=0)
        assert ways.small.precision == ways.design.precision == name
    monkeypatch.setattr(
        backbones, "resolved", lambda name, allowed, begun: f"{name} of {len(allowed)}"
    )
    assert backbones.trained("int8") == "fastest of 2"
