"""Prices of 2026 as chapter 1 shows them: every number has a row, doubts say so themselves."""

import re
from dataclasses import asdict, replace
from datetime import date, timedelta

import pandas as pd
import pytest
from drawn import apart, points, words

from frugal.costs import Scenario, arch, prices
from frugal.papers import purchases
from frugal_course import figures
from frugal_course.names import said

DAY = date(2026, 11, 27)
T0 = arch.get("t0-11b")
OWN = Scenario(arch=T0, mfu=0.05).own_gpu()


def served(**how):
    asked = Scenario(arch=T0, **how)
    return [asked.through(price.model, today=DAY) for price in prices.apis(DAY)]


def test_each_price_stands_beside_its_day_and_state():
    table = figures.price_list(served())
    for price in prices.apis(DAY):
        row = table.loc[said(price.model)]
        assert row["input"] == f"${price.row.usd:g}"
        assert row["read from a cache"] == f"${float(price.row.cached_input):g}"
        assert (row["seen on"], row["state"]) == (price.row.known_on, price.row.state)
    assert table.loc["DeepSeek Flash", "in a batch"] == "–"


def test_old_prices_say_so_by_themselves():
    now = figures.price_doubts(served(), "a100-80gb", DAY)
    assert "prices that are unverified: GPT-6.1 Sol, GPT-6.1 Terra," in now
    assert "older than 180 days: A100 (80 GB)" in now
    assert "Gemini 4 Argon changes on 2026-12-01, to $4" in now
    assert "Gemini 4 Argon, DeepSeek Flash: a cache is assumed to live 5 minutes" in now
    assert now.startswith("source: genai-prices 0.2.3, released 2026-11-10\n")
    later = figures.price_doubts(served(), "a100-80gb", DAY + timedelta(days=181))
    assert "older than 180 days: GPT-6.1 Sol, GPT-6.1 Terra," in later


def test_bills_add_up():
    queries = served()
    table = figures.api_bills(queries, OWN, 1000)
    assert table.loc["GPT-6.1 Sol"].tolist() == ["$8.24", "$0.62", "$4.12", "13.6×", "0.47"]
    assert table.loc["DeepSeek Flash"].tolist() == ["$0.62", "$0.028", "–", "22.5×", "any"]
    training = Scenario(arch=T0).train_flops() / (312e12 * 0.05 * 3600)
    rate = prices.get("gpu", OWN.gpu).usd
    bill = training * rate + 1000 * OWN.query_usd()
    assert table.loc["T-Few, own A100 (80 GB), 100% busy", "uncached"] == prices.usd(bill)
    bill += 9000 * OWN.query_usd()
    assert table.loc["T-Few, own A100 (80 GB), 10% busy", "uncached"] == prices.usd(bill)
    assert figures.api_bills(queries, OWN, 0).loc["GPT-6.1 Sol", "cached"] == "$0.00"


def test_a_saving_is_said_by_flops_and_by_each_price():
    text = figures.saving_sentence(served())
    assert "a cache saves 8.2 to 22.5 times, by the rule of FLOPs 40.0" in text
    assert "a cached token costs 2% to 10% of a new one" in text


@pytest.mark.parametrize("how", [{}, {"shots": 1}, {"shots": 20}, {"query_tokens": 2000}])
def test_the_figure_marks_where_a_cache_pays(how):
    queries = served(**how)
    title = figures.arrivals_title(queries, OWN)
    figure = figures.by_arrivals(queries, OWN, title)
    (axes,) = figure.axes
    for q in queries:
        assert said(q.price.model) in words(axes)
        if rate := q.pays_from():
            assert (rate, 1000 * q.uncached()) in points(axes)
    names = [t for t in axes.texts if "✕" not in t.get_text()]
    assert len(names) == len(queries) + 1
    assert apart(figure, names)
    text = figures.arrivals_sentence(queries, OWN)
    assert max(map(len, text.splitlines())) <= 240
    if how == {"shots": 1}:  # 98 tokens: too few for any cache
        assert title.startswith("No cache pays here")
        assert text.startswith("A prefix of 98 tokens is too short for a cache.\nOne a100-80gb")
    else:
        rates = [r for q in queries if (r := q.pays_from())]
        assert f"caching pays from {min(rates):.2g}" in text
        assert f"{max(rates):.2g} queries an hour on" in text


def test_a_gpu_that_is_never_cheaper_is_said_so():
    slow = replace(OWN, hours_per_query=1.0)
    assert figures.arrivals_title(served(), slow).endswith("a GPU of one's own never does")
    text = figures.arrivals_sentence(served(), slow)
    assert "cheaper than" not in text
    _, then = figures.then_and_now(served(), slow, "davinci", "1,000×", 1273, 0.4)
    assert "has paid for itself never, beside a cached prompt" in then


def test_then_and_now_are_counted_in_queries_of_t_few():
    table, text = figures.then_and_now(served(), OWN, "davinci", "1,000×", 1273, 0.4)
    mine = OWN.query_usd()
    assert table.index[0] == "davinci, 2022-07-03"
    assert table.iloc[0]["in T-Few queries"] == f"{4121 * 0.06 / 1000 / mine:,.0f}"
    row = table.loc["Claude Opus 5.5, 2026-11-10"]
    assert float(row["in T-Few queries"]) == pytest.approx(4121 * 4e-6 / mine, rel=0.01)
    cached = (103 * 4 + 4018 * 0.2) / 1e6
    assert float(row["in T-Few queries, cached"]) == pytest.approx(cached / mine, rel=0.05)
    training = Scenario(arch=T0).train_flops() / (312e12 * 0.05 * 3600) * 3.40
    assert f"after {training / (cached - mine):,.0f} to " in text
    assert re.search(r"at 40% the ratios are 8\.0 times as large", text)


def test_what_a_label_costs_is_told_of_every_model():
    every = prices.apis(today=DAY)
    asked = {"read": 100, "written": 5, "budget": 200}
    bought = [
        {"model": api.model, "known_on": api.row.known_on, "state": api.row.state,
         **asdict(purchases.annotator("FEVER", **asked, usd_in=api.input, usd_out=api.output))}
        for api in every
    ]  # fmt: skip
    table = figures.annotators(pd.DataFrame(bought))
    assert list(table.index) == [said(api.model) for api in every]
    for api, count in zip(every, table["labels for $200"], strict=True):
        label = (100 * api.input + 5 * api.output) / 1e6
        assert count == f"{int(200 / label + 1e-9):,}"
    assert set(table.filter(like="texts").iloc[:, 0]) == {"all of them"}
    assert table["price seen on"].str.contains("unverified").all()
