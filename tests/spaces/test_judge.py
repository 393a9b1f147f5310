"""What is said of noisy winners, where the truth is known."""

import numpy as np
import pandas as pd
import pytest

from frugal.spaces.judge import COLUMNS, judge


def test_means_intervals_and_chances_of_clear_cases():
    table = judge({"a": [0.1, 0.2, 0.3], "b": [0.8, 0.9, 0.85], "c": []})
    assert list(table.columns) == COLUMNS
    assert table["name"].tolist() == ["a", "b"]
    assert table["mean"].tolist() == pytest.approx([0.2, 0.85])
    assert table["runs"].tolist() == [3, 3]
    assert table["chance"].tolist() == [0, 1]
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()
    assert table["low"][0] >= 0.1
    assert table["high"][0] <= 0.3
    pd.testing.assert_frame_equal(table, judge({"a": [0.1, 0.2, 0.3], "b": [0.8, 0.9, 0.85]}))


def test_equal_candidates_have_equal_chances_and_shrink_to_one_mean():
    same = [0.5, 0.6, 0.7, 0.4]
    table = judge(dict.fromkeys("abcd", same))
    assert table["chance"].tolist() == [0.25] * 4
    assert table["shrunk"].tolist() == pytest.approx([0.55] * 4)
    assert judge({}).empty
    assert judge({"a": [0.5], "b": [0.6]})["chance"].isna().all()


def test_places_that_are_alike_are_drawn_together():
    """A difference that every place shows is sure, however much the places differ."""
    places = np.linspace(0, 1, 8)
    table = judge({"a": places, "b": places + 0.01})
    assert table["chance"].tolist() == [0, 1]
    assert (table["high"] - table["low"]).min() > 0.2


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(150):
        table = judge({"a": generator.normal(0.7, 0.1, 30)})
        held += table["low"][0] <= 0.7 <= table["high"][0]
    assert 0.88 < held / 150 < 0.99


def test_shrinking_mends_the_winners_curse():
    """Candidates differ less than their noise: the winner's mean is too high, shrunk it is not."""
    generator = np.random.default_rng(1)
    raw, mended = [], []
    for _ in range(150):
        truth = generator.normal(0.7, 0.01, 8)
        scores = {str(i): generator.normal(t, 0.06, 6) for i, t in enumerate(truth)}
        table = judge(scores)
        winner = table["mean"].idxmax()
        raw.append(table["mean"][winner] - truth[winner])
        mended.append(table["shrunk"][winner] - truth[winner])
    assert np.mean(raw) > 0.02
    assert abs(np.mean(mended)) < np.mean(raw) / 2
