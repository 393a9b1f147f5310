"""Figures say what the data say: every run is drawn, and the sentence has its numbers."""

import warnings

import nbformat
import numpy as np
import pandas as pd
import pytest
from drawn import points
from matplotlib import font_manager
from matplotlib.text import Text

from frugal import stats
from frugal.papers import tables
from frugal_course import figures
from frugal_course.figures import closing, style, tfew

RUNS = pd.DataFrame(
    [
        {"task": "t", "method": m, "shots": k, "accuracy": a, "flops_per_query": f, "examples": 50}
        for m, k, a, f in [
            ("zero-shot", 0, 0.7, 1e9), ("icl", 4, 0.5, 5e9), ("icl", 4, 0.6, 5e9),
            ("icl", 16, 0.4, 2e10), ("icl", 16, 0.8, 2e10), ("ia3", 32, 0.9, 1e9),
            ("ia3", 32, 0.86, 1e9),
        ]
    ]
)  # fmt: skip


def test_every_run_is_drawn_and_chance_is_marked():
    figure = figures.accuracy_against_cost(RUNS, {"t": 0.5}, "a finding")
    (axes,) = figure.axes
    drawn = [y for line in axes.lines for y in line.get_ydata()]
    assert set(RUNS["accuracy"]) <= set(drawn)
    labels = {text.get_text() for text in axes.texts}
    assert labels == {"zero-shot", "4-shot", "16-shot", "T-Few", "chance"}
    assert axes.get_xlabel() == "FLOPs per query"
    assert axes.get_ylabel() == "accuracy, 50 test examples"
    assert axes.get_xscale() == "log"


def test_the_sentence_has_the_figures_numbers():
    text = figures.accuracy_sentence(RUNS)
    assert "T-Few 0.88 (0.86–0.90)" in text
    assert "16-shot ICL 0.60 (0.40–0.80)" in text
    assert "zero-shot 0.70" in text
    assert "20 times as many FLOPs" in text


def test_order_dots_draw_every_order():
    runs = pd.DataFrame(
        {
            "task": "t",
            "shots": 4,
            "draw": [0, 0, 1, 1],
            "order": [0, 1, 0, 1],
            "accuracy": [0.4, 0.6, 0.7, 0.5],
        }
    )
    (axes,) = figures.order_dots(runs, {"t": 0.5}, "a finding").axes
    assert set(runs["accuracy"]) <= {y for line in axes.lines for y in line.get_ydata()}


def drawn(axes):
    return {float(y) for line in axes.lines for y in line.get_ydata()}


def test_published_points_stand_in_a_panel_of_their_own_with_open_marks():
    table = tables.wide("tfew_table1")
    table["own"] = table["accuracy"].where(table.index != "T0", 62.5)
    figure = figures.accuracy_against_cost(RUNS, {"t": 0.5}, "a finding", printed=table)
    measured, published = figure.axes
    assert sorted(drawn(published)) == pytest.approx(sorted([*table["accuracy"] / 100, 0.625]))
    assert not drawn(measured) & drawn(published)
    hollow = [line.get_markerfacecolor() == "white" for line in published.lines]
    assert hollow.count(False) == 1  # T0's own row
    texts = {text.get_text() for text in published.texts}
    assert texts == {*table.index, "62.5 by its row"}
    assert "published" in published.get_title(loc="left")


def test_loss_ablation_draws_every_seed_and_the_published_values_apart():
    runs = pd.DataFrame(
        {
            "losses": ["L_LM"] * 3 + ["L_LM + L_UL"] * 3,
            "accuracy": [0.5, 0.7, 0.6, 0.8, 0.9, 0.7],
            "examples": 50,
        }
    )
    figure = figures.loss_ablation(runs, pd.Series({"L_LM": 60.7}), 0.5, "a finding")
    measured, published = figure.axes
    # every seed, the medians 60 and 80, chance
    assert sorted(drawn(measured)) == pytest.approx([50, 60, 70, 80, 90])
    assert drawn(published) == {60.7}
    assert measured.get_ylim() == published.get_ylim()
    assert [label.get_text() for label in published.get_xticklabels()] == ["L_LM"]


def test_swapped_labels_draw_both_contexts_of_every_draw():
    runs = pd.DataFrame(
        {
            "shots": [4, 4, 4, 4],
            "draw": [0, 0, 1, 1],
            "labels": ["right", "swapped"] * 2,
            "accuracy": [0.6, 0.6, 0.8, 0.3],
        }
    )
    (axes,) = figures.label_swap(runs, 0.5, "a finding").axes
    assert drawn(axes) == {0.6, 0.8, 0.3, 0.5}
    right, swapped = axes.texts[:2]
    assert right.get_position()[1] > swapped.get_position()[1]  # the labels keep apart


