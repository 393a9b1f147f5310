"""Chapter 6's figures: every way drawn where its numbers are, every change marked."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from drawn import words

from frugal.choice import active, ways
from frugal_course import figures
from frugal_course.figures import choice
from frugal_course.figures import words_choice as choice_words
from frugal_course.names import name

WAYS = ["zero-shot", "icl", "t-few", "small-full", "small-s4", "small-distilled"]
OPTIONS = pd.DataFrame(
    {
        "strategy": WAYS,
        "accuracy": [0.77, 0.65, 0.81, 0.62, 0.6, 0.8],
        "low": [0.72, 0.6, 0.76, 0.56, 0.54, 0.75],
        "high": [0.81, 0.7, 0.85, 0.67, 0.66, 0.84],
        "usd_total": [0.08, 3.6, 4.21, 4.13, 4.131, 4.133],
        "usd_once": [0.0, 2.06, 4.13, 4.128, 4.1281, 4.1282],
        "usd_per_query": [8e-8, 1.5e-6, 8e-8, 5e-9, 5.1e-9, 5e-9],
    }
)


def test_every_way_stands_at_its_accuracy_and_at_its_dollars():
    figure = figures.accuracy_against_dollars(OPTIONS, "t-few", 0.5, 100.0, "a finding")
    axes, costs = figure.axes
    looks = {look[1] for look in choice.LOOKS.values()}
    rows = OPTIONS.sort_values("accuracy")
    for at, column in ((axes, "accuracy"), (costs, "usd_total")):
        drawn = [line for line in at.lines if line.get_marker() in looks]
        assert [float(line.get_xdata()[0]) for line in drawn] == list(rows[column])
        assert [float(line.get_ydata()[0]) for line in drawn] == [*range(len(WAYS))]
        assert len({line.get_marker() for line in drawn}) == len(WAYS)
    ends = [tuple(part[:, 0]) for c in axes.collections for part in c.get_segments()]
    assert sorted(ends) == sorted(zip(OPTIONS["low"], OPTIONS["high"], strict=True))
    names = axes.get_yticklabels()
    assert [t.get_text() for t in names if t.get_weight() == "bold"] == ["T-Few"]
    assert "S4 in MiniLM" in [t.get_text() for t in names]
    assert "chance" in words(axes)
    assert {"$4.21", "$0.080"} <= set(words(costs))
    assert not any("budget" in text for text in words(costs))  # far off the axis
    near = figures.accuracy_against_dollars(OPTIONS, "t-few", 0.5, 1.0, "a finding").axes[1]
    assert "budget $1.00" in words(near)


def test_every_way_has_a_look_of_its_own():
    assert choice.LOOKS.keys() == {*ways.NEEDS, "api"}
    marks, signs = ({look[i] for look in choice.LOOKS.values()} for i in (1, 2))
    lines = {(look[0], look[3]) for look in choice.LOOKS.values()}
    assert len(marks) == len(signs) == len(lines) == len(choice.LOOKS)
    shares = choice._shares()
    assert len(set(shares.values())) == len(shares)


def test_all_ways_have_a_row_that_can_be_read():
    names = list(choice.LOOKS)
    every = pd.DataFrame(
        {
            "strategy": names,
            "accuracy": np.linspace(0.55, 0.85, len(names)),
            "low": np.linspace(0.5, 0.8, len(names)),
            "high": np.linspace(0.6, 0.9, len(names)),
            "usd_total": [0.1, 0.1, 4, 1, *[2.0 + 0.01 * i for i in range(len(names) - 4)]],
            "usd_once": 1.0,
            "usd_per_query": [
                1e-7 if look[0] == choice.BLUE else 5e-9 for look in choice.LOOKS.values()
            ],
        }
    )
    figures.accuracy_against_dollars(every, "lora", 0.5, 100.0, "a finding")
    figures.costs_by_volume(every, 10.0 ** np.arange(2, 11), [(0, "lora")], "a finding")


def test_volume_figure_marks_where_the_cheapest_changes_and_names_areas():
    queries, budgets = 10.0 ** np.arange(2, 11), 10.0 ** np.arange(-2, 5)
    cheap = OPTIONS.set_index("strategy").loc["zero-shot"]
    bought = [
        ["zero-shot" if q * cheap["usd_per_query"] <= b else "nothing" for q in queries]
        for b in budgets
    ]
    choices = pd.DataFrame(bought, index=budgets, columns=queries)
    turns = [(0, "zero-shot"), (55_000_000, "small-full")]
    (buys,) = figures.choice_by_volume(choices, (1e6, 100.0), "a finding").axes
    assert set(words(buys)) == {"asked", "nothing fits", "zero-shot"}
    (costs,) = figures.costs_by_volume(OPTIONS, queries, turns, "a finding").axes
    named = ", ".join(text.replace("\n", " ") for text in words(costs))
    assert all(name(way) in named for way in WAYS)
    low, high = costs.get_ylim()
    assert all(low < t.xy[1] < high for t in costs.texts)
    (cross,) = [line for line in costs.lines if line.get_marker() == "X"]
    assert float(cross.get_xdata()[0]) == 55e6
    assert float(cross.get_ydata()[0]) == pytest.approx(4.4, rel=0.15)
    assert any("about 55 million queries" in text for text in words(costs))
    drawn = {line.get_linestyle() + str(line.get_color()) for line in costs.lines}
    assert len(drawn) >= len(WAYS)


EVENS = pd.DataFrame(
    {
        "cheaper_below": ["icl", "zero-shot"],
        "cheaper_from": ["t-few", "small-full"],
        "queries": [1500, 55_000_000],
        "usd": [4.2, 4.4],
    }
)


def test_words_name_break_evens_of_the_chosen_way():
    told = choice_words.turns_sentence(EVENS, "t-few")
    assert told == "By queries, T-Few costs less than ICL from 1,500 on."
    told = choice_words.turns_sentence(EVENS, "zero-shot")
    assert told == "By queries, zero-shot costs more than all of MiniLM from about 55 million on."
    title = choice_words.turns_title([(0, "zero-shot"), (55_000_000, "small-full")])
    assert title == "zero-shot is cheapest at first, all of MiniLM from about 55 million queries on"
    table = choice_words.evens_table(EVENS, ["t-few"])
    assert table.reset_index().to_numpy().tolist() == [["ICL", "T-Few", "1,500", "$4.20"]]


def plan(**changes):
    margin = {"over": "icl", "difference": 0.02, "low": -0.06, "high": 0.1}
    best = SimpleNamespace(strategy="t-few", accuracy=0.9, low=0.8, high=0.95, usd_total=4.2)
    given = {"recommendation": "t-few", "margin": margin, "scored": 50, "chosen": best, "task": "x"}
    return SimpleNamespace(**(given | changes))


def test_a_margin_states_direction_and_size_or_what_it_excludes():
    title = choice_words.ahead_title(plan())
    assert (
        title
        == "T-Few and ICL differ by less than 10 points either way [-6, +10], for these labels"
    )
    sure = {"over": "icl", "difference": 0.2, "low": 0.1, "high": 0.3}
    title = choice_words.ahead_title(plan(margin=sure))
    assert title == "T-Few is 20 points above ICL [+10, +30], for these labels"
    assert "all that the budget pays for" in choice_words.ahead_title(plan(margin=None))
    told = choice_words.recommended_sentence(plan(), "movie-reviews")
    assert "T-Few less ICL, movie reviews, for these labels: +2 points [-6, +10]" in told
    assert len(told) <= 240


def test_closing_rows_are_short_and_judge_by_the_interval():
    right, wrong = np.ones(60), np.zeros(60)
    hits = {"t-few": right, "icl": wrong, "small-s4": right, "small-full": right}
    cost = pd.Series({"t-few": 1.0, "icl": 20.0})
    printed = {"tfew": "a", "query": "b", "spaces": "c", "annotate": "d"}
    rows = choice_words.choice_claims(hits, cost, EVENS, plan(), "icl", printed)
    assert [row.verdict for row in rows] == [
        "confirmed", "confirmed", "open", "open", "contradicted", "open", "open",
    ]  # fmt: skip
    assert all(len(cell) <= 120 for row in rows for cell in row)
    assert rows[0].measured == "+100 points"


def test_counts_are_for_people():
    told = {0: "0", 557: "557", 9_999: "9,999", 83_931_430: "about 84 million"}
    told |= {10_400: "about 10,000", 999_999: "about 1 million", 1_827_236: "about 1.8 million"}
    told |= {2.04e10: "about 20 billion"}
    assert {count: figures.about(count) for count in told} == told


def test_a_readable_table_has_dollars_powers_and_counts():
    table = pd.DataFrame(
        {"usd": [0.00012, 3.0], "flops": [1.5e12, 1], "queries": [1e6, 2.0], "x": [0.5, None]}
    )
    assert figures.readable(table).to_numpy().tolist() == [
        ["$0.00012", "1.5e12", "1,000,000", "0.500"],
        ["$3.00", "1", "2", ""],
    ]


def test_choosing_texts_is_told_as_it_is_recorded():
    runs = active.recorded()
    apart = active.against_random(runs)
    table = figures.chosen_table(apart)
    assert set(table) == {name(task) for task in runs["task"]}
    means = runs.groupby(["task", "chooser"])["accuracy"].mean()
    for (task, who), gain in apart.items():
        assert gain.difference == pytest.approx(means[task, who] - means[task, "random"])
        assert str(gain) in set(table[name(task)])
    found = figures.chosen_sentence(apart)
    ends = sorted(apart.values(), key=lambda gain: gain.difference)
    assert f"at best {ends[-1]}" in found
    assert f"at worst {ends[0]}" in found
    ahead = sum(gain.low > 0 for gain in apart.values())
    assert found.startswith(f"{ahead} of 9" if ahead else "No choice of texts")
