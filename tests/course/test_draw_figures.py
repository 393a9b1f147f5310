"""Chapter 1's figure of certainty: every draw's interval, and that of all, stand where they are."""

import numpy as np
from drawn import points, words

from frugal import stats
from frugal_course import figures


def test_each_draw_and_all_stand_with_their_intervals():
    random = np.random.default_rng(0)
    ours, theirs = random.random((3, 40)) < 0.8, random.random((3, 40)) < 0.6
    grid, found = figures.draws_by_texts(ours, theirs, "a finding", shown=25).axes
    assert grid.get_title(loc="left").startswith("right alone")
    apart = ours.astype(int) - theirs
    assert (grid.collections[0].get_array() == apart[:, :25]).all()
    every = stats.compare(ours, theirs)
    assert (100 * every.difference, 0) in points(found)
    spans = [c.get_segments()[0][:, 0] for c in found.collections]
    alone = [stats.compare(a, b) for a, b in zip(ours, theirs, strict=True)]
    for span, own in zip(spans, [*alone, every], strict=True):
        assert np.allclose(span, [100 * own.low, 100 * own.high])
    assert f"all: {every}".replace(" points", "") in words(found)


def test_two_draws_are_drawn_without_an_interval_of_all():
    hits = np.eye(2, 6, dtype=bool)
    _, found = figures.draws_by_texts(hits, hits[:, ::-1], "a finding").axes
    assert len(found.collections) == 2
    assert any("an interval needs 3" in word for word in words(found))
