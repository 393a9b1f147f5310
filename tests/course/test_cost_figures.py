"""Chapter 1's figures and tables: every value is drawn, and sentences have the figure's numbers."""

import re

import pandas as pd
import pytest
from drawn import points, words
from matplotlib.colors import to_hex

from frugal_course import figures
from frugal_course.figures import style, tables


def test_shares_add_up_and_small_ones_are_drawn_together():
    parts = pd.DataFrame(
        [
            ("a", "ffn", 600),
            ("a", "scores", 400),
            ("b", "ffn", 99_990),
            ("b", "head", 6),
            ("b", "pooler", 4),
        ],
        columns=["query", "use", "flops"],
    )
    first, second = figures.flops_by_use(parts, "a finding").axes
    assert [bar.get_width() for bar in first.patches] == [40, 60]
    assert words(first) == ["40.0%", "60.0%"]
    assert sum(bar.get_width() for bar in second.patches) == pytest.approx(100)
    assert words(second) == ["< 0.1%", "100.0%"]
    assert second.get_title("left") == "b: 1e5 FLOPs"


CURVES = pd.DataFrame(
    [
        (way, x, factor * (x + 1))
        for way, factor in (("dear", 1e6), ("cheap", 10.0), ("near", 11.0))
        for x in (1, 10, 40)
    ],
    columns=["way", "x", "flops"],
)


@pytest.mark.parametrize("name", ["shots", "queries"])
def test_curves_are_labelled_without_overlap(name):
    curves = CURVES.rename(columns={"x": name})
    if name == "shots":
        (axes,) = figures.cost_against_shots(curves, 20, {1e6: 40}, "a finding").axes
        assert (40, 1e6) in points(axes)
        assert 20 in {x for x, _ in points(axes)}
        (axes,) = figures.cost_against_shots(curves, 41, {}, "a finding").axes
        assert not any("context" in text for text in words(axes))
    else:
        (axes,) = figures.break_even(curves, {12: 1e3, 3: 1e2}, "a finding").axes
        assert {(12, 1e3), (3, 1e2)} <= points(axes)
        assert {"12 queries", "3 queries"} <= set(words(axes))
    assert set(zip(curves[name], curves["flops"], strict=True)) <= points(axes)
    heights = {t.get_text(): t.xy[1] for t in axes.texts if t.get_text() in set(curves["way"])}
    assert set(heights) == set(curves["way"])
    assert heights["near"] > 1.5 * heights["cheap"]
    assert axes.get_yscale() == "log"


def test_sizes_are_beside_the_memory_that_holds_them():
    items = pd.DataFrame(
        [("cache", 144 * 2**30, "printed: 144 GB"), ("vectors", 2**22, "")],
        columns=["what", "bytes", "note"],
    )
    (axes,) = figures.sizes(items, {"a100-80gb": 80, "h100-80gb": 80, "t4": 16}, "a finding").axes
    assert {(144, 1), (4 / 1024, 0)} <= points(axes)
    assert words(axes) == ["144.0 GiB · printed: 144 GB", "4.0 MiB", "A100, H100: 80", "T4: 16"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cache", "vectors"]


RUNS = pd.DataFrame(
    [
        (kind, batch, tokens, context, flops, seconds)
        for kind, batch, tokens, context, flops, all_seconds in [
            ("prefill", 1, 32, 0, 8e9, [0.1, 0.2, 0.15]),
            ("decode", 4, 8, 0, 1e10, [1.5, 1.0, 2.0]),
            ("prefill", 1, 32, 64, 9e9, [0.3, 0.3, 0.3]),
        ]
        for seconds in all_seconds
    ],
    columns=["kind", "batch", "tokens", "context", "flops", "seconds"],
)


def test_every_timed_run_is_points():
    left, right = figures.latency(RUNS, "a finding").axes
    assert set(zip(RUNS["flops"], RUNS["seconds"], strict=True)) <= points(left)
    assert set(RUNS["flops"] / RUNS["seconds"]) <= {x for x, _ in points(right)}
    names = ["1 × 32 at once", "4 × 8 one by one", "1 × 32 behind 64 cached"]
    assert [label.get_text() for label in right.get_yticklabels()] == names
    assert len({to_hex(label.get_color()) for label in right.get_yticklabels()}) == 3
    assert words(left) == ["53.3 GFLOP/s", "6.67 GFLOP/s"]


def test_latency_sentence_compares_the_same_tokens():
    by_work = RUNS.groupby(["kind", "batch", "tokens", "context"], sort=False)
    works = by_work.agg(flops=("flops", "first"), seconds=("seconds", "median")).reset_index()
    works["spread"] = [2.0, 2.0, 1.0]
    works["flops_per_second"] = works["flops"] / works["seconds"]
    text = figures.latency_sentence(works, 32)
    assert "32 tokens take 150 ms as 1 × 32 tokens at once" in text
    assert "1,500 ms as 4 × 8 tokens one by one: 10.0 times as long for 1.25 times" in text
    assert "53.3 to 53.3 GFLOP/s; one by one, 6.67 to 6.67" in text
    assert "6.67 to 6.67, up to 8 times less" in text


FOUND = pd.DataFrame(
    [("a", "deck", "tfew", "it is <two>", 3, "table 1", "1", "2")],
    columns=["id", "column", "paper", "says", "cells", "where", "printed", "recomputed"],
)
ITEMS = pd.DataFrame(
    [
        ("b", "tfew", "table 2", "3", "3", "reproduced", "in GiB", True),
        ("c", "tfew", "table 3", "4", "4", "reproduced", "", False),
    ],
    columns=["id", "paper", "where", "printed", "recomputed", "verdict", "note", "starred"],
)


def test_findings_are_grouped_marked_and_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr(tables, "display", lambda bundle, raw: shown.append(bundle))
    figures.audit(FOUND, ITEMS)
    html = shown[0]["text/html"]
    assert html.index("s: 1 findings, 3 numbers") < html.index("✓ reproduced: 2 numbers")
    assert "it is &lt;two&gt;" in html
    assert "table 2. in GiB" in html
    assert "table 3" not in html  # only what is starred; the rest is counted
    assert "… and 1 more" in html
    assert style.ORANGE in html
    assert "T-Few" in shown[0]["text/plain"]
    figures.audit(FOUND, ITEMS)
    assert shown[0] == shown[1]  # nothing random in it: a committed output can be compared
    assert figures.whose(FOUND).loc["T-Few", "✗ the deck's"] == "1 (3)"


def test_a_table_does_not_repaint_another_on_its_page(monkeypatch):
    shown = []
    monkeypatch.setattr(tables, "display", lambda bundle, raw: shown.append(bundle))
    good = ITEMS[["id", "printed", "verdict"]]
    figures.verdicts(good, by="id")
    figures.verdicts(good.assign(verdict="failed"), by="id")
    assert "✓ reproduced" in shown[0]["text/html"]
    names = [re.search(r'<table id="(\w+)"', bundle["text/html"])[1] for bundle in shown]
    assert names[0] != names[1]


def test_what_comes_from_data_is_text_in_every_cell_and_heading(monkeypatch):
    shown = []
    monkeypatch.setattr(tables, "display", lambda bundle, raw: shown.append(bundle))
    evil = "<script>alert(1)</script>"
    figures.verdicts(pd.DataFrame({"by": [evil], evil: [evil]}), by="by")
    assert "<script" not in shown[0]["text/html"]
    assert shown[0]["text/html"].count("&lt;script&gt;") == 3
