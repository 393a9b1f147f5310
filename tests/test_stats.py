"""How sure numbers are: against equations, slow versions, and simulated truth."""

import math

import numpy as np
import pandas as pd
import pytest

from frugal import stats
from frugal.errors import FrugalError
from frugal.stats import Components

REPETITIONS = 1200  # of an experiment: the share that is covered is known to 0.6 points


def normal_below(x):
    return (1 + math.erf(x / math.sqrt(2))) / 2


class World:
    """Ways of answering whose true accuracies are known: a probit with crossed random effects.

    spread: standard deviation between draws, in units of the probit
    """

    TEXT, OWN, ANSWER = 1.0, 0.5, 0.4  # of a text; of it for a way; of it for a way's draw

    def __init__(self, spread, seed=0):
        self.spread, self.random = spread, np.random.default_rng(seed)

    def truth(self, level, draws=1):
        sizes = (1, self.TEXT, self.OWN, self.ANSWER if draws else 0, self.spread if draws else 0)
        return normal_below(level / math.hypot(*sizes))

    def texts(self, count):
        return self.random.normal(0, self.TEXT, count)

    def hits(self, level, draws, texts):
        """(draws, texts); or, for no draws, (texts,)."""
        found = level + texts + self.random.normal(0, self.OWN, len(texts))
        if not draws:
            return found + self.random.normal(0, 1, len(texts)) > 0
        found = found + self.random.normal(0, self.spread, (draws, 1))
        return found + self.random.normal(0, math.hypot(1, self.ANSWER), (draws, len(texts))) > 0


def covered(spread, texts, ours, theirs, seed=0):
    """How often the interval holds the true difference of two ways with so many draws."""
    world = World(spread, seed)
    truth = world.truth(0.9, ours) - world.truth(0.6, theirs)
    held = 0
    for _ in range(REPETITIONS):
        these = world.texts(texts)
        found = stats.compare(world.hits(0.9, ours, these), world.hits(0.6, theirs, these))
        held += found.low <= truth <= found.high
    return held / REPETITIONS


SMALL, LARGE = 0.05, 0.5


