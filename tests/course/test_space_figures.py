"""Chapter 4's figures: every design is drawn, winners differ in shape, the paper's are named."""

import pandas as pd
import pytest
from drawn import words
from matplotlib.colors import to_hex

from frugal import stats
from frugal_course import figures
from frugal_course.figures.style import BLUE, ORANGE

SCORED = pd.DataFrame(
    [
        ("S1", "spindle", 0.70),
        ("S1", "spindle", 0.80),
        ("S1", "bottleneck", 0.60),
        ("S2", "uniform", 0.5),
        ("S2", "increasing", 0.55),
    ],
    columns=["stage", "candidate", "score"],
)
CANDIDATES = pd.DataFrame(
    [
        ("S1", "spindle", 0.75, 0.70, 0.80, True),
        ("S1", "bottleneck", 0.60, 0.60, 0.60, False),
        ("S2", "uniform", 0.50, 0.50, 0.50, False),
        ("S2", "increasing", 0.55, 0.55, 0.55, True),
    ],
    columns=["stage", "name", "mean", "low", "high", "winner"],
)
LEAD = stats.Difference(0.012, -0.01, 0.034, 12, 1, 1e-4, 11)
SUMMARY = pd.DataFrame(
    [
        {
            "stage": "S1", "candidates": 4, "runs": 12, "every": 0.68, "winner": "bottleneck",
            "mean": 0.71, "shrunk": 0.70, "again": 0.62, "second": "spindle", "lead": 0.012,
            "papers": "spindle", "papers_mean": 0.698, "papers_again": 0.2,
            "over_second": LEAD, "over_papers": LEAD,
        },
        {
            "stage": "S2", "candidates": 3, "runs": 12, "every": 0.7, "winner": "uniform",
            "mean": 0.72, "shrunk": 0.71, "again": 0.97, "second": "increasing", "lead": 0.02,
            "papers": "uniform", "papers_mean": 0.72, "papers_again": 0.97,
            "over_second": LEAD, "over_papers": None,
        },
        {
            "stage": "S4-G1", "candidates": 12, "runs": 6, "every": 0.7, "winner": "A",
            "mean": 0.72, "shrunk": 0.71, "again": 0.3, "second": "L", "lead": 0.001,
            "papers": "", "papers_mean": float("nan"), "papers_again": float("nan"),
            "over_second": LEAD, "over_papers": None,
        },
    ]
)  # fmt: skip


def marks(axes, marker=None):
    return {
        (x, y)
        for line in axes.lines
        if (line.get_marker() == marker if marker else line.get_marker() not in ("None", ""))
        for x, y in zip(*line.get_data(), strict=True)
    }


def ticks(axes):
    return [t.get_text() for t in axes.get_yticklabels()]


def test_a_pattern_shows_every_member_and_its_example():
    members = {"spindle": [(1, 2, 2, 1), (2, 3, 3, 1)], "uniform": [(2, 2, 2, 2)]}
    figure = figures.patterns(members, {"spindle": (1, 2, 2, 1), "uniform": (2, 2, 2, 2)}, "t")
    first, second = figure.axes
    assert {tuple(line.get_ydata()) for line in first.lines} == set(members["spindle"])
    assert [bar.get_height() for bar in first.patches] == [1, 2, 2, 1]
    assert first.get_title("left") == "spindle\n2 members"
    assert second.get_title("left") == "uniform\n1 member"


def test_a_design_shows_each_method_in_each_layer_by_its_parameters():
    parts = pd.DataFrame(
        [(1, 1, "A", 3, 300), (1, 1, "B", 0, 100), (2, 2, "", 0, 0), (2, 3, "", 0, 0)],
        columns=["group", "layer", "method", "size", "params"],
    ).assign(design="S1")
    (at,) = figures.designs(parts, "t").axes
    (squares,) = at.collections
    assert squares.get_offsets().tolist() == [[0, 1], [2, 1]]
    large, small = squares.get_sizes()
    assert large == pytest.approx(3 * small)
    assert {"G1", "G2", "3"} == set(words(at))  # BitFit has no size to write


def test_search_shows_every_design_and_marks_winner_and_paper():
    figure = figures.search(SCORED, CANDIDATES, {"S1": "spindle", "S2": "uniform"}, "t", level=0.5)
    first, second = figure.axes
    assert ticks(first) == ["bottleneck", "spindle (paper)"]  # the best on top
    assert ticks(second) == ["uniform (paper)", "increasing"]
    assert marks(first, "|") == {(0.6, 0), (0.7, 1), (0.8, 1)}
    assert marks(first, "D") == {(0.75, 1)}
    assert marks(first, "o") == {(0.6, 0)}
    assert "chance" in words(first)
    looks = {(to_hex(line.get_color()).upper(), line.get_marker()) for line in first.lines}
    assert {(ORANGE, "D"), (BLUE, "o")} <= looks


def test_certainty_shows_how_often_winners_win_again_and_what_luck_was():
    left, right = figures.certainty(SUMMARY, "t").axes
    assert ticks(left)[::-1] == ["S1: bottleneck", "S2: uniform", "S4-G1: A"]
    assert (0.62, 2) in marks(left, "D")
    assert (0.25, 2) in marks(left, "|")
    assert {"62%", "97%", "30%"} <= set(words(left))
    assert (0.71, 2) in marks(right, "D")
    assert (0.70, 2) in marks(right, "o")


