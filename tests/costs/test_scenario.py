"""Prices and scenarios: dates, sources, break-even points, and the errors for nonsense."""

import math
import subprocess
import sys
from datetime import date

import pytest

from frugal.costs import Scenario, arch, prices, scenario
from frugal.errors import FrugalError

T0, GPT3 = arch.get("t0-11b"), arch.get("gpt3-175b")


def options(**how):
    return {o.name: o for o in Scenario(**{"arch": T0, "icl_arch": GPT3} | how).compare()}


def test_the_papers_numbers():
    found = options()
    assert found["zero-shot"].query_flops == found["t-few"].query_flops == 11 * 10**9 * 103
    assert found["icl"].query_flops == 2 * 175 * 10**9 * 4121
    assert found["t-few"].train_flops == 27_192_000_000_000_000
    assert found["t-few"].break_even == 19  # "about 20"
    assert found["icl"].disk_bytes == 16_072
    assert found["t-few"].disk_bytes == 4_325_376
    assert found["icl-cached"].query_flops * 4121 == found["icl"].query_flops * 103


def test_totals_follow_from_parts():
    for o in options(gpu="a100-40gb", mfu=0.5).values():
        assert o.flops == o.train_flops + o.prefix_flops + 1000 * o.query_flops
        assert o.hours == pytest.approx(o.flops / (312e12 * 0.5 * 3600))
        assert o.usd == pytest.approx(3.75 * o.hours)


def test_exact_count_orders_the_ways_alike():
    found = options(arch=arch.get("smollm2-135m"), icl_arch=None, queries=10, count="exact")
    assert found["zero-shot"].query_flops < found["icl-cached"].query_flops
    assert found["icl-cached"].query_flops < found["icl"].query_flops
    whole = found["icl-cached"].prefix_flops + found["icl-cached"].query_flops
    # Computing prefix and query apart skips the pairs in which the prefix would see the query.
    assert whole < found["icl"].query_flops
    assert found["t-few"].train_flops < found["full"].train_flops


@pytest.mark.parametrize("name", ["gpt3-175b", "t0-11b", "minilm-l6", "smollm2-135m"])
def test_uses_add_up_and_only_scores_are_quadratic(name):
    asked = [
        Scenario(arch=arch.get(name), shots=0, query_tokens=tokens, count="exact")
        for tokens in (100, 200)
    ]
    once, twice = (scenario.by_use(a.query_parts()) for a in asked)
    assert sum(once.values()) == asked[0].query_flops()
    kind = arch.get(name).kind
    read = "encoder: attention" if kind == "encoder-decoder" else "attention"
    assert twice[f"{read} scores"] == 4 * once[f"{read} scores"]
    assert twice[f"{read} projections"] == 2 * once[f"{read} projections"]
    assert set(once) - set(twice) == set()
    assert ("decoder: cross-attention projections" in once) == (kind == "encoder-decoder")


def test_break_even():
    assert scenario.break_even(10, 1, 0, 3) == 5
    assert scenario.break_even(10, 3, 0, 3) is None
    assert scenario.break_even(0, 3, 0, 1) == 0
    with pytest.raises(FrugalError, match="once"):
        scenario.break_even(math.nan, 1, 0, 3)


def test_an_option_overtakes_another():
    """T-Few against GPT-3: about 20 queries without a cache, hundreds with one."""
    found = options()
    tfew, cached = found["t-few"], found["icl-cached"]
    assert tfew.overtakes(found["icl"]) == tfew.break_even == 19
    after = tfew.overtakes(cached)
    assert after == 739
    assert tfew.spent(after) <= cached.spent(after)
    assert tfew.spent(after - 1) > cached.spent(after - 1)
    assert tfew.spent(1000) == tfew.flops
    assert found["icl"].overtakes(found["zero-shot"]) == 0  # nothing is spent beforehand, by either
    assert found["full"].overtakes(found["zero-shot"]) is None


def test_no_shots_is_zero_shot():
    found = options(shots=0, icl_arch=None)
    assert found["icl"].query_flops == found["zero-shot"].query_flops


def test_label_prices_are_the_papers():
    assert prices.cost("label", "fever", 5000) == 645.0
    assert prices.cost("label", "MULTIPIT_Gen", 10) == pytest.approx(3.71)
    assert prices.cost("token", "davinci", 1000) == 0.06
    assert len(prices.papers()) == 8
    assert {p.sku for p in prices.papers() if p.kind == "gpu"} == {"a100-40gb", "a40"}


def test_prices_say_how_old_and_how_sure_they_are():
    price = prices.get("gpu", "a100-80gb")
    assert any("unverified" in line for line in price.warnings(date(2022, 12, 2)))
    paper = prices.get("gpu", "a40")
    assert paper.warnings(date(2023, 8, 1)) == []
    assert "2023-07" in paper.warnings(date(2024, 8, 1))[0]
    for p in prices.all_prices():
        assert p.usd > 0
        assert p.source
        assert p.state in ("paper", "checked", "unverified")
        assert ("unverified" in p.note) == (p.state == "unverified")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prices.get("gpu", "a10"), "did you mean"),
        (lambda: prices.get("gpus", "a40"), "did you mean 'gpu'"),
        (lambda: prices.cost("label", "fever", -1), "count"),
        (lambda: prices.cost("label", "fever", math.nan), "count"),
        (lambda: prices.cost("label", "fever", 10**400), "count"),
        (lambda: prices.usd(math.nan), "USD"),
        (lambda: options(shots=-1), "shots"),
        (lambda: options(queries=-1), "queries"),
        (lambda: options(mfu=1.01), "mfu"),
        (lambda: options(mfu=0), "mfu"),
        (lambda: options(usd_per_hour=math.nan), "usd_per_hour"),
        (lambda: options(usd_per_hour=0), "usd_per_hour"),
        (lambda: options(count="exakt"), "did you mean 'exact'"),
        (lambda: options(gpu="t40"), "did you mean"),
        (lambda: options(dtype="float23"), "did you mean"),
        (lambda: options(method="ia4"), "did you mean 'ia3'"),
        (lambda: options(batch=0), "batch"),
        (lambda: options(query_tokens=0), "query_tokens"),
        (lambda: options(example_tokens=0), "example_tokens"),
        (lambda: Scenario(arch=T0, cached=True), "cached: t0-11b"),
    ],
)
def test_nonsense_is_one_clear_error(call, message):
    with pytest.raises(FrugalError, match=message):
        call()


def test_import_is_light():
    code = (
        "import frugal.costs, frugal.papers, frugal.stats, importlib, pkgutil, sys\n"
        "for room in (frugal.costs, frugal.papers):\n"
        "    for module in pkgutil.iter_modules(room.__path__, f'{room.__name__}.'):\n"
        "        importlib.import_module(module.name)\n"
        "from frugal.papers import audit, purchases\n"
        "assert audit.run() and purchases.break_even('WLP', 2000)\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'pydantic'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"), (0.000512, "$0.00051"), (3.14e-9, "$3.1e-09"), (0.1, "$0.10"),
        (12.345, "$12.35"), (12345, "$12,345"),
    ],
)  # fmt: skip
def test_small_sums_are_not_said_to_be_nothing(amount, text):
    assert prices.usd(amount) == text
