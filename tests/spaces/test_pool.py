"""What is read off all recorded trainings is what a slow and obvious count of them finds."""

import itertools
import random

import numpy as np
import pandas as pd
import pytest

from frugal.spaces import design, pool, record, space

TRUE = {"A": -3.0, "P": 0.5, "B": 2.0, "L": 0.0}
RECORDED = record.read()


def made(seed, *, noise=0.0, slopes=TRUE):
    """Trainings of designs drawn from S0, whose scores are what the model of `by_depth` says."""
    drawn = random.Random(seed)
    chance = np.random.default_rng(seed)
    luck = chance.normal(size=(12, 2))
    rows = []
    for place in range(12):
        shared = chance.normal()  # of designs that were drawn together
        for _ in range(5):
            text = str(space.stage("S0", 6).sample(drawn))
            worth = sum(slopes[m] * moved(text, m) for m in "APBL")
            for number, task in enumerate(("first", "second")):
                score = 70 + worth + luck[place, number]
                score += noise * (shared + chance.normal())
                rows.append(("S0", place, task, text, score / 100))
    return pd.DataFrame(rows, columns=["stage", "seed", "task", "design", "score"])


def moved(text, method):
    """Depth of a method's layers: −1/2 for the half near the input, 1/2 for the other."""
    weights = dict(zip(range(1, 7), (-5, -3, -1, 1, 3, 5), strict=True))
    found = design.parse(text).tuned_layers()
    return sum(w for n, w in weights.items() if method in found.get(n, ("", 0))[0]) / 9 / 2


def test_depth_is_scaled_to_the_half_of_the_layers():
    assert moved("G1[1-3]:- | G2[4-6]:A", "A") == 0.5
    assert moved("G1[1-3]:A | G2[4-6]:-", "A") == -0.5
    text = "G1[1]:A,B | G2[2-4]:- | G3[5-6]:P,B"
    depths = pool._places(text)
    assert depths[:4] == pytest.approx([moved(text, m) for m in "APBL"])
    assert depths[5:9] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 0])
    assert depths[9] == pytest.approx(3 / 6)


def test_without_chance_the_slopes_are_found_exactly():
    found = pool.by_depth(made(1)).set_index("method")["points"]
    assert found[list("APBL")].tolist() == pytest.approx(list(TRUE.values()), abs=1e-8)
    assert found["B − A"] == pytest.approx(5.0)


def test_intervals_cover_what_is_true():
    covered = []
    for seed in range(40):
        found = pool.by_depth(made(seed, noise=2.0)).set_index("method")
        covered += [found["low"][m] <= TRUE[m] <= found["high"][m] for m in "APBL"]
    assert 0.9 < np.mean(covered) <= 1.0


def test_the_record_says_where_bitfit_belongs():
    found = pool.by_depth(RECORDED).set_index("method")
    assert found["high"]["B"] < 0  # near the input, against the paper
    assert found["low"]["A"] < 0 < found["high"]["A"]


def test_the_luck_of_a_draw_drops_out():
    lucky = RECORDED.copy()
    lucky["score"] += (lucky["seed"] == 3) * (lucky["task"] == "movie-reviews") * 0.1
    columns = ["movie-reviews", "amazon-reviews"]
    before, after = (pool.adjusted(runs)[columns] for runs in (RECORDED, lucky))
    pd.testing.assert_frame_equal(before, after)
    early = before.loc[["S0", "S1"]]
    assert early.mean().abs().max() < 1e-9


def test_a_training_of_upper_layers_costs_less():
    run = RECORDED.iloc[0]
    low, high = (
        pool.training_flops(f"G1[1-3]:{a} | G2[4-6]:{b}", run) for a, b in (("A", "-"), ("-", "A"))
    )
    assert high < low


def test_the_best_of_a_random_draw():
    chance = np.random.default_rng(0)
    few = pd.DataFrame(chance.normal(size=(7, 3)), columns=["x", "y", "held"])
    for count in (1, 3, 7):
        draws = [list(c) for c in itertools.combinations(range(7), count)]
        best = [few.loc[few.loc[c, ["x", "y"]].mean(axis=1).idxmax(), "held"] for c in draws]
        found = pool._best(few, "held", ["x", "y", "held"], count)
        assert found == pytest.approx(np.mean(best))


def test_the_estimate_is_what_normal_designs_give():
    chance = np.random.default_rng(1)
    worth = chance.normal(scale=1.5, size=(4000, 1))
    many = pd.DataFrame(worth + chance.normal(scale=3.0, size=(4000, 3)), columns=list("abc"))
    estimate = pool._normal(many, list("abc"), 50)
    drawn = [pool._best(many.sample(50, random_state=i), "c", list("abc"), 50) for i in range(300)]
    assert estimate == pytest.approx(np.mean(drawn), abs=0.35)


def test_the_greedy_search_and_a_random_one_spend_the_same():
    scores = pool.adjusted(RECORDED)
    found = pool.against_random(scores)
    assert list(found["stage"]) == list(dict.fromkeys(RECORDED["stage"]))
    assert found["flops"].iloc[-1] == pytest.approx(scores["flops"].sum())  # all tasks but one of 2
    assert found["designs"].iloc[0] == pytest.approx(12, abs=1)
    assert (found["low"] < found["greedy"]).all()
    assert found["random"].notna().sum() == (found["designs"] <= 60).sum()


def test_halving_finds_a_clear_winner_for_less():
    index = pd.MultiIndex.from_tuples(
        [("S1", c, c == "c", s, f"{c}{s}") for c in "abcd" for s in range(8)],
        names=["stage", "candidate", "won", "seed", "design"],
    )
    chance = np.random.default_rng(0)
    clear = pd.DataFrame({"t": chance.normal(size=32), "flops": 1.0}, index=index)
    clear.loc[clear.index.get_level_values("candidate") == "c", "t"] += 20
    (row,) = pool.halving(clear, replays=50).itertuples()
    assert (row.halved, row.even, row.halved_loss) == (1, 1, 0)
    assert row.share == (4 * 2 + 2 * 2) / 32  # two of each, then two more of the better half


def test_winners_stand_beside_what_the_paper_prints():
    found = pool.winners(pool.adjusted(RECORDED)).set_index(["stage", "whose"])
    spindle = found.loc["S1", "paper"]
    assert (spindle["candidate"], round(spindle["published"], 3)) == ("spindle", 1.8)
    assert found.loc["S3", "paper"]["candidate"] == "G1, G2, G3, G4"
    assert (found["low"] < found["high"]).all()
    assert found["published"].notna().all()
