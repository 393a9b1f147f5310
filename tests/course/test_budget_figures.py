"""Chapter 5's figures: every printed cell and every run is drawn, and names stand apart."""

import itertools

import numpy as np
import pandas as pd
import pytest
from drawn import apart, points, words
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from frugal import stats
from frugal.budgets import compare
from frugal.papers import purchases, table3, tables
from frugal_course import figures
from frugal_course.figures import words_budgets, words_closing, words_purchases

CELLS = pd.DataFrame(
    [
        ("T", n, s, b, v)
        for n, s, values in [
            (1000, "annotate", [40.0, 50.0, 60.0]),
            (1000, "distill", [None, 70.0, 71.0]),
            (5000, "annotate", [66.0, 67.0, 68.0]),
            (5000, "distill", [None, 65.0, 71.2]),
        ]
        for b, v in zip([0, 100, 200], values, strict=True)
    ],
    columns=["task", "labels", "strategy", "budget", "score"],
)


def runs(students=("2 layers",)):
    hits = {"teacher": "1111110", "annotate": "1110000", "distill": "1111100", "llm": "1111000"}
    return pd.DataFrame(
        {
            "labels": n,
            "seed": seed,
            "strategy": strategy,
            "model": who,
            "params": 2e7 if who == "s4" else 13_600_000,
            "trained": 1e5 if who == "s4" else 1e6,
            "hits": stats.packed(np.array([c == "1" for c in text])),
            "examples": 8,
            "accuracy": text.count("1") / 8,
            "usd": 1.0 if strategy == "llm" else n / 10 + (strategy == "distill"),
        }
        for n, seed in itertools.product((100, 1000), (0, 1, 2))
        for strategy, first in hits.items()
        for text in [first + str(int(seed == 1))]
        for who in (("big",) if strategy == "teacher" else students)
    )


def test_every_printed_cell_is_drawn_open_under_its_budget():
    figure = figures.budget_curves(CELLS, {("T", 1000): 72.0}, "a finding")
    (axes,) = figure.axes
    printed = CELLS.dropna()
    assert set(zip(printed["budget"], printed["score"], strict=True)) <= points(axes)
    assert {(0, 72.0), (200, 72.0)} <= points(axes)  # the teacher's level
    marked = [line for line in axes.lines if line.get_marker() != "None"]
    assert {line.get_markerfacecolor() for line in marked} == {"white"}
    looks = {(to_hex(x.get_color()), x.get_marker()) for x in marked}
    assert len(looks) == len({mark for _, mark in looks}) == 2
    assert sorted(words(axes)) == ["1,000"] * 3 + ["5,000"] * 2
    assert apart(figure, axes.texts)


def test_counts_stand_on_their_fitted_line():
    bought = pd.DataFrame(
        {"task": "T", "labels": 1000, "hours": [20, 30], "unlabelled": [1000, 2000]}
    )
    (axes,) = figures.distilled_examples(bought, {("T", 1000): (100.0, 10.0)}, "a finding").axes
    assert {(20, 1.0), (30, 2.0), (10, 0)} <= points(axes)
    assert axes.get_title(loc="left") == "T\n100 an hour"
    assert any("10.0 h" in text for text in words(axes))


def test_spans_are_bars_cut_where_the_winner_changes():
    spans = pd.DataFrame(
        [
            ("T", 1000, 0, 9, "annotate"),
            ("T", 1000, 10, 99, None),
            ("T", 1000, 100, 200, "distill"),
        ],
        columns=["task", "labels", "low", "high", "winner"],
    )
    figure = figures.winner_spans(spans, "a finding")
    (axes,) = figure.axes
    bars = [p for p in axes.patches if isinstance(p, Rectangle)]
    assert [(p.get_x(), p.get_width()) for p in bars] == [(0, 10), (10, 90), (100, 101)]
    assert len({p.get_hatch() for p in bars}) == 3
    assert words(axes) == ["$10", "$100"]
    assert len(figure.legends[0].get_texts()) == 3


def test_the_frontier_draws_both_strategies_to_their_ends():
    best = pd.DataFrame(
        {
            "task": "T",
            "total": [100, 200, 200],
            "strategy": ["annotate", "annotate", "distill"],
            "score": [50.0, 60.0, 70.0],
            "labels": 1000,
        }
    )
    (axes,) = figures.best_splits(best, "a finding").axes
    assert {(100, 50.0), (200, 60.0), (200, 70.0)} <= points(axes)
    assert set(words(axes)) == {"labels", "distilled"}