@pytest.mark.parametrize("spread", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("texts", "ours", "theirs"),
    [(100, 3, 3), (300, 5, 5), (300, 10, 10), (300, 5, 10), (300, 5, 0), (200, 3, 10)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(spread, texts, ours, theirs):
    assert 0.93 <= covered(spread, texts, ours, theirs) <= 0.98


def test_without_draws_the_interval_is_over_texts():
    assert 0.93 <= covered(0, 200, 0, 0) <= 0.98


@pytest.mark.parametrize("spread", [SMALL, 0.3])
def test_a_level_that_is_known_is_compared_with(spread):
    world, held = World(spread), 0
    for _ in range(REPETITIONS):
        found = stats.compare(world.hits(0.9, 5, world.texts(300)), 0.6)
        held += found.low <= world.truth(0.9) - 0.6 <= found.high
    assert 0.93 <= held / REPETITIONS <= 0.98


@pytest.mark.parametrize("spread", [SMALL, LARGE])
def test_ten_candidates_are_all_held_at_once(spread):
    """Each alone would miss far more often: the best of ten is not one of ten."""
    world, together, alone, repetitions = World(spread), 0, 0, 200
    levels = np.linspace(0.4, 0.9, 10)
    for _ in range(repetitions):
        these = world.texts(300)
        rival = world.hits(0.6, 5, these)
        held = {1: True, 10: True}
        for level in levels:
            truth, own = world.truth(level) - world.truth(0.6), world.hits(level, 5, these)
            for of in held:
                found = stats.compare(own, rival, of=of)
                held[of] &= found.low <= truth <= found.high
        together, alone = together + held[10], alone + held[1]
    assert 0.93 <= together / repetitions <= 0.99
    assert alone / repetitions < 0.85


@pytest.mark.parametrize("spread", [SMALL, LARGE])
def test_an_average_over_twelve_tasks_holds_the_truth(spread):
    """Of these tasks; and, with more to vary, of all tasks like these."""
    world, repetitions = World(spread), 400
    given = sample = 0
    for _ in range(repetitions):
        levels = world.random.normal(0.9, 0.2, 12)
        found = []
        for level in levels:
            these = world.texts(100)
            found.append(stats.compare(world.hits(level, 5, these), world.hits(0.6, 5, these)))
        truth = np.mean([world.truth(level) for level in levels]) - world.truth(0.6)
        these, all_like = stats.average(found), stats.average(found, sample=True)
        given += these.low <= truth <= these.high
        truth = normal_below(0.9 / math.hypot(0.2, 1, 1, 0.5, 0.4, spread)) - world.truth(0.6)
        sample += all_like.low <= truth <= all_like.high
        assert all_like.high - all_like.low >= these.high - these.low
    assert 0.93 <= given / repetitions <= 0.98
    assert 0.93 <= sample / repetitions <= 0.98


def anova(d):
    """Mean squares of rows, columns and the rest, one term at a time."""
    draws, texts = d.shape
    rows = sum(texts * (d[i].mean() - d.mean()) ** 2 for i in range(draws)) / (draws - 1)
    columns = sum(draws * (d[:, j].mean() - d.mean()) ** 2 for j in range(texts)) / (texts - 1)
    rest = sum(
        (d[i, j] - d[i].mean() - d[:, j].mean() + d.mean()) ** 2
        for i in range(draws)
        for j in range(texts)
    )
    return rows, columns, rest / ((draws - 1) * (texts - 1))


def test_the_interval_is_that_of_the_equation():
    world = World(0.15, seed=4)
    these = world.texts(40)
    a, b = world.hits(0.9, 4, these), world.hits(0.5, 4, these)
    d = a.astype(float) - b
    rows, columns, rest = anova(d)
    found = stats.compare(a, b)
    assert rows + columns > 2 * rest  # no variance is below what the rest alone makes of it
    variance = (rows + columns - rest) / (4 * 40)
    degrees = (rows + columns - rest) ** 2 / (rows**2 / 3 + columns**2 / 39 + rest**2 / 117)
    assert found.difference == pytest.approx(d.mean())
    assert (found.draws, found.texts) == (4, 40)
    assert (found.variance, found.degrees) == pytest.approx((variance, degrees))
    half = stats.student_t(0.95, degrees) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half))
    assert found.components == pytest.approx(
        (max(0, rows - rest) / 40, max(0, columns - rest) / 4, rest)
    )
    alike = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1]])  # more than chance would have it
    found = stats.compare(alike, 0.5)
    assert found.variance == pytest.approx(anova(alike)[2] / alike.size)


def test_draws_of_each_side_add_up_where_they_differ_in_number():
    world = World(0.3, seed=4)
    these = world.texts(30)
    a, b = world.hits(0.9, 6, these).astype(float), world.hits(0.5, 4, these).astype(float)
    found = stats.compare(a, b)
    texts = (a.mean(0) - b.mean(0)).var(ddof=1) / 30
    for side in (a, b):
        texts += side.mean(1).var(ddof=1) / len(side) - anova(side)[2] / side.size
    assert found.variance == pytest.approx(texts)
    assert (found.draws, found.texts) == (4, 30)
    other = stats.compare(b, a)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))


def test_a_way_without_draws_is_taken_as_it_is():
    world = World(0.3, seed=5)
    these = world.texts(50)
    tuned, zero = world.hits(0.9, 5, these), world.hits(0.5, 0, these)
    found = stats.compare(tuned, zero)
    repeated = stats.compare(tuned, np.tile(zero, (5, 1)))
    assert (found.low, found.high) == pytest.approx((repeated.low, repeated.high))
    assert stats.compare(tuned, zero[None]) == found
    assert found.draws == 5
    assert stats.compare(zero, zero[::-1]).draws == 0


def test_any_scores_are_compared_and_scores_of_draws_alone():
    random = np.random.default_rng(6)
    errors = random.normal(2, 1, (5, 60))
    assert stats.compare(errors, errors - 0.25).low == pytest.approx(0.25)
    means = np.array([[0.1], [0.2], [0.4]])
    found = stats.compare(means, 0.0)
    half = 4.302653 * np.std(means, ddof=1) / math.sqrt(3)
    assert found.high - found.difference == pytest.approx(half, rel=1e-6)


