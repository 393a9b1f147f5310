"""Many shots: the curve is that of the hits, and what shots cost is counted as a query is."""

import numpy as np
import pandas as pd
import pytest

from frugal import stats, tasks
from frugal.costs import prices
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import encoding, evaluate, icl, many_shots, table1_plan
from frugal.fewshot.table1_record import CALIBRATED

PLAN = table1_plan.frozen("smoke", many_shots.PLAN)
TEXTS = 40


def rows(ways):
    """Made up: as many draws as the plan has, each with its share of right answers."""
    return pd.DataFrame(
        {"task": "counting", "way": way, "draw": draw, "examples": TEXTS,
         "hits": stats.packed(np.random.default_rng(draw).random(TEXTS) < level)}
        for way, (draws, level) in ways.items()
        for draw in range(draws)
    )  # fmt: skip


def test_a_curve_has_the_ways_that_have_all_their_draws():
    recorded = rows(
        {"zero-shot": (1, 0.3), "icl-2": (2, 0.8), "icl-2" + CALIBRATED: (1, 0.5),
         "icl-2, swapped": (2, 0.1)}
    )  # fmt: skip
    found = many_shots.curve(recorded, "smoke")
    assert list(zip(found["shots"], found["calibrated"], strict=True)) == [(0, False), (2, False)]
    zero, two = found.to_dict("records")
    hits = [stats.unpacked(h, TEXTS) for h in recorded["hits"]]
    assert zero["accuracy"] == hits[0].mean()
    assert two["accuracy"] == pytest.approx(np.mean(hits[1:3]))
    assert zero["low"] < zero["accuracy"] < zero["high"]
    assert np.isnan(two["low"]) or two["low"] is None  # two draws carry no interval
    assert many_shots.curve(recorded[:0], "smoke").empty


def test_what_shots_cost_is_what_such_prompts_do():
    model, task = backbones.load("tiny-causal"), tasks.load("counting")
    found = many_shots.costs(model, task, limit=8, preset="smoke")
    assert list(found["shots"]) == [0, 2]
    zero, two = found.to_dict("records")
    assert zero["prefix"] < two["prefix"]
    queries = task.test(8)
    assert zero["flops"] == evaluate.query_flops(model, queries)
    exact = [evaluate.query_flops(model, icl.prompted(queries, task.draw(2, d))) for d in range(2)]
    assert two["flops"] == pytest.approx(np.mean(exact))
    tokens = [len(e.sequences[0]) - 1 for e in encoding.encode(model, queries)]
    assert zero["prefix"] + zero["query"] == pytest.approx(np.mean(tokens), abs=1.5)
    assert zero["cached"] < two["cached"] < two["flops"]
    with pytest.raises(FrugalError, match="tiny-t5: no prefix"):
        many_shots.costs(backbones.load("tiny-t5"), task, limit=8, preset="smoke")


def test_dollars_are_those_of_the_tokens():
    costs = pd.DataFrame({"shots": [0, 128], "prefix": [0, 4000], "query": [30, 30]})
    price = prices.apis()[0]
    found = many_shots.dollars(costs, price, 1000)
    assert list(found["uncached"]) == pytest.approx(
        [1000 * 30 * price.input / 1e6, 1000 * 4030 * price.input / 1e6]
    )
    assert found["cached"][0] == pytest.approx(found["uncached"][0])
    hit = 4000 * price.cached_input + 30 * price.input
    write = 4000 * (price.cache_write or price.input) + 30 * price.input
    assert found["cached"][1] == pytest.approx((write + 999 * hit) / 1e6)
