"""How sure numbers are: against equations, slow versions, and simulated truth."""

import math

import numpy as np
import pandas as pd
import pytest

from frugal import stats
from frugal.errors import FrugalError


def judged(scores, **more):
    return pd.DataFrame(stats.judge(scores, **more))


def test_wilsons_limits_solve_his_equation():
    for right, of in ((7, 20), (134, 268), (1, 3)):
        for p in stats.wilson(right, of):
            assert (right / of - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / of)
    assert stats.wilson(0, 10)[0] == 0
    assert stats.wilson(10, 10)[1] == 1


def test_the_paired_bootstrap_is_as_wide_as_it_should_be():
    generator = np.random.default_rng(1)
    a, b = (generator.random(400) < p for p in (0.8, 0.7))
    difference, low, high = stats.bootstrap(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    spread = (a.astype(float) - b).std() / math.sqrt(400)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.05)
    assert stats.bootstrap(a, a) == (0, 0, 0)
    assert stats.bootstrap(a, b) == stats.bootstrap(a, b)


def test_resampling_kinds_of_examples_is_resampling_examples():
    generator = np.random.default_rng(2)
    hits = generator.random((3, 60)) < np.array([[0.9], [0.6], [0.5]])
    found = stats.resampled(hits)
    rows = generator.integers(60, size=(stats.RESAMPLES, 60))
    slow = hits[:, rows].mean(axis=2).T
    assert found.mean(axis=0) == pytest.approx(slow.mean(axis=0), abs=0.005)
    assert np.cov(found.T) == pytest.approx(np.cov(slow.T), abs=3e-4)


def test_a_gap_knows_its_noise():
    found = stats.gap([0.8], [0.6], 100)
    assert found.points == pytest.approx(20)
    assert found.noise == pytest.approx(200 * np.sqrt((0.16 + 0.24) / 100))
    assert not found.inside
    assert str(found) == "+20 points, outside the noise of ±13"
    assert str(stats.gap([0.599], [0.6], 100)).startswith("+0 points, inside")
    spread = stats.gap([0.8, 0.6], [0.6], 100)
    assert spread.noise**2 == pytest.approx(200**2 * ((0.21 + 0.24) / 100 + 0.02 / 2))
    assert spread.inside
    against_chance = stats.gap(pd.Series([0.6]), 0.5, 100)
    assert against_chance.noise == pytest.approx(200 * np.sqrt(0.24 / 100))
    with pytest.raises(FrugalError, match="a run on each side"):
        stats.gap([0.8], [], 100)


def test_a_gap_covers_what_chance_does():
    generator = np.random.default_rng(0)
    pairs = generator.binomial(200, 0.7, size=(2000, 2)) / 200  # two runs of one truth
    inside = [stats.gap([a], [b], 200).inside for a, b in pairs.tolist()]
    assert 0.93 < np.mean(inside) < 0.98


def test_means_intervals_and_chances_of_clear_cases():
    table = judged({"a": [0.1, 0.2, 0.3], "b": [0.8, 0.9, 0.85], "c": []})
    assert list(table.columns) == list(stats.JUDGED)
    assert table["name"].tolist() == ["a", "b"]
    assert table["mean"].tolist() == pytest.approx([0.2, 0.85])
    assert table["runs"].tolist() == [3, 3]
    assert table["chance"].tolist() == [0, 1]
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()
    assert table["low"][0] >= 0.1
    assert table["high"][0] <= 0.3
    pd.testing.assert_frame_equal(table, judged({"a": [0.1, 0.2, 0.3], "b": [0.8, 0.9, 0.85]}))


def test_equal_candidates_have_equal_chances_and_shrink_to_one_mean():
    same = [0.5, 0.6, 0.7, 0.4]
    table = judged(dict.fromkeys("abcd", same))
    assert table["chance"].tolist() == [0.25] * 4
    assert table["shrunk"].tolist() == pytest.approx([0.55] * 4)
    assert judged({}).empty
    assert judged({"a": [0.5], "b": [0.6]})["chance"].isna().all()


def test_places_that_are_alike_are_drawn_together():
    """A difference that every place shows is sure, however much the places differ."""
    places = np.linspace(0, 1, 8)
    table = judged({"a": places, "b": places + 0.01})
    assert table["chance"].tolist() == [0, 1]
    assert (table["high"] - table["low"]).min() > 0.2


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(150):
        table = judged({"a": generator.normal(0.7, 0.1, 30)})
        held += table["low"][0] <= 0.7 <= table["high"][0]
    assert 0.88 < held / 150 < 0.99


def test_shrinking_mends_the_winners_curse():
    """Candidates differ less than their noise: the winner's mean is too high, shrunk it is not."""
    generator = np.random.default_rng(1)
    raw, mended = [], []
    for _ in range(150):
        truth = generator.normal(0.7, 0.01, 8)
        scores = {str(i): generator.normal(t, 0.06, 6) for i, t in enumerate(truth)}
        table = judged(scores)
        winner = table["mean"].idxmax()
        raw.append(table["mean"][winner] - truth[winner])
        mended.append(table["shrunk"][winner] - truth[winner])
    assert np.mean(raw) > 0.02
    assert abs(np.mean(mended)) < np.mean(raw) / 2