def test_fewer_than_three_draws_carry_no_interval():
    hits = np.eye(3, 8, dtype=bool)
    for draws in (1, 2):
        found = stats.compare(hits[:draws], hits[:draws, ::-1])
        assert (found.low, found.high, found.interval) == (None, None, "")
        assert not found.clear
    assert str(found) == "+0 points (2 draws; an interval needs 3)"
    assert stats.compare(hits, hits[:2]).low is None
    assert stats.average([found, stats.compare(hits, 0.5)]).low is None


def test_where_nothing_varies_the_interval_is_a_point():
    same = np.full((3, 10), 0.75)
    assert str(stats.compare(same, same)) == "+0.0 points [+0.0, +0.0]"
    found = stats.compare(same, 0.25)
    assert (found.low, found.high) == (0.5, 0.5)
    assert stats.average([found, found]).high == 0.5


def test_hits_that_are_all_alike_leave_room_for_others():
    """Of 20 right answers of 20 nobody knows the twenty-first: the rule of three."""
    ones = np.ones(20)
    found = stats.compare(ones, ones)
    assert found.high == -found.low == pytest.approx(1 - 0.05 ** (1 / 20))
    assert found.high == pytest.approx(3 / 20, rel=0.1)
    assert stats.compare(ones, ones, of=5).high > found.high
    alike = np.tile(np.arange(12) % 3 == 0, (3, 1))
    assert stats.compare(alike, alike[0]).high == pytest.approx(1 - 0.05 ** (1 / 12))
    assert stats.average([found] * 4).high == pytest.approx(found.high / 2)


