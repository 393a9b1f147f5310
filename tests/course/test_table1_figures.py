"""Our own Table 1 as people see it: every recorded task is there, and how many there are."""

import numpy as np
import pandas as pd
from drawn import points

from frugal import stats
from frugal_course import figures
from frugal_course.figures import table1


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
    assert said.startswith("Recorded so far: 4 of 5 tasks. ")
    assert "so far" not in figures.against_icl_sentence(table, 4)
    title = figures.against_icl_title(overall, 4, 4)
    assert figures.against_icl_title(overall, 4, 5).endswith("], over 4 of 5 tasks")
    assert title.startswith("T-Few, (IA)³ is ")
    assert title.endswith("], over 4 tasks")
    assert "16-shot ICL" in title


def test_our_table_1_says_that_nothing_is_recorded():
    assert "None of the 14 tasks is recorded yet" in figures.against_icl_sentence(verdicts(0), 14)


def test_ways_have_names_that_people_read():
    assert table1.way("icl-16, calibrated") == "16-shot ICL, calibrated"
    assert table1.way("ia3") == "T-Few, (IA)³"
    assert table1.way("zero-shot") == "zero-shot"
    row = {"ours": "ia3", "theirs": "icl-4", "tasks": 3, "planned": 14, "sample": ""}
    over = pd.DataFrame([row | {"difference": "+9 points [+5, +13]", "flops": 4.9}])
    assert figures.differences(over).iloc[0].tolist() == [
        "T-Few, (IA)³ less 4-shot ICL", "3 of 14", "+9 points [+5, +13]", "", "4.9",
    ]  # fmt: skip
    assert figures.differences(over.assign(planned=3))["tasks"].tolist() == ["3"]


def test_accuracies_leave_out_what_is_not_recorded():
    means = pd.DataFrame({"ia3": [0.754, 0.5], "icl-16": [np.nan, 0.25]}, index=["a", "b"])
    table = figures.accuracies(means)
    assert table.to_dict("list") == {
        "T-Few, (IA)³": ["0.75", "0.50"], "16-shot ICL": ["", "0.25"],
    }  # fmt: skip


def test_what_a_precision_costs_is_a_table_and_a_sentence():
    rng = np.random.default_rng(0)
    high = rng.random((5, 300)) < 0.7
    each = {t: stats.compare(high ^ (rng.random((5, 300)) < 0.02), high) for t in ("a", "b")}
    table = figures.precisions("int8", each)
    mean = stats.average([*each.values()])
    assert table["int8 less float32"].tolist() == [str(each["a"]), str(each["b"]), str(mean)]
    assert table["task"].tolist() == ["a", "b", "mean of these tasks"]
    said = figures.precisions_sentence("int8", each)
    assert said.startswith(
        f"T-Few in int8 less T-Few in float32, mean of 2 tasks, recorded: {mean}"
    )
    assert "float32, a, recorded" in figures.precisions_sentence("int8", {"a": each["a"]})