def test_every_run_and_every_difference_of_a_seed_is_points():
    table = runs()
    gaps = compare.gaps(table, "distill", "annotate")
    figure = figures.same_dollars(table, gaps, 0.5, "a finding", "2 layers")
    left, right = figure.axes
    assert set(table["accuracy"]) <= {y for _, y in points(left)}
    assert set(words(left)) == {
        "labels", "distilled", "LLM's labels", "teacher", "chance",
    }  # fmt: skip
    assert left.get_ylabel() == "accuracy, 8 test examples"
    assert {y for _, y in points(right)} >= {25.0}
    bands = np.ptp(np.array([c.get_segments()[0][:, 1] for c in right.collections]), axis=1)
    assert bands == pytest.approx([100 * (gap.high - gap.low) for gap in gaps["gap"]])
    assert right.get_title(loc="left") == "grey: 95 % interval"
    assert [t.get_text() for t in right.get_xticklabels()] == ["N = 100", "N = 1,000"]


def test_two_seeds_have_no_band():
    table = runs()
    two = table[table["seed"] < 2]
    gaps = compare.gaps(two, "distill", "annotate")
    _, right = figures.same_dollars(two, gaps, 0.5, "a finding", "2 layers").axes
    assert not right.collections
    assert right.get_title(loc="left") == "a diamond a seed"


def test_students_are_drawn_for_every_n_that_has_them():
    table = runs(("s4", "1 layer"))
    one = table[~((table["labels"] == 100) & (table["model"] == "s4"))]
    assert len(figures.student_kinds(one, 0.5, "a finding").axes) == 1
    figure = figures.student_kinds(table, 0.5, "a finding")
    students = table[table["strategy"].isin(["annotate", "distill"])]
    for axes in figure.axes:
        assert set(students["accuracy"]) <= {y for _, y in points(axes)}
        assert apart(figure, axes.texts)
    names = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert names == ["1 layer\n13.6 M", "S4 in MiniLM\n20.0 M"]  # the smaller first


def many_tasks():
    """As `make crossing` records: runs of two teachers, on tasks that have all of it, or not."""
    draw = np.random.default_rng(0).random
    rows = [
        {
            "task": task,
            "teacher": teacher,
            "labels": n,
            "seed": seed,
            "strategy": strategy,
            "model": "2 layers",
            "accuracy": hits.mean(),
            "hits": stats.packed(hits),
            "examples": hits.size,
        }
        for task, teacher, n, strategy, level in (
            ("one", "small", 100, "annotate", 0.5),
            ("one", "small", 1000, "annotate", 0.6),
            ("one", "lm", 100, "annotate", 0.5),
            ("one", "lm", 100, "distill", 0.8),
            ("two", "small", 100, "annotate", 0.5),
            ("two", "small", 1000, "annotate", 0.8),
            ("two", "small", 100, "distill", 0.5),
            ("two", "lm", 100, "distill", 0.6),
            ("half", "lm", 100, "distill", 0.6),
        )
        for seed in range(5)
        for hits in [draw(400) < level]
    ]
    return pd.DataFrame(rows)


def test_few_labels_and_a_teacher_stand_beside_many_labels_on_every_task_that_has_both():
    joined, gaps = compare.joined(many_tasks(), "2 layers", "lm")
    assert list(gaps) == ["one", "two"]
    assert gaps["one"].low > 0.1
    assert gaps["two"].high < -0.1
    assert joined.groupby(["task", "way"]).size().tolist() == [5] * 6
    figure = figures.few_labels(joined, gaps, "a $ is no formula, nor are two $")
    assert figure.get_suptitle() == "a $ is no formula, nor are two $"
    assert [x.get_text() for x in figure.axes[0].get_yticklabels()] == list(compare.JOINED)
    for at, (task, gap) in zip(figure.axes, gaps.items(), strict=True):
        assert at.get_title(loc="left") == f"{task}\n{gap}"
        mine = joined[joined["task"] == task]
        for y, way in enumerate(compare.JOINED):
            drawn = {x for x, height in points(at) if height == y}
            each = mine.loc[mine["way"] == way, "accuracy"]
            assert drawn >= {*each, each.mean()}


