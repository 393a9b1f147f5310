"""Chapter 6's figures: every way drawn where its numbers are, every change marked."""

import numpy as np
import pandas as pd
import pytest

from frugal.choice import ways
from frugal_course import figures
from frugal_course.figures import choice
from frugal_course.figures.names import said

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


def marks(axes):
    return [line for line in axes.lines if line.get_marker() in set("osD^vP")]


def test_every_way_stands_at_its_accuracy_with_its_interval_and_dollars():
    figure = figures.accuracy_against_dollars(OPTIONS, "t-few", 0.5, 100.0, "a finding")
    (axes,) = figure.axes
    assert sorted(float(m.get_ydata()[0]) for m in marks(axes)) == sorted(OPTIONS["accuracy"])
    assert len({m.get_marker() for m in marks(axes)}) == len(WAYS)
    ends = [tuple(part[:, 1]) for c in axes.collections for part in c.get_segments()]
    assert sorted(ends) == sorted(zip(OPTIONS["low"], OPTIONS["high"], strict=True))
    names = {t.get_text(): t for t in axes.texts}
    assert {"chance", "◆ T-Few, $4.21", "● zero-shot, $0.080", "▼ S4 in MiniLM, $4.13"} <= set(
        names
    )
    assert [n for n, t in names.items() if t.get_weight() == "bold"] == ["◆ T-Few, $4.21"]
    assert not any("budget" in n for n in names)  # far off the axis
    near = figures.accuracy_against_dollars(OPTIONS, "t-few", 0.5, 1.0, "a finding").axes[0]
    assert any(t.get_text() == "budget $1.00" for t in near.texts)


def test_every_way_has_a_look_of_its_own():
    assert choice.LOOKS.keys() == {*ways.NEEDS, "api"}
    marks, signs = ({look[i] for look in choice.LOOKS.values()} for i in (1, 2))
    lines = {(look[0], look[3]) for look in choice.LOOKS.values()}
    assert len(marks) == len(signs) == len(lines) == len(choice.LOOKS)
    shares = choice._shares()
    assert len(set(shares.values())) == len(shares)


def test_the_names_of_all_ways_keep_apart():
    names = list(choice.LOOKS)
    every = pd.DataFrame(
        {
            "strategy": names,
            "accuracy": np.linspace(0.55, 0.85, len(names)),
            "low": np.linspace(0.5, 0.8, len(names)),
            "high": np.linspace(0.6, 0.9, len(names)),
            "usd_total": [0.1, 0.1, 4, 1, *[2.0 + 0.01 * i for i in range(len(names) - 4)]],
        }
    )
    (axes,) = figures.accuracy_against_dollars(every, "lora", 0.5, 100.0, "a finding").axes
    bottom, top = axes.get_ylim()
    places = sorted(t.xy[1] for t in axes.texts if "$2." in t.get_text())
    assert len(places) == len(names) - 4
    assert np.diff(places).min() > (top - bottom) / 18
    assert bottom < places[0] <= places[-1] < top


def test_ways_of_one_price_stand_side_by_side_from_the_cheapest_on():
    (axes,) = figures.accuracy_against_dollars(OPTIONS, None, 0.5, 100.0, "a finding").axes
    there = [float(m.get_xdata()[0]) for m in marks(axes)]
    assert there[:3] == pytest.approx([0.08, 3.6, 4.13], rel=0.05)  # where they belong
    assert there == sorted(there)
    assert np.diff(np.log10(there[2:])).min() > 0.02
    left = {t.get_text(): t.get_ha() for t in axes.texts}
    assert left["● zero-shot, $0.080"] == "left"


def test_names_keep_inside_and_apart_where_the_best_are_near_the_top():
    high = OPTIONS.assign(
        accuracy=[0.3, 0.3, 0.9, 0.952, 0.952, 0.952],
        low=[0.14, 0.14, 0.71, 0.77, 0.77, 0.77],
        high=[0.5, 0.5, 0.97, 0.99, 0.99, 0.99],
    )
    (axes,) = figures.accuracy_against_dollars(high, "small-full", 1 / 3, 100.0, "a finding").axes
    bottom, top = axes.get_ylim()
    places = sorted(t.xy[1] for t in axes.texts if "$4." in t.get_text())
    assert len(places) == 4
    assert bottom < places[0]
    assert places[-1] < top
    assert np.diff(places).min() > (top - bottom) / 18


def test_volume_figure_marks_where_the_cheapest_changes_and_names_areas():
    queries, budgets = 10.0 ** np.arange(2, 11), 10.0 ** np.arange(-2, 5)
    cheap = OPTIONS.set_index("strategy").loc["zero-shot"]
    bought = [
        ["zero-shot" if q * cheap["usd_per_query"] <= b else "nothing" for q in queries]
        for b in budgets
    ]
    choices = pd.DataFrame(bought, index=budgets, columns=queries)
    turns = [(0, "zero-shot"), (55_000_000, "small-full")]
    figure = figures.choice_by_volume(OPTIONS, choices, turns, (1e6, 100.0), "a finding")
    costs, buys = figure.axes
    assert {t.get_text() for t in buys.texts} == {"asked", "nothing fits", "zero-shot"}
    assert {t.get_text() for t in costs.texts} >= set(map(said, WAYS))
    low, high = costs.get_ylim()
    assert all(low < t.xy[1] < high for t in costs.texts)
    (cross,) = [line for line in costs.lines if line.get_marker() == "X"]
    assert float(cross.get_xdata()[0]) == 55e6
    assert float(cross.get_ydata()[0]) == pytest.approx(4.4, rel=0.15)
    assert any("about 55 million queries" in t.get_text() for t in costs.texts)
    drawn = {line.get_linestyle() + str(line.get_color()) for line in costs.lines}
    assert len(drawn) >= len(WAYS)


def test_the_sentence_names_every_break_even():
    evens = pd.DataFrame(
        {
            "cheaper_below": ["icl", "zero-shot"],
            "cheaper_from": ["t-few", "small-full"],
            "queries": [1500, 55_000_000],
        }
    )
    turns = [(0, "zero-shot"), (55_000_000, "small-full")]
    assert figures.turns_sentence(turns, evens, "t-few") == (
        "zero-shot costs least; from about 55 million queries on, small-full. "
        "t-few costs less than icl from 1,500 queries on."
    )
    assert "It costs more than small-full from about 55 million on." in figures.turns_sentence(
        turns, evens, "zero-shot"
    )


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