def test_the_sentence_says_who_wins_and_where_the_papers_stands():
    first, second, third = figures.search_sentence(SUMMARY).splitlines()
    assert first == (
        "S1: bottleneck leads spindle by 1 point [-1, +3] of 4 candidates with 12 designs each; it "
        "wins again in 62% of resamples, and its 71.0 shrinks to 70.0; the paper's spindle is 1 "
        "point [-1, +3] behind, first in 20% of them."
    )
    assert second.endswith("the paper found the same.")
    assert third.endswith("the paper's winner is no candidate here.")


def test_gains_and_stars_are_told_apart_by_shape():
    gains = pd.DataFrame(
        [("T5", "SST-2", -0.5), ("T5", "CoLA", 8.0)], columns=["model", "dataset", "gain"]
    )
    (at,) = figures.task_gains(gains, "t").axes
    assert marks(at, "D") == {(8.0, 0)}
    assert marks(at, "o") == {(-0.5, 1)}
    assert at.get_title("left") == "T5\nall +3.75, but CoLA -0.50"
    tests = pd.DataFrame(
        [("T5", "SST-2", 3.0, "**"), ("T5", "RTE", 0.1, "*"), ("T5", "QQP", 1.0, "")],
        columns=["model", "dataset", "t", "mark"],
    )
    (at,) = figures.significance(tests, 2.024, "t").axes
    assert marks(at, "o") == {(3.0, 2)}
    assert marks(at, "D") == {(0.1, 1)}
    assert marks(at, "X") == {(1.0, 0)}
    assert {"**", "*"} <= set(words(at))
    assert at.get_title("left") == "T5\n1 of 2 stars hold"


def test_rivals_show_every_run_and_their_share():
    runs = pd.DataFrame(
        [
            ("s4", "one", 0.8, 0.005),
            ("s4", "one", 0.6, 0.005),
            ("lora", "one", 0.5, 0.005),
            ("s4", "two", 0.9, 0.005),
            ("lora", "two", 0.7, 0.005),
        ],
        columns=["name", "task", "score", "share"],
    )
    figure = figures.rivals(runs, "t", emphasis=["s4"], levels={"one": 0.5, "two": 0.2})
    first, second = figure.axes
    assert ticks(first) == ["lora · 0.50%", "s4 · 0.50%"]
    assert marks(first, "|") == {(0.5, 0), (0.8, 1), (0.6, 1)}
    assert marks(first, "D") == {((0.8 + 0.6) / 2, 1)}
    assert marks(second, "D") == {(0.9, 1)}
    assert "chance" in words(second)


DEPTHS = pd.DataFrame(
    [("A", -1.0, -2.0, 0.5), ("B", -2.0, -3.0, -1.0), ("B − A", -1.0, -2.5, 0.5)],
    columns=["method", "points", "low", "high"],
)
NAMES = {"A": "adapter", "B": "bitfit"}


def test_depths_are_drawn_beside_what_the_paper_recommends():
    (axes,) = figures.by_depth(DEPTHS, NAMES, "a finding").axes
    drawn = {float(x) for line in axes.lines for x in line.get_xdata()}
    assert {-1.0, -2.0} <= drawn
    ticks = [t.get_text() for t in axes.get_yticklabels()]
    assert ticks == ["bitfit less adapter", "bitfit", "adapter"]
    assert figures.depth_title(DEPTHS, NAMES) == "bitfit is worth 2.0 points more near the input"
    text = figures.depth_sentence(DEPTHS, NAMES)
    assert "adapter -1.0 [-2.0, +0.5] (the paper: near the input; open here)" in text
    assert "bitfit -2.0 [-3.0, -1.0] (the paper: near the output; unlike here)" in text
    assert "No method is worth 2.0" in figures.depth_title(DEPTHS[:1], NAMES)


def test_winners_are_open_in_the_paper_and_filled_here():
    found = pd.DataFrame(
        [("S1", "paper", "spindle", 0.5, -1.0, 2.0, 1.8), ("S1", "ours", "x", 1.0, 0.2, 1.8, 0.1)],
        columns=["stage", "whose", "candidate", "points", "low", "high", "published"],
    )
    published, here = figures.winners(found, "a finding").axes
    marks = [line for line in published.lines if line.get_marker() != "None"]
    assert {float(line.get_xdata()[0]) for line in marks} == {1.8, 0.1}
    assert all(line.get_markerfacecolor() == "white" for line in marks)
    filled = [line for line in here.lines if line.get_marker() != "None"]
    assert {float(line.get_xdata()[0]) for line in filled} == {0.5, 1.0}
    assert all(line.get_markerfacecolor() != "white" for line in filled)


def test_a_random_search_stands_beside_the_greedy_one():
    found = pd.DataFrame(
        {
            "stage": ["S0", "S1"],
            "flops": [1e12, 3e12],
            "greedy": [0.1, 1.0],
            "low": [-1.0, -0.5],
            "high": [1.0, 2.5],
            "designs": [10, 30],
            "random": [0.4, float("nan")],
            "estimate": [0.5, 0.9],
        }
    )
    (axes,) = figures.against_random(found, "a finding").axes
    drawn = {float(y) for line in axes.lines for y in line.get_ydata()}
    assert {0.1, 1.0, 0.4, 0.5, 0.9} <= drawn
