"""Figures say what the data say: every run is drawn, and the sentence has its numbers."""

import warnings

import nbformat
import pandas as pd
import pytest
from drawn import points
from matplotlib import font_manager
from matplotlib.text import Text

from frugal.papers import tables
from frugal_course import figures
from frugal_course.figures import closing, style

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
    assert texts == {*table.index, "62.5 by\nits row"}
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


def test_every_dataset_is_drawn_with_open_marks_and_counted():
    nine = tables.wide("tfew_table9_main").loc[["T-Few", "GPT-3 (175B)"]]
    figure = figures.by_dataset({"Table 9": nine}, "a finding")
    (axes,) = figure.axes
    shown = {(round(x, 2)) for x, _ in points(axes)}
    assert set(nine.to_numpy().ravel().round(2)) <= shown
    assert {line.get_markerfacecolor() for line in axes.lines} == {"white"}
    text = figures.by_dataset_sentence({"Table 9": nine})
    wins = sum(a > b for a, b in zip(nine.iloc[0], nine.iloc[1], strict=True))
    assert f"of 11 datasets T-Few is on {wins} above GPT-3 (175B)" in text
    assert f"{nine.iloc[0].mean() - nine.iloc[1].mean():+.1f} on average" in text