@pytest.mark.parametrize(
    ("a", "b", "line"),
    [
        (np.ones((3, 4)), np.ones((3, 5)), "4 and 5 texts"),
        (np.full((3, 4), np.nan), np.ones((3, 4)), "a holds a score that is no number"),
        (np.ones((3, 4)), math.nan, "b is nan"),
        (np.ones((2, 3, 4)), 0.5, r"a has shape \(2, 3, 4\)"),
        (np.ones((0, 4)), 0.5, r"a has shape \(0, 4\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(a, b, line):
    with pytest.raises(FrugalError, match=line):
        stats.compare(a, b)


def test_an_average_sums_variances_and_refuses_too_few():
    random = np.random.default_rng(7)
    tasks = [stats.compare(random.random((5, 40)), 0.4) for _ in range(4)]
    found = stats.average(tasks)
    assert found.difference == pytest.approx(np.mean([task.difference for task in tasks]))
    assert found.variance == pytest.approx(sum(task.variance for task in tasks) / 16)
    assert (found.draws, found.texts) == (5, 160)
    with pytest.raises(FrugalError, match="0 tasks"):
        stats.average([])
    with pytest.raises(FrugalError, match="2 tasks; it needs 3"):
        stats.average(tasks[:2], sample=True)


def test_a_difference_says_its_direction_and_size_or_what_it_excludes():
    random = np.random.default_rng(8)
    noise = random.normal(0, 0.1, (5, 200))
    up = stats.compare(noise + 0.15, 0.0)
    assert up.clear
    assert up.between("T-Few", "ICL").startswith("T-Few is 1")
    assert " points above ICL [+1" in up.between("T-Few", "ICL")
    assert " points below ICL [-1" in stats.compare(noise - 0.15, 0.0).between("T-Few", "ICL")
    null = stats.compare(10 * noise, 0.0)
    assert null.between("A", "B").startswith("A and B differ by less than ")
    assert null.bound == max(-null.low, null.high)
    assert stats.in_points(0.01, -0.02, 0.04) == "+1 point [-2, +4]"
    assert stats.in_points(0.049, -0.002, 0.1) == "+4.9 points [-0.2, +10.0]"
    assert up.of("T-Few", "ICL", "t") == f"T-Few less ICL, t: {up}"
    assert up.interval in str(up)
    two = stats.compare(np.array([[0.0], [0.3]]), 0.0)
    assert two.between("A", "B") == "A less B: +15 points (2 draws; an interval needs 3)"


def test_power_is_the_inverse_of_what_an_experiment_tells():
    """What is asked for tells the difference as often as it was asked to."""
    given = Components(draw=0.03**2, text=0.15, rest=0.1)
    texts = stats.power(0.1, given, draws=5)
    assert stats.power(0.1, given, draws=5, chance=0.9) > texts
    assert stats.power(0.1, given, texts=texts) == 5
    random, told, repetitions = np.random.default_rng(9), 0, 600
    for _ in range(repetitions):
        d = 0.1 + random.normal(0, math.sqrt(given.draw), (5, 1))
        d = d + random.normal(0, math.sqrt(given.text), texts)
        told += stats.compare(d + random.normal(0, math.sqrt(given.rest), d.shape), 0.0).low > 0
    assert 0.75 <= told / repetitions <= 0.87
    assert stats.power(0.01, given, draws=5) is None  # the draws alone vary by more
    with pytest.raises(FrugalError, match="either draws or texts"):
        stats.power(0.1, given)
    with pytest.raises(FrugalError, match="tells 0 from 0"):
        stats.power(0.0, given, draws=5)


def test_the_half_width_is_that_of_experiments():
    world = World(0.2)
    halves, parts = [], []
    for _ in range(200):
        these = world.texts(100)
        found = stats.compare(world.hits(0.9, 10, these), world.hits(0.6, 10, these))
        halves.append((found.high - found.low) / 2)
        parts.append(found.components)
    given = Components(*np.mean(parts, axis=0))
    assert stats.half_width(given, 10, 100) == pytest.approx(np.mean(halves), rel=0.05)
    assert stats.half_width(given, 10, 1000) < stats.half_width(given, 10, 100)


def test_assumed_components_are_those_of_hits():
    random = np.random.default_rng(10)
    same = random.random(400_000) < 0.5  # answered from one source, or each from its own
    common, one, two = (random.random(400_000) < 0.7 for _ in range(3))
    d = np.where(same, common, one) ^ True, np.where(same, common, two) ^ True
    correlation = np.corrcoef(*d)[0, 1]
    found = Components.assumed(spread=0.03, accuracy=0.7, correlation=correlation)
    assert found == pytest.approx((0.0009, (d[0].astype(float) - d[1]).var(), 0), rel=0.01)


def test_students_t_is_that_of_the_tables():
    table = {  # two-sided 95 %, one-sided 99.5 %
        1: (12.7062, 63.6567),
        2: (4.3027, 9.9248),
        4: (2.7764, 4.6041),
        9: (2.2622, 3.2498),
        30: (2.0423, 2.7500),
        120: (1.9799, 2.6174),
        math.inf: (1.9600, 2.5758),
    }
    for degrees, row in table.items():
        found = [stats.student_t(sure, degrees) for sure in (0.95, 0.99)]
        assert found == pytest.approx(row, abs=6e-5)


def test_students_t_is_scipys_between_the_tables_too():
    scipy_stats = pytest.importorskip("scipy.stats")
    for degrees in (1, 2.5, 7.3, 99.5, 9e5, 1e9):
        for sure in (0.1, 0.6, 0.95, 0.995, 0.99999):
            wanted = scipy_stats.t.ppf((1 + sure) / 2, degrees)
            assert stats.student_t(sure, degrees) == pytest.approx(wanted, rel=3e-6)


def test_a_jackknife_of_a_mean_of_groups_is_students_interval():
    random = np.random.default_rng(11)
    groups, values = np.repeat(np.arange(6), 4), random.normal(0, 1, 24)
    means = values.reshape(6, 4).mean(axis=1)
    point, half = stats.jackknife(lambda kept: values[kept].mean(), groups)
    assert point == pytest.approx(values.mean())
    assert half == pytest.approx(stats.student_t(0.95, 5) * means.std(ddof=1) / math.sqrt(6))


def test_recorded_hits_are_read_draw_by_draw():
    assert stats.hits(["101", "011"]).tolist() == [[True, False, True], [False, True, True]]
    with pytest.raises(FrugalError, match="have not answered the same texts"):
        stats.hits(["10", "101"])


def judged(scores, **more):
    return pd.DataFrame(stats.judge(scores, **more))


def test_hits_are_packed_and_unpacked():
    for count in (1, 4, 8, 11):
        found = np.random.default_rng(count).random(count) < 0.5
        text = stats.packed(found)
        assert len(text) == 2 * -(-count // 8)
        assert (stats.unpacked(text, count) == found).all()
    assert stats.packed(np.array([True, False, False, False])) == "80"


@pytest.mark.parametrize(
    ("text", "count", "why"),
    [
        ("ff", 9, "not of 9 texts"),  # cut short
        ("ffff", 8, "not of 8 texts"),
        ("ff", 4, "not of 4 texts"),  # more than four are right
        ("8g", 8, "no hexadecimal digits"),
        ("f", 4, "no hexadecimal digits"),
        (float("nan"), 4, "no hexadecimal digits"),
    ],
)
def test_hits_that_are_damaged_are_refused(text, count, why):
    with pytest.raises(FrugalError, match=why):
        stats.unpacked(text, count)


def test_packed_hits_are_not_taken_for_a_digit_a_text():
    assert stats.hits(["011", "100"]).tolist() == [[False, True, True], [True, False, False]]
    with pytest.raises(FrugalError, match="a 1 or a 0 for every text, not '0a1'"):
        stats.hits(["001", "0a1"])


def test_wilsons_limits_solve_his_equation():
    for right, of in ((7, 20), (134, 268), (1, 3)):
        for p in stats.wilson(right, of):
            assert (right / of - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / of)
    assert stats.wilson(0, 10)[0] == 0
    assert stats.wilson(10, 10)[1] == 1


def test_resampling_kinds_of_examples_is_resampling_examples():
    generator = np.random.default_rng(2)
    hits = generator.random((3, 60)) < np.array([[0.9], [0.6], [0.5]])
    found = stats.resampled(hits)
    rows = generator.integers(60, size=(stats.RESAMPLES, 60))
    slow = hits[:, rows].mean(axis=2).T
    assert found.mean(axis=0) == pytest.approx(slow.mean(axis=0), abs=0.005)
    assert np.cov(found.T) == pytest.approx(np.cov(slow.T), abs=3e-4)


def test_means_and_intervals_of_clear_cases():
    table = judged({"a": [0.1, 0.2, 0.3], "b": [0.8, 0.9, 0.85], "c": []})
    assert list(table.columns) == list(stats.JUDGED)
    assert table["name"].tolist() == ["a", "b"]
    assert table["mean"].tolist() == pytest.approx([0.2, 0.85])
    assert table["runs"].tolist() == [3, 3]
    assert table["again"].tolist() == [0, 1]
    assert (table["low"] < table["mean"]).all()
    assert table["high"][0] == pytest.approx(0.2 + 4.302653 * 0.1 / math.sqrt(3))
    pd.testing.assert_frame_equal(table, judged({"a": [0.1, 0.2, 0.3], "b": [0.8, 0.9, 0.85]}))
    assert judged({"a": [0.1, 0.2]})["low"].isna().all()


def test_equal_candidates_win_again_equally_and_shrink_to_one_mean():
    same = [0.5, 0.6, 0.7, 0.4]
    table = judged(dict.fromkeys("abcd", same))
    assert table["again"].tolist() == [0.25] * 4
    assert table["shrunk"].tolist() == pytest.approx([0.55] * 4)
    assert judged({}).empty
    assert judged({"a": [0.5], "b": [0.6]})["again"].isna().all()


def test_places_that_are_alike_are_drawn_together():
    """A difference that every place shows is sure, however much the places differ."""
    places = np.linspace(0, 1, 8)
    table = judged({"a": places, "b": places + 0.01})
    assert table["again"].tolist() == [0, 1]
    assert (table["high"] - table["low"]).min() > 0.2


def test_shrinking_mends_the_winners_curse():
    """Candidates differ less than their luck: the winner's mean is too high, shrunk it is not."""
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
