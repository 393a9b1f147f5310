"""Chapter 2's figures: every run is drawn, names stand apart, sentences have numbers."""

import numpy as np
import pandas as pd
import pytest
from drawn import apart, points, words
from matplotlib.colors import to_hex

from frugal.fewshot import overhead
from frugal_course import figures
from frugal_course.figures import words_peft
from frugal_course.names import name

RUNS = pd.DataFrame(
    [
        ("full", 1e6, 0.80, "live"),
        ("full", 1e6, 0.70, "live"),
        ("lora", 1e4, 0.76, "live"),
        ("ia3", 1e4, 0.77, "live"),
        ("prompt-10", 1e2, 0.40, "live"),
    ],
    columns=["name", "params", "accuracy", "source"],
)


def names(axes):
    return {t.get_text(): t for t in axes.texts if t.get_gid() == "method"}


def test_every_run_is_drawn_and_told_apart_by_its_source():
    recorded = RUNS.assign(source="recorded", accuracy=RUNS["accuracy"] - 0.1)
    figure = figures.accuracy_against_params(
        {"here": RUNS, "there": recorded},
        "a finding",
        ylabel="accuracy",
        levels={"chance": 0.5, "zero-shot": 0.6},
    )
    left, right = figure.axes
    for axes, runs in ((left, RUNS), (right, recorded)):
        assert set(zip(runs["params"], runs["accuracy"], strict=True)) <= points(axes)
        assert set(names(axes)) == set(map(name, RUNS["name"]))
        assert {"chance", "zero-shot"} <= set(words(axes))
        assert axes.get_xscale() == "log"
    looks = [
        {(to_hex(line.get_color()), line.get_marker()) for line in a.lines if len(a.lines)}
        for a in (left, right)
    ]
    assert (
        len({marker for _, marker in looks[0] ^ looks[1]}) == 2
    )  # shapes differ, not only colours


def test_names_of_neighbours_do_not_cover_each_other():
    crowd = pd.DataFrame(
        {
            "name": [f"method {i}" for i in range(8)],
            "params": [1e5 * 1.02**i for i in range(8)],
            "accuracy": [0.7 + 0.001 * i for i in range(8)],
            "source": "published",
        }
    )
    figure = figures.accuracy_against_params({"a": crowd}, "a finding", ylabel="accuracy")
    assert apart(figure, names(figure.axes[0]).values())


def test_the_sentence_ranks_whoever_leads():
    text = figures.figure2_sentence(RUNS, zero_shot=0.5)
    assert "(IA)³ is 1 of 4 with 77.0%" in text
    assert "the last prompt of 10 with 40.0%" in text
    assert "+2.0 points from full fine-tuning with 1.000% of its parameters" in text
    assert "Below zero-shot (50.0%): prompt of 10." in text
    worse = RUNS.assign(accuracy=RUNS["accuracy"].where(RUNS["name"] != "ia3", 0.1))
    text = figures.figure2_sentence(worse)
    assert "the best is LoRA with 76.0%" in text
    assert "-65.0 points from full" in text


def test_what_two_trainings_share_stands_beside_what_chance_reaches():
    shared = {"l_k": np.array([0.1, 0.5, 0.3]), "l_ff": np.array([0.0, 0.2, -0.1])}
    widths = {"l_k": 192, "l_ff": 1536}
    first, second = figures.agreement(shared, widths, "a finding").axes
    assert set(enumerate(shared["l_k"])) <= points(first)
    assert set(enumerate(shared["l_ff"])) <= points(second)
    band = first.patches[0].get_extents().transformed(first.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((-1.96 / 192**0.5, 1.96 / 192**0.5))
    title, text = words_peft.together(shared, widths)
    assert title.startswith("Two tasks move the same features: ")
    assert title.endswith("correlate by 0.17")
    assert text.startswith("By 0.05 in the first 1 layers, 0.10 in the last 1;")
    assert "0.30 (l_k), 0.03 (l_ff). 3 of 6 layers" in text


COSTS = pd.DataFrame(
    [
        ("adapter", "beside", 12, 3.0, 10, 2.0),
        ("adapter", "beside", 12, 2.0, 10, 2.0),
        ("ia3", "beside", 10, 2.2, 10, 2.0),
        ("ia3", "folded", 10, 2.0, 10, 2.0),
    ],
    columns=["name", "way", "flops", "seconds", "plain_flops", "plain_seconds"],
).assign(batch=1, tokens=8, context=0)


def test_inference_costs_stand_beside_the_plain_model():
    (axes,) = figures.inference_cost(COSTS, "a finding").axes
    drawn = {float(x) for line in axes.lines for x in line.get_xdata()}
    assert sorted(drawn) == pytest.approx([1.0, 1.1, 1.2, 1.25, 1.5])  # turns, median; FLOPs
    assert [t.get_text() for t in axes.get_yticklabels()] == ["(IA)³", "adapter"]
    text = figures.inference_sentence(overhead.ratios(COSTS))
    assert "((IA)³), a method costs the plain model's FLOPs and 1.00 to 1.00 times" in text
    assert "(adapter) takes up to 20.0% more FLOPs (adapter)" in text
    assert "1.25 to 1.25 times the time" in text
