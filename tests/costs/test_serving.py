"""Caches of an API in dollars, against a few lines of their own and against queries drawn."""

import math
import random
from dataclasses import replace
from datetime import date

import pytest

from frugal.costs import Scenario, arch, prices, serving
from frugal.errors import FrugalError

DAY = date(2026, 11, 27)
P, Q = 41 * 98, 103
T0 = arch.get("t0-11b")
OWN = Scenario(arch=T0).own_gpu()
NAMES = [a.model for a in prices.apis(DAY)]


def through(model, output_tokens=0, **how):
    asked = Scenario(arch=T0).through(model, output_tokens, today=DAY)
    return replace(asked, **how)


def test_a_cache_saves_40_times_by_flops_and_8_by_price():
    assert serving.saving(P, Q) == pytest.approx((41 * 98 + 103) / 103)
    assert round(serving.saving(P, Q), 1) == 40.0
    assert round(serving.saving(P, Q, 0.1), 1) == 8.2
    gpt3 = Scenario(arch=arch.get("gpt3-175b"))
    by_flops = gpt3.query_flops() / replace(gpt3, cached=True).query_flops()
    assert by_flops == pytest.approx(serving.saving(P, Q))
    tenth = through("claude-haiku-5-5")  # whose cached tokens cost a tenth
    assert tenth.price.cached_input == pytest.approx(tenth.price.input / 10)
    assert round(tenth.uncached() / tenth.hit(), 1) == 8.2
    assert serving.saving(P, Q, 1) == serving.saving(0, Q) == 1


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("output", [0, 5])
def test_the_table_of_1000_queries_is_recomputed_from_the_file(model, output):
    (row,) = [
        p
        for p in prices.all_prices()
        if (p.kind, p.sku, p.above) == ("api", model, "") and p.valid_from < "2026-11-28"
    ]
    a, c, w, o = (float(x) for x in (row.usd, row.cached_input, row.cache_write, row.output))
    asked = through(model, output)
    answer = output * o
    assert 1000 * asked.uncached() == pytest.approx((4121 * a + answer) / 1e3)
    cached = (4018 * w + 999 * 4018 * c + 1000 * (103 * a + answer)) / 1e6
    assert asked.total(1000) == pytest.approx(cached)
    if row.batch:
        assert asked.batch() == pytest.approx((4121 * a + answer) * float(row.batch) / 1e6)
    hours = float(row.cache_minutes or 5) / 60
    rate = asked.pays_from()
    assert rate == pytest.approx(max(math.log((w - c) / (a - c)) / hours, 0))
    if rate:
        assert asked.cached(rate) == pytest.approx(asked.uncached())
        assert asked.cached(1.01 * rate) < asked.uncached() < asked.cached(0.99 * rate)


def test_queries_at_random_cost_what_is_expected():
    """Drawn one by one, with a clock: a hit is one within the lifetime of the last use."""
    asked = through("claude-opus-5-5", 3)
    for arrivals in (1.0, asked.pays_from(), 12.0, 60.0):
        draw = random.Random(0)
        now = dies = spent = hits = 0.0
        for _ in range(40_000):
            now += draw.expovariate(arrivals)
            hits += now < dies
            spent += asked.hit() if now < dies else asked.miss()
            dies = now + 5 / 60
        assert hits / 40_000 == pytest.approx(asked.hit_share(arrivals), abs=0.01)
        assert spent / 40_000 == pytest.approx(asked.cached(arrivals), rel=0.02)
    draws = random.Random(1)
    totals = [
        asked.miss()
        + sum(asked.hit() if draws.expovariate(6) < 5 / 60 else asked.miss() for _ in range(99))
        for _ in range(500)
    ]
    assert sum(totals) / 500 == pytest.approx(asked.total(100, 6), rel=0.01)