def test_claims_survive_the_notebook(monkeypatch):
    shown = []
    monkeypatch.setattr(closing, "display", lambda bundle, raw: shown.append(bundle))
    figures.claims([("a claim", "12 %", "13 %")])
    output = nbformat.v4.new_output("display_data", shown[0])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    assert closing.collect(notebook) == [
        {"claim": "a claim", "paper": "12 %", "measured here": "13 %"}
    ]
    evil = "<script>alert(1)</script>"
    figures.claims([(evil, evil, evil)])
    assert "<script" not in shown[1]["text/html"]
    table = closing.table([{"claim": "a claim", "paper": "12 %", "measured here": "13 %"}])
    assert "CLAIM" in table
    assert "13 %" in table
    assert closing.table([]) == "no claims found"


def test_letters_that_the_font_lacks_come_from_another_or_are_boxes_without_a_warning():
    charmaps = {
        name: style._letters(font_manager.findfont(name)) for name in ("DejaVu Sans", "STIXGeneral")
    }
    letter = chr(min(charmaps["STIXGeneral"] - charmaps["DejaVu Sans"]))
    drawn = {}
    for text in (letter, "문의", "plain"):
        figure, (at,) = style.panels(1, f"{text}.csv")
        at.set_yticks([0, 1], [text, "b"])
        drawn[text] = style.png(figure)  # a warning would be an error
        if text != "문의":  # of which some machines have letters, and others boxes
            families = {t.get_text(): t.get_fontfamily() for t in figure.findobj(Text)}
            assert len(families[text]) == (2 if text == letter else 1)
    assert len(set(drawn.values())) == 3
    figure, (at,) = style.panels(1, "x")
    at.draw = lambda renderer: warnings.warn("something else", stacklevel=1)
    with pytest.warns(UserWarning, match="something else"):
        style.png(figure)


def verdicts(count):
    rows = [
        {
            "task": f"task {i}", "ours": 0.8, "theirs": 0.7 + 0.05 * i, "ours_flops": 1e9 + i,
            "theirs_flops": 1.5e10, "difference": 0.1 - 0.05 * i,
            "low": 0.06 - 0.05 * i, "high": 0.14 - 0.05 * i,
        }
        for i in range(count)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["task", "ours", "theirs", "ours_flops", "theirs_flops",
                                       "difference", "low", "high"])  # fmt: skip


def test_our_table_1_shows_every_task_and_the_mean_with_its_interval():
    table = verdicts(4)
    overall = stats.average([stats.compare(np.eye(4)[:3] + i, np.zeros((3, 4))) for i in range(4)])
    figure = figures.against_icl(table, overall, "a finding")
    at, forest = figure.axes
    assert points(at) >= set(zip(table["ours_flops"], table["ours"], strict=True))
    assert points(at) >= set(zip(table["theirs_flops"], table["theirs"], strict=True))
    assert {(100 * d, y) for d, y in zip(table["difference"], (4, 3, 2, 1), strict=True)} <= points(
        forest
    )
    names = [text.get_text() for text in forest.get_yticklabels()]
    assert names == [*table["task"], "mean of these tasks"]
    spans = [[x for x, _ in path.vertices] for c in forest.collections for path in c.get_paths()]
    assert [100 * overall.low, 100 * overall.high] in spans
    said = figures.against_icl_sentence(table, 5)
    assert "above on 2 (task 0, task 1)" in said
    assert "not told apart on 1 (task 2)" in said
    assert "below on 1 (task 3)" in said
    assert "15 times the FLOPs" in said
    assert "1 of 5 tasks are not recorded yet" in said
    title = figures.against_icl_title(overall, 4)
    assert title.startswith("T-Few, (IA)³ is ")
    assert title.endswith("], over 4 tasks")
    assert "16-shot ICL" in title


def test_our_table_1_says_that_nothing_is_recorded():
    figures.against_icl(verdicts(0), None, figures.against_icl_title(None, 0))
    assert "nothing is recorded yet" in figures.against_icl_title(None, 0)
    assert "Nothing is recorded yet of the 14 tasks" in figures.against_icl_sentence(
        verdicts(0), 14
    )


def test_ways_have_names_that_people_read():
    assert tfew.way("icl-16, calibrated") == "16-shot ICL, calibrated"
    assert tfew.way("ia3") == "T-Few, (IA)³"
    assert tfew.way("zero-shot") == "zero-shot"
    over = pd.DataFrame({"ours": ["ia3"], "theirs": ["icl-4"], "tasks": [3], "sample": [""],
                         "difference": ["+9 points [+5, +13]"], "flops": [4.9]})  # fmt: skip
    assert figures.differences(over).iloc[0].tolist() == [
        "T-Few, (IA)³ less 4-shot ICL", 3, "+9 points [+5, +13]", "", "4.9",
    ]  # fmt: skip
