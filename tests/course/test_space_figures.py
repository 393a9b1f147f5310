"""Chapter 4's figures: every design is drawn, winners differ in shape, the paper's are named."""

import pandas as pd
import pytest
from drawn import words
from matplotlib.colors import to_hex

from frugal import stats
from frugal.spaces import pool, record
from frugal_course import figures
from frugal_course.figures import words_search, words_spaces
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
    assert ticks(first) == ["bottleneck", "◇ spindle"]  # the best on top
    assert ticks(second) == ["◇ uniform", "increasing"]
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


def test_a_stage_of_one_candidate_is_not_drawn():
    alone = pd.DataFrame([("S0", "S0", 0.7, 0.6, 0.8, True)], columns=CANDIDATES.columns)
    both = pd.concat([alone, CANDIDATES])
    assert len(figures.search(SCORED, both, {}, "t", level=None).axes) == 2


def test_words_about_a_search_say_who_leads_and_which_leads_are_excluded():
    assert words_search.search_title(SUMMARY, "S1") == (
        "S1: winners lead by at most 1.2 points, and every interval holds 0 (a lead of 3 or more "
        "is "
        "excluded)"
    )
    clear = SUMMARY.assign(over_second=stats.Difference(0.02, 0.01, 0.03, 12, 1, 1e-4, 11))
    assert "3 of 3 winners lead, by 2.0 to 2.0 points" in words_search.search_title(clear, "S1")
    few = SUMMARY.assign(over_second=stats.Difference(0.02, None, None, 2, 1, 1e-4, 1))
    assert "too few designs" in words_search.search_title(few, "S1")
    told = words_search.search_sentence(SUMMARY)
    assert "1 of them the paper's" in told
    assert "S4-G1: A over L, 6 designs: +1 point [-1, +3]" in told
    table = words_search.search_table(SUMMARY)
    assert table.loc["S1", "winner less it"] == "+1 point [-1, +3]"
    assert table.loc["S2", "winner less it"] == "the same"
    assert table.loc["S4-G1", "paper's winner"] == "no candidate"
    assert words_search.certainty_title(SUMMARY).startswith("Luck made 1.0 to 1.0 points")
    assert "30% (S4-G1) to 97% (S2)" in words_search.certainty_sentence(SUMMARY)


def test_gains_and_stars_are_told_apart_by_shape():
    gains = pd.DataFrame(
        [("T5", "SST-2", -0.5), ("T5", "CoLA", 8.0)], columns=["model", "dataset", "gain"]
    )
    (at,) = figures.task_gains(gains, "t").axes
    assert marks(at, "D") == {(8.0, 0)}
    assert marks(at, "o") == {(-0.5, 1)}
    assert at.get_title("left") == "T5\nall tasks +3.75, without CoLA -0.50"
    assert words_spaces.cola_title(gains) == (
        "CoLA alone carries S4's lead over full fine-tuning in 1 of 1 models "
        "(T5: +3.8 with it, -0.5 without)"
    )
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
    assert words_spaces.stars_title(tests, 2.024).startswith("1 of 2 stars survive")


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
    assert ticks(first) == ["LoRA · 0.50%", "s4 · 0.50%"]
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
    printed = pool.worth_printed()
    letters = {"A": "adapter", "P": "prefix", "B": "bitfit", "L": "lora"}
    tables, axes = figures.by_depth(DEPTHS, printed, letters, "a finding").axes
    drawn = {float(x) for line in axes.lines for x in line.get_xdata()}
    assert {-1.0, -2.0} <= drawn
    assert ticks(axes) == ["BitFit less adapter", "BitFit", "adapter"]
    assert {y for line in tables.lines for y in line.get_ydata()} >= set(printed["points"])
    assert set(words(tables)) == {"adapter", "prefix", "BitFit", "LoRA"}
    title = words_search.depth_title(DEPTHS, NAMES)
    assert title == "BitFit is worth 2.0 points more near the input [-3.0, -1.0]"
    text = words_search.depth_sentence(DEPTHS, printed, NAMES, 832)
    assert "adapter near the input: +0.6 in G1, +0.2 in G4 printed; here -1.0 [-2.0, +0.5]" in text
    assert "here -2.0 [-3.0, -1.0] (contradicted)" in text
    assert "No method is worth 2.0" in words_search.depth_title(DEPTHS[:1], NAMES)


def test_what_a_method_adds_in_the_papers_tables_is_a_difference_of_means():
    printed = pool.printed("S4-G4")
    have = [value for name, value in printed.items() if "B" in name.split(", ")]
    lack = [value for name, value in printed.items() if "B" not in name.split(", ")]
    assert len(have) + len(lack) == 12
    worth = pool.worth_printed().set_index(["method", "group"])["points"]
    assert worth["B", 4] == pytest.approx(sum(have) / len(have) - sum(lack) / len(lack))


def test_printed_candidates_stand_beside_those_searched_here():
    stages = record.stages(record.read())
    found = pool.side_by_side(stages)
    assert found["printed"].count() == 1 + 5 + 3 + 9 + 4 * 12
    assert found[found["theirs"]].groupby("stage").size().eq(1).all()
    printed, here = figures.tables_beside(found, "a finding").axes
    assert {x for x, _ in marks(printed)} == set(found["printed"].dropna())
    assert {x for x, _ in marks(here)} == set(found["here"].dropna())
    spans = [at.get_xlim() for at in (printed, here)]
    widths = [high - low for low, high in spans]
    assert widths[0] / 3 == pytest.approx(widths[1] / 2)  # a point is as wide on both
    theirs, ours = words_search.climb(found)
    assert theirs == pytest.approx(16.6)
    assert f"{ours:+.1f}" in words_search.tables_title(found)


def test_the_closing_table_says_what_the_recorded_rows_say():
    runs = record.read()
    stages = record.stages(runs)
    summary, path = record.summary(stages), pool.against_random(pool.adjusted(runs))
    depths = pool.by_depth(runs)
    rows = words_spaces.spaces_claims(summary, pool.side_by_side(stages), path, depths)
    by = {row.claim: row for row in rows}
    assert len(by) == 8
    lead = summary.set_index("stage").loc["S1", "over_papers"]
    grouping = by["Best grouping (Table 1): spindle"]
    assert grouping.paper == "73.3"
    low, high = (float(end) for end in grouping.interval.strip("[]").split(", "))
    assert (low, high) == (round(-100 * lead.high), round(-100 * lead.low))
    assert grouping.verdict == ("open" if lead.low <= 0 <= lead.high else "contradicted")
    worth = depths.set_index("method").loc["B"]
    bitfit = by["BitFit belongs near the output"]
    assert bitfit.measured == f"{worth['points']:+.1f} points"
    assert bitfit.verdict == "contradicted"
    assert all(len(cell) <= 120 for row in rows for cell in row)


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