def test_the_price_falls_with_the_rate_from_a_write_to_a_read():
    asked = through("gpt-6.1-sol")
    at = [asked.cached(rate) for rate in (0, 0.1, 1, 10, 1e6)]
    assert at == sorted(at, reverse=True)
    assert at[0] == asked.miss() > asked.uncached()
    assert at[-1] == pytest.approx(asked.hit())
    assert asked.total(0) == 0
    assert asked.total(1, 3) == asked.miss()
    longer = replace(asked, cache_minutes=300)
    assert longer.pays_from() == pytest.approx(asked.pays_from() / 10)


def test_a_short_prefix_is_not_cached():
    """4,018 tokens are enough for a vendor that caches from 1,024 on, and not from 4,096."""
    long = through("claude-opus-5-5", cache_least=4018)
    short = through("claude-opus-5-5", cache_least=4019)
    assert long.cacheable
    assert not short.cacheable
    assert short.hit() == short.miss() == short.cached(5) == short.uncached()
    assert short.pays_from() is None
    assert replace(long, prefix_tokens=0, cache_least=0).pays_from() is None


def test_what_nobody_lists_is_said_to_be_assumed():
    assert through("gpt-6.1-sol").assumed() == []
    assert through("claude-opus-5-5").assumed() == ["caches are assumed from 1,024 tokens on"]
    assert len(through("gemini-4-argon").assumed()) == 2
    assert through("gemini-4-argon", cache_minutes=60, cache_least=0).assumed() == []


def test_a_gpu_of_ones_own_is_paid_for_at_every_hour():
    busy, rate = OWN.query_usd(), prices.get("gpu", "a100-80gb").usd
    assert busy == pytest.approx(11e9 * 103 / (312e12 * Scenario.mfu * 3600) * rate)
    assert OWN.query_usd(0.1) == pytest.approx(10 * busy)
    assert OWN.training_usd == pytest.approx(
        next(o for o in Scenario(arch=T0, queries=0).compare() if o.name == "t-few").usd
    )
    assert OWN.total(1000, 0.5) == pytest.approx(OWN.training_usd + 2000 * busy)
    usd = through("gpt-6.1-sol").uncached()
    arrivals = OWN.cheaper_from(usd)
    assert OWN.query_usd(arrivals * OWN.hours_per_query) == pytest.approx(usd)  # as dear, there
    assert OWN.cheaper_from(0.99 * busy) is None
    assert OWN.cheaper_from(busy) * OWN.hours_per_query == pytest.approx(1)
    assert Scenario(arch=T0, shots=0).own_gpu() == OWN


def test_a_prompt_of_a_longer_tier_costs_more():
    long = Scenario(arch=T0, shots=3000).through("gpt-6.1-sol", today=DAY)
    assert long.price.input == 4
    assert long.uncached() == pytest.approx((3000 * 98 + 103) * 4 / 1e6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: serving.saving(-1, 5), "prefix_tokens"),
        (lambda: serving.saving(5, 0), "query_tokens"),
        (lambda: serving.saving(5, 5, -0.1), "share"),
        (lambda: through("gpt-6.1-sol", -1), "output_tokens"),
        (lambda: through("gpt-6.1-sol", query_tokens=0), "query_tokens"),
        (lambda: through("gpt-6.1-sol", cache_minutes=0), "cache_minutes"),
        (lambda: through("gpt-6.1-sol", cache_least=1.5), "cache_least"),
        (lambda: through("gpt-6.1-sol").cached(-1), "arrivals"),
        (lambda: through("gpt-6.1-sol").cached(math.inf), "arrivals"),
        (lambda: through("gpt-6.1-sol").total(1.5), "queries"),
        (lambda: through("deepseek-flash").batch(), "no batch is listed"),
        (lambda: through("gpt-7"), "did you mean"),
        (lambda: OWN.query_usd(0), "utilisation"),
        (lambda: OWN.query_usd(1.1), "utilisation"),
        (lambda: OWN.cheaper_from(0), "usd_per_query"),
    ],
)
def test_nonsense_is_one_clear_error(call, message):
    with pytest.raises(FrugalError, match=message):
        call()