def test_table_4_has_every_printed_dollar_open_and_says_how_many_times():
    cells = words_purchases.equivalents(tables.load("annotate_table4_equivalents"))
    (axes,) = figures.as_good(cells, "a finding").axes
    drawn = {x for x, _ in points(axes)}
    assert set(cells.loc[cells["way"] != "all", "usd"]) <= drawn
    assert all(
        line.get_markerfacecolor() == "white" for line in axes.lines if line.get_marker() != "None"
    )
    assert "70.5 for $1,300 (2.6 times)" in words(axes)
    assert "53.0 for $2,595 (all labels)" in words(axes)
    times, never = words_purchases.ratios(cells)
    assert times["WLP"] == pytest.approx(1300 / 502)
    assert sorted(never) == ["MULTIPIT_Gen", "STANCEOSAURUS"]
    told = words_purchases.equivalents_sentence(cells, purchases.table4())
    assert "MultiPIT-Gen and Stanceosaurus" in told


def test_leads_are_filled_with_intervals_and_printed_ones_open():
    gaps = compare.gaps(runs(), "distill", "annotate")
    printed = pd.DataFrame({"task": "T", "labels": [1000, 5000], "lead": [9.0, 3.0]})
    (axes,) = figures.leads({"here": gaps}, "a finding", "points", printed).axes
    here, theirs = (line for line in axes.lines if line.get_marker() in "Do")
    assert list(here.get_ydata()) == [100 * gap.difference for gap in gaps["gap"]]
    assert theirs.get_markerfacecolor() == "white"
    assert list(theirs.get_ydata()) == [9.0, 3.0]
    assert len(axes.collections) == len(gaps)
    assert {"here", "T, printed"} <= set(words(axes))


def test_a_gain_less_another_is_paired_by_seed_and_text():
    recorded = compare.recorded()
    found = compare.gain_less(recorded, ("1 layer", 100), ("2 layers", 100))
    gaps = compare.gaps(recorded, "distill", "annotate").set_index(["labels", "model"])["gap"]
    apart_ = gaps[100, "1 layer"].difference - gaps[100, "2 layers"].difference
    assert found.difference == pytest.approx(apart_)
    assert found.draws == 3


def test_the_closing_table_says_what_the_recorded_runs_say():
    record, ranked, two = compare.recorded(), compare.recorded("study_tfew"), "2 layers"

    def of(first, second):
        gaps = compare.gaps(record, first, second)
        return gaps[gaps["model"] == two]

    found = {
        "distill": of("distill", "annotate"),
        "people": of("llm", "annotate"),
        "students": of("llm", "distill"),
        "tfew": compare.gaps(ranked, "distill", "annotate"),
    }
    apart_ = {n: compare.gain_less(record, ("1 layer", n), (two, n)) for n in (100, 300, 1000)}
    shrinks = compare.gain_less(record, (two, 100), (two, 1000))
    taught = compare.less(
        ranked.query("strategy == 'distill' and model == '2 layers'"),
        record.query("strategy == 'annotate' and model == '2 layers' and labels == 1000"),
    )
    printed = dict.fromkeys(("label", "cells", "headings", "equal", "share", "leads", "llm"), "x")
    rows = words_closing.budgets_claims(
        found, apart_, shrinks, taught, compare.worth(record, two),
        {"examples": 10.0, "share": 0.5}, printed,
    )  # fmt: skip
    by = {row.claim: row for row in rows}
    mean = stats.average(list(found["distill"]["gap"]))
    beats = by["Distillation beats more labels (Table 3)"]
    assert f"{beats.measured} {beats.interval}" == str(mean)
    assert beats.verdict == ("confirmed" if mean.clear else "open")
    llm = by["An LLM's labels beat people's, per dollar (Figure 6)"]
    assert f"{llm.measured} {llm.interval}" == str(found["people"]["gap"].iloc[0])
    assert llm.verdict == "confirmed"
    assert by["… and stay below distillation (Figure 6)"].verdict == "confirmed"
    assert all(len(cell) <= 120 for row in rows for cell in row)


def test_words_of_chapter_5_fit_and_lead_with_their_finding():
    assert table3.teachers()["WLP", 1000] == 72.4
    gaps = compare.gaps(runs(), "distill", "annotate")
    told = words_budgets.stated(gaps, "live")
    assert told.startswith("Distilled less labels alone, 2 layers, live: N = 100 +25 points [")
    people = compare.gaps(compare.recorded(), "llm", "annotate").query("model == '2 layers'")
    assert words_budgets.llm_answer(people) == (
        "Better than 100, not told apart from 300, worse than 1,000 human labels"
    )
    table = words_budgets.means_table(compare.summary(runs(("1 layer", "s4"))))
    assert "distilled, S4 in MiniLM" in table.index
    assert list(table.columns) == ["N = 100", "N = 1,000"]
