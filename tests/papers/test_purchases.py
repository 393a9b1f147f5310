"""The paper's cost model: its counts come back, its headings are put right, nothing is made up."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.errors import FrugalError
from frugal.papers import purchases, table3

TASKS = ("WLP", "STANCEOSAURUS", "FEVER")


@pytest.mark.parametrize(
    ("task", "rate", "h0", "residual"),
    [
        ("WLP", 431.9, (9.80, 37.59), 140),
        ("STANCEOSAURUS", 836.3, (9.08, 32.99), 690),
        ("FEVER", 2408.2, (4.57, 12.46), 1040),
    ],
)
def test_throughput_is_the_least_squares_fit_of_the_printed_counts(task, rate, h0, residual):
    model = table3.throughput(task)
    assert model.per_hour == pytest.approx(rate, abs=0.05)
    assert tuple(model.overhead.values()) == pytest.approx(h0, abs=0.005)
    assert model.residual <= residual
    # Any other line does worse: nudge each fitted number both ways.
    rows = [c for c in table3.cells() if c.task == task and c.unlabelled]

    def squares(r, overhead):
        return sum((c.unlabelled - r * (c.bought - overhead[c.labels])) ** 2 for c in rows)

    best = squares(model.per_hour, model.overhead)
    for factor in (0.999, 1.001):
        assert squares(model.per_hour * factor, model.overhead) > best
        for n in model.overhead:
            moved = {**model.overhead, n: model.overhead[n] * factor}
            assert squares(model.per_hour, moved) > best


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("WLP", (0, 100, 200, 300, 500)),
        ("STANCEOSAURUS", (0, 100, 150, 200, 300)),
        ("FEVER", (0, 50, 75, 100, 150)),
    ],
)
def test_the_true_budget_columns(task, columns):
    headed = {c.header: c.budget for c in table3.cells() if c.task == task}
    assert headed == dict(zip((0, 100, 200, 300, 500), columns, strict=True))


def test_every_count_of_table_3_comes_back():
    table = purchases.table3()
    assert len(table) == 60 + 30 + 24 + 24 + 54  # initial USD, labels, hours, unlabelled, scores
    exact = table[table["what"] != "unlabelled"]
    assert exact["residual"].abs().max() < 1e-6
    misses = table[table["what"] == "unlabelled"].groupby("task")["residual"]
    worst = misses.apply(lambda r: r.abs().max())
    assert worst["WLP"] < 140
    assert worst["STANCEOSAURUS"] < 690
    assert worst["FEVER"] < 1040


def test_what_is_spent_is_the_budget_to_one_label_or_one_hour():
    for c in table3.cells():
        bought = purchases.buy(c.task, c.strategy, labels=c.labels, budget=c.budget)
        if c.strategy == "annotate":
            assert 0 <= c.budget - bought.usd < table3.label_usd(c.task)
        else:
            assert 0 <= bought.usd - c.budget < table3.gpu_usd()


def test_table_4_is_reproduced_or_listed_with_its_residual():
    table = purchases.table4().set_index(["row", "task"])
    bounds = table[table["what"] == "USD"]["residual"].droplevel("row")
    assert abs(bounds[["STANCEOSAURUS", "MULTIPIT_Id"]]).max() < 0.5
    assert bounds["FEVER"] == pytest.approx(-3.4, abs=0.05)  # the price's third digit is rounded
    assert bounds["NATURAL QUESTIONS"] == pytest.approx(645, abs=0.5)  # starts from 10,000 labels
    assert bounds["MULTIPIT_Gen"] == pytest.approx(2104.7, abs=0.5)
    scores = table[table["what"] == "score"]
    assert (scores["basis"].eq("table 3 has no curve of this task") == scores["model"].isna()).all()
    assert len(table) == 18 - 2  # two cells are printed N/A


def test_scores_are_interpolated_and_never_extrapolated_in_silence():
    half = purchases.buy("WLP", "annotate", labels=1000, budget=0.26 * (384 + 769) / 2)
    assert half.basis == "interpolated"
    assert 50.0 < half.score < 53.7
    beyond = purchases.buy("WLP", "annotate", labels=5000, budget=1300)
    assert (beyond.score, beyond.basis) == (69.3, purchases.HELD)
    assert purchases.buy("FEVER", "distill", labels=1000, budget=1000).basis == purchases.HELD
    below = purchases.buy("WLP", "distill", labels=1000, budget=50)
    assert (below.score, below.basis) == (None, purchases.UNPRINTED)
    nothing = purchases.buy("WLP", "distill", labels=5000, budget=60)
    assert nothing.score is None
    assert "37.6 GPU hours" in nothing.basis
    assert (nothing.unlabelled, nothing.teacher_hours) == (0, nothing.gpu_hours)


@pytest.mark.parametrize("task", TASKS)
def test_between_the_printed_n_a_score_lies_between_theirs(task):
    budget = max(c.budget for c in table3.cells() if c.task == task)
    at = {
        n: purchases.buy(task, "distill", labels=n, budget=budget).score
        for n in (1000, 3000, 4999, 5000)
    }
    assert min(at[1000], at[5000]) <= at[3000] <= max(at[1000], at[5000])
    assert at[4999] == pytest.approx(at[5000], abs=0.3)


@given(st.sampled_from(TASKS), st.integers(1000, 5000), st.floats(0, 2000), st.floats(0, 500))
def test_more_money_never_buys_less(task, labels, budget, more):
    for strategy in purchases.STRATEGIES:
        a = purchases.buy(task, strategy, labels=labels, budget=budget)
        b = purchases.buy(task, strategy, labels=labels, budget=budget + more)
        assert (a.extra_labels, a.gpu_hours, a.unlabelled) <= (
            b.extra_labels,
            b.gpu_hours,
            b.unlabelled,
        )


def test_annotation_wins_one_cell_of_24_and_break_even_says_where():
    places = {(c.task, c.labels, c.budget) for c in table3.cells() if c.budget}
    assert len(places) == 24
    lost = []
    for task, n, budget in places:
        pair = (purchases.buy(task, s, labels=n, budget=budget) for s in purchases.STRATEGIES)
        if purchases.winner(*pair) != "distill":
            lost.append((task, n, budget))
    assert lost == [("WLP", 5000, 100)]
    *_, unknown, annotate, distill = purchases.break_even("WLP", 5000)
    assert (unknown.winner, annotate.winner, distill.winner) == (None, "annotate", "distill")
    assert annotate.low == 100
    assert 100 < distill.low < 200
    spans = purchases.break_even("STANCEOSAURUS", 2500)
    assert spans[0].low == 0
    assert all(a.high + 1 == b.low for a, b in itertools.pairwise(spans))


def test_distilled_examples_cost_a_hundredth_of_a_label():
    for task, times in zip(TASKS, (60, 162, 166), strict=True):
        model = table3.throughput(task)
        ratio = table3.label_usd(task) / model.usd_per_example
        assert ratio == pytest.approx(times, abs=0.5)
        assert model.h0(3000) == pytest.approx(np.mean(list(model.overhead.values())))


def test_splits_spend_the_same_total_and_annotation_does_not_care_how():
    found = purchases.splits("WLP", 1400)
    assert sorted({p.labels for p in found}) == list(range(1000, 5001, purchases.STEP))
    price = table3.label_usd("WLP")
    assert all(abs(p.labels * price + p.usd - 1400) < table3.gpu_usd() for p in found)
    assert len({p.score for p in found if p.strategy == "annotate"}) == 1


def test_the_frontier_is_the_best_split_so_far_and_never_extrapolates():
    best = purchases.best_splits("WLP", [5000, 300, 1400]).set_index(["total", "strategy"])["score"]
    for strategy in purchases.STRATEGIES:
        seen = [p for total in (300, 1400) for p in purchases.splits("WLP", total)]
        known = [p.score for p in seen if p.strategy == strategy and p.basis != purchases.HELD]
        assert best[1400, strategy] == max(score for score in known if score is not None)
        assert best[5000, strategy] == best[1400, strategy]  # beyond what table 3 prints
    assert (300, "distill") not in best.index  # $40 do not train the teacher and distill


def test_no_budget_fits_counts_that_disagree():
    row = {"n_additional_labels": "384", "gpu_hours": ""}
    with pytest.raises(FrugalError, match="no budget fits"):
        table3.true_budget("WLP", [row, {"n_additional_labels": "", "gpu_hours": "80"}])
    assert table3.true_budget("WLP", [row]) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("WPL", "annotate", 1000, 1), "unknown task 'WPL'; did you mean 'WLP'"),
        (("WLP", "distil", 1000, 1), "unknown strategy 'distil'; did you mean 'distill'"),
        (("WLP", "distill", 100, 1), "prints N from 1,000 to 5,000, not 100"),
        (("WLP", "distill", 1000, -1), "budget must not be negative"),
        (("WLP", "distill", 1000, math.nan), "budget must be a number"),
        (("WLP", "distill", 1000, -math.inf), "budget must be a number"),
        (("WLP", "annotate", 1000, 1e308), "budget must be a number .* at most 1e.12"),
        (("WLP", "annotate", 10**400, 1), "labels must be a whole number"),
        (("WLP", "distill", 1000.5, 1), "labels must be a whole number"),
    ],
)
def test_bad_input(arguments, message):
    task, strategy, labels, budget = arguments
    with pytest.raises(FrugalError, match=message):
        purchases.buy(task, strategy, labels=labels, budget=budget)


def test_a_total_that_buys_no_printed_n_is_refused():
    with pytest.raises(FrugalError, match=r"1,000 labels of WLP cost \$260"):
        purchases.splits("WLP", 100)


@pytest.mark.parametrize("task", ["WLP", "STANCEOSAURUS", "FEVER", "NATURAL QUESTIONS"])
def test_an_llms_label_costs_its_tokens_and_the_budget_binds_while_it_buys_fewer_than_there_are(
    task,
):
    sizes = {"WLP": 11966, "STANCEOSAURUS": 12130, "FEVER": 104966, "NATURAL QUESTIONS": 87372}
    then = purchases.annotator(task, budget=200, read=95, written=5, usd_in=20, usd_out=20)
    assert then.usd_per_label == pytest.approx(100 * 0.02 / 1000)  # a dollar for 500 answers
    assert then.affordable == 100_000
    assert (then.texts, then.binds) == (sizes[task], sizes[task] > 100_000)
    assert then.human == table3.label_usd(task)
    shots = {"read": 4121, "written": 3, "cached": 4018}
    whole = purchases.annotator(task, budget=200, usd_in=0.4, usd_out=1.6, **shots)
    assert whole.usd_per_label == pytest.approx((4121 * 0.4 + 3 * 1.6) / 1e6)
    less = purchases.annotator(
        task, budget=200, usd_in=0.4, usd_out=1.6, usd_cached=0.1, share=0.5, **shots
    )
    usd = 0.5 * (103 * 0.4 + 4018 * 0.1 + 3 * 1.6) / 1e6
    assert less.usd_per_label == pytest.approx(usd)
    assert less.affordable == math.floor(200 / usd)
    assert purchases.annotator(
        task, budget=200, usd_in=0.4, usd_out=1.6, texts=10**7, **shots
    ).binds
    said = f"{task}: a label costs $0.0020, a person's {then.human / 0.002:,.0f} times that; $200"
    assert str(then).startswith(said)
    assert ("the budget binds" if then.binds else "it is texts that are too few") in str(then)


@given(
    st.floats(0, 1e6), st.floats(1, 1e5), st.floats(0, 1e4), st.floats(1e-3, 100), st.floats(0, 1)
)
def test_what_a_budget_affords_is_paid_for_and_one_more_is_not(budget, read, written, usd, cached):
    found = purchases.annotator(
        "FEVER", budget=budget, read=read, written=written, usd_in=usd, usd_out=4 * usd,
        cached=cached * read, usd_cached=usd / 10,
    )  # fmt: skip
    assert found.affordable * found.usd_per_label <= budget * (1 + 1e-9) + 1e-9
    assert (found.affordable + 1) * found.usd_per_label > budget * (1 - 1e-9)
    assert found.binds == (found.affordable < 104966)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read": -1}, "read must not be negative"),
        ({"cached": 101}, "cached must be"),
        ({"usd_in": 0, "usd_out": 0}, "the price of a label must be"),
        ({"share": math.nan}, "share must be"),
        ({"texts": 0}, "texts must be at least 1"),
        ({"budget": 1e13}, "budget must be"),
        ({"task": "FEVR"}, "did you mean 'FEVER'"),
    ],
)
def test_an_llm_without_a_price_buys_nothing(change, message):
    given = {"budget": 200, "read": 100, "written": 5, "usd_in": 1, "usd_out": 4, "task": "FEVER"}
    given |= change
    with pytest.raises(FrugalError, match=message):
        purchases.annotator(given.pop("task"), **given)
